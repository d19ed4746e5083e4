// The stack of taps between a matrix product and k convolutions at once (msdtool/ops/cuda/product.py):
// gather sums it into the layers' sums, spread, its adjoint, computes it from their gradients.
//
// Buffers are planes [C, plane] of B images one after another, `num_slices` slices each; a slice is
// one index of the outermost axis (a row in 2D, H rows in 3D). A row has `pitch` elements, those of the
// image from `halo` on; others are left alone. A stack [channels * 3^n, tap_plane]
// covers the strip of slices first..stop-1, counted over all images. Every channel has its dilation.
//
// A warp is 32 columns. A thread has ROWS rows of a column in 2D, in 3D the column's row in all
// slices: what depends on the column is computed once.
//
// LIMITS: fewer than 2^32 bytes in a slice and 2^30 slices in all; 65,535 * WARPS rows.

#ifndef NDIM
#define NDIM 2
#endif

#include "common.cuh"
#include "border.cuh"

const int TY = NDIM == 3 ? 3 : 1;  // taps of the middle axis
const int INNER = 3 * TY;  // taps within a slice
const int ROWS = 4;
const int WARPS = 8;
const int THREADS = 32 * WARPS;

// The slices begin..end-1 of a thread, among low..high-1; its row in a slice, and its column.
struct Place {
    int begin, end, y, x;
};

__device__ __forceinline__ Place place(int low, int high) {
    const int row = blockIdx.y * WARPS + threadIdx.x / 32, x = blockIdx.x * 32 + threadIdx.x % 32;
    if (NDIM == 3) return {low, high, row, x};
    return {low + row * ROWS, min(low + (row + 1) * ROWS, high), 0, x};
}

// Add the taps of a strip to the sums they reach. The first strip to reach a pixel starts from the
// bias, so the strips must come in order. grid: W / 32, in 2D slices of the strip and of `margin` on
// both of its sides / (WARPS * ROWS), in 3D H / WARPS, channels.
extern "C" __global__ void __launch_bounds__(THREADS) taps_gather(
    const real* taps, int64 tap_plane, const real* bias, const int64* dilations,
    real* sums, int64 plane,
    int64 first, int64 stop, int64 margin, int64 num_images, int64 num_slices, int64 height,
    int64 width, int64 pitch, int64 halo, int64 rule) {
    const int d = static_cast<int>(num_slices), h = static_cast<int>(height);
    const int w = static_cast<int>(width), rho = static_cast<int>(rule);
    const int step = static_cast<int>(pitch), slice_size = h * step;
    const int start = static_cast<int>(first), size = static_cast<int>(stop - first);
    const int64 channel = blockIdx.z;
    const Place own = place(static_cast<int>(max(first - margin, int64(0))),
                            static_cast<int>(min(stop + margin, num_images * num_slices)));
    if (own.x >= w || own.y >= h) return;
    const int dilation = static_cast<int>(dilations[channel]);
    const real* columns[INNER];  // of the first tap of each column, in the first slice; null for zeros
#pragma unroll
    for (int i = 0; i < INNER; ++i) {
        const int row = TY == 1 ? 0 : border(own.y + dilation * (i / 3 - 1), h, rho);
        const int column = border(own.x + dilation * (i % 3 - 1), w, rho);
        columns[i] = row < 0 || column < 0 ? nullptr
                         : taps + (channel * 3 * INNER + i) * tap_plane + row * step + halo + column;
    }
    const real bias_here = bias[channel];
    real* sum_at = sums + channel * plane + int64(own.begin) * slice_size + own.y * step + halo + own.x;
    int z = own.begin % d;
#pragma unroll 1
    for (int slice = own.begin; slice < own.end; ++slice, sum_at += slice_size) {
        int sources[3];  // slices, counted from the first of the strip
        bool here = false, before = false;
#pragma unroll
        for (int tap = 0; tap < 3; ++tap) {
            const int source = border(z + dilation * (tap - 1), d, rho);
            sources[tap] = source + (slice - z - start);
            here = here || static_cast<unsigned>(sources[tap]) < static_cast<unsigned>(size);
            before = before || (source >= 0 && sources[tap] < 0);
        }
        if (here) {
            real sum = before ? *sum_at : bias_here;
#pragma unroll
            for (int tap = 0; tap < 3; ++tap) {
                if (static_cast<unsigned>(sources[tap]) >= static_cast<unsigned>(size)) continue;
                const int64 offset = tap * INNER * tap_plane + int64(sources[tap]) * slice_size;
                real of_slice = 0;
#pragma unroll
                for (int i = 0; i < INNER; ++i)
                    if (columns[i]) of_slice += columns[i][offset];
                sum += of_slice;
            }
            *sum_at = sum;
        }
        if (++z == d) z = 0;
    }
}

