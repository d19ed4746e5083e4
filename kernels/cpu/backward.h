// Backward pass of a block, in place.
//
// delta is the gradient before the ReLU, in the place of the gradient by its channel. With
// S[group, tap, y] = sum of delta(x) over the x whose tap reads y, the gradients are two matrix
// products: G += W^T S and dW = S Y^T. S is made for a few rows at a time, which stay in the cache.
#pragma once

#include "network.h"
#include "team.h"
#include "tiles.h"

template <class T>
struct Gradients {
    T* const* weights;  // per layer, null where not asked for
    T* bias;            // null if not asked for
    bool input;
};

template <class T>
class Backward {
public:
    Backward(const Network& net, const T* planes, T* grads, const T* const* weights,
             const Gradients<T>& wanted)
        : net(net), planes(planes), grads(grads), weights(weights), wanted(wanted),
          vectors((net.width + LANES - 1) / LANES), margin(round_up(net.margin(), LANES)),
          block_layers(std::min(layers_per_block(net), net.layers)),
          max_groups(block_layers * net.layer_width * net.outer_taps()),
          max_vectors(CHUNK_BYTES / VECTOR_BYTES),
          num_bands(count_bands(net, sums_size() * sizeof(T))) {
        const Index strips = (vectors + max_vectors - 1) / max_vectors;
        for (Index strip = 0; strip < strips; ++strip)
            this->strips.push_back(split({0, vectors}, strip, strips));
        chunk_rows = std::max<Index>(1, max_vectors / vectors);
        sums.resize(num_bands * sums_size());
        bias_sums.resize(num_bands * net.layers * net.layer_width);
        packed.resize(3 * max_groups * net.channels());
    }

    void run(Team& team) {
        // Made here: where memory is short, no thread may wait for another.
        std::vector<Work> works;
        for (Index member = 0; member < std::min(net.threads, num_bands); ++member)
            works.push_back({{}, Scratch<T>(3 * max_groups * odd_stride<T>(max_vectors * LANES)),
                             Scratch<T>(max_vectors * LANES + 2 * margin),
                             std::vector<Group>(max_groups)});
        team.run(static_cast<int>(works.size()), [&](int member) {
            Work& work = works[member];
            work.bands = split({0, num_bands}, member, team.size);
            for (Index stop = net.layers; stop > 0;) {
                const Range block{(stop - 1) / block_layers * block_layers, stop};
                through_block(team, member, block, work);
                stop = block.begin;
            }
            team.barrier();
            if (wanted.bias && member == 0) add_bias();
        });
    }

private:
    static constexpr int LANES = Simd<T>::LANES;
    static constexpr Index CHUNK_BYTES = 4096;

    struct Group {
        Index layer, unit, tap;
    };

    struct Work {
        Range bands;
        Scratch<T> stage, line;
        std::vector<Group> groups;
    };

    // Some rows, and a strip of them in vectors.
    struct Chunk {
        Range rows, strip;
        Index stride() const { return odd_stride<T>(rows.size() * strip.size() * LANES); }
    };

    const Network& net;
    const T* planes;
    T* grads;
    const T* const* weights;
    Gradients<T> wanted;
    Index vectors, margin, block_layers, max_groups, max_vectors, num_bands, chunk_rows;
    std::vector<Range> strips;
    std::vector<T> sums, bias_sums, packed;

    Index sums_size() const { return 3 * max_groups * net.channels(); }

    Range band_rows(Index band) const {
        return split({0, net.rows()}, band, num_bands);
    }

    template <class Body>
    void for_chunks(Index band, const Body& body) const {
        const Range rows = band_rows(band);
        for (Index row = rows.begin; row < rows.end; row += chunk_rows)
            for (const Range& strip : strips)
                body(Chunk{{row, std::min(row + chunk_rows, rows.end)}, strip});
    }

    void through_block(Team& team, int member, Range block, Work& work) {
        const Index in_front = net.channels_before(block.begin);
        for (Index layer = block.end - 1; layer >= block.begin; --layer) {
            for (Index band = work.bands.begin; band < work.bands.end; ++band) make_delta(layer, band);
            const Range inside{in_front, net.channels_before(layer)};
            if (member == 0) pack({layer, layer + 1}, inside);
            team.barrier();
            if (inside.size() > 0) {
                for (Index band = work.bands.begin; band < work.bands.end; ++band)
                    for_chunks(band, [&](const Chunk& chunk) {
                        const Index groups = make_stage({layer, layer + 1}, chunk, work);
                        add_to_channels(inside, chunk, work, groups, {layer, layer + 1});
                    });
            }
            team.barrier();
        }
        const Range front{wanted.input ? 0 : net.c_in, in_front};
        if (member == 0) pack(block, front);
        bool any_weights = false;
        for (Index layer = block.begin; layer < block.end; ++layer) any_weights |= wanted.weights[layer] != nullptr;
        team.barrier();
        for (Index band = work.bands.begin; band < work.bands.end; ++band) {
            T* band_sums = sums.data() + band * sums_size();
            if (any_weights) std::fill_n(band_sums, sums_size(), T(0));
            for_chunks(band, [&](const Chunk& chunk) {
                const Index groups = make_stage(block, chunk, work);
                add_to_channels(front, chunk, work, groups, block);
                if (any_weights) add_to_weights(block, chunk, work, groups, band_sums);
            });
        }
        team.barrier();
        if (any_weights)
            for (Index layer = block.begin + member; layer < block.end; layer += team.size)
                if (wanted.weights[layer]) collect_weights(block, layer);
    }

