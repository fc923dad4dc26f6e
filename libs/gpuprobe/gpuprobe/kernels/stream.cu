// Memory moved as fast as it can be: what bandwidth is measured by.

extern "C" __global__ void __launch_bounds__(256) copy_words(uint4 *to, const uint4 *from, u64 count) {
    u64 step = threads(), v = place();
    for (; v + 3 * step < count; v += 4 * step) {
        uint4 a = load_once(from + v), b = load_once(from + v + step);
        uint4 c = load_once(from + v + 2 * step), d = load_once(from + v + 3 * step);
        store_once(to + v, a);
        store_once(to + v + step, b);
        store_once(to + v + 2 * step, c);
        store_once(to + v + 3 * step, d);
    }
    for (; v < count; v += step) store_once(to + v, load_once(from + v));
}

// The exclusive or of all words, added by exclusive or to `digest`: it must be read to be known.
extern "C" __global__ void __launch_bounds__(256) read_words(const uint4 *from, u64 count, u32 *digest) {
    u32 all = 0;
    u64 step = threads(), v = place();
    for (; v + 3 * step < count; v += 4 * step) {
        uint4 a = load_once(from + v), b = load_once(from + v + step);
        uint4 c = load_once(from + v + 2 * step), d = load_once(from + v + 3 * step);
        all ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w;
        all ^= c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    for (; v < count; v += step) {
        uint4 a = load_once(from + v);
        all ^= a.x ^ a.y ^ a.z ^ a.w;
    }
    if (all != 0) atomicXor(digest, all);
}

extern "C" __global__ void __launch_bounds__(256) write_words(uint4 *to, u64 count, u32 value) {
    uint4 words = {value, value, value, value};
    for (u64 v = place(); v < count; v += threads()) store_once(to + v, words);
}
