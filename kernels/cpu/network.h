// Sizes of an MSD block and of its buffer; the units of work.
//
// Buffer: [row][channel][pitch], rows numbered through slices and height (2D: one slice). All
// channels of a row lie together, so a row is a matrix [channel, x] for the products. Elements of
// a row beyond the width are zero.
//
// A unit is one output channel of a layer; a group is one unit and one tap of the outer axes, whose
// three taps along x follow each other.
#pragma once

#include <algorithm>
#include <vector>

#include "border.h"

struct Range {
    Index begin, end;
    Index size() const { return end - begin; }
};

struct Group {
    Index layer, unit, tap;
};

struct Network {
    Index axes, slices, height, width, pitch;
    Index c_in, layer_width, layers, padding, threads;
    const Index* dilations;

    Index rows() const { return slices * height; }
    Index channels() const { return c_in + layer_width * layers; }
    Index row_stride() const { return channels() * pitch; }
    Index channels_before(Index layer) const { return c_in + layer_width * layer; }
    Index outer_taps() const { return axes == 3 ? 9 : 3; }
    Index margin() const { return *std::max_element(dilations, dilations + layers); }
    // Shifts of an outer tap, in dilations.
    Index slice_tap(Index tap) const { return axes == 3 ? tap / 3 - 1 : 0; }
    Index row_tap(Index tap) const { return tap % 3 - 1; }

    // Number of a group among those of some layers.
    Index group_index(Range some_layers, const Group& group) const {
        return ((group.layer - some_layers.begin) * layer_width + group.unit) * outer_taps() +
               group.tap;
    }

    // Rows that read `row` through an outer tap, at most four; returns their number.
    int rows_reading(Index row, Index tap, Index dilation, Index found[4]) const {
        Index in_slices[2], in_height[2];
        const int n =
            preimages(row / height, slice_tap(tap) * dilation, slices, padding, in_slices);
        const int m = preimages(row % height, row_tap(tap) * dilation, height, padding, in_height);
        int count = 0;
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < m; ++j) found[count++] = in_slices[i] * height + in_height[j];
        return count;
    }

    // The row that `row` reads through an outer tap, or -1.
    Index row_read(Index row, Index tap, Index dilation) const {
        const Index z = source_of(row / height, slice_tap(tap) * dilation, slices, padding);
        const Index y = source_of(row % height, row_tap(tap) * dilation, height, padding);
        return z < 0 || y < 0 ? -1 : z * height + y;
    }
};

// Part `index` of `parts` parts of nearly equal size.
inline Range split(Range whole, Index index, Index parts) {
    return {whole.begin + whole.size() * index / parts,
            whole.begin + whole.size() * (index + 1) / parts};
}

// Rows are divided into bands that depend on sizes alone, and sums over pixels are kept per band:
// so the results do not depend on the number of threads.
constexpr Index MIN_PIXELS = 2048;

inline Index count_bands(const Network& net, Index sum_bytes) {
    constexpr Index MAX_BANDS = 64, MAX_BYTES = 8 << 20;
    const Index bands = std::min({net.rows(), net.rows() * net.pitch / MIN_PIXELS, MAX_BANDS,
                                  MAX_BYTES / std::max<Index>(sum_bytes, 1)});
    return std::max<Index>(bands, 1);
}

// Layers of a block. More of them read the preceding channels less often; but a layer processes
// those of its own block at a lower rate, and 3D has more of that work. Measured on one AVX-512
// core, a step is flat from 6 to 12 layers of width 1 in 2D (depth 100), and best at 1 or 2 in 3D
// (depth 30).
inline Index layers_per_block(const Network& net) {
    const Index units = net.axes == 2 ? 8 : 2;
    return std::max<Index>(1, units / net.layer_width);
}

// Strides of an even number of vectors would make rows compete for few cache sets.
template <class T>
inline Index odd_stride(Index size) {
    constexpr Index LANES = Simd<T>::LANES;
    return ((size + LANES - 1) / LANES | 1) * LANES;
}

// Aligned scratch memory of one thread.
template <class T>
class Scratch {
public:
    explicit Scratch(Index size) : bytes(size * sizeof(T) + 2 * VECTOR_BYTES) {
        const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
        start = reinterpret_cast<T*>(round_up(address, VECTOR_BYTES));
    }
    Scratch(Scratch&&) = default;
    Scratch(const Scratch&) = delete;

    T* data() { return start; }
    const T* data() const { return start; }

private:
    std::vector<unsigned char> bytes;  // zeros
    T* start;
};
