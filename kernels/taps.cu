// The stack of taps between a matrix product and k convolutions at once (msdtool/ops/cuda/product.py):
// gather sums it into the layers' outputs, spread, its adjoint, computes it from their gradients.
//
// Buffers are planes [C, plane] of B images one after another, `num_slices` slices each; a slice is
// one index of the outermost axis (a row in 2D, H rows in 3D). A stack [channels * 3^n, tap_plane]
// covers the strip of slices first..stop-1, counted over all images. Channel q belongs to the layer
// q / layer_width of the block; every layer has its own dilation.
//
// LIMITS: fewer than 2^31 pixels per strip and its surroundings.

#ifndef NDIM
#define NDIM 2
#endif

#include "common.cuh"
#include "border.cuh"

const int TY = NDIM == 3 ? 3 : 1;  // taps of the middle axis
const int TAPS = 9 * TY;
const int THREADS = 256;

// Add the taps of a strip to the outputs they reach. The first strip to reach a pixel starts from
// the bias, so the strips must come in order. grid: pixels of the strip and of `margin` slices on
// both of its sides / THREADS, channels.
extern "C" __global__ void __launch_bounds__(THREADS) taps_gather(
    const storage* taps, int64 tap_plane, const storage* bias, const int64* dilations,
    storage* output, int64 plane,
    int64 first, int64 stop, int64 margin, int64 num_images, int64 num_slices, int64 height,
    int64 width, int64 layer_width, int64 rule) {
    const int64 slice_size = height * width;
    const int64 low = max(first - margin, int64(0)), high = min(stop + margin, num_images * num_slices);
    const unsigned thread = blockIdx.x * THREADS + threadIdx.x;
    if (thread >= (high - low) * slice_size) return;
    const unsigned w = width, h = height, row_at = thread / w;
    const unsigned slice = row_at / h + low, image = slice / unsigned(num_slices);
    const int z = static_cast<int>(slice - image * num_slices), x = static_cast<int>(thread % w);
    const int y = static_cast<int>(row_at % h), rho = static_cast<int>(rule);
    const int64 channel = blockIdx.y;
    const int dilation = static_cast<int>(dilations[blockIdx.y / unsigned(layer_width)]);
    int64 lowest = num_images * num_slices, sources[3];
#pragma unroll
    for (int tap = 0; tap < 3; ++tap) {
        const int source = border(z + dilation * (tap - 1), static_cast<int>(num_slices), rho);
        sources[tap] = source < 0 ? NOWHERE : image * num_slices + source;
        if (source >= 0) lowest = min(lowest, sources[tap]);
    }
    bool reached = false;
    real sum = 0;
#pragma unroll
    for (int tap = 0; tap < 3; ++tap) {
        if (sources[tap] < first || sources[tap] >= stop) continue;
        reached = true;
#pragma unroll
        for (int inner = 0; inner < 3 * TY; ++inner) {
            const int row = border(y + dilation * (inner / 3 - TY / 2), static_cast<int>(height), rho);
            const int column = border(x + dilation * (inner % 3 - 1), static_cast<int>(width), rho);
            if (row < 0 || column < 0) continue;
            const int64 number = channel * TAPS + tap * 3 * TY + inner;
            sum += load(taps + number * tap_plane + (sources[tap] - first) * slice_size +
                        row * width + column);
        }
    }
    if (!reached) return;
    storage* target = output + channel * plane + low * slice_size + thread;
    store(target, sum + (lowest >= first ? load(bias + channel) : load(target)));
}

// Write the taps of a strip: S_t(y) = sum of delta(x) over all x with rho(x + dilation * t) = y,
// delta the gradient where the output is positive. grid: pixels of the strip / THREADS, channels.
extern "C" __global__ void __launch_bounds__(THREADS) taps_spread(
    const real* grad_output, const storage* output, int64 plane, const int64* dilations,
    real* taps, int64 tap_plane,
    int64 first, int64 stop, int64 num_slices, int64 height, int64 width, int64 layer_width,
    int64 rule) {
    const int64 slice_size = height * width;
    const unsigned thread = blockIdx.x * THREADS + threadIdx.x;
    if (thread >= (stop - first) * slice_size) return;
    const int d = static_cast<int>(num_slices), h = static_cast<int>(height);
    const int w = static_cast<int>(width), rho = static_cast<int>(rule);
    const unsigned row_at = thread / unsigned(w), slice = row_at / unsigned(h) + first;
    const unsigned image = slice / unsigned(d);
    const int z = static_cast<int>(slice - image * d), x = static_cast<int>(thread % unsigned(w));
    const int y = static_cast<int>(row_at % unsigned(h));
    const int64 channel = blockIdx.y;
    const int dilation = static_cast<int>(dilations[blockIdx.y / unsigned(layer_width)]);
    const int64 origin = channel * plane + image * num_slices * slice_size;
    const int num_z = num_preimages(z, d, dilation), num_x = num_preimages(x, w, dilation);
    const int num_y = NDIM == 3 ? num_preimages(y, h, dilation) : 1;
#pragma unroll 1
    for (int tap = 0; tap < TAPS; ++tap) {
        const int tap_z = tap / (3 * TY) - 1, tap_y = tap / 3 % TY - TY / 2, tap_x = tap % 3 - 1;
        real sum = 0;
        for (int number = 0; number < num_z * num_y * num_x; ++number) {
            const int zz = preimage(z, number / (num_y * num_x), d, rho) - dilation * tap_z;
            const int yy = preimage(y, number / num_x % num_y, h, rho) - dilation * tap_y;
            const int xx = preimage(x, number % num_x, w, rho) - dilation * tap_x;
            if (zz < 0 || zz >= d || yy < 0 || yy >= h || xx < 0 || xx >= w) continue;
            const int64 source = origin + zz * slice_size + yy * width + xx;
            if (!(load(output + source) <= 0)) sum += grad_output[source];
        }
        taps[(channel * TAPS + tap) * tap_plane + thread] = sum;
    }
}
