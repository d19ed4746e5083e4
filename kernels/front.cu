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
// In 3D a slice is an image, and each of the three planes of taps a launch of its own, that of the middle
// first: of a source slice z, output i gets sums for its slice z - tap * dilation, to which the other two
// planes add. Slices beyond the volume are found by the border rule, as rows are.
//
// A row in memory has a halo of `side` columns on both sides, which holds what the border rule says
// (inner.cu writes it); rows beyond the image are found by the rule. So every load is whole and aligned.
//
// float32 that is cut to TF32, for one term, has been rounded to it by inner.cu.
//
// LIMITS: at most OUTPUTS channels in a block; compute capability 8.0; `side` a multiple of 4 and
// at least the largest dilation, columns + 2 * side <= WIDTH.

#include "common.cuh"
#include "border.cuh"
#include "tiles.cuh"
#include "rings.cuh"

const int GROUPS = WIDTH / 32, PIXEL_TILES = 2;  // of 32 columns; of 16 pixels
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
        // Beyond the last step, loads read what there is once more. The first product is in no loop,
        // so that its sums start from nothing and need not be cleared.
        const storage *last = pixels, *next;
        Pixels one = load_pixels<true>(pixels, plane, half, 0, 0), two;
        two = load_pixels<true>(next = steps > 1 ? pixels : last, plane, half, 0, 0);
        if (steps > 1) pixels = next;
        step<FIRST, STOP>(c, one, weights);
        weights += PARTS * FRAGMENTS;
