// The channels in front of a block of layers, convolved for all layers of the block at once on the
// tensor cores (msdtool/ops/cuda/front.py); the stack of taps never leaves the multiprocessor.
//
// It is one product for each source row: pixels are the rows of the matrix, and its 72 columns are the
// taps, ordered [row of taps][output][column of taps]. A row of the image above or below a band is read
// through one row of taps only, a third of the columns. No column is wasted on padding.
//
// A thread block computes a band of rows in a strip of columns. It marches down the rows that its
// targets read, two at a time: 4 groups of 32 pixels x 2 rows for its 8 warps. The taps go through
// shared memory to the columns of the targets, into a ring of 2 * dilation + 2 rows for each output: the
// upper taps begin a target's sum, the lower ones complete it. What is in front of the block and
// complete is written with its bias; the channels inside the block and the ReLU follow (inner.cu).
//
// A row in memory has a halo of `side` columns on both sides, which holds what the border rule says
// (inner.cu writes it); rows beyond the image are found by the rule. So every load is whole and aligned.
//
// float32 that is cut to TF32, for one term, has been rounded to it by inner.cu.
//
// LIMITS: 2D; at most OUTPUTS channels in a block; compute capability 8.0; `side` a multiple of 4 and
// at least the largest dilation, columns + 2 * side <= WIDTH.

#include "common.cuh"
#include "border.cuh"
#include "tiles.cuh"

const int GROUPS = WIDTH / 32, ROWS = 2, PIXEL_TILES = 2;  // of 32 columns; of 16 pixels
const int PITCH = WIDTH + 4;  // of a row of taps: pairs of pixels of 8 taps are in different banks
const int TAP_ROWS = 48;  // two rows of taps of all outputs
const int K = NARROW ? 16 : 8;

// What a lane reads of 32 pixels and K channels. Rows g and g + 8 of A are pixels 2g and 2g + 1, so
// that one load serves both: float32 the channels lane % 4 and + 4, which are A as they are; 16 bits
// the channels lane % 4 * 2, + 1, + 8, + 9, pairs of which are put together when they are used.
struct Pixels { unsigned words[PIXEL_TILES][4]; };

// The channel that a lane reads first, of a step.
__device__ __forceinline__ int first_channel(int lane) { return lane % 4 * (NARROW ? 2 : 1); }

// Moves `at` on to the next step. `left` channels are there; those beyond are zeros. `half` is K / 2
// planes.
template <bool ALL>
__device__ __forceinline__ Pixels load_pixels(
    const storage*& at, int64 plane, int64 half, int left, int channel) {
    Pixels pixels;
#pragma unroll
    for (int i = 0; i < 2; ++i, at += half)
#pragma unroll
        for (int t = 0; t < PIXEL_TILES; ++t) {
            unsigned* const words = pixels.words[t] + 2 * i;
            const int first = channel + i * (K / 2);
            if (NARROW) {
                words[0] = ALL || first < left ? stream_word(at + 16 * t) : 0;
                words[1] = ALL || first + 1 < left ? stream_word(at + plane + 16 * t) : 0;
            } else {
                Pair pair = {{0, 0}};
                if (ALL || first < left) pair = stream_pair(at + 16 * t);
                words[0] = pair.bits[0];
                words[1] = pair.bits[1];
            }
        }
    return pixels;
}

// Overloads pick the product by the type of a null pointer. A is not yet that of the instruction.
__device__ __forceinline__ void operands(unsigned* a, const unsigned* words, float32*) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = words[i];
}
template <class T> __device__ __forceinline__ void operands(unsigned* a, const unsigned* words, T*) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        a[2 * i] = __byte_perm(words[2 * i], words[2 * i + 1], 0x5410);
        a[2 * i + 1] = __byte_perm(words[2 * i], words[2 * i + 1], 0x7632);
    }
}
__device__ __forceinline__ void multiply(float* c, const unsigned* a, const unsigned* b, float32*) {
    mma_tf32(c, a, b);
}
__device__ __forceinline__ void multiply(float* c, const unsigned* a, const unsigned* b, float16*) {
    mma_float16(c, a, b);
}
__device__ __forceinline__ void multiply(float* c, const unsigned* a, const unsigned* b, bfloat16*) {
    mma_bfloat16(c, a, b);
}

// c += pixels * the weights of a step, of some of the tiles.
template <int FIRST, int STOP>
__device__ __forceinline__ void step(
    float (&c)[PIXEL_TILES][TILES][4], const Pixels& pixels, const Four* weights) {
    storage* const type = nullptr;
    unsigned a[PIXEL_TILES][4], rest[PIXEL_TILES][4];
#pragma unroll
    for (int t = 0; t < PIXEL_TILES; ++t) {
        operands(a[t], pixels.words[t], type);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (TERMS == 1) continue;
            const unsigned cut = a[t][i] & 0xffffe000u;
            rest[t][i] = rest_bits(a[t][i], cut);
            a[t][i] = cut;
        }
    }
    Four b[PARTS][TILE_PAIRS];
