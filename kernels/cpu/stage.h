// The operand S of the backward products (backward.h), for some groups on a chunk of pixels: the
// gradient of each group's channel, moved to the pixels that its taps read. Where a tap read beyond
// the image, the gradient goes to the pixel that the border rule put there.
#pragma once

#include "network.h"

// Some rows, and a strip of them in vectors.
template <class T>
struct Chunk {
    Range rows, strip;
    Index stride() const { return odd_stride<T>(rows.size() * strip.size() * Simd<T>::LANES); }
};

template <class T>
class Stage {
public:
    // Groups on the stage that also follow each other in the packed weights.
    struct Run {
        Index staged, packed, count;
    };

    Stage(const Network& net, Index max_groups, Index max_vectors)
        : net(net),
          vectors((net.width + LANES - 1) / LANES),
          margin(round_up(net.margin(), LANES)),
          memory(3 * max_groups * odd_stride<T>(max_vectors * LANES)),
          line_memory(max_vectors * LANES + 2 * margin) {
        groups.reserve(max_groups);
        runs.reserve(max_groups);
    }

    // Fill the stage [group, tap, chunk] with S of those groups that read any row of the chunk.
    void make(const T* grads, Range layers, const Chunk<T>& chunk) {
        stride = chunk.stride();
        groups.clear();
        runs.clear();
        const auto add = [&](const Group& group) {
            Index found[4];
            bool any = false;
            for (Index row = chunk.rows.begin; row < chunk.rows.end && !any; ++row)
                any = net.rows_reading(row, group.tap, net.dilations[group.layer], found) > 0;
            if (!any) return;
            const Index staged = groups.size(), packed = net.group_index(layers, group);
            T* to = memory.data() + 3 * staged * stride;
            for (Index row = chunk.rows.begin; row < chunk.rows.end; ++row) {
                add_row(grads, group, row, chunk.strip, to);
                to += chunk.strip.size() * LANES;
            }
            groups.push_back(group);
            if (!runs.empty() && runs.back().packed + runs.back().count == packed)
                ++runs.back().count;
            else
                runs.push_back({staged, packed, 1});
        };
        for (Index layer = layers.begin; layer < layers.end; ++layer)
            for (Index unit = 0; unit < net.layer_width; ++unit)
                for (Index tap = 0; tap < net.outer_taps(); ++tap) add({layer, unit, tap});
    }

    // S of a group that is on the stage: its taps are `stride` elements apart.
    const T* taps(Index staged) const { return memory.data() + 3 * staged * stride; }

    std::vector<Group> groups;
    std::vector<Run> runs;
    Index stride = 0;

private:
    static constexpr int LANES = Simd<T>::LANES;

    const Network& net;
    Index vectors, margin;
    Scratch<T> memory, line_memory;

    void add_row(const T* grads, const Group& group, Index row, Range strip, T* to) {
        T* line = line_memory.data() + margin;
        Index found[4];
        const Index dilation = net.dilations[group.layer];
        const int count = net.rows_reading(row, group.tap, dilation, found);
        const Index channel = net.channels_before(group.layer) + group.unit;
        const Index first = strip.begin * LANES, size = strip.size() * LANES;
        const auto delta = [&](int reader) {
            return grads + found[reader] * net.row_stride() + channel * net.pitch + first;
        };
        const auto fill_line = [&](Index begin, Index end) {
            for (Index x = begin; x < end; x += LANES) {
                Vector<T> total{};
                if (first + x >= 0 && first + x < vectors * LANES)
                    for (int reader = 0; reader < count; ++reader) total += load(delta(reader) + x);
                store<T>(line + x, total);
            }
        };
        const auto shift = [&](const T* from, Index begin, Index end) {
            for (Index x = begin; x < end; x += LANES) {
                store<T>(to + x, load(from + x + dilation));
                store<T>(to + stride + x, load(from + x));
                store<T>(to + 2 * stride + x, load(from + x - dilation));
            }
        };
        // Where a single row is read, and nothing beyond its ends, no line is needed.
        Range direct{std::max<Index>(0, margin - first),
                     std::min(size, vectors * LANES - first - margin)};
        if (count != 1 || direct.size() <= 0) direct = {size, size};
        fill_line(-margin, direct.begin + margin);
        if (direct.end < size) fill_line(direct.end - margin, size + margin);
        shift(line, 0, direct.begin);
        if (direct.size() > 0) shift(delta(0), direct.begin, direct.end);
        shift(line, direct.end, size);
        if (net.padding != ZEROS) mirror(strip, dilation, line, to, to + 2 * stride);
        // Beyond the image it must be zero.
        const Index valid = std::min(size, net.width - first);
        for (int t = 0; t < 3; ++t)
            std::fill(to + t * stride + valid, to + t * stride + size, T(0));
    }

    // Add what the outer taps along x read in the border.
    void mirror(Range strip, Index dilation, const T* line, T* low, T* high) const {
        const Index first = strip.begin * LANES, end = std::min(strip.end * LANES, net.width);
        const Index edge = net.padding == REFLECT;
        for (Index x = std::max(first, edge); x < std::min(end, dilation + edge); ++x)
            low[x - first] += line[edge - 1 - x + dilation - first];
        for (Index x = std::max(first, net.width - dilation - edge);
             x < std::min(end, net.width - edge); ++x)
            high[x - first] += line[2 * net.width - 1 - edge - x - dilation - first];
    }
};
