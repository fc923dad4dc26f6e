// What every kernel may use, on a GPU and, compiled by an ordinary compiler, on the host.
//
// On the host a kernel is an ordinary function that is called once for each thread, one after the
// other: what needs threads that wait for each other or trade registers stands under
// `#ifdef __CUDACC_RTC__` and has a reference in NumPy alone.
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#ifdef __CUDACC_RTC__

#define HD __host__ __device__ __forceinline__
#define DEV __device__ __forceinline__

DEV u32 sm_id() {
    u32 id;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
    return id;
}
// Memory that is passed over once: keep it from pushing everything else out of the cache.
DEV uint4 load_once(const uint4 *at) { return __ldcs(at); }
DEV void store_once(uint4 *at, uint4 value) { __stcs(at, value); }
// Memory that must come from the L2, past the L1.
DEV uint4 load_l2(const uint4 *at) { return __ldcg(at); }
DEV void store_l2(uint4 *at, uint4 value) { __stcg(at, value); }

#else

#define HD inline
#define DEV inline
#define __global__
#define __device__
#define __launch_bounds__(...)
#define __restrict__

struct Dim { u32 x, y, z; };
static Dim threadIdx = {0, 0, 0}, blockIdx = {0, 0, 0}, blockDim = {1, 1, 1}, gridDim = {1, 1, 1};
struct uint4 { u32 x, y, z, w; };
DEV u32 sm_id() { return blockIdx.x; }
DEV uint4 load_once(const uint4 *at) { return *at; }
DEV void store_once(uint4 *at, uint4 value) { *at = value; }
DEV uint4 load_l2(const uint4 *at) { return *at; }
DEV void store_l2(uint4 *at, uint4 value) { *at = value; }
template <class T> static inline T atomicAdd(T *at, T by) { T old = *at; *at += by; return old; }
template <class T> static inline T atomicOr(T *at, T bits) { T old = *at; *at |= bits; return old; }
template <class T> static inline T atomicXor(T *at, T bits) { T old = *at; *at ^= bits; return old; }
template <class T> static inline T atomicMin(T *at, T to) { T old = *at; if (to < old) *at = to; return old; }
template <class T> static inline T atomicMax(T *at, T to) { T old = *at; if (to > old) *at = to; return old; }

#endif

// This thread's place in the grid, and how many there are: the bounds of every grid-stride loop.
DEV u64 place() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
DEV u64 threads() { return (u64)gridDim.x * blockDim.x; }

// A bijection of 32-bit words that leaves no bit of the input unmixed.
HD u32 mix32(u32 x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

// Numbers as their bits, and back.
union Bits32 { float f; u32 u; };
union Bits64 { double f; u64 u; };
HD u32 bits_of(float f) { Bits32 b; b.f = f; return b.u; }
HD float float_of(u32 u) { Bits32 b; b.u = u; return b.f; }
HD u64 bits_of(double f) { Bits64 b; b.f = f; return b.u; }
HD double double_of(u64 u) { Bits64 b; b.u = u; return b.f; }

// The log of what was found wrong: LOG_HEAD words of totals, then at most LOG_MAX entries of
// LOG_WIDE words each: where, (expected << 32 | found), (tag << 32 | SM).
#define LOG_MAX 256u
#define LOG_HEAD 4u
#define LOG_WIDE 3u
#define LOG_EACH 4u

struct Wrong {
    u64 count, first;
    u32 bits, logged;
};

DEV Wrong nothing_wrong() {
    Wrong none = {0, ~0ull, 0, 0};
    return none;
}

// Remember one wrong word; each thread puts at most LOG_EACH of its own into the log.
DEV void note(Wrong *wrong, u64 *log, u64 where, u32 expected, u32 found, u32 tag) {
    wrong->count += 1;
    wrong->bits |= expected ^ found;
    if (where < wrong->first) wrong->first = where;
    if (wrong->logged < LOG_EACH) {
        wrong->logged += 1;
        u64 slot = atomicAdd(log + 3, 1ull);
        if (slot < LOG_MAX) {
            u64 *entry = log + LOG_HEAD + slot * LOG_WIDE;
            entry[0] = where;
            entry[1] = (u64)expected << 32 | found;
            entry[2] = (u64)tag << 32 | sm_id();
        }
    }
}

// Add what a thread found to the totals: words wrong, lowest place, bits that differ anywhere.
DEV void tell(const Wrong *wrong, u64 *log) {
    if (wrong->count != 0) {
        atomicAdd(log + 0, wrong->count);
        atomicMin(log + 1, wrong->first);
        atomicOr(log + 2, (u64)wrong->bits);
    }
}