#pragma unroll
    for (int i = FIRST / 2; i < (STOP + 1) / 2; ++i)
#pragma unroll
        for (int part = 0; part < PARTS; ++part)
            b[part][i] = cached(weights + part * FRAGMENTS + i * 32);
#pragma unroll
    for (int n = FIRST; n < STOP; ++n)
#pragma unroll
        for (int t = 0; t < PIXEL_TILES; ++t) {
            const int at = n % 2 * 2;
            if (TERMS == 3) {
                multiply(c[t][n], rest[t], b[0][n / 2].bits + at, type);
                multiply(c[t][n], a[t], b[PARTS - 1][n / 2].bits + at, type);
            }
            multiply(c[t][n], a[t], b[0][n / 2].bits + at, type);
        }
}

// c = taps of 32 pixels, of some of the tiles. Each load is sent a step before it is used.
template <int FIRST, int STOP>
__device__ __forceinline__ void product(
    float (&c)[PIXEL_TILES][TILES][4], const storage* pixels, int64 plane, const Four* weights,
    int channels, int lane) {
    const int steps = channels / K;
    const int64 half = held(K / 2 * plane);
    if (steps > 0) {
        Pixels one = load_pixels<true>(pixels, plane, half, 0, 0), two;
#pragma unroll 1
        for (int s = 1; s < steps; s += 2) {
            const storage* const last = pixels;
            two = load_pixels<true>(pixels, plane, half, 0, 0);
            step<FIRST, STOP>(c, one, weights);
            const storage* next = s + 1 < steps ? pixels : last;  // reads what there is once more
            one = load_pixels<true>(next, plane, half, 0, 0);
            if (s + 1 < steps) pixels = next;
            step<FIRST, STOP>(c, two, weights + PARTS * FRAGMENTS);
            weights += 2 * PARTS * FRAGMENTS;
        }
        if (steps % 2 > 0) {
            step<FIRST, STOP>(c, one, weights);
            weights += PARTS * FRAGMENTS;
        }
    }
    if (channels % K > 0) {
        const Pixels some =
            load_pixels<false>(pixels, plane, half, channels % K, first_channel(lane));
        step<FIRST, STOP>(c, some, weights);
    }
}

// Some of the tiles to shared memory.
template <int FIRST, int STOP>
__device__ __forceinline__ void put(float* taps, const float (&c)[PIXEL_TILES][TILES][4]) {
#pragma unroll
    for (int n = FIRST; n < STOP; ++n)
#pragma unroll
        for (int t = 0; t < PIXEL_TILES; ++t)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const Pair pair = {{__float_as_uint(c[t][n][i]), __float_as_uint(c[t][n][2 + i])}};
                *reinterpret_cast<Pair*>(taps + ((n - FIRST) * 8 + i) * PITCH + 16 * t) = pair;
            }
}

// The three taps of a row of taps, at the places of their targets.
__device__ __forceinline__ float sum_of(const float* taps, int dilation) {
    return taps[-dilation] + taps[PITCH] + taps[2 * PITCH + dilation];
}

__device__ __forceinline__ bool inside(int row, int rows) {
    return static_cast<unsigned>(row) < static_cast<unsigned>(rows);
}

// A place in a ring some way on, which is less than once around.
__device__ __forceinline__ int turned(int place, int way, int size) {
    const unsigned there = place + way;
    return min(there, there - static_cast<unsigned>(size));  // what is below 0 is large
}

// An output of the block: where its ring begins, and from there the place of the row `passed`. Places
// go round by additions, without a division.
struct alignas(16) Output { int dilation, ring, place; float bias; };

