// The layers inside a block of layers (msdtool/ops/cuda/inner.py). To a layer's sums over the channels
// in front of the block come the few channels that the block's earlier layers wrote:
//
//     output_o(x) = relu(sums_o(x) + sum_{c, t} weight_{o,c,t} source_c(rho(x + dilation * t)))
//
// Planes are [C, B, *space] of which a layer has C_out; `plane` is the size of one. Space is D, H, W; in
// 2D, D is 1 and has no taps. A row has `pitch` elements, those of the image from `halo` on; forward,
// what the border rule says is written to the halo. Sums and gradients are `real`: float for 16-bit
// storage. With TF32, channels are rounded to what a product of that type takes (front.cu).
//
// A thread owns ROWS rows a dilation apart, because their taps lie on each other's rows:
// 3 (ROWS + 2) loads serve 9 ROWS multiplications. A warp is 32 columns. All divisions are before the
// loops, and the offsets within a slice have 32 bits.
//
// LIMITS: kernels of 3 taps per axis; C_out * C_in at most MAX_PAIRS; fewer than 2^32 bytes in a
// slice; 65,535 * WARPS * ROWS rows in a slice.

#ifndef NDIM
#define NDIM 2
#endif

#ifndef TF32
#define TF32 0
#endif

#include "common.cuh"
#include "border.cuh"
#include "mma.cuh"

const int KZ = NDIM == 3 ? 3 : 1;
const int ROWS = 4;
const int WARPS = 8;
const int THREADS = 32 * WARPS;
const int MAX_PAIRS = 16;

// Weights of a row of taps, four of them so that one load fetches all.
struct alignas(4 * sizeof(real)) Row { real taps[4]; };

// Those of all pairs of channels, [C_out, C_in, KZ, 3]; the caller waits for the other threads.
__device__ __forceinline__ void load_weights(
    Row* rows, const storage* weight, int64 weight_o, int c_in, int c_out) {
#pragma unroll 1
    for (int o = 0; o < c_out; ++o)
#pragma unroll 1
        for (int i = threadIdx.x; i < c_in * KZ * 9; i += THREADS)
            rows[o * c_in * KZ * 3 + i / 3].taps[i % 3] = load(weight + o * weight_o + i);
}

// Where the values lie that a thread needs of a slice: offsets in bytes of its rows and of its three
// columns; NONE for zeros, which a thread in the interior has not to look for.
struct Offsets {
    unsigned rows[ROWS + 2], columns[3];
    bool inside = true;

    __device__ __forceinline__ void set_row(int j, int row, int pitch, int size) {
        rows[j] = row < 0 ? NONE : static_cast<unsigned>(row * pitch) * size;
        inside = inside && row >= 0;
    }
    __device__ __forceinline__ void set_column(int i, int column, int size) {
        columns[i] = column < 0 ? NONE : static_cast<unsigned>(column) * size;
        inside = inside && column >= 0;
    }
    // Of rows and columns that are known to be in the image.
    __device__ __forceinline__ void set_inside(int row, int column, int step, int pitch, int size) {
#pragma unroll
        for (int j = 0; j < ROWS + 2; ++j)
            rows[j] = static_cast<unsigned>((row + j * step) * pitch) * size;
#pragma unroll
        for (int i = 0; i < 3; ++i) columns[i] = static_cast<unsigned>(column + i * step) * size;
    }
    template <class T>
    __device__ __forceinline__ void fetch(real (&value)[ROWS + 2][3], const T* slice) const {
        if (inside) {
#pragma unroll
            for (int j = 0; j < ROWS + 2; ++j)
#pragma unroll
                for (int i = 0; i < 3; ++i)
                    value[j][i] = to_real(*after(slice, rows[j] + columns[i]));
        } else {
#pragma unroll
            for (int j = 0; j < ROWS + 2; ++j)
#pragma unroll
                for (int i = 0; i < 3; ++i)
                    value[j][i] = rows[j] == NONE || columns[i] == NONE
                                      ? real(0) : to_real(*after(slice, rows[j] + columns[i]));
        }
    }
};

// The first of a thread's rows. Threads are counted through the rows 0 to dilation - 1, which are
// followed by those that their ROWS rows cover.
__device__ __forceinline__ int first_row(int dilation) {
    const int thread = blockIdx.y * WARPS + threadIdx.x / 32;
    return thread / dilation * (ROWS * dilation) + thread % dilation;
}

// A channel's value as it is kept.
__device__ __forceinline__ real kept(real value) {
#if TF32
    return __uint_as_float(tf32_bits(value));
#else
    return value;
#endif
}

