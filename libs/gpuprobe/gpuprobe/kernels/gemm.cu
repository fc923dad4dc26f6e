// The exact matrix product: operands made from their index, one pass over C that verifies it, and,
// where it is wrong, what it should have been. C = A.B; both operands lie in memory line by line
// (rows of A, columns of B), each line `inner` long.
//
// An element of an operand is an integer of 1..amax, with a sign, times a power of two that belongs
// to its line. All products of one sum have the same power of two, so whether a sum is exact does
// not depend on it.
typedef unsigned short u16;
typedef signed char i8;

#define BF16 0u
#define FP16 1u
#define TF32 2u
#define INT8 3u
#define FP64 4u

#define KEY 0x9e3779b9u
#define STIR 0x85ebca6bu
#define KEY_HIGH 0x2545f490u

#ifdef __CUDACC_RTC__
#define METHOD static __device__ __forceinline__
DEV u64 warp_sum(u64 x) {
    for (int by = 16; by > 0; by >>= 1) x += __shfl_xor_sync(0xffffffffu, x, by);
    return x;
}
DEV u32 warp_xor(u32 x) { return __reduce_xor_sync(0xffffffffu, x); }
DEV u32 warp_or(u32 x) { return __reduce_or_sync(0xffffffffu, x); }
DEV bool speaks() { return (threadIdx.x & 31u) == 0u; }
#else
#define METHOD static inline
// On the host each lane speaks for itself.
DEV u64 warp_sum(u64 x) { return x; }
DEV u32 warp_xor(u32 x) { return x; }
DEV u32 warp_or(u32 x) { return x; }
DEV bool speaks() { return true; }
#endif

HD float pow2(i32 e) { return float_of((u32)(127 + e) << 23); }
HD double pow2d(i32 e) { return double_of((u64)(1023 + e) << 52); }

HD i32 integer_at(u32 salt, u32 index, u32 amax) {
    u32 word = mix32(index ^ salt);
    i32 size = 1 + (i32)(((u64)(word >> 1) * amax) >> 31);
    return (word & 1u) ? -size : size;
}

HD i32 scale_at(u32 salt, u32 line, u32 span) {
    return span == 0u ? 0 : (i32)(mix32(line ^ salt) % (2u * span + 1u)) - (i32)span;
}

// float32 to bfloat16 and float16 for values that both carry exactly.
HD u16 as_bf16(float f) { return (u16)(bits_of(f) >> 16); }
HD u16 as_fp16(float f) {
    u32 b = bits_of(f);
    return (u16)((b >> 16 & 0x8000u) | (((b >> 23 & 0xffu) - 112u) << 10) | (b >> 13 & 0x3ffu));
}

// The element's pattern in memory, as the low bits of a word.
HD u64 encoded(u32 kind, i32 integer, i32 scale) {
    if (kind == FP64) return bits_of((double)integer * pow2d(scale));
    if (kind == INT8) return (u64)(u32)integer & 0xffu;
    float f = (float)integer * pow2(scale);
    if (kind == BF16) return as_bf16(f);
    if (kind == FP16) return as_fp16(f);
    return bits_of(f);
}

HD u64 stored(const void *at, u32 kind, u64 index) {
    if (kind == FP64) return ((const u64 *)at)[index];
    if (kind == INT8) return (u64)((const i8 *)at)[index] & 0xffu;
    if (kind == TF32) return ((const u32 *)at)[index];
    return ((const u16 *)at)[index];
}

HD void store(void *at, u32 kind, u64 index, u64 pattern) {
    if (kind == FP64) ((u64 *)at)[index] = pattern;
    else if (kind == INT8) ((i8 *)at)[index] = (i8)pattern;
    else if (kind == TF32) ((u32 *)at)[index] = (u32)pattern;
    else ((u16 *)at)[index] = (u16)pattern;
}

// Write an operand.
extern "C" __global__ void gemm_fill(void *out, u32 kind, u32 lines, u32 inner, u32 amax, u32 span,
                                     u32 salt, u32 scale_salt) {
    for (u32 line = blockIdx.x; line < lines; line += gridDim.x) {
        i32 scale = scale_at(scale_salt, line, span);
        for (u32 k = threadIdx.x; k < inner; k += blockDim.x) {
            u32 index = line * inner + k;
            store(out, kind, index, encoded(kind, integer_at(salt, index, amax), scale));
        }
    }
}

