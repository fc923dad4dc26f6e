// The shared memory of every multiprocessor (the same cells as its L1), marched over in place.
//
// A block takes as much shared memory as there is, so that one fits on a multiprocessor, and a
// launch of as many blocks as there are multiprocessors reaches, when nothing else runs, them all;
// `seen` counts who was reached. In each element another thread reads a cell than wrote it.
#ifdef __CUDACC_RTC__

DEV u32 cell(u32 i, u32 key, u32 flip) { return mix32(i + key) ^ flip; }

// Element `e` of March C-: what it reads (2: nothing) and writes (2: nothing) and which way.
//   up w0 | up r0 w1 | up r1 w0 | down r0 w1 | down r1 w0 | up r0
DEV u32 reads(u32 e) { return e == 0 ? 2u : (e - 1u) & 1u; }
DEV u32 writes(u32 e) { return e == 5 ? 2u : e & 1u; }

extern "C" __global__ void __launch_bounds__(1024)
    shared_march(u32 cells, u32 rounds, u32 key, u32 hit_sm, u32 hit_cell, u32 hit_mask, u32 hit_always,
                 u32 *seen, u32 seen_max, u64 *log) {
    extern __shared__ u32 shared[];
    Wrong wrong = nothing_wrong();
    u32 sm = sm_id();
    if (threadIdx.x == 0 && sm < seen_max) atomicAdd(seen + sm, 1u);
    for (u32 round = 0; round < rounds; ++round) {
        u32 salt = key + round * 0x9e3779b9u;
        for (u32 e = 0; e < 6; ++e) {
            u32 r = reads(e), w = writes(e), down = e == 3 || e == 4;
            // Turned by 33 threads an element: another warp and another bank come to each cell.
            u32 me = (threadIdx.x + 33 * e) % blockDim.x;
            for (u32 k = me; k < cells; k += blockDim.x) {
                u32 i = down ? cells - 1 - k : k;
                if (r != 2) {
                    u32 want = cell(i, salt, r ? ~0u : 0u), got = shared[i];
                    if (got != want) note(&wrong, log, i, want, got, round * 6 + e);
                }
                if (w != 2) {
                    u32 put = cell(i, salt, w ? ~0u : 0u);
                    if (sm == hit_sm && i == hit_cell && (hit_always || (round == 0 && e == 0)))
                        put ^= hit_mask;
                    shared[i] = put;
                }
            }
            __syncthreads();
        }
    }
    tell(&wrong, log);
}

#endif
