// Register tiles of the matrix products; all other code only prepares their operands.
#pragma once

#include <type_traits>

#include "simd.h"

// One copy of each tile for all callers: tiles are long, and compiled on first use.
#define TILE __attribute__((noinline)) void

// Call body(std::integral_constant<int, n>) for n in 1..MAX.
template <int MAX, class Body>
inline void with_constant(Index n, const Body& body) {
    if constexpr (MAX > 0) {
        if (n == MAX)
            body(std::integral_constant<int, MAX>{});
        else
            with_constant<MAX - 1>(n, body);
    }
}

// sums[3 g + t][x] = sum over sources j of weights[g][3 j + t] * sources[j][x], t the taps of x.
template <class T, int GROUPS, int VECTORS>
TILE multiply_taps(const T* sources, Index stride, Index count, const T* const* weights, T* sums,
                   Index sums_stride) {
    constexpr int LANES = Simd<T>::LANES;
    Vector<T> total[3 * GROUPS][VECTORS] = {};
    for (Index j = 0; j < count; ++j) {
        Vector<T> value[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; ++v) value[v] = load(sources + j * stride + v * LANES);
        UNROLL
        for (int g = 0; g < GROUPS; ++g) {
            UNROLL
            for (int t = 0; t < 3; ++t) {
                const T weight = weights[g][3 * j + t];
                UNROLL
                for (int v = 0; v < VECTORS; ++v) total[3 * g + t][v] += weight * value[v];
            }
        }
    }
    UNROLL
    for (int row = 0; row < 3 * GROUPS; ++row) {
        UNROLL
        for (int v = 0; v < VECTORS; ++v)
            store<T>(sums + row * sums_stride + v * LANES, total[row][v]);
    }
}

// taps[t][x] = sum over rows k and channels j of weights[k][3 j + t] * rows[k][j][x].
template <class T, int VECTORS>
TILE gather_taps(const T* const* rows, const T* const* weights, int num_rows, Index channels,
                 Index pitch, Index x, T* taps, Index stride) {
    constexpr int LANES = Simd<T>::LANES;
    Vector<T> total[3][VECTORS] = {};
    for (int k = 0; k < num_rows; ++k)
        for (Index j = 0; j < channels; ++j) {
            const T* source = rows[k] + j * pitch + x;
            const T* weight = weights[k] + 3 * j;
            UNROLL
            for (int v = 0; v < VECTORS; ++v) {
                const Vector<T> value = load(source + v * LANES);
                UNROLL
                for (int t = 0; t < 3; ++t) total[t][v] += weight[t] * value;
            }
        }
    UNROLL
    for (int t = 0; t < 3; ++t) {
        UNROLL
        for (int v = 0; v < VECTORS; ++v) store<T>(taps + t * stride + v * LANES, total[t][v]);
    }
}

// targets[r][x] += sum over k of weights[k][r] * sources[k][x]; the weights of a k are adjacent.
template <class T, int ROWS, int VECTORS>
TILE add_product(const T* sources, Index stride, Index count, const T* weights, T* targets,
                 Index target_stride) {
    constexpr int LANES = Simd<T>::LANES;
    UNROLL
    for (int r = 0; r < ROWS; ++r) {
        UNROLL
        for (int v = 0; v < VECTORS; ++v)
            __builtin_prefetch(targets + r * target_stride + v * LANES, 1);
    }
    Vector<T> total[ROWS][VECTORS] = {};
    for (Index k = 0; k < count; ++k) {
        Vector<T> value[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; ++v) value[v] = load(sources + k * stride + v * LANES);
        UNROLL
        for (int r = 0; r < ROWS; ++r) {
            const T weight = weights[ROWS * k + r];
            UNROLL
            for (int v = 0; v < VECTORS; ++v) total[r][v] += weight * value[v];
        }
    }
    UNROLL
    for (int r = 0; r < ROWS; ++r) {
        UNROLL
        for (int v = 0; v < VECTORS; ++v) {
            T* target = targets + r * target_stride + v * LANES;
            store<T>(target, load(target) + total[r][v]);
        }
    }
}

// The pixels of a dot product: `lines` times `vectors`, at their own strides on both sides.
struct Pixels {
    Index lines, vectors, left_line, right_line;
};

// sums[l * sums_stride + r] += sum over pixels of left[l] * right[r].
template <class T, int LEFT, int RIGHT>
TILE add_dots(const T* left, Index left_stride, const T* right, Index right_stride,
              const Pixels& pixels, T* sums, Index sums_stride) {
    constexpr int LANES = Simd<T>::LANES;
    Vector<T> total[LEFT][RIGHT] = {};
    for (Index line = 0; line < pixels.lines; ++line) {
        const T* from_left = left + line * pixels.left_line;
        const T* from_right = right + line * pixels.right_line;
        for (Index v = 0; v < pixels.vectors; ++v, from_left += LANES, from_right += LANES) {
            Vector<T> value[LEFT];
            UNROLL
            for (int l = 0; l < LEFT; ++l) value[l] = load(from_left + l * left_stride);
            UNROLL
            for (int r = 0; r < RIGHT; ++r) {
                const Vector<T> other = load(from_right + r * right_stride);
                UNROLL
                for (int l = 0; l < LEFT; ++l) total[l][r] += value[l] * other;
            }
        }
    }
    constexpr int POWER = RIGHT > 4 ? 8 : RIGHT > 2 ? 4 : RIGHT;
    UNROLL
    for (int l = 0; l < LEFT; ++l) {
        Vector<T> folded[POWER] = {};
        UNROLL
        for (int r = 0; r < RIGHT; ++r) folded[r] = total[l][r];
        add_lane_sums<T>(folded, sums + l * sums_stride, RIGHT);
    }
}