// grid: strips of columns of all images, bands of rows.
extern "C" __global__ void __launch_bounds__(THREADS, TERMS == 1 ? 2 : 1) front_forward(
    const storage* planes, int64 plane, int64 pitch,  // from the first column of the halo on
    const storage* packed,  // as pack.cu left them, of this block of layers
    const float* bias, const int64* dilations,  // of each output
    float* sums, int64 sums_plane,  // like the planes, but float32
    int64 num_sources, int64 num_outputs, int64 side, int64 reach, int64 columns, int64 band,
    int64 num_strips, int64 num_rows, int64 width, int64 rule) {
    __shared__ Output of_outputs[OUTPUTS];
    DYNAMIC_SHARED(float, z);  // [ROWS][TAP_ROWS][PITCH], then the rings, [rows][columns]
    const int num_columns = static_cast<int>(columns), h = static_cast<int>(num_rows);
    const int w = static_cast<int>(width), halo = static_cast<int>(side), far = static_cast<int>(reach);
    const int outputs = static_cast<int>(num_outputs), channels = static_cast<int>(num_sources);
    const int strips = static_cast<int>(num_strips), image = blockIdx.x / strips;
    const int first_column = (blockIdx.x - image * strips) * num_columns;
    const int first = blockIdx.y * static_cast<int>(band), stop = min(first + static_cast<int>(band), h);
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;

    // As a warp that multiplies: 32 pixels of every second row.
    const int group = warp % GROUPS * 32, own_row = warp / GROUPS;
    const bool needed = first_column + group < w + 2 * halo;
    const storage* const own_pixels = planes + first_channel(lane) * plane +
        int64(image) * h * pitch + first_column + group + lane / 4 * 2;
    const Four* const weights = reinterpret_cast<const Four*>(packed) + lane;
    float* const own_taps = z + (own_row * TAP_ROWS + lane % 4 * 2) * PITCH + group + lane / 4 * 2;

    // As one that adds taps up: 32 columns of every second output.
    const int column = warp % GROUPS * 32 + lane, parity = warp / GROUPS;
    const bool adds = column < num_columns && first_column + column < w;
    const float* const taps = z + parity * 3 * PITCH + column + halo;
    float* const rings = z + ROWS * TAP_ROWS * PITCH + column;
    float* const out =
        sums + (int64(image) * h + first) * pitch + halo + first_column + column;
    const int rows = stop - first, row_size = static_cast<int>(pitch);

    if (thread < OUTPUTS) {
        Output own = {0, 0, 0, 0};
        for (int q = 0; q <= thread && q < outputs; ++q) {
            own.ring += (2 * own.dilation + ROWS) * (q > 0) * num_columns;
            own.dilation = static_cast<int>(dilations[q]);
        }
        const int size = 2 * own.dilation + ROWS;
        own.place = (size * WIDTH - far) % size * num_columns;  // that of `first` is 0
        if (thread < outputs) own.bias = bias[thread];
        of_outputs[thread] = own;
    }

    for (int passed = -far; passed < rows + far; passed += ROWS) {  // rows from `first` on
        const int position = first + passed + own_row;
        const int row = needed && position < stop + far
                            ? border(position, h, static_cast<int>(rule)) : NOWHERE;
        float c[PIXEL_TILES][TILES][4] = {};
        if (row >= 0) {
            const storage* pixels = own_pixels + row * pitch;
            if (position < first) product<0, 3>(c, pixels, plane, weights, channels, lane);
            else if (position >= stop) product<6, 9>(c, pixels, plane, weights, channels, lane);
            else product<0, 9>(c, pixels, plane, weights, channels, lane);
        }
        put<0, 6>(own_taps, c);
        __syncthreads();
        if (adds) {
#pragma unroll 1
            for (int q = parity; q < outputs; q += 2) {
                const Output own = of_outputs[q];
                const int s = own.dilation, size = (2 * s + ROWS) * num_columns;
                const float* const here = taps + (q - parity) * 3 * PITCH;
                float* const ring = rings + own.ring;
                int place = own.place;
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    const float* const upper = here + r * TAP_ROWS * PITCH;
                    if (inside(passed + r, rows))
                        ring[place] += sum_of(upper + OUTPUTS * 3 * PITCH, s);
                    if (inside(passed + r + s, rows))
                        ring[turned(place, s * num_columns, size)] = sum_of(upper, s);
                    place = turned(place, num_columns, size);
                }
            }
        }
        __syncthreads();
        put<6, 9>(own_taps, c);
        __syncthreads();
        if (adds) {
#pragma unroll 1
            for (int q = parity; q < outputs; q += 2) {
                const Output own = of_outputs[q];
                const int s = own.dilation, size = (2 * s + ROWS) * num_columns;
                const float* const here = taps + (q - parity) * 3 * PITCH;
                const float* const ring = rings + own.ring;
                float* const targets = out + q * sums_plane;
                int place = turned(own.place, size - s * num_columns, size);
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    const int target = passed + r - s;
                    if (inside(target, rows))
                        targets[target * row_size] =
                            ring[place] + sum_of(here + r * TAP_ROWS * PITCH, s) + own.bias;
                    place = turned(place, num_columns, size);
                }
            }
        }
        __syncthreads();
        if (thread < OUTPUTS) {
            Output& own = of_outputs[thread];
            const int size = (2 * own.dilation + ROWS) * num_columns;
            own.place = turned(own.place, ROWS * num_columns, size);
        }
    }
}
