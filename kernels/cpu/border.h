// The border rule rho of one axis, for taps that read position x + shift. The numbers of the rules
// are those of msdtool/border.py.
#pragma once

#include "simd.h"

enum Padding : Index { SYMMETRIC = 0, REFLECT = 1, ZEROS = 2 };

// rho(x + shift), or -1 where a border of zeros is read.
inline Index source_of(Index position, Index shift, Index size, Index padding) {
    const Index moved = position + shift;
    if (moved >= 0 && moved < size) return moved;
    if (padding == ZEROS) return -1;
    const Index edge = padding == REFLECT;
    return moved < 0 ? edge - 1 - moved : 2 * size - 1 - edge - moved;
}

// All x with rho(x + shift) = source, at most two; returns their number.
inline int preimages(Index source, Index shift, Index size, Index padding, Index found[2]) {
    int count = 0;
    const auto add = [&](Index position) {
        if (position >= 0 && position < size) found[count++] = position;
    };
    add(source - shift);
    if (padding == ZEROS || shift == 0) return count;
    const Index edge = padding == REFLECT;
    if (shift < 0) {
        if (source >= edge) add(edge - 1 - source - shift);
    } else if (source < size - edge) {
        add(2 * size - 1 - edge - source - shift);
    }
    return count;
}