// Compare an operand in memory with what it should be; `tag` 0 is A, 1 is B.
extern "C" __global__ void gemm_compare(const void *in, u32 kind, u32 lines, u32 inner, u32 amax,
                                        u32 span, u32 salt, u32 scale_salt, u32 tag, u64 *log) {
    Wrong wrong = nothing_wrong();
    for (u32 line = blockIdx.x; line < lines; line += gridDim.x) {
        i32 scale = scale_at(scale_salt, line, span);
        for (u32 k = threadIdx.x; k < inner; k += blockDim.x) {
            u32 index = line * inner + k;
            u64 right = encoded(kind, integer_at(salt, index, amax), scale);
            u64 found = stored(in, kind, index);
            if (right != found) {
                u64 half = (u32)right == (u32)found ? 32 : 0;
                note(&wrong, log, index, (u32)(right >> half), (u32)(found >> half), tag);
            }
        }
    }
    tell(&wrong, log);
}

// An operand of nearly normal numbers (sums of four uniform ones), for heat: most bits toggle.
extern "C" __global__ void gemm_fill_noise(void *out, u32 kind, u32 lines, u32 inner, u32 salt) {
    for (u32 line = blockIdx.x; line < lines; line += gridDim.x) {
        for (u32 k = threadIdx.x; k < inner; k += blockDim.x) {
            u32 index = line * inner + k;
            u32 a = mix32(index ^ salt), b = mix32(a ^ STIR);
            i32 sum = (i32)((a & 0xffffu) + (a >> 16) + (b & 0xffffu) + (b >> 16)) - 131070;
            u32 bits = bits_of((float)sum * pow2(-15));
            u32 rounded = bits + 0x7fffu + (bits >> 16 & 1u);
            if (kind == BF16) ((u16 *)out)[index] = (u16)(rounded >> 16);
            else ((float *)out)[index] = float_of(bits);
        }
    }
}

// weighed[k] += sum over lines of element[line, k] * weights[line], as integers modulo 2^64.
extern "C" __global__ void gemm_weigh(u64 *weighed, const u32 *weights, u32 lines, u32 inner,
                                      u32 amax, u32 salt, u32 parts) {
    u64 items = (u64)inner * parts;
    for (u64 item = place(); item < items; item += threads()) {
        u32 part = (u32)(item / inner), k = (u32)(item - (u64)part * inner);
        u64 sum = 0;
        for (u32 line = part; line < lines; line += parts)
            sum += (u64)((i64)integer_at(salt, line * inner + k, amax) * (i64)weights[line]);
        atomicAdd(weighed + k, sum);
    }
}

// expected[line] += sum over k of element[line, k] * weighed[k], as integers modulo 2^64.
extern "C" __global__ void gemm_expect(u64 *expected, const u64 *weighed, u32 lines, u32 inner,
                                       u32 amax, u32 salt, u32 parts) {
    u64 items = (u64)lines * parts;
    for (u64 item = place(); item < items; item += threads()) {
        u32 line = (u32)(item / parts), part = (u32)(item - (u64)line * parts);
        u64 sum = 0;
        for (u32 k = part; k < inner; k += parts)
            sum += (u64)(i64)integer_at(salt, line * inner + k, amax) * weighed[k];
        atomicAdd(expected + line, sum);
    }
}

// true_rows[r, col] = the integers of row rows[r], summed one by one from the elements' index.
extern "C" __global__ void gemm_true_rows(i64 *true_rows, const u32 *rows, u32 count, u32 cols,
                                          u32 inner, u32 amax, u32 salt_a, u32 salt_b) {
    u64 items = (u64)count * cols;
    for (u64 item = place(); item < items; item += threads()) {
        u32 r = (u32)(item / cols), col = (u32)(item - (u64)r * cols), row = rows[r];
        i64 sum = 0;
        for (u32 k = 0; k < inner; ++k)
            sum += (i64)integer_at(salt_a, row * inner + k, amax) *
                   (i64)integer_at(salt_b, col * inner + k, amax);
        true_rows[item] = sum;
    }
}

