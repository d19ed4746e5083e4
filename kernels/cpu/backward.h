// Backward pass of a block, in place.
//
// delta is the gradient before the ReLU, stored in place of the gradient of its channel. With
// S[group, tap, y] = sum of delta(x) over the x whose tap reads y, the gradients are two matrix
// products: G += W^T S and dW = S Y^T. S is computed for a few rows at a time, which stay in the
// cache.
#pragma once

#include "stage.h"
#include "team.h"
#include "tiles.h"

template <class T>
struct Gradients {
    T* const* weights;  // per layer, null where not needed
    T* bias;            // null if not needed
    bool input;
};

template <class T>
class Backward {
public:
    Backward(const Network& net, const T* planes, T* grads, const T* const* weights,
             const Gradients<T>& wanted)
        : net(net),
          planes(planes),
          grads(grads),
          weights(weights),
          wanted(wanted),
          vectors((net.width + LANES - 1) / LANES),
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
        // Allocated here: if memory runs out, no thread may be waiting for another.
        std::vector<Work> works;
        for (Index member = 0; member < std::min(net.threads, num_bands); ++member)
            works.push_back({{}, Stage<T>(net, max_groups, max_vectors)});
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

    struct Work {
        Range bands;
        Stage<T> stage;
    };

    const Network& net;
    const T* planes;
    T* grads;
    const T* const* weights;
    Gradients<T> wanted;
    Index vectors, block_layers, max_groups, max_vectors, num_bands, chunk_rows;
    std::vector<Range> strips;
    std::vector<T> sums, packed;
    std::vector<double> bias_sums;

    Index sums_size() const { return 3 * max_groups * net.channels(); }

    Range band_rows(Index band) const { return split({0, net.rows()}, band, num_bands); }

    template <class Body>
    void for_chunks(Index band, const Body& body) const {
        const Range rows = band_rows(band);
        for (const Range& strip : strips)
            for (Index row = rows.begin; row < rows.end; row += chunk_rows)
                body(Chunk<T>{{row, std::min(row + chunk_rows, rows.end)}, strip});
    }

    void through_block(Team& team, int member, Range block, Work& work) {
        const Index num_sources = net.channels_before(block.begin);
        for (Index layer = block.end - 1; layer >= block.begin; --layer) {
            for (Index band = work.bands.begin; band < work.bands.end; ++band)
                make_delta(layer, band);
            const Range inside{num_sources, net.channels_before(layer)};
            if (member == 0) pack({layer, layer + 1}, inside);
            team.barrier();
            if (inside.size() > 0) {
                for (Index band = work.bands.begin; band < work.bands.end; ++band)
                    for_chunks(band, [&](const Chunk<T>& chunk) {
                        work.stage.make(grads, {layer, layer + 1}, chunk);
                        add_to_channels(inside, chunk, work.stage, 1);
                    });
            }
            team.barrier();
        }
        const Range preceding{wanted.input ? 0 : net.c_in, num_sources};
        if (member == 0) pack(block, preceding);
        const bool any_weights =
            std::any_of(wanted.weights + block.begin, wanted.weights + block.end,
                        [](const T* target) { return target != nullptr; });
        team.barrier();
        for (Index band = work.bands.begin; band < work.bands.end; ++band) {
            T* band_sums = sums.data() + band * sums_size();
            if (any_weights) std::fill_n(band_sums, sums_size(), T(0));
            for_chunks(band, [&](const Chunk<T>& chunk) {
                work.stage.make(grads, block, chunk);
                add_to_channels(preceding, chunk, work.stage, block.size());
                if (any_weights) add_to_weights(block, chunk, work.stage, band_sums);
            });
        }
        team.barrier();
        if (any_weights)
            for (Index layer = block.begin + member; layer < block.end; layer += team.size)
                if (wanted.weights[layer]) collect_weights(block, layer);
    }

    // Weights [tile of channels, group, tap, channel in the tile]; the last tile is narrower.
    void pack(Range block, Range channels) {
        const Index taps = net.outer_taps(), groups = block.size() * net.layer_width * taps;
        for (Index layer = block.begin; layer < block.end; ++layer) {
            const Index count = net.channels_before(layer);
            for (Index unit = 0; unit < net.layer_width; ++unit)
                for (Index tap = 0; tap < taps; ++tap) {
                    const Index group = net.group_index(block, {layer, unit, tap});
                    for (Index j = channels.begin; j < channels.end; ++j) {
                        const Index first = (j - channels.begin) / TILE_ROWS * TILE_ROWS;
                        const Index rows = std::min<Index>(TILE_ROWS, channels.size() - first);
                        const T* from = weights[layer] + ((unit * count + j) * taps + tap) * 3;
                        T* to = packed.data() + 3 * (first * groups + group * rows);
                        to += j - channels.begin - first;
                        for (int t = 0; t < 3; ++t) to[t * rows] = from[t];
                    }
                }
        }
    }