// Write the taps of a strip: S_t(y) = sum of delta(x) over all x with rho(x + dilation * t) = y,
// delta the gradient before the ReLU. grid: W / 32, in 2D slices of the strip / (WARPS * ROWS), in 3D
// H / WARPS, channels.
extern "C" __global__ void __launch_bounds__(THREADS, 2) taps_spread(
    const real* deltas, int64 plane, const int64* dilations,
    real* taps, int64 tap_plane,
    int64 first, int64 stop, int64 num_slices, int64 height, int64 width, int64 pitch,
    int64 halo, int64 rule) {
    const int d = static_cast<int>(num_slices), h = static_cast<int>(height);
    const int w = static_cast<int>(width), rho = static_cast<int>(rule);
    const int step = static_cast<int>(pitch), slice_size = h * step;
    const int64 channel = blockIdx.z;
    const Place own = place(static_cast<int>(first), static_cast<int>(stop));
    if (own.x >= w || own.y >= h) return;
    const int dilation = static_cast<int>(dilations[channel]);
    // The pixel's own readers in a slice. Those of its mirror images follow one by one: only pixels
    // at the border have any.
    unsigned at[INNER];
#pragma unroll
    for (int i = 0; i < INNER; ++i) {
        const int y = TY == 1 ? 0 : own.y - dilation * (i / 3 - 1), x = own.x - dilation * (i % 3 - 1);
        at[i] = y >= 0 && y < h && x >= 0 && x < w
                    ? (y * step + x) * unsigned(sizeof(real)) : NONE;
    }
    const bool alone = num_preimages(own.x, w, dilation) == 1 &&
                       (TY == 1 || num_preimages(own.y, h, dilation) == 1);
    const int num_images = alone ? 1 : 3 * TY;  // of a slice
    real* tap_at = taps + channel * 3 * INNER * tap_plane +
                   (own.begin - first) * slice_size + own.y * step + halo + own.x;
    int z = own.begin % d;
#pragma unroll 1
    for (int slice = own.begin; slice < own.end; ++slice, tap_at += slice_size) {
        const int num_z = num_preimages(z, d, dilation);
        const real* const image = deltas + channel * plane + int64(slice - z) * slice_size + halo;
        real* out = tap_at;
#pragma unroll 1
        for (int tap = -1; tap <= 1; ++tap) {
            real sum[INNER] = {};
#pragma unroll 1
            for (int number_z = 0; number_z < num_z; ++number_z) {
                const int source_z = preimage(z, number_z, d, rho) - dilation * tap;
                if (source_z < 0 || source_z >= d) continue;
                const real* const source = image + int64(source_z) * slice_size;
#pragma unroll
                for (int i = 0; i < INNER; ++i)
                    if (at[i] != NONE) sum[i] += *after(source, at[i]);
#pragma unroll 1
                for (int number = 1; number < num_images; ++number) {
                    const int y = preimage(own.y, number / 3, h, rho);
                    const int x = preimage(own.x, number % 3, w, rho);
#pragma unroll
                    for (int i = 0; i < INNER; ++i) {
                        const int yy = TY == 1 ? 0 : y - dilation * (i / 3 - 1);
                        const int xx = x - dilation * (i % 3 - 1);
                        if (yy >= 0 && yy < h && xx >= 0 && xx < w) sum[i] += source[yy * step + xx];
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < INNER; ++i, out += tap_plane) *out = sum[i];
        }
        if (++z == d) z = 0;
    }
}
