// Forward pass of a block, in place.
//
// The taps commute with the sum over channels. So for the layers of a block together, and a row of
// all channels before it, Z[group, tap, x] = sum_j W[group, j, tap] Y[j, x] is one matrix
// product, with the row in the first-level cache; each Z then goes to the rows and, along x, to
// the pixels that read it. Inside a block, each layer gathers the few preceding channels itself: 3
// or 9 rows of them times three taps along x, again shifted only at the end.
#pragma once

#include "network.h"
#include "team.h"
#include "tiles.h"

template <class T>
class Forward {
public:
    Forward(const Network& net, T* planes, const T* const* weights, const T* bias)
        : net(net),
          planes(planes),
          weights(weights),
          bias(bias),
          vectors((net.width + LANES - 1) / LANES),
          margin(round_up(net.margin(), LANES)) {
        const Index parts = std::max<Index>(
            1, vectors / std::max<Index>(STRIP_BYTES / VECTOR_BYTES, margin / LANES + 3));
        for (Index part = 0; part < parts; ++part)
            strips.push_back(split({0, vectors}, part, parts));
        Index size = 0;
        for (Index layer = 0; layer < net.layers; ++layer) {
            packed_offset.push_back(size);
            size += net.layer_width * net.outer_taps() * group_size(layer);
        }
        packed.resize(size);
        // A strip and, on both sides, the reach of the taps of pixels in neighbouring strips.
        z_stride = odd_stride<T>((vectors / parts + 1) * LANES + 4 * margin);
    }

    void run(Team& team) {
        const Index useful = std::max<Index>(1, net.rows() * net.pitch / MIN_PIXELS);
        const Index step = layers_per_block(net);
        const Index groups = step * net.layer_width * net.outer_taps();
        // Allocated here: if memory runs out, no thread may be waiting for another.
        std::vector<Work> works;
        for (Index member = 0; member < std::min({net.threads, net.rows(), useful}); ++member)
            works.push_back({Scratch<T>(3 * groups * z_stride), Scratch<T>(3 * line_stride()),
                             std::vector<Reading>(groups)});
        team.run(static_cast<int>(works.size()), [&](int member) {
            const Range own = split({0, net.rows()}, member, team.size);
            clear_tails(own);
            for (Index layer = member; layer < net.layers; layer += team.size) pack(layer);
            team.barrier();
            for (Index first = 0; first < net.layers; first += step) {
                const Range block{first, std::min(first + step, net.layers)};
                add_preceding_channels(block, own, works[member]);
                for (Index layer = block.begin; layer < block.end; ++layer) {
                    finish(block.begin, layer, own, works[member].line.data());
                    team.barrier();
                }
            }
        });
    }

private:
    static constexpr int LANES = Simd<T>::LANES;
    static constexpr Index STRIP_BYTES = 2048;

    // A group, and the rows that read the current row through it.
    struct Reading {
        const T* weights;
        Index channel, dilation;
        int num_rows;
        Index rows[4];
    };

    struct Work {
        Scratch<T> z, line;
        std::vector<Reading> readings;
    };

    const Network& net;
    T* planes;
    const T* const* weights;
    const T* bias;
    Index vectors, margin, z_stride;
    std::vector<Range> strips;
    std::vector<T> packed;
    std::vector<Index> packed_offset;

    // Beyond the image the input must be zero.
    void clear_tails(Range own) const {
        for (Index row = own.begin; row < own.end; ++row)
            for (Index channel = 0; channel < net.c_in; ++channel)
                std::fill(row_of(row, channel) + net.width, row_of(row, channel) + net.pitch, T(0));
    }

    Index line_stride() const { return vectors * LANES + 4 * margin; }
    Index group_size(Index layer) const { return 3 * net.channels_before(layer); }

    // Weights [unit, outer tap, channel, 3] of a group.
    T* group_weights(Index layer, Index unit, Index tap) {
        return packed.data() + packed_offset[layer] +
               (unit * net.outer_taps() + tap) * group_size(layer);
    }

    void pack(Index layer) {
        const Index count = net.channels_before(layer), taps = net.outer_taps();
        for (Index unit = 0; unit < net.layer_width; ++unit)
            for (Index j = 0; j < count; ++j)
                for (Index tap = 0; tap < taps; ++tap)
                    std::copy_n(weights[layer] + ((unit * count + j) * taps + tap) * 3, 3,
                                group_weights(layer, unit, tap) + 3 * j);
    }

