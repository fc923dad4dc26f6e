// Faults put in on purpose: words of memory changed behind a check's back.

// Flip the bits of `mask` in `count` words from `first` on, `stride` apart.
extern "C" __global__ void strike_flip(u32 *words, u64 first, u64 stride, u64 count, u32 mask) {
    for (u64 i = place(); i < count; i += threads()) words[first + i * stride] ^= mask;
}

// Hold the bits of `mask` at those of `level` in `count` words from `first` on, `stride` apart.
extern "C" __global__ void strike_stick(u32 *words, u64 first, u64 stride, u64 count, u32 mask,
                                        u32 level) {
    for (u64 i = place(); i < count; i += threads()) {
        u32 *word = words + first + i * stride;
        *word = (*word & ~mask) | (level & mask);
    }
}

// Let each address with `bit` set among `count` words fall upon the one without it, as a dead
// address line does: both hold what was written to the higher one.
extern "C" __global__ void strike_alias(u32 *words, u64 count, u64 bit) {
    for (u64 i = place(); i < count; i += threads())
        if (i & bit) words[i & ~bit] = words[i];
}