    Index group_index(Range block, const Group& group) const {
        return ((group.layer - block.begin) * net.layer_width + group.unit) * net.outer_taps() + group.tap;
    }

    // Weights [tile of channels, group, tap, channel in the tile], the last tile narrower.
    void pack(Range block, Range channels) {
        const Index taps = net.outer_taps(), groups = block.size() * net.layer_width * taps;
        for (Index layer = block.begin; layer < block.end; ++layer) {
            const Index count = net.channels_before(layer);
            for (Index unit = 0; unit < net.layer_width; ++unit)
                for (Index tap = 0; tap < taps; ++tap) {
                    const Index group = group_index(block, {layer, unit, tap});
                    for (Index j = channels.begin; j < channels.end; ++j) {
                        const Index first = (j - channels.begin) / TILE_ROWS * TILE_ROWS;
                        const Index rows = std::min<Index>(TILE_ROWS, channels.size() - first);
                        const T* from = weights[layer] + ((unit * count + j) * taps + tap) * 3;
                        T* to = packed.data() + 3 * (first * groups + group * rows) + j - channels.begin - first;
                        for (int t = 0; t < 3; ++t) to[t * rows] = from[t];
                    }
                }
        }
    }

    void make_delta(Index layer, Index band) {
        const Range rows = band_rows(band);
        for (Index unit = 0; unit < net.layer_width; ++unit) {
            const Index channel = net.channels_before(layer) + unit;
            Vector<T> total[1] = {};
            for (Index row = rows.begin; row < rows.end; ++row) {
                const Index offset = row * net.row_stride() + channel * net.pitch;
                for (Index x = 0; x < vectors * LANES; x += LANES) {
                    const Vector<T> delta =
                        keep_positive<T>(load(planes + offset + x), load(grads + offset + x));
                    store<T>(grads + offset + x, delta);
                    total[0] += delta;
                }
            }
            add_lane_sums<T>(total, &bias_sums[(band * net.layers + layer) * net.layer_width + unit], 1);
        }
    }

    // Fill the stage [group, tap, chunk] with S of some layers; returns the number of groups that
    // any row of the chunk needs.
    Index make_stage(Range layers, const Chunk& chunk, Work& work) {
        const Index stride = chunk.stride();
        Index count = 0;
        const auto add = [&](const Group& group) {
            Index found[4];
            bool any = false;
            for (Index row = chunk.rows.begin; row < chunk.rows.end && !any; ++row)
                any = net.rows_reading(row, group.tap, net.dilations[group.layer], found) > 0;
            if (!any) return;
            T* to = work.stage.data() + 3 * count * stride;
            for (Index row = chunk.rows.begin; row < chunk.rows.end; ++row) {
                stage_row(group, row, chunk.strip, work.line.data() + margin, to, stride);
                to += chunk.strip.size() * LANES;
            }
            work.groups[count++] = group;
        };
        for (Index layer = layers.begin; layer < layers.end; ++layer)
            for (Index unit = 0; unit < net.layer_width; ++unit)
                for (Index tap = 0; tap < net.outer_taps(); ++tap) add({layer, unit, tap});
        return count;
    }

    void stage_row(const Group& group, Index row, Range strip, T* line, T* to, Index stride) const {
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
        // Where one row is read, and nothing beyond its ends, no line is needed.
        Range direct{std::max<Index>(0, margin - first), std::min(size, vectors * LANES - first - margin)};
        if (count != 1 || direct.size() <= 0) direct = {size, size};
        fill_line(-margin, direct.begin + margin);
        if (direct.end < size) fill_line(direct.end - margin, size + margin);
        shift(line, 0, direct.begin);
        if (direct.size() > 0) shift(delta(0), direct.begin, direct.end);
        shift(line, direct.end, size);
        if (net.padding != ZEROS) mirror(strip, dilation, line, to, to + 2 * stride);
        // Nothing of it may lie beyond the image.
        const Index valid = std::min(size, net.width - first);
        for (int t = 0; t < 3; ++t) std::fill(to + t * stride + valid, to + t * stride + size, T(0));
    }

