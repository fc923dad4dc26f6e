// Every lane of every warp computes the same four chains as its namesake anywhere else on the chip:
// integers, float32, float64, and a matrix product. What differs names the multiprocessor, the
// scheduler and the lanes. A result is compared here, and summed for the host to compare again: a
// unit that cannot compare is found by its sum.
#define UNITS 4u
#define SCHEDULERS 4u
#define INNER 16u

// Whole numbers: add, multiply wide, rotate.
HD u32 integer_chain(u32 seed, u32 lane, u32 rounds) {
    u32 x = mix32(seed ^ lane), sum = 0;
    for (u32 r = 0; r < rounds; ++r) {
        x = mix32(x + r);
        u64 wide = (u64)x * (sum | 1u);
        sum += (u32)(wide >> 32) ^ (x << 7 | x >> 25);
    }
    return mix32(sum);
}

// float32: x in [1, 2), a factor of 12 bits: the product is exact in float64, so that its one
// rounding can be told without a fused operation.
HD u32 single_chain(u32 seed, u32 lane, u32 rounds) {
    u32 word = mix32(seed ^ lane ^ 0x51u), sum = 0;
    float x = float_of(0x3f800000u | (word & 0x7fffffu));
    for (u32 r = 0; r < rounds; ++r) {
        word = mix32(word + r);
        float factor = float_of(0x3f800000u | (word & 0x7ff000u));
        float more = float_of(0x3f800000u | (word << 8 & 0x7fffffu));
#ifdef __CUDACC_RTC__
        float y = __fmaf_rn(x, factor, more);
#else
        float y = (float)((double)x * factor + more);
#endif
        sum = (sum << 5 | sum >> 27) + bits_of(y);
        x = float_of(0x3f800000u | (bits_of(y) & 0x7fffffu));
    }
    return mix32(sum);
}

// float64: two factors of 26 bits, an exact product, one rounding.
HD u32 double_chain(u32 seed, u32 lane, u32 rounds) {
    u32 word = mix32(seed ^ lane ^ 0xd0u), sum = 0;
    u64 kept = 0x000ffffff8000000ull;
    double x = double_of(0x3ff0000000000000ull | ((u64)word << 20 & kept));
    for (u32 r = 0; r < rounds; ++r) {
        word = mix32(word + r);
        double factor = double_of(0x3ff0000000000000ull | ((u64)word << 21 & kept));
        double more = double_of(0x3ff0000000000000ull | ((u64)mix32(word) << 20 | word >> 12));
#ifdef __CUDACC_RTC__
        double y = __fma_rn(x, factor, more);
#else
        double y = x * factor + more;
#endif
        sum = (sum << 5 | sum >> 27) + ((u32)bits_of(y) ^ (u32)(bits_of(y) >> 32));
        x = double_of(0x3ff0000000000000ull | (bits_of(y) & kept));
    }
    return mix32(sum);
}

// Operands of the matrix product of a round: integers of -15..15.
HD i32 tile_a(u32 seed, u32 r, u32 row, u32 k) {
    return (i32)(mix32(seed ^ (r << 16 | row << 8 | k)) % 31u) - 15;
}
HD i32 tile_b(u32 seed, u32 r, u32 k, u32 col) {
    return (i32)(mix32(seed ^ 0x80000000u ^ (r << 16 | k << 8 | col)) % 31u) - 15;
}
HD u32 as_bf16(i32 integer) { return bits_of((float)integer) >> 16; }

HD u32 tile_fold(const float *sums) {
    u32 folded = 0;
    for (u32 i = 0; i < 4u; ++i) folded = mix32(folded ^ bits_of(sums[i]));
    return folded;
}

// The warp's product of 16 by 16 with 16 by 8, summed over rounds; each lane's four elements, folded.
#ifdef __CUDACC_RTC__
DEV u32 tile_chain(u32 seed, u32 lane, u32 rounds) {
    u32 group = lane >> 2, pair = (lane & 3u) * 2u;
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (u32 r = 0; r < rounds; ++r) {
        u32 a[4], b[2];
        for (u32 i = 0; i < 4u; ++i) {
            u32 row = group + (i & 1u) * 8u, k = pair + (i >> 1) * 8u;
            a[i] = as_bf16(tile_a(seed, r, row, k)) | as_bf16(tile_a(seed, r, row, k + 1u)) << 16;
        }
        for (u32 i = 0; i < 2u; ++i) {
            u32 k = pair + i * 8u;
            b[i] = as_bf16(tile_b(seed, r, k, group)) | as_bf16(tile_b(seed, r, k + 1u, group)) << 16;
        }
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
    return tile_fold(c);
}
DEV u32 warp_slot() {
    u32 id;
    asm volatile("mov.u32 %0, %%warpid;" : "=r"(id));
    return id;
}
#else
DEV u32 tile_chain(u32 seed, u32 lane, u32 rounds) {
    u32 group = lane >> 2, pair = (lane & 3u) * 2u;
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (u32 i = 0; i < 4u; ++i) {
        u32 row = group + (i >> 1) * 8u, col = pair + (i & 1u);
        for (u32 r = 0; r < rounds; ++r)
            for (u32 k = 0; k < INNER; ++k)
                c[i] += (float)(tile_a(seed, r, row, k) * tile_b(seed, r, k, col));
    }
    return tile_fold(c);
}
DEV u32 warp_slot() { return threadIdx.x >> 5; }
#endif

// expected: u32[unit, lane]. found, per slot (SM times SCHEDULERS plus scheduler) and unit: sums of
// results; `threads_seen` per slot; `wrong`, per slot and unit: how many, which lanes, which bits.
// A fault is put into the results of `fault_unit` where slot, lane and block fit; `fault_block`
// 0xffffffff is every block, `fault_slot` 0xffffffff none.
extern "C" __global__ void sm_sweep(u32 seed, u32 rounds, u32 slots, const u32 *expected, u64 *found,
                                    u32 *threads_seen, u32 *wrong, u32 fault_unit, u32 fault_slot,
                                    u32 fault_lanes, u32 fault_bits, u32 fault_block) {
    u32 lane = threadIdx.x & 31u;
    u32 slot = sm_id() * SCHEDULERS + warp_slot() % SCHEDULERS;
    if (slot >= slots) return;
    u32 results[UNITS];
    results[0] = integer_chain(seed, lane, rounds);
    results[1] = single_chain(seed, lane, rounds);
    results[2] = double_chain(seed, lane, rounds);
    results[3] = tile_chain(seed, lane, rounds);
    bool struck = slot == fault_slot && (fault_lanes >> lane & 1u) &&
                  (fault_block == 0xffffffffu || fault_block == blockIdx.x);
    for (u32 unit = 0; unit < UNITS; ++unit) {
        u32 result = results[unit];
        if (struck && unit == fault_unit) result ^= fault_bits;
        u32 at = slot * UNITS + unit;
        atomicAdd(found + at, (u64)mix32(result ^ lane));
        u32 off = result ^ expected[unit * 32u + lane];
        if (off != 0u) {
            atomicAdd(wrong + at * 3u, 1u);
            atomicOr(wrong + at * 3u + 1u, 1u << lane);
            atomicOr(wrong + at * 3u + 2u, off);
        }
    }
    atomicAdd(threads_seen + slot, 1u);
}
