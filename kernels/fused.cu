// The channels before a block of layers, convolved for all layers of the block at once on the tensor
// cores, without the stack of taps ever leaving the multiprocessor (msdtool/ops/cuda/fused.py).
//
// A thread block computes a band of rows in a strip of COLUMNS columns. It marches down the rows that
// its targets read, each with a border of `reach` columns on both sides. For ROWS rows at a time the
// warps multiply weights [9 * OUTPUTS, m] with channels [m, columns] into shared memory; then every
// thread adds the taps to the columns it owns of a rolling window of 2 * reach + 1 target rows.
// A target row that no later row reaches leaves the window with its bias; the channels inside the
// block and the ReLU follow (inner.cu).
//
// The border rule maps rows and columns beyond the image to pixels, so there is no halo in memory.
// float32 is multiplied as TF32.
//
// LIMITS: 2D; at most OUTPUTS channels in a block; compute capability 8.0; COLUMNS divides THREADS.

#ifndef OUTPUTS
#define OUTPUTS 8
#endif
#ifndef COLUMNS
#define COLUMNS 64
#endif

#include "common.cuh"
#include "border.cuh"
#include "mma.cuh"

const int ROWS = 2;
const int THREADS = 256;
const int WARPS = THREADS / 32;
const int TAPS = 9;
const int M_TILES = (TAPS * OUTPUTS + 15) / 16;
const int N_TILES = 2;  // of 8 columns, per warp at a time: they share the weights they load
const bool NARROW = sizeof(storage) == 2;
const int K_STEP = NARROW ? 16 : 8;

struct alignas(16) Fragment { unsigned a[4]; };

// Overloads pick the product by the type of a null pointer.
__device__ __forceinline__ void multiply(float* c, const unsigned* a, const unsigned* b, float32*) {
    mma_tf32(c, a, b);
}
__device__ __forceinline__ void multiply(float* c, const unsigned* a, const unsigned* b, float16*) {
    mma_float16(c, a, b);
}
__device__ __forceinline__ void multiply(float* c, const unsigned* a, const unsigned* b, bfloat16*) {
    mma_bfloat16(c, a, b);
}

__device__ __forceinline__ unsigned bits_of(float32 value) { return tf32_bits(value); }
__device__ __forceinline__ unsigned bits_of(float16 value) { return value.bits; }
__device__ __forceinline__ unsigned bits_of(bfloat16 value) { return value.bits; }

// One register of B at a pixel: a channel, or a pair of 16-bit channels. Beyond the channels
// and the image lie zeros.
__device__ __forceinline__ unsigned load_b(
    const storage* planes, int64 plane, int64 pixel, int64 channel, int64 num_sources) {
    if (pixel < 0 || channel >= num_sources) return 0;
    unsigned bits = bits_of(planes[channel * plane + pixel]);
    if (NARROW && channel + 1 < num_sources)
        bits |= bits_of(planes[(channel + 1) * plane + pixel]) << 16;
    return bits;
}