#pragma unroll 1
        for (int s = 2; s < steps; s += 2) {
            last = pixels;
            one = load_pixels<true>(pixels, plane, half, 0, 0);
            step<FIRST, STOP>(c, two, weights);
            two = load_pixels<true>(next = s + 1 < steps ? pixels : last, plane, half, 0, 0);
            if (s + 1 < steps) pixels = next;
            step<FIRST, STOP>(c, one, weights + PARTS * FRAGMENTS);
            weights += 2 * PARTS * FRAGMENTS;
        }
        if (steps % 2 == 0) {
            step<FIRST, STOP>(c, two, weights);
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

// The three taps of a row of taps, at the places of their targets, a dilation of so many bytes away.
__device__ __forceinline__ float sum_of(float* taps, int dilation) {
    return at(taps, -dilation) + taps[PITCH] + at(taps + 2 * PITCH, dilation);
}

// grid: strips of columns of all slices, bands of rows. In 3D, where `tap` is -1 or 1, `reach` slices beyond
// the volume are sources, too.
extern "C" __global__ void __launch_bounds__(THREADS, TERMS == 1 ? 2 : 1) front_forward(
    const storage* planes, int64 plane, int64 pitch,  // from the first column of the halo on
    const storage* packed,  // as pack.cu left them, of this block of layers
    const float* bias, const int64* dilations,  // of each output
    float* sums, int64 sums_plane,  // like the planes, but float32
    int64 num_sources, int64 num_outputs, int64 side, int64 reach, int64 columns, int64 band,
    int64 num_strips, int64 tap, int64 depth, int64 num_rows, int64 width, int64 rule) {
    __shared__ Output of_outputs[OUTPUTS];
    __shared__ Ring rings_of[OUTPUTS];
    DYNAMIC_SHARED(float, shared);  // [ROWS][TAP_ROWS][PITCH], then the rings, [rows][columns]
    const int num_columns = static_cast<int>(columns), h = static_cast<int>(num_rows);
    const int w = static_cast<int>(width), halo = static_cast<int>(side), far = static_cast<int>(reach);
    const int outputs = static_cast<int>(num_outputs), channels = static_cast<int>(num_sources);
    const int strips = static_cast<int>(num_strips), rho = static_cast<int>(rule);
    const int number = blockIdx.x / strips, first_column = (blockIdx.x - number * strips) * num_columns;
    const int d = static_cast<int>(depth), dz = static_cast<int>(tap);
    const int count = dz == 0 ? d : d + far, image = number / count;  // of source slices
    const int z = number - image * count - (dz < 0 ? far : 0), source = border(z, d, rho);
    if (source < 0) return;
    const int first = blockIdx.y * static_cast<int>(band), stop = min(first + static_cast<int>(band), h);
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;

    // As a warp that multiplies: 32 pixels of every second row.
    const int group = warp % GROUPS * 32, own_row = warp / GROUPS;
    const bool needed = first_column + group < w + 2 * halo;
    const storage* const own_pixels = planes + first_channel(lane) * plane +
        int64(image * d + source) * h * pitch + first_column + group + lane / 4 * 2;
    const Four* const weights = reinterpret_cast<const Four*>(packed) + lane;
    float* const own_taps = shared + (own_row * TAP_ROWS + lane % 4 * 2) * PITCH + group + lane / 4 * 2;

    // As one that adds taps up: 32 columns of every second output.
    const int column = warp % GROUPS * 32 + lane, parity = warp / GROUPS;
    const bool adds = column < num_columns && first_column + column < w;
    float* const taps = shared + parity * 3 * PITCH + column + halo;
    float* const rings = shared + ROWS * TAP_ROWS * PITCH + column;
    float* const out = sums + column;
    const int rows = stop - first;

    if (thread < outputs) {
        Output& own = of_outputs[thread];
        Ring& ring = rings_of[thread];
        int start = 0, s = 0;
        for (int q = 0; q <= thread; ++q) {
            start += (2 * s + ROWS) * (q > 0) * num_columns;
            s = static_cast<int>(dilations[q]);
        }
        ring.start = 4 * start;
        ring.size = 4 * (2 * s + ROWS) * num_columns;
        ring.way = 4 * s * num_columns;
        // That of `first` is 0.
        ring.place = ((2 * s + ROWS) * WIDTH - far) % (2 * s + ROWS) * num_columns * 4;
        const int target = z - dz * s;
        ring.targets = -1;
        if (inside(target, d))
            ring.targets = thread * sums_plane + (int64(image * d + target) * h + first) * pitch +
                           halo + first_column;
        own.dilation = 4 * s;
        own.bias = bias[thread];
        ring.tell(own, -far, rows, num_columns, pitch);
    }

    for (int passed = -far; passed < rows + far; passed += ROWS) {  // rows from `first` on
        const int position = first + passed + own_row;
        const int row = needed && position < stop + far ? border(position, h, rho) : NOWHERE;
        float c[PIXEL_TILES][TILES][4] = {};
        if (row >= 0) {
            const storage* pixels = own_pixels + row * pitch;
            if (position < first) product<0, 3>(c, pixels, plane, weights, channels, lane);
            else if (position >= stop) product<6, 9>(c, pixels, plane, weights, channels, lane);
            else product<0, 9>(c, pixels, plane, weights, channels, lane);
        }
        // Rows below the band have nothing but lower taps for it, those above nothing but upper ones.
        const bool begins = passed < rows, completes = passed >= 0;
        if (needed && begins) put<0, 6>(own_taps, c);
        __syncthreads();
        if (adds && begins) {
#pragma unroll 1
            for (int q = parity; q < outputs; q += 2) {
                const Output own = of_outputs[q];
                float* const upper = taps + (q - parity) * 3 * PITCH;
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    float* const of_row = upper + r * TAP_ROWS * PITCH;
                    if (own.here[r] >= 0)
                        at(rings, own.here[r]) += sum_of(of_row + OUTPUTS * 3 * PITCH, own.dilation);
                    if (own.below[r] >= 0) at(rings, own.below[r]) = sum_of(of_row, own.dilation);
                }
            }
        }
        __syncthreads();
        if (needed && completes) put<6, 9>(own_taps, c);
        __syncthreads();
        if (adds && completes) {
#pragma unroll 1
            for (int q = parity; q < outputs; q += 2) {
                const Output own = of_outputs[q];
                float* const lower = taps + (q - parity) * 3 * PITCH;
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    if (own.above[r] < 0) continue;
                    float* const target = out + own.targets[r];
                    const float before = dz == 0 ? own.bias : *target;
                    *target = at(rings, own.above[r]) +
                              sum_of(lower + r * TAP_ROWS * PITCH, own.dilation) + before;
                }
            }
        }
        __syncthreads();
        if (thread < outputs)
            rings_of[thread].tell(of_outputs[thread], passed + ROWS, rows, num_columns, pitch);
    }
}