// How an element of C is read: what it adds to its row's weighted sum, and which bits tell that it is
// no integer times its row's power of two. Adding and taking away 1.5 * 2^23 times that power rounds to
// one at the full rate of the adders; it leaves integers below 2^22 as they are, and no product made of
// these operands comes near that. The sum's own pattern is weighed as it is: it is the integer and what
// the pattern of 1.5 * 2^23 times the power is, which the expected sums allow for.
struct Float {
    typedef u32 word;
    typedef float scale;
    enum { AT_ONCE = 4 };
    METHOD float rounding(i32 e) { return 12582912.0f * pow2(e); }
    METHOD u64 weighed(u32 bits, float rounding, float unscale, u32 weight, u32 *off) {
        float y = float_of(bits) * unscale;
        float up = y + rounding;
        *off |= bits_of(up - rounding) ^ bits_of(y);
        return (u64)bits_of(up) * weight;
    }
    METHOD u64 keyed(u32 bits, u32 key) { return (u64)bits * key; }
};
struct Integer : Float {
    METHOD u64 weighed(u32 bits, float, float, u32 weight, u32 *) {
        return (u64)(i64)(i32)bits * (u64)(i64)(i32)weight;
    }
};
struct Double {
    typedef u64 word;
    typedef double scale;
    enum { AT_ONCE = 2 };
    METHOD double rounding(i32 e) { return 6755399441055744.0 * pow2d(e); }
    METHOD u64 weighed(u64 bits, double rounding, double unscale, u32 weight, u32 *off) {
        double y = double_of(bits) * unscale;
        double up = y + rounding;
        u64 strays = bits_of(up - rounding) ^ bits_of(y);
        *off |= (u32)(strays >> 32) | (u32)strays;
        return bits_of(up) * weight;
    }
    // Each half has a key of its own: the highest bits of two patterns would cancel each other modulo 2^64.
    METHOD u64 keyed(u64 bits, u32 key) {
        return (u64)(u32)bits * key + (bits >> 32) * (key ^ KEY_HIGH);
    }
};

// What a row's digest is multiplied by before it is added to its stripe's.
DEV u64 row_key(u32 salt, u32 row) {
    return (u64)mix32(row ^ salt) << 32 | mix32(row + salt) | 1u;
}

template <class T, int N> struct alignas(sizeof(T) * N) Several { T v[N]; };

// Rows that a warp walks at once: the weights and scales of a column are loaded once for all.
#ifndef ROWS
#define ROWS 4u
#endif

// So many warps share such a group of rows. Of twelve shapes tried on an H200 this one was the fastest.
#ifndef SHARERS
#define SHARERS 2u
#endif

// Whether the next words are on their way while these are looked at.
#ifndef AHEAD
#define AHEAD 0
#endif

template <class Words>
DEV void load_rows(Words *words, const void *c, u64 at, u32 cols, u32 size) {
#pragma unroll
    for (u32 r = 0; r < ROWS; ++r) {
        union { uint4 raw; Words words; } both;
        both.raw = load_once((const uint4 *)((const char *)c + at * size + r * (cols * size)));
        words[r] = both.words;
    }
}