// grid: strips of columns, bands of rows, images.
extern "C" __global__ void __launch_bounds__(THREADS) fused_forward(
    const storage* planes, int64 plane,
    const storage* packed,  // Fragments [m / K_STEP, M_TILES, 32 lanes]
    const float* bias, const int64* dilations,  // of each output
    float* sums,
    int64 num_sources, int64 num_outputs, int64 max_dilation, int64 band,
    int64 num_rows, int64 width, int64 rule) {
    const int reach = max_dilation, window_rows = 2 * reach + 1, num_columns = width;
    // Whole pairs of tiles; the window follows the taps of ROWS rows.
    const int z_width = (COLUMNS + 2 * reach + 8 * N_TILES - 1) / (8 * N_TILES) * (8 * N_TILES);
    DYNAMIC_SHARED(float, z);
    float* const window = z + ROWS * M_TILES * 16 * z_width;

    const Fragment* const weights = reinterpret_cast<const Fragment*>(packed);
    const int first_row = blockIdx.y * band, first_column = blockIdx.x * COLUMNS;
    const int stop_row = min(first_row + static_cast<int>(band), static_cast<int>(num_rows));
    const int64 image = blockIdx.z * num_rows * width;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int own_column = threadIdx.x % COLUMNS;

    for (int q = threadIdx.x / COLUMNS; q < OUTPUTS; q += THREADS / COLUMNS)
        for (int slot = 0; slot < window_rows; ++slot)
            window[(slot * OUTPUTS + q) * COLUMNS + own_column] = 0;

    for (int start = first_row - reach; start < stop_row + reach; start += ROWS) {
        // Multiply: compute the taps of ROWS rows.
        const int tiles_per_row = z_width / 8;
        for (int tile = warp * N_TILES; tile < ROWS * tiles_per_row; tile += WARPS * N_TILES) {
            int64 pixels[N_TILES];
#pragma unroll
            for (int n = 0; n < N_TILES; ++n) {
                const int position = start + (tile + n) / tiles_per_row;
                const int column = first_column - reach + (tile + n) % tiles_per_row * 8 + lane / 4;
                const int row = position < stop_row + reach
                                    ? border(position, static_cast<int>(num_rows), rule) : NOWHERE;
                const int source = column < num_columns + reach
                                       ? border(column, num_columns, rule) : NOWHERE;
                pixels[n] = row < 0 || source < 0 ? -1 : image + row * width + source;
            }
            float c[N_TILES][M_TILES][4] = {};
#pragma unroll 1
            for (int64 step = 0; step * K_STEP < num_sources; ++step) {
                unsigned b[N_TILES][2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int64 channel =
                        step * K_STEP + half * (K_STEP / 2) + lane % 4 * (NARROW ? 2 : 1);
#pragma unroll
                    for (int n = 0; n < N_TILES; ++n)
                        b[n][half] = load_b(planes, plane, pixels[n], channel, num_sources);
                }
#pragma unroll
                for (int m = 0; m < M_TILES; ++m) {
                    const Fragment fragment = weights[(step * M_TILES + m) * 32 + lane];
#pragma unroll
                    for (int n = 0; n < N_TILES; ++n)
                        multiply(c[n][m], fragment.a, b[n], static_cast<storage*>(nullptr));
                }
            }
#pragma unroll
            for (int n = 0; n < N_TILES; ++n) {
                const int row = (tile + n) / tiles_per_row, column = (tile + n) % tiles_per_row * 8;
#pragma unroll
                for (int m = 0; m < M_TILES; ++m)
#pragma unroll
                    for (int i = 0; i < 4; ++i)
                        z[((row * M_TILES + m) * 16 + lane / 4 + i / 2 * 8) * z_width + column +
                          lane % 4 * 2 + i % 2] = c[n][m][i];
            }
        }
        __syncthreads();

        // Add the taps to the target rows, and write those that are complete.
        for (int q = threadIdx.x / COLUMNS; q < num_outputs; q += THREADS / COLUMNS) {
            const int dilation = static_cast<int>(dilations[q]);
            for (int index = 0; index < ROWS && start + index < stop_row + reach; ++index) {
                const int position = start + index;
                for (int tap = 0; tap < 3; ++tap) {
                    const int target = position - dilation * (tap - 1);
                    if (target < first_row || target >= stop_row) continue;
                    float sum = 0;
                    for (int inner = 0; inner < 3; ++inner)
                        sum += z[(index * M_TILES * 16 + q * TAPS + tap * 3 + inner) * z_width +
                                 own_column + reach + dilation * (inner - 1)];
                    window[((target - first_row) % window_rows * OUTPUTS + q) * COLUMNS +
                           own_column] += sum;
                }
                const int done = position - reach, column = first_column + own_column;
                if (done < first_row || done >= stop_row) continue;
                float* const sum =
                    window + ((done - first_row) % window_rows * OUTPUTS + q) * COLUMNS + own_column;
                if (column < num_columns)
                    sums[q * plane + image + done * width + column] = *sum + bias[q];
                *sum = 0;
            }
        }
        __syncthreads();
    }
}
