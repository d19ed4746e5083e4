// The final 1x1 layer over all channels of a block, and its gradients.
// Images are [output, row, width] without gaps.
#pragma once

#include "network.h"
#include "team.h"
#include "tiles.h"

template <class T>
class FinalLayer {
public:
    FinalLayer(const Network& net, const T* planes, const T* weight, Index outputs)
        : net(net),
          planes(planes),
          weight(weight),
          outputs(outputs),
          vectors((net.width + LANES - 1) / LANES),
          num_bands(count_bands(net, outputs * net.channels() * sizeof(T))) {}

    // output = weight * planes + bias.
    void forward(Team& team, const T* bias, T* output) {
        pack(outputs, net.channels(), net.channels(), 1);
        for_rows(team, [&](Index row, T* lines, Index) {
            for (Index o = 0; o < outputs; ++o)
                std::fill_n(line_of(lines, o), vectors * LANES, bias[o]);
            add_products(row_of(planes, row), net.pitch, net.channels(), lines, vectors * LANES,
                         outputs);
            for (Index o = 0; o < outputs; ++o)
                std::copy_n(line_of(lines, o), net.width,
                            output + (o * net.rows() + row) * net.width);
        });
    }

    // grads = weight^T * upstream, and grad_weight += upstream * planes^T unless it is null.
    void backward(Team& team, const T* upstream, T* grads, T* grad_weight) {
        pack(net.channels(), outputs, 1, net.channels());
        std::vector<T> sums(grad_weight ? num_bands * outputs * net.channels() : 0);
        for_rows(team, [&](Index row, T* lines, Index band) {
            for (Index o = 0; o < outputs; ++o)
                std::copy_n(upstream + (o * net.rows() + row) * net.width, net.width,
                            line_of(lines, o));
            std::fill_n(row_of(grads, row), net.row_stride(), T(0));
            add_products(lines, vectors * LANES, outputs, row_of(grads, row), net.pitch,
                         net.channels());
            if (grad_weight)
                add_to_weights(row, lines, sums.data() + band * outputs * net.channels());
        });
        if (!grad_weight) return;
        for (Index band = 0; band < num_bands; ++band)
            for (Index i = 0; i < outputs * net.channels(); ++i)
                grad_weight[i] += sums[band * outputs * net.channels() + i];
    }

private:
    static constexpr int LANES = Simd<T>::LANES;

    const Network& net;
    const T* planes;
    const T* weight;
    Index outputs, vectors, num_bands;
    std::vector<T> packed;

    template <class P>
    P* row_of(P* buffer, Index row) const {
        return buffer + row * net.row_stride();
    }
    T* line_of(T* lines, Index output) const { return lines + output * vectors * LANES; }

    // Call body(row, lines, band) for all rows; lines is scratch memory [output, vectors].
    template <class Body>
    void for_rows(Team& team, const Body& body) {
        std::vector<Scratch<T>> lines;
        for (Index member = 0; member < std::min(net.threads, num_bands); ++member)
            lines.emplace_back(outputs * vectors * LANES);
        team.run(static_cast<int>(lines.size()), [&](int member) {
            const Range own = split({0, num_bands}, member, team.size);
            for (Index band = own.begin; band < own.end; ++band) {
                const Range rows = split({0, net.rows()}, band, num_bands);
                for (Index row = rows.begin; row < rows.end; ++row)
                    body(row, lines[member].data(), band);
            }
        });
    }

    // Weights [tile of targets, source, target in the tile].
    void pack(Index targets, Index sources, Index target_step, Index source_step) {
        packed.clear();
        for (Index first = 0; first < targets; first += TILE_ROWS)
            for (Index k = 0; k < sources; ++k)
                for (Index r = first; r < std::min(first + TILE_ROWS, targets); ++r)
                    packed.push_back(weight[r * target_step + k * source_step]);
    }

    void add_products(const T* sources, Index stride, Index count, T* targets, Index target_stride,
                      Index num_targets) const {
        for (Index v = 0; v < vectors; v += TILE_VECTORS)
            for (Index r = 0; r < num_targets; r += TILE_ROWS)
                with_constant<TILE_ROWS>(
                    std::min<Index>(TILE_ROWS, num_targets - r), [&](auto rows) {
                        with_constant<TILE_VECTORS>(
                            std::min<Index>(TILE_VECTORS, vectors - v), [&](auto tile_vectors) {
                                add_product<T, rows.value, tile_vectors.value>(
                                    sources + v * LANES, stride, count, packed.data() + r * count,
                                    targets + r * target_stride + v * LANES, target_stride);
                            });
                    });
    }

    void add_to_weights(Index row, const T* lines, T* sums) const {
        const Pixels pixels{1, vectors, 0, 0};
        for (Index o = 0; o < outputs; o += 3)
            for (Index j = 0; j < net.channels(); j += DOT_ROWS)
                with_constant<3>(std::min<Index>(3, outputs - o), [&](auto left) {
                    with_constant<DOT_ROWS>(
                        std::min<Index>(DOT_ROWS, net.channels() - j), [&](auto right) {
                            add_dots<T, left.value, right.value>(
                                lines + o * vectors * LANES, vectors * LANES,
                                row_of(planes, row) + j * net.pitch, net.pitch, pixels,
                                sums + o * net.channels() + j, net.channels());
                        });
                });
    }
};