    T* row_of(Index row, Index channel) const {
        return planes + row * net.row_stride() + channel * net.pitch;
    }

    // Set this thread's rows of a block's channels to the bias plus the convolution of the
    // preceding channels. Strip after strip, so that the rows that a row is added to stay in the
    // second-level cache.
    void add_preceding_channels(Range block, Range own, Work& work) {
        const Index lines =
            net.axes == 3 ? net.height : 1;  // rows in a slice of the outermost axis
        const Index reach = net.margin() * lines;
        const Index first = std::max<Index>(0, own.begin - reach - lines);
        const Index last = std::min(net.rows(), own.end + reach + lines);
        for (const Range& strip : strips) {
            Index started = own.begin;
            for (Index row = first; row < last; ++row) {
                const Index ahead = (row / lines + 1) * lines + reach;
                for (; started < std::min(ahead, own.end); ++started)
                    start_row(block, started, strip);
                const Index count = find_readings(block, row, own, work.readings.data());
                if (count > 0)
                    add_row(block, row, strip, work.readings.data(), count, work.z.data());
            }
        }
    }

    Index find_readings(Range block, Index row, Range own, Reading* readings) {
        Index count = 0;
        for (Index layer = block.begin; layer < block.end; ++layer)
            for (Index tap = 0; tap < net.outer_taps(); ++tap) {
                Index found[4], inside[4];
                const Index dilation = net.dilations[layer];
                const int total = net.rows_reading(row, tap, dilation, found);
                int num_inside = 0;
                for (int i = 0; i < total; ++i)
                    if (found[i] >= own.begin && found[i] < own.end)
                        inside[num_inside++] = found[i];
                if (num_inside == 0) continue;
                for (Index unit = 0; unit < net.layer_width; ++unit) {
                    Reading& reading = readings[count++];
                    reading = {group_weights(layer, unit, tap),
                               net.channels_before(layer) + unit,
                               dilation,
                               num_inside,
                               {}};
                    std::copy_n(inside, num_inside, reading.rows);
                }
            }
        return count;
    }

    // As far as the strip's taps reach; the previous strip has done the same.
    void start_row(Range block, Index row, Range strip) const {
        const Index begin = strip.begin > 0 ? strip.begin * LANES + margin : 0;
        const Index end = strip.end < vectors ? strip.end * LANES + margin : net.pitch;
        for (Index layer = block.begin; layer < block.end; ++layer)
            for (Index unit = 0; unit < net.layer_width; ++unit)
                std::fill_n(row_of(row, net.channels_before(layer) + unit) + begin, end - begin,
                            bias[layer * net.layer_width + unit]);
    }

    // Multiply a row, and add the products to the rows that read it.
    void add_row(Range block, Index row, Range strip, const Reading* readings, Index count, T* z) {
        constexpr Index GROUPS = TILE_ROWS / 3;
        const Index num_sources = net.channels_before(block.begin);
        const Index tiles = (count + GROUPS - 1) / GROUPS;
        T* taps = z + 2 * margin;
        for (Index v = strip.begin; v < strip.end; v += TILE_VECTORS)
            for (Index tile = 0; tile < tiles; ++tile) {
                const T* source = row_of(row, 0) + v * LANES;
                if (row + 1 < net.rows())
                    fetch(source + net.row_stride(), split({0, num_sources}, tile, tiles));
                const Index g = tile * GROUPS;
                multiply(source, num_sources, readings + g, std::min(GROUPS, count - g),
                         taps + 3 * g * z_stride + (v - strip.begin) * LANES,
                         std::min<Index>(TILE_VECTORS, strip.end - v));
            }
        for (Index g = 0; g < count; ++g) add_taps(readings[g], strip, taps + 3 * g * z_stride);
    }

    // Fetch a tile's width of channels into the second-level cache.
    void fetch(const T* first, Range channels) const {
        for (Index j = channels.begin; j < channels.end; ++j)
            for (Index v = 0; v < TILE_VECTORS; ++v)
                __builtin_prefetch(first + j * net.pitch + v * LANES, 0, 2);
    }

    void multiply(const T* source, Index num_sources, const Reading* readings, Index groups,
                  T* sums, Index tile_vectors) const {
        const T* tile_weights[TILE_ROWS / 3];
        for (Index g = 0; g < groups; ++g) tile_weights[g] = readings[g].weights;
        with_constant<TILE_ROWS / 3>(groups, [&](auto num_groups) {
            with_constant<TILE_VECTORS>(tile_vectors, [&](auto num_vectors) {
                multiply_taps<T, num_groups.value, num_vectors.value>(
                    source, net.pitch, num_sources, tile_weights, sums, z_stride);
            });
        });
    }