    // Add what the outer taps along x read in the border.
    void mirror(Range strip, Index dilation, const T* line, T* low, T* high) const {
        const Index first = strip.begin * LANES, end = std::min(strip.end * LANES, net.width);
        const Index edge = net.padding == REFLECT;
        for (Index x = std::max(first, edge); x < std::min(end, dilation + edge); ++x)
            low[x - first] += line[edge - 1 - x + dilation - first];
        for (Index x = std::max(first, net.width - dilation - edge); x < std::min(end, net.width - edge); ++x)
            high[x - first] += line[2 * net.width - 1 - edge - x - dilation - first];
    }

    // G[channel, chunk] += sum over groups and taps of weight * S.
    void add_to_channels(Range channels, const Chunk& chunk, const Work& work, Index count, Range block) {
        const Index stride = chunk.stride();
        const Index groups = block.size() * net.layer_width * net.outer_taps();
        for (Index row = chunk.rows.begin; row < chunk.rows.end; ++row)
            for (Index v = chunk.strip.begin; v < chunk.strip.end; v += TILE_VECTORS)
                for (Index j = channels.begin; j < channels.end; j += TILE_ROWS) {
                    const T* source = work.stage.data() +
                        ((row - chunk.rows.begin) * chunk.strip.size() + v - chunk.strip.begin) * LANES;
                    const Index rows = std::min<Index>(TILE_ROWS, channels.end - j);
                    const T* tile_weights = packed.data() + 3 * (j - channels.begin) * groups;
                    T* target = grads + row * net.row_stride() + j * net.pitch + v * LANES;
                    with_constant<TILE_ROWS>(rows, [&](auto num_rows) {
                        with_constant<TILE_VECTORS>(std::min<Index>(TILE_VECTORS, chunk.strip.end - v), [&](auto num_vectors) {
                            // Groups that no row needs are left out: the others lie in runs.
                            for (Index g = 0; g < count;) {
                                const Index from = group_index(block, work.groups[g]);
                                Index run = 1;
                                while (g + run < count && group_index(block, work.groups[g + run]) == from + run) ++run;
                                add_product<T, num_rows.value, num_vectors.value>(
                                    source + 3 * g * stride, stride, 3 * run,
                                    tile_weights + 3 * from * rows, target, net.pitch);
                                g += run;
                            }
                        });
                    });
                }
    }

    // sums[group, tap, channel] += S Y^T over the chunk.
    void add_to_weights(Range block, const Chunk& chunk, const Work& work, Index count, T* band_sums) const {
        const Index stride = chunk.stride();
        const Pixels pixels{chunk.rows.size(), chunk.strip.size(), chunk.strip.size() * LANES, net.row_stride()};
        const Index last = net.channels_before(block.end - 1);
        for (Index j = 0; j < last; j += DOT_ROWS)
            for (Index g = 0; g < count; ++g) {
                const Group& group = work.groups[g];
                if (!wanted.weights[group.layer]) continue;
                const Index rows = std::min<Index>(DOT_ROWS, net.channels_before(group.layer) - j);
                if (j + DOT_ROWS < last) {
                    const T* next = planes + chunk.rows.begin * net.row_stride() + (j + DOT_ROWS) * net.pitch + chunk.strip.begin * LANES;
                    const Range part = split({0, std::min<Index>(DOT_ROWS, last - j - DOT_ROWS) * chunk.rows.size()}, g, count);
                    for (Index i = part.begin; i < part.end; ++i)
                        for (Index v = 0; v < chunk.strip.size(); ++v)
                            __builtin_prefetch(next + i % chunk.rows.size() * net.row_stride() + i / chunk.rows.size() * net.pitch + v * LANES, 0, 2);
                }
                const T* right = planes + chunk.rows.begin * net.row_stride() + j * net.pitch + chunk.strip.begin * LANES;
                with_constant<DOT_ROWS>(rows, [&](auto num_rows) {
                    add_dots<T, 3, num_rows.value>(
                        work.stage.data() + 3 * g * stride, stride, right, net.pitch, pixels,
                        band_sums + 3 * group_index(block, group) * net.channels() + j, net.channels());
                });
            }
    }

    void collect_weights(Range block, Index layer) {
        const Index taps = net.outer_taps(), count = net.channels_before(layer);
        for (Index unit = 0; unit < net.layer_width; ++unit)
            for (Index tap = 0; tap < taps; ++tap)
                for (Index t = 0; t < 3; ++t) {
                    const Index from = (3 * group_index(block, {layer, unit, tap}) + t) * net.channels();
                    for (Index j = 0; j < count; ++j) {
                        T total = 0;
                        for (Index band = 0; band < num_bands; ++band)
                            total += sums[band * sums_size() + from + j];
                        wanted.weights[layer][((unit * count + j) * taps + tap) * 3 + t] += total;
                    }
                }
    }

    void add_bias() {
        const Index count = net.layers * net.layer_width;
        for (Index i = 0; i < count; ++i) {
            T total = 0;
            for (Index band = 0; band < num_bands; ++band) total += bias_sums[band * count + i];
            wanted.bias[i] += total;
        }
    }
};