    void make_delta(Index layer, Index band) {
        const Range rows = band_rows(band);
        for (Index unit = 0; unit < net.layer_width; ++unit) {
            const Index channel = net.channels_before(layer) + unit;
            double sum = 0;  // over so many pixels that a float would lose digits
            for (Index row = rows.begin; row < rows.end; ++row) {
                const Index offset = row * net.row_stride() + channel * net.pitch;
                Vector<T> total[1] = {};
                for (Index x = 0; x < vectors * LANES; x += LANES) {
                    const Vector<T> delta =
                        keep_positive<T>(load(planes + offset + x), load(grads + offset + x));
                    store<T>(grads + offset + x, delta);
                    total[0] += delta;
                }
                T row_sum = 0;
                add_lane_sums<T>(total, &row_sum, 1);
                sum += row_sum;
            }
            const Index output = layer * net.layer_width + unit;
            bias_sums[band * net.layers * net.layer_width + output] = sum;
        }
    }

    // G[channel, chunk] += sum over groups and taps of weight * S; `layers` are on the stage.
    void add_to_channels(Range channels, const Chunk<T>& chunk, const Stage<T>& stage,
                         Index layers) {
        const Index groups = layers * net.layer_width * net.outer_taps();
        for (Index row = chunk.rows.begin; row < chunk.rows.end; ++row) {
            const Index line = (row - chunk.rows.begin) * chunk.strip.size();
            for (Index v = chunk.strip.begin; v < chunk.strip.end; v += TILE_VECTORS) {
                const T* source = stage.taps(0) + (line + v - chunk.strip.begin) * LANES;
                const Index count = std::min<Index>(TILE_VECTORS, chunk.strip.end - v);
                for (Index j = channels.begin; j < channels.end; j += TILE_ROWS)
                    add_tile(source, stage, packed.data() + 3 * (j - channels.begin) * groups,
                             grads + row * net.row_stride() + j * net.pitch + v * LANES,
                             std::min<Index>(TILE_ROWS, channels.end - j), count);
            }
        }
    }

    void add_tile(const T* source, const Stage<T>& stage, const T* tile_weights, T* target,
                  Index rows, Index tile_vectors) {
        with_constant<TILE_ROWS>(rows, [&](auto num_rows) {
            with_constant<TILE_VECTORS>(tile_vectors, [&](auto num_vectors) {
                for (const auto& run : stage.runs)
                    add_product<T, num_rows.value, num_vectors.value>(
                        source + 3 * run.staged * stage.stride, stage.stride, 3 * run.count,
                        tile_weights + 3 * run.packed * rows, target, net.pitch);
            });
        });
    }

    // sums[group, tap, channel] += S Y^T over the chunk.
    void add_to_weights(Range block, const Chunk<T>& chunk, const Stage<T>& stage,
                        T* band_sums) const {
        const Index lines = chunk.rows.size(), count = stage.groups.size();
        const Pixels pixels{lines, chunk.strip.size(), chunk.strip.size() * LANES,
                            net.row_stride()};
        const T* first = planes + chunk.rows.begin * net.row_stride() + chunk.strip.begin * LANES;
        const Index last = net.channels_before(block.end - 1);
        for (Index j = 0; j < last; j += DOT_ROWS) {
            const Range next{std::min(j + DOT_ROWS, last), std::min(j + 2 * DOT_ROWS, last)};
            for (Index g = 0; g < count; ++g) {
                const Group& group = stage.groups[g];
                fetch_lines(first, split({next.begin * lines, next.end * lines}, g, count), pixels);
                if (!wanted.weights[group.layer]) continue;
                const Index rows = std::min<Index>(DOT_ROWS, net.channels_before(group.layer) - j);
                with_constant<DOT_ROWS>(rows, [&](auto num_rows) {
                    add_dots<T, 3, num_rows.value>(
                        stage.taps(g), stage.stride, first + j * net.pitch, net.pitch, pixels,
                        band_sums + 3 * net.group_index(block, group) * net.channels() + j,
                        net.channels());
                });
            }
        }
    }

    // Fetch lines of channels, numbered channel by channel, into the second-level cache.
    void fetch_lines(const T* first, Range numbers, const Pixels& pixels) const {
        for (Index i = numbers.begin; i < numbers.end; ++i) {
            const T* line =
                first + i / pixels.lines * net.pitch + i % pixels.lines * pixels.right_line;
            for (Index v = 0; v < pixels.vectors; ++v) __builtin_prefetch(line + v * LANES, 0, 2);
        }
    }

    void collect_weights(Range block, Index layer) {
        const Index taps = net.outer_taps(), count = net.channels_before(layer);
        for (Index unit = 0; unit < net.layer_width; ++unit)
            for (Index tap = 0; tap < taps; ++tap)
                for (Index t = 0; t < 3; ++t) {
                    const Index from =
                        (3 * net.group_index(block, {layer, unit, tap}) + t) * net.channels();
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
            double total = 0;
            for (Index band = 0; band < num_bands; ++band) total += bias_sums[band * count + i];
            wanted.bias[i] += total;
        }
    }
};