// One pass over C. `unscale` holds what takes a column's power of two away. A row's digest is the sum
// of its patterns, each times its column's key; digests are kept for each stripe of `stripe` rows, a
// multiple of ROWS: sums, then exclusive ors of the patterns. A row with a bit set in `odd` has an
// element that is no integer.
//
// Right after products a card is at its power limit and its clock is held down: an element must take
// few instructions there, so what belongs to its column or to its row alone is computed apart.
template <class Kind>
DEV void verify(const void *c, u32 rows, u32 cols, u32 span, u32 scale_salt, const void *unscale,
                const u32 *weights, const u32 *keys, u32 salt, u32 stripe, u64 *sums, u32 *odd,
                u64 *digest, u32 *digest_xor) {
    typedef typename Kind::word word;
    typedef typename Kind::scale scale;
    const u32 AT_ONCE = (u32)Kind::AT_ONCE, STEP = SHARERS * 32u * AT_ONCE;
    typedef Several<word, Kind::AT_ONCE> Words;
    typedef Several<scale, Kind::AT_ONCE> Scales;
    typedef Several<u32, Kind::AT_ONCE> Weights;
    u32 lane = threadIdx.x & 31u;
    u32 warp = (u32)(place() >> 5), warps = (u32)(threads() >> 5);
    for (u32 task = warp; task * ROWS < rows * SHARERS; task += warps) {
        u32 row = task / SHARERS * ROWS, from = (task % SHARERS * 32u + lane) * AT_ONCE;
        u64 sum[ROWS], keyed[ROWS], share = 0, first = (u64)row * cols;
        u32 off[ROWS], mixed = 0;
        scale rounding[ROWS];
#pragma unroll
        for (u32 r = 0; r < ROWS; ++r) {
            sum[r] = keyed[r] = 0;
            off[r] = 0;
            rounding[r] = Kind::rounding(scale_at(scale_salt, row + r, span));
        }
        Words next[ROWS];
        if (AHEAD && from < cols) load_rows(next, c, first + from, cols, sizeof(word));
        for (u32 col = from; col < cols; col += STEP) {
            Words words[ROWS];
            if (AHEAD) {
#pragma unroll
                for (u32 r = 0; r < ROWS; ++r) words[r] = next[r];
                if (col + STEP < cols) load_rows(next, c, first + col + STEP, cols, sizeof(word));
            } else {
                load_rows(words, c, first + col, cols, sizeof(word));
            }
            Weights weigh = *(const Weights *)(weights + col), key = *(const Weights *)(keys + col);
            Scales across = *(const Scales *)((const scale *)unscale + col);
#pragma unroll
            for (u32 r = 0; r < ROWS; ++r) {
#pragma unroll
                for (u32 j = 0; j < AT_ONCE; ++j) {
                    word bits = words[r].v[j];
                    sum[r] += Kind::weighed(bits, rounding[r], across.v[j], weigh.v[j], off + r);
                    keyed[r] += Kind::keyed(bits, key.v[j]);
                    mixed ^= (u32)bits ^ (u32)((u64)bits >> 32);
                }
            }
        }
#pragma unroll
        for (u32 r = 0; r < ROWS; ++r) {
            share += keyed[r] * row_key(salt, row + r);
            u64 whole = warp_sum((u64)sum[r]);
            u32 strays = warp_or(off[r]);
            if (speaks()) {
                atomicAdd(sums + row + r, whole);
                if (strays != 0) atomicOr(odd + row + r, strays);
            }
        }
        share = warp_sum(share);
        mixed = warp_xor(mixed);
        if (speaks()) {
            atomicAdd(digest + row / stripe, share);
            atomicXor(digest_xor + row / stripe, mixed);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 4)
gemm_verify_f32(const void *c, u32 rows, u32 cols, u32 span, u32 scale_salt, const void *unscale,
                const u32 *weights, const u32 *keys, u32 salt, u32 stripe, u64 *sums, u32 *odd,
                u64 *digest, u32 *digest_xor) {
    verify<Float>(c, rows, cols, span, scale_salt, unscale, weights, keys, salt, stripe, sums, odd, digest,
                  digest_xor);
}

extern "C" __global__ void __launch_bounds__(256, 4)
gemm_verify_i32(const void *c, u32 rows, u32 cols, u32 span, u32 scale_salt, const void *unscale,
                const u32 *weights, const u32 *keys, u32 salt, u32 stripe, u64 *sums, u32 *odd,
                u64 *digest, u32 *digest_xor) {
    verify<Integer>(c, rows, cols, span, scale_salt, unscale, weights, keys, salt, stripe, sums, odd, digest,
                    digest_xor);
}

extern "C" __global__ void __launch_bounds__(256, 3)
gemm_verify_f64(const void *c, u32 rows, u32 cols, u32 span, u32 scale_salt, const void *unscale,
                const u32 *weights, const u32 *keys, u32 salt, u32 stripe, u64 *sums, u32 *odd,
                u64 *digest, u32 *digest_xor) {
    verify<Double>(c, rows, cols, span, scale_salt, unscale, weights, keys, salt, stripe, sums, odd, digest,
                   digest_xor);
}

// The digest of any words, for results that are compared with themselves: a word's share is a bijection
// of it that depends on its place.
extern "C" __global__ void gemm_digest(const u32 *words, u64 count, u32 salt, u64 *digest,
                                       u32 *digest_xor) {
    u64 share = 0;
    u32 mixed = 0;
    for (u64 i = place(); i < count; i += threads()) {
        u32 key = (u32)i * KEY + salt, x = (words[i] ^ key) * STIR;
        x ^= x >> 15;
        mixed ^= x;
        share += (u64)x * (key | 1u);
    }
    share = warp_sum(share);
    mixed = warp_xor(mixed);
    if (speaks()) {
        atomicAdd(digest, share);
        atomicXor(digest_xor, mixed);
    }
}