    // Add the three taps of a group to the rows that read them.
    void add_taps(const Reading& reading, Range strip, T* taps) const {
        extend(taps, z_stride, strip, reading.dilation);
        const T* from = taps - strip.begin * LANES;
        const Index begin = std::max<Index>(0, strip.begin * LANES - margin);
        const Index end = std::min(vectors * LANES, strip.end * LANES + margin);
        for (int i = 0; i < reading.num_rows; ++i) {
            T* target = row_of(reading.rows[i], reading.channel);
            for (Index x = begin; x < end; x += LANES)
                store<T>(target + x,
                         load(target + x) + three_taps(from + x, z_stride, reading.dilation));
        }
    }

    static Vector<T> three_taps(const T* taps, Index stride, Index dilation) {
        return load(taps - dilation) + load(taps + stride) + load(taps + 2 * stride + dilation);
    }

    // Write what the taps read beyond a strip: beyond the image by the border rule, elsewhere
    // zeros, because the neighbouring strip adds its own taps.
    void extend(T* taps, Index stride, Range strip, Index dilation) const {
        const Index size = std::min(strip.end * LANES, net.width) - strip.begin * LANES;
        const Index edge = net.padding == REFLECT;
        const bool mirrored = net.padding != ZEROS;
        T *low = taps, *high = taps + 2 * stride;
        if (strip.begin > 0)
            for (int tap = 0; tap < 3; ++tap)
                std::fill_n(taps + tap * stride - 2 * margin, 2 * margin, T(0));
        else
            for (Index c = 0; c < dilation; ++c) low[-1 - c] = mirrored ? low[c + edge] : T(0);
        if (strip.end < vectors)
            for (int tap = 0; tap < 3; ++tap)
                std::fill_n(taps + tap * stride + size, 2 * margin, T(0));
        else
            for (Index c = 0; c < dilation; ++c)
                high[size + c] = mirrored ? high[size - 1 - c - edge] : T(0);
    }

    // Add the channels of the block before a layer to this thread's rows, and apply the ReLU.
    void finish(Index first_layer, Index layer, Range own, T* line) {
        const Index first = net.channels_before(first_layer), stop = net.channels_before(layer);
        const Index stride = line_stride(), dilation = net.dilations[layer];
        T* taps = line + 2 * margin;
        for (Index row = own.begin; row < own.end; ++row)
            for (Index unit = 0; unit < net.layer_width; ++unit) {
                T* target = row_of(row, stop + unit);
                if (stop > first) {
                    gather(layer, unit, row, {first, stop}, taps, stride);
                    extend(taps, stride, {0, vectors}, dilation);
                    for (Index x = 0; x < vectors * LANES; x += LANES) {
                        const Vector<T> sum =
                            load(target + x) + three_taps(taps + x, stride, dilation);
                        store<T>(target + x, keep_positive<T>(sum, sum));
                    }
                } else {
                    for (Index x = 0; x < vectors * LANES; x += LANES) {
                        const Vector<T> sum = load(target + x);
                        store<T>(target + x, keep_positive<T>(sum, sum));
                    }
                }
                std::fill(target + net.width, target + net.pitch, T(0));
            }
    }

    // taps[t][x] = sum over outer taps and channels of weight * channel at the row the tap reads.
    void gather(Index layer, Index unit, Index row, Range channels, T* taps, Index stride) {
        constexpr int VECTORS = 2 * TILE_VECTORS;
        const T *sources[9], *tap_weights[9];
        int count = 0;
        for (Index tap = 0; tap < net.outer_taps(); ++tap) {
            const Index source = net.row_read(row, tap, net.dilations[layer]);
            if (source < 0) continue;
            sources[count] = row_of(source, channels.begin);
            tap_weights[count++] = group_weights(layer, unit, tap) + 3 * channels.begin;
        }
        for (Index v = 0; v < vectors; v += VECTORS)
            with_constant<VECTORS>(std::min<Index>(VECTORS, vectors - v), [&](auto num_vectors) {
                gather_taps<T, num_vectors.value>(sources, tap_weights, count, channels.size(),
                                                  net.pitch, v * LANES, taps + v * LANES, stride);
            });
    }
};
