// Patterns in memory: written, read back, and turned over in place.
//
// Memory is taken four words at a time. What a word must hold follows from its place alone, so
// nothing is kept to compare with, and a word that is answered from the wrong address is wrong too.

// Vectors of a line, which is what the L2 keeps: less than one is read from memory to be written.
#define LINE 8u

DEV u32 differs(uint4 a, uint4 b) {
    return (a.x ^ b.x) | (a.y ^ b.y) | (a.z ^ b.z) | (a.w ^ b.w);
}

// A hash of the vector's number, and three bijections of it: no two vectors within 64 GiB are
// equal in any of the four words. `flip` is all ones for the inverse.
struct Hashed {
    u32 key, flip;
    HD uint4 at(u64 vector) const {
        u32 h = mix32((u32)vector + (u32)(vector >> 32) * 0x9e3779b9u + key);
        uint4 words;
        words.x = h ^ flip;
        words.y = (h * 0x9e3779b1u + (key ^ 0x7f4a7c15u)) ^ flip;
        words.z = (h * 0x85ebca6bu + (key ^ 0x94d049bbu)) ^ flip;
        words.w = (h * 0xc2b2ae35u + (key ^ 0x2545f491u)) ^ flip;
        return words;
    }
};

// `pattern` in every twentieth word from `phase` on, its inverse in all others; in every twentieth
// line of 32 words it is the other way round.
struct Modulo {
    u32 pattern, phase;
    HD u32 around(u64 vector) const { return (u32)(vector % (20 * LINE)); }
    HD bool spared(u64 vector) const { return around(vector) / LINE == phase; }
    HD uint4 at(u64 vector) const {
        u32 lane = phase - 4 * (around(vector) % 5), others = spared(vector) ? pattern : ~pattern;
        uint4 words;
        words.x = lane == 0 ? ~others : others;
        words.y = lane == 1 ? ~others : others;
        words.z = lane == 2 ? ~others : others;
        words.w = lane == 3 ? ~others : others;
        return words;
    }
};

// One bit set in each word (or all but one), a place further from word to word.
struct Walking {
    u32 step, flip;
    HD uint4 at(u64 vector) const {
        u32 bit = (u32)vector * 4 + step;
        uint4 words;
        words.x = (1u << (bit & 31)) ^ flip;
        words.y = (1u << ((bit + 1) & 31)) ^ flip;
        words.z = (1u << ((bit + 2) & 31)) ^ flip;
        words.w = (1u << ((bit + 3) & 31)) ^ flip;
        return words;
    }
};

// What passes by once, and what must come from the L2.
struct Once {
    DEV static uint4 load(const uint4 *at) { return load_once(at); }
    DEV static void store(uint4 *at, uint4 value) { store_once(at, value); }
};
struct InL2 {
    DEV static uint4 load(const uint4 *at) { return load_l2(at); }
    DEV static void store(uint4 *at, uint4 value) { store_l2(at, value); }
};

DEV void compare(Wrong *wrong, u64 *log, u64 vector, uint4 want, uint4 got, u32 tag) {
    if (differs(want, got)) {
        if (want.x != got.x) note(wrong, log, vector * 4, want.x, got.x, tag);
        if (want.y != got.y) note(wrong, log, vector * 4 + 1, want.y, got.y, tag);
        if (want.z != got.z) note(wrong, log, vector * 4 + 2, want.z, got.z, tag);
        if (want.w != got.w) note(wrong, log, vector * 4 + 3, want.w, got.w, tag);
    }
}

template <class Via, class Pattern>
DEV void fill(uint4 *words, u64 first, u64 count, Pattern pattern) {
    for (u64 v = first + place(); v < first + count; v += threads())
        Via::store(words + v, pattern.at(v));
}

// Four loads are under way before the first is looked at.
template <class Via, class Pattern>
DEV void check(const uint4 *words, u64 first, u64 count, Pattern pattern, u64 *log, u32 tag) {
    Wrong wrong = nothing_wrong();
    u64 step = threads(), end = first + count, v = first + place();
    for (; v + 3 * step < end; v += 4 * step) {
        uint4 a = Via::load(words + v), b = Via::load(words + v + step);
        uint4 c = Via::load(words + v + 2 * step), d = Via::load(words + v + 3 * step);
        compare(&wrong, log, v, pattern.at(v), a, tag);
        compare(&wrong, log, v + step, pattern.at(v + step), b, tag);
        compare(&wrong, log, v + 2 * step, pattern.at(v + 2 * step), c, tag);
        compare(&wrong, log, v + 3 * step, pattern.at(v + 3 * step), d, tag);
    }
    for (; v < end; v += step)
        compare(&wrong, log, v, pattern.at(v), Via::load(words + v), tag);
    tell(&wrong, log);
}