// Write a pixel of column x, and its mirror images in the halo.
__device__ __forceinline__ void write(
    storage* at, real value, int x, int width, int halo, int rule) {
    value = kept(value);
    store(at, value);
    if (rule == ZEROS) return;
    const int low = LOW_SUM(rule) - x, high = HIGH_SUM(width, rule) - x;
    if (low < 0 && low >= -halo) store(at + low - x, value);
    if (high >= width && high < width + halo) store(at + high - x, value);
}

// grid: W / 32, threads for the rows / WARPS, slices of all images.
extern "C" __global__ void __launch_bounds__(THREADS, NDIM - 1) inner_forward(
    const storage* sources,
    const storage* weight, int64 weight_o,  // [C_out, C_in, KZ, 3, 3], the last four contiguous
    const real* sums,
    storage* output,  // may be `sums`
    int64 plane, int64 c_in, int64 c_out, int64 num_slices, int64 depth, int64 height, int64 width,
    int64 pitch, int64 halo, int64 dilation, int64 rule) {
    __shared__ Row weights[MAX_PAIRS * KZ * 3];
    const int channels = static_cast<int>(c_in), outputs = static_cast<int>(c_out);
    load_weights(weights, weight, weight_o, channels, outputs);
    __syncthreads();
    const int s = static_cast<int>(dilation), h = static_cast<int>(height);
    const int w = static_cast<int>(width), d = static_cast<int>(depth), rho = static_cast<int>(rule);
    const int step_y = static_cast<int>(pitch), edge = static_cast<int>(halo);
    const int x = blockIdx.x * 32 + threadIdx.x % 32, row = first_row(s);
    if (x >= w || row >= h) return;

    // Offsets in a slice. Of the rows below the image, those that no pixel reads stand for the last
    // one that is read.
    Offsets at;
    if (row >= s && row + ROWS * s < h && x >= s && x + s < w) {  // most threads
        at.set_inside(row - s, x - s, s, step_y, sizeof(storage));
    } else {
#pragma unroll
        for (int j = 0; j < ROWS + 2; ++j)
            at.set_row(j, border(min(row + (j - 1) * s, h - 1 + s), h, rho), step_y, sizeof(storage));
#pragma unroll
        for (int i = 0; i < 3; ++i)
            at.set_column(i, border(x + (i - 1) * s, w, rho), sizeof(storage));
    }
    const int64 slice_size = height * pitch;
    sources += halo;
    sums += halo;
    output += halo;
    for (int slice = blockIdx.z; slice < num_slices; slice += gridDim.z) {
        const int z = KZ == 1 ? 0 : slice % d;
        for (int o = 0; o < outputs; ++o) {
            const int64 own = o * plane + slice * slice_size + row * step_y + x;
            real sum[ROWS];
#pragma unroll
            for (int j = 0; j < ROWS; ++j)
                sum[j] = row + j * s < h ? sums[own + j * s * step_y] : real(0);
#pragma unroll 1
            for (int k = 0; k < KZ; ++k) {
                const int source_z = KZ == 1 ? z : border(z + (k - 1) * s, d, rho);
                if (KZ > 1 && source_z < 0) continue;
                const storage* source = sources + (slice - z + source_z) * slice_size;
                const Row* taps = weights + (o * channels * KZ + k) * 3;
#pragma unroll 1
                for (int c = 0; c < channels; ++c, source += plane, taps += KZ * 3) {
                    real value[ROWS + 2][3];
                    at.fetch(value, source);
#pragma unroll
                    for (int t = 0; t < 3; ++t) {
                        const Row factors = taps[t];
#pragma unroll
                        for (int j = 0; j < ROWS; ++j)
#pragma unroll
                            for (int i = 0; i < 3; ++i) sum[j] += factors.taps[i] * value[j + t][i];
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < ROWS; ++j)
                if (row + j * s < h)
                    write(output + own + j * s * step_y, sum[j] < 0 ? real(0) : sum[j],
                          x, w, edge, rho);
        }
    }
}

// Whether an image of the pixels first .. last of an axis, number 1 or 2 as in `preimage`, may be
// read by a tap.
__device__ __forceinline__ bool reached(int number, int first, int last, int size, int dilation) {
    return number == 1 ? first <= dilation : last >= size - 1 - dilation;
}

// Adds to the gradients of the channels in front what comes from a layer, and completes those of the
// layer before it: its gradient stops where its output is not positive (where that is NaN it
// passes, as in torch). With C_out = 0 it only completes.
//
// A gradient is a sum over the positions that stand for its pixel; each number in 0 .. 2 of
// `preimage` along each axis is a pass, and only pixels at the border have more than one. A
// mirrored pass runs through the rows backwards.
// grid: as above.
extern "C" __global__ void __launch_bounds__(THREADS, 2) inner_backward(
    const storage* weight, int64 weight_o,  // as above
    const real* deltas,  // [C_out, plane], gradients before the ReLU
    real* grads,  // [C_in, plane]
    const storage* outputs,  // [num_complete, plane], the last of the C_in channels
    int64 num_complete, int64 plane, int64 c_in, int64 c_out, int64 num_slices, int64 depth,
    int64 height, int64 width, int64 pitch, int64 halo, int64 dilation, int64 rule) {
    __shared__ Row weights[MAX_PAIRS * KZ * 3];
    const int channels = static_cast<int>(c_in), num_deltas = static_cast<int>(c_out);
    load_weights(weights, weight, weight_o, channels, num_deltas);
    __syncthreads();
    const int s = static_cast<int>(dilation), h = static_cast<int>(height);
    const int w = static_cast<int>(width), d = static_cast<int>(depth), rho = static_cast<int>(rule);
    const int step_y = static_cast<int>(pitch);
    const int x = blockIdx.x * 32 + threadIdx.x % 32, row = first_row(s);
    if (x >= w || row >= h) return;
    const int last_row = row + (ROWS - 1) * s, passes = rho == ZEROS || num_deltas == 0 ? 1 : 3;
    const int64 slice_size = height * pitch;
    if (num_deltas > 0) deltas += halo;
    grads += halo;
    outputs += halo;

    for (int slice = blockIdx.z; slice < num_slices; slice += gridDim.z) {
        const int z = KZ == 1 ? 0 : slice % d;
        real* const own = grads + slice * slice_size + row * step_y + x;
        for (int number_z = 0; number_z < (KZ == 1 ? 1 : passes); ++number_z) {
            if (number_z > 0 && !reached(number_z, z, z, d, s)) continue;
            const int position_z = preimage(z, number_z, d, rho);
            for (int number_y = 0; number_y < passes; ++number_y) {
                if (number_y > 0 && !reached(number_y, row, last_row, h, s)) continue;
                for (int number_x = 0; number_x < passes; ++number_x) {
                    if (number_x > 0 && !reached(number_x, x, x, w, s)) continue;
                    const int position_x = preimage(x, number_x, w, rho);
                    if (position_x == NOWHERE || position_z == NOWHERE) continue;
                    const int mirror = number_y == 1 ? LOW_SUM(rho) : HIGH_SUM(h, rho);
                    const int position_y = number_y == 0 ? row : mirror - row;
                    const int step = number_y == 0 ? s : -s;
                    Offsets at;
#pragma unroll
                    for (int j = 0; j < ROWS + 2; ++j) {
                        const int y = position_y + (j - 1) * step;
                        at.set_row(j, y < h ? y : NOWHERE, step_y, sizeof(real));
                    }
#pragma unroll
                    for (int i = 0; i < 3; ++i) {
                        const int column = position_x - (i - 1) * s;
                        at.set_column(i, column < w ? column : NOWHERE, sizeof(real));
                    }
                    bool stands[ROWS];  // whether this pass has a position for the pixel
#pragma unroll
                    for (int j = 0; j < ROWS; ++j) {
                        const int position = position_y + j * step;
                        stands[j] = row + j * s < h &&
                                    (number_y == 0 || position < 0 || position >= h);
                    }
#pragma unroll 1
                    for (int k = 0; k < KZ; ++k) {
                        const int source_z = position_z - (KZ == 1 ? 0 : (k - 1) * s);
                        if (source_z < 0 || source_z >= d) continue;
                        const int64 offset = (slice - z + source_z) * slice_size;
#pragma unroll 1
                        for (int o = 0; o < num_deltas; ++o) {
                            const real* delta = deltas + o * plane + offset;
                            real value[ROWS + 2][3];
                            at.fetch(value, delta);
                            const Row* taps = weights + (o * channels * KZ + k) * 3;
                            real* grad = own;
#pragma unroll 1
                            for (int c = 0; c < channels; ++c, taps += KZ * 3, grad += plane) {
                                real sum[ROWS] = {};
#pragma unroll
                                for (int t = 0; t < 3; ++t) {
                                    const Row factors = taps[number_y == 0 ? 2 - t : t];
#pragma unroll
                                    for (int j = 0; j < ROWS; ++j)
#pragma unroll
                                        for (int i = 0; i < 3; ++i)
                                            sum[j] += factors.taps[i] * value[j + t][i];
                                }
#pragma unroll
                                for (int j = 0; j < ROWS; ++j)
                                    if (stands[j]) grad[j * s * step_y] += sum[j];
                            }
                        }
                    }
                }
            }
        }
        for (int c = 0; c < num_complete; ++c) {
            const storage* const output = outputs + c * plane + (own - grads);
            real* const grad = own + (channels - num_complete + c) * plane;
#pragma unroll
            for (int j = 0; j < ROWS; ++j)
                if (row + j * s < h && load(output + j * s * step_y) <= 0) grad[j * s * step_y] = 0;
        }
    }
}
