// A row of the stack of taps of a block's gradients, in shared memory, the adjoint of what front.cu adds
// up: S_t(y) = sum of delta(x) over all x with rho(x + dilation * t) = y, delta the gradient before the
// ReLU. In 3D it is that of one of the three planes of taps. The border rule is here, and nowhere else in
// the products that follow.

#include "border.cuh"
#include "tiles.cuh"

__device__ __forceinline__ void load_dilations(int* to, const int64* dilations, int count) {
    const int output = threadIdx.x;
    if (output < OUTPUTS) to[output] = output < count ? static_cast<int>(dilations[output]) : 0;
}

// A value as the products take it. Where they cut it to TF32, a third to two thirds of the last bit are
// added first: what TF32 holds stays as it is, and the rest is rounded without bias in one instruction,
// where rounding to the nearest takes three.
__device__ __forceinline__ float term_of(float value) {
    return TERMS == 1 ? value * (1 + 1 / 3072.0f) : value;
}

// One of the rows that all images of a batch have in all strips, numbered strip by strip.
struct Unit {
    int first_column, row;  // the latter counted over all images
    int64 start;  // of the row in a plane, at the first column
};

// The gradients of a block's outputs, zeros in the halo, which is at least as wide as the largest
// dilation.
struct Gradients {
    const float* deltas;  // from the first pixel on
    int64 plane;
    int pitch, depth, height, width, num_rows, rule, num_outputs;

    // As the kernels are given them; a row has `halo` columns before the first pixel.
    __device__ __forceinline__ Gradients(
        const float* deltas, int64 plane, int64 pitch, int64 halo, int64 depth, int64 height,
        int64 width, int64 num_rows, int64 rule, int64 num_outputs)
        : deltas(deltas + halo), plane(plane), pitch(static_cast<int>(pitch)),
          depth(static_cast<int>(depth)), height(static_cast<int>(height)), width(static_cast<int>(width)),
          num_rows(static_cast<int>(num_rows)), rule(static_cast<int>(rule)),
          num_outputs(static_cast<int>(num_outputs)) {}

    __device__ __forceinline__ Unit unit(int number) const {
        const int strip = number / num_rows, row = number - strip * num_rows;
        return {strip * WIDTH, row, int64(row) * pitch + strip * WIDTH};
    }

    // Write a row to `tile` [TAPS][PITCH], zeros for outputs and columns that are not there. A thread
    // has a column and every second output. `dz` is the plane of taps, -1, 0 or 1; in 2D it is 0.
    template <int PITCH>
    __device__ __forceinline__ void spread(
        const Unit& unit, int dz, float* tile, const int* dilations) const {
        const int column = threadIdx.x % WIDTH, x = unit.first_column + column, row = unit.row % height;
        const float* delta = deltas + unit.start + column + threadIdx.x / WIDTH * plane;
        float* to = tile + threadIdx.x / WIDTH * 3 * PITCH + column;
        const int slice = dz == 0 ? 0 : unit.row / height % depth;
        // To the border: a pixel that lies further from it than a dilation has no mirror image.
        int distance = min(min(x, width - 1 - x), min(row, height - 1 - row));
        if (dz != 0) distance = min(distance, min(slice, depth - 1 - slice));
#pragma unroll 1
        for (int q = threadIdx.x / WIDTH; q < OUTPUTS; q += THREADS / WIDTH) {
            const int s = dilations[q];
            const bool is_there = q < num_outputs && x < width;
            if (is_there && s >= distance) {
                at_the_border<PITCH>(to, delta, slice, row, x, s, dz);
            } else {
                const float* const source = held(delta - int64(dz * s * height) * pitch);
                float sum[9] = {};
                if (is_there) {
#pragma unroll
                    for (int t = 0; t < 9; ++t)
                        sum[t] = source[(1 - t / 3) * s * pitch + (1 - t % 3) * s];
                }
#pragma unroll
                for (int t = 0; t < 9; ++t)
                    to[(t / 3 * OUTPUTS * 3 + t % 3) * PITCH] = term_of(sum[t]);
            }
            delta += THREADS / WIDTH * plane;
            to += THREADS / WIDTH * 3 * PITCH;
        }
    }

    // The same for a pixel that has mirror images: all positions that stand for it.
    template <int PITCH>
    __device__ __forceinline__ void at_the_border(
        float* to, const float* delta, int slice, int row, int x, int s, int dz) const {
#pragma unroll 1
        for (int tap = -1; tap <= 1; ++tap, to += OUTPUTS * 3 * PITCH) {
            float sum[3] = {};
#pragma unroll 1
            for (int number = 0; number < (dz == 0 ? 9 : 27); ++number) {
                const int z = preimage(slice, number / 9, depth, rule) - s * dz;
                const int y = preimage(row, number / 3 % 3, height, rule) - s * tap;
                const int position = preimage(x, number % 3, width, rule);
                if (z < 0 || z >= depth || y < 0 || y >= height || position == NOWHERE) continue;
                const float* const source = delta + (int64(z - slice) * height + y - row) * pitch;
#pragma unroll
                for (int i = 0; i < 3; ++i) {
                    const int there = position - s * (i - 1);
                    if (there >= 0 && there < width) sum[i] += source[there - x];
                }
            }
#pragma unroll
            for (int i = 0; i < 3; ++i) to[i * PITCH] = term_of(sum[i]);
        }
    }
};