DEV uint4 inverse(uint4 words) {
    uint4 turned = {~words.x, ~words.y, ~words.z, ~words.w};
    return turned;
}

// Read what must be there, write its inverse: an element of a march, upwards or downwards.
template <class Via, class Pattern>
DEV void turn(uint4 *words, u64 first, u64 count, Pattern pattern, u32 down, u64 *log, u32 tag) {
    Wrong wrong = nothing_wrong();
    u64 step = threads(), i = place(), last = first + count - 1;
    for (; i + step < count; i += 2 * step) {
        u64 v = down ? last - i : first + i, w = down ? v - step : v + step;
        uint4 a = Via::load(words + v), b = Via::load(words + w);
        uint4 want_a = pattern.at(v), want_b = pattern.at(w);
        compare(&wrong, log, v, want_a, a, tag);
        compare(&wrong, log, w, want_b, b, tag);
        Via::store(words + v, inverse(want_a));
        Via::store(words + w, inverse(want_b));
    }
    for (; i < count; i += step) {
        u64 v = down ? last - i : first + i;
        uint4 want = pattern.at(v);
        compare(&wrong, log, v, want, Via::load(words + v), tag);
        Via::store(words + v, inverse(want));
    }
    tell(&wrong, log);
}

extern "C" __global__ void __launch_bounds__(256) fill_hash(uint4 *words, u64 first, u64 count,
                                                            u32 key, u32 flip) {
    Hashed pattern = {key, flip};
    fill<Once>(words, first, count, pattern);
}

extern "C" __global__ void __launch_bounds__(256, 4) check_hash(const uint4 *words, u64 first, u64 count,
                                                             u32 key, u32 flip, u64 *log, u32 tag) {
    Hashed pattern = {key, flip};
    check<Once>(words, first, count, pattern, log, tag);
}

extern "C" __global__ void __launch_bounds__(256, 4) turn_hash(uint4 *words, u64 first, u64 count, u32 key,
                                                            u32 flip, u32 down, u64 *log, u32 tag) {
    Hashed pattern = {key, flip};
    turn<Once>(words, first, count, pattern, down, log, tag);
}

extern "C" __global__ void __launch_bounds__(256, 4) turn_l2(uint4 *words, u64 first, u64 count, u32 key,
                                                          u32 flip, u32 down, u64 *log, u32 tag) {
    Hashed pattern = {key, flip};
    turn<InL2>(words, first, count, pattern, down, log, tag);
}

extern "C" __global__ void __launch_bounds__(256) fill_modulo(uint4 *words, u64 first, u64 count,
                                                              u32 pattern, u32 phase) {
    Modulo modulo = {pattern, phase};
    fill<Once>(words, first, count, modulo);
}

// Write all but every twentieth line once more, whole lines each.
extern "C" __global__ void __launch_bounds__(256) disturb_modulo(uint4 *words, u64 first, u64 count,
                                                                 u32 pattern, u32 phase) {
    Modulo modulo = {pattern, phase};
    for (u64 v = first + place(); v < first + count; v += threads())
        if (!modulo.spared(v)) store_once(words + v, modulo.at(v));
}

extern "C" __global__ void __launch_bounds__(256, 4) check_modulo(const uint4 *words, u64 first, u64 count,
                                                               u32 pattern, u32 phase, u64 *log,
                                                               u32 tag) {
    Modulo modulo = {pattern, phase};
    check<Once>(words, first, count, modulo, log, tag);
}

extern "C" __global__ void __launch_bounds__(256) fill_walking(uint4 *words, u64 first, u64 count,
                                                               u32 step, u32 flip) {
    Walking pattern = {step, flip};
    fill<Once>(words, first, count, pattern);
}

extern "C" __global__ void __launch_bounds__(256, 4) check_walking(const uint4 *words, u64 first,
                                                                u64 count, u32 step, u32 flip, u64 *log,
                                                                u32 tag) {
    Walking pattern = {step, flip};
    check<Once>(words, first, count, pattern, log, tag);
}
