// The transposes of front.cu, for the backward pass (msdtool/ops/cuda/back.py): what a block of layers adds
// to the gradients of the channels in front of it, and the gradients of its weights.
//
//     back_input    grad_c(y)    += sum_t weight_{t,c} S_t(y)
//     back_weight   grad_{c,t}    = sum_y channel_c(y) S_t(y)
//
// S are the taps of the gradients of the block's channels before their ReLU (spread.cuh). A block of
// threads makes a row of them in shared memory, 128 columns at a time, and multiplies it; it takes a
// run of the rows of all images and strips. Gradients are float32 whatever the channels are.
//
// No sum depends on the order in which threads run: of a gradient, every pixel is one thread's; of a
// weight, each block of threads writes what its rows add up to, and pack.cu adds these.
//
// LIMITS: at most OUTPUTS channels in a block; compute capability 8.0; rows and halos as in front.cu,
// zeros in the halos of gradients.

#include "common.cuh"
#include "spread.cuh"

const int WARPS = THREADS / 32;
const int CHANNELS = 32 * WARPS;  // that the warps of a block can share
const int GROUP = PARTS * TILES * 32;  // of 16 bytes: weights of 16 channels, a plane of taps
// Of a row of taps, so that what a warp, or 8 of its lanes, load at a time is in different banks.
const int INPUT_PITCH = WIDTH + 8, WEIGHT_PITCH = WIDTH + 16;

// A float as one TF32, or as the sum of two.
struct Term { unsigned cut, rest; };
__device__ __forceinline__ Term split(unsigned bits) {
    if (TERMS == 1) return {bits, 0};
    const unsigned cut = bits & 0xffffe000u;
    return {cut, rest_bits(bits, cut)};
}

// Taps of two times 8 pixels, all of them, as operands: pixels are the columns of the matrix, channels
// its rows, so that two neighbouring gradients are half of a sum as they are.
struct TapsOfPixels { unsigned cut[TILES][2][2], rest[TILES][2][2]; };

__device__ __forceinline__ void load_taps(TapsOfPixels& taps, const float* at) {
#pragma unroll
    for (int n = 0; n < TILES; ++n)
#pragma unroll
        for (int t = 0; t < 2; ++t)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const Term term =
                    split(__float_as_uint(at[(8 * n + 4 * i) * INPUT_PITCH + 8 * t]));
                taps.cut[n][t][i] = term.cut;
                taps.rest[n][t][i] = term.rest;
            }
}

// Adds to the gradients of 16 channels in 16 pixels, of which a lane has a pair of pixels in two
// channels, twice. From them on, `left` channels and so many columns are there. A row in memory has all
// of 8 pixels of which one is there; beyond the image it stays zero.
template <bool ALL>
__device__ __forceinline__ void add_product(
    float* at, int64 plane, const TapsOfPixels& taps, const Four* weights, int left, int columns) {
    float c[2][4] = {};
#pragma unroll
    for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (!ALL && (8 * i >= left || 8 * t >= columns)) continue;
            const Pair pair = *reinterpret_cast<const Pair*>(at + 8 * t + i * (8 * plane));
            c[t][2 * i] = __uint_as_float(pair.bits[0]);
            c[t][2 * i + 1] = __uint_as_float(pair.bits[1]);
        }
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
        Four a[PARTS];
#pragma unroll
        for (int part = 0; part < PARTS; ++part)
            a[part] = cached(weights + (part * TILES + n) * 32);
#pragma unroll
        for (int t = 0; t < 2; ++t) {
            if (TERMS == 3) {
                mma_tf32(c[t], a[0].bits, taps.rest[n][t]);
                mma_tf32(c[t], a[PARTS - 1].bits, taps.cut[n][t]);
            }
            mma_tf32(c[t], a[0].bits, taps.cut[n][t]);
        }
    }
#pragma unroll
    for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (!ALL && (8 * i >= left || 8 * t >= columns)) continue;
            const Pair pair = {
                {__float_as_uint(c[t][2 * i]), __float_as_uint(c[t][2 * i + 1])}};
            *reinterpret_cast<Pair*>(at + 8 * t + i * (8 * plane)) = pair;
        }
}

// grid: runs of `share` units (spread.cuh).
extern "C" __global__ void __launch_bounds__(THREADS, 2) back_input(
    const float* deltas, const int64* dilations, int64 num_outputs,
    const float* packed,  // weights as pack.cu left them, of this block and these channels
    int64 num_tap_planes,  // 1 or, in 3D, 3
    float* grads, int64 num_channels,  // in front of the block; planes as those of the deltas
    int64 plane, int64 pitch, int64 halo, int64 depth, int64 height, int64 width, int64 num_rows,
    int64 num_units, int64 share, int64 rule) {
    __shared__ int steps[OUTPUTS];
    __shared__ float tile[TAPS * INPUT_PITCH];
    const Gradients given(
        deltas, plane, pitch, halo, depth, height, width, num_rows, rule, num_outputs);
    load_dilations(steps, dilations, given.num_outputs);
    __syncthreads();

    const int num_planes = static_cast<int>(num_tap_planes);
    // A warp has 16 pixels.
    const int first = threadIdx.x / 32 * 16, lane = threadIdx.x % 32;
    const float* const own_taps = tile + lane % 4 * INPUT_PITCH + first + lane / 4;
    const Four* const own_weights = reinterpret_cast<const Four*>(packed) + lane;
    float* const own_grads = grads + halo + lane / 4 * plane + first + lane % 4 * 2;
    const int64 step = held(16 * plane);

    const int begin = blockIdx.x * static_cast<int>(share);
    const int end = min(begin + static_cast<int>(share), static_cast<int>(num_units));
    for (int number = begin; number < end; ++number) {
        const Unit unit = given.unit(number);
        const int columns = given.width - unit.first_column - first;  // from those of the warp on
#pragma unroll 1
        for (int tap = 0; tap < num_planes; ++tap) {
            given.spread<INPUT_PITCH>(unit, tap - num_planes / 2, tile, steps);
            __syncthreads();
            if (columns > 0) {
                TapsOfPixels taps;
                load_taps(taps, own_taps);
                float* at = own_grads + unit.start;
                const Four* weights = own_weights + tap * ((num_channels + 15) / 16) * GROUP;
                int left = static_cast<int>(num_channels);
#pragma unroll 1
                for (; columns > 8 && left >= 16; left -= 16, at += step, weights += GROUP)
                    add_product<true>(at, plane, taps, weights, left, columns);
#pragma unroll 1
                for (; left > 0; left -= 16, at += step, weights += GROUP)
                    add_product<false>(at, plane, taps, weights, left - lane / 4, columns);
            }
            __syncthreads();
        }
    }
}

// 16 pixels of 32 channels: those of lane / 4, + 8, + 16 and + 24, and 4 of the pixels.
struct Channels { Four of[2][2]; };

__device__ __forceinline__ Four load_four(const float32* at) { return stream_four(at); }
template <class T> __device__ __forceinline__ Four load_four(const T* at) {
    const Pair pair = stream_pair(at);  // 16 bits have a place in TF32
    Four four;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        four.bits[i] = __float_as_uint(
            to_real(T{static_cast<unsigned short>(pair.bits[i / 2] >> 16 * (i % 2))}));
    return four;
}

// From a lane's first channel and pixel on, `left` channels and so many columns are there; others are zeros.
__device__ __forceinline__ Channels load_channels(
    const storage* at, int64 eight_planes, int left, int columns, bool all) {
    Channels channels;
    if (all) {
#pragma unroll
        for (int i = 0; i < 4; ++i, at += eight_planes) channels.of[i / 2][i % 2] = load_four(at);
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i, at += eight_planes) {
            channels.of[i / 2][i % 2] = {};
            if (8 * i < left && columns > 0) channels.of[i / 2][i % 2] = load_four(at);
        }
    }
    return channels;
}

// The same as operands of two steps of 8 pixels, of which a lane has pixels 4q and 4q + 1, then 4q + 2 and
// 4q + 3; channels are the rows of the matrix.
struct Operands { unsigned cut[2][2][4], rest[2][2][4]; };

__device__ __forceinline__ Operands operands_of(const Channels& channels) {
    Operands a;
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
        for (int t = 0; t < 2; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const Term term = split(channels.of[t][i % 2].bits[2 * j + i / 2]);
                a.cut[j][t][i] = held(term.cut);
                a.rest[j][t][i] = term.rest;
            }
    return a;
}

// c += 32 channels * taps, over 16 pixels.
__device__ __forceinline__ void add_pixels(
    float (&c)[2][TILES][4], const Operands& a, const float* taps) {
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
        const Four four = *reinterpret_cast<const Four*>(taps + 8 * n * WEIGHT_PITCH);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const Term first = split(four.bits[2 * j]), second = split(four.bits[2 * j + 1]);
            const unsigned b[2] = {first.cut, second.cut}, b_rest[2] = {first.rest, second.rest};
#pragma unroll
            for (int t = 0; t < 2; ++t) {
                if (TERMS == 3) {
                    mma_tf32(c[t][n], a.rest[j][t], b);
                    mma_tf32(c[t][n], a.cut[j][t], b_rest);
                }
                mma_tf32(c[t][n], a.cut[j][t], b);
            }
        }
    }
}

// Add what a warp has to the sums of 32 channels, or write it. A lane has two taps of a channel.
template <class Put>
__device__ __forceinline__ void each_pair(const float (&c)[2][TILES][4], int lane, Put put) {
#pragma unroll
    for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int n = 0; n < TILES; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                put(16 * t + 8 * i + lane / 4, 8 * n + lane % 4 * 2, c[t][n][2 * i],
                    c[t][n][2 * i + 1]);
}

// The warps share up to CHANNELS, 32 each; where fewer take all of them, they share the pixels.
// grid: runs of `share` units (spread.cuh), channels / CHANNELS, planes of taps (1 or, in 3D, 3).
extern "C" __global__ void __launch_bounds__(THREADS, TERMS == 1 ? 2 : 1) back_weight(
    const storage* planes,
    const float* deltas, const int64* dilations, int64 num_outputs,
    float* parts, int64 part_size,  // [grid.x, part_size], of which [grid.z, num_channels, TAPS]
    int64 num_channels,
    int64 plane, int64 pitch, int64 halo, int64 depth, int64 height, int64 width, int64 num_rows,
    int64 num_units, int64 share, int64 rule) {
    __shared__ int steps[OUTPUTS];
    __shared__ Four tile[TAPS * WEIGHT_PITCH / 4];
    float* const taps = reinterpret_cast<float*>(tile);
    const Gradients given(
        deltas, plane, pitch, halo, depth, height, width, num_rows, rule, num_outputs);
    load_dilations(steps, dilations, given.num_outputs);
    __syncthreads();

    const int channels = static_cast<int>(num_channels), first = blockIdx.y * CHANNELS;
    const int teams = min((channels - first + 31) / 32, WARPS), members = WARPS / teams;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int own_first = first + warp % teams * 32, member = warp / teams;
    const bool works = member < members;
    const int column = member * 16 + lane % 4 * 4, left = channels - own_first - lane / 4;
    const float* const own_taps = taps + lane / 4 * WEIGHT_PITCH + column;
    const storage* const own_planes = planes + halo + (own_first + lane / 4) * plane + column;
    const int64 eight_planes = 8 * plane;
    const bool all_channels = own_first + 32 <= channels;

    const int dz = static_cast<int>(blockIdx.z) - static_cast<int>(gridDim.z / 2);
    float c[2][TILES][4] = {};
    const int begin = blockIdx.x * static_cast<int>(share);
    const int end = min(begin + static_cast<int>(share), static_cast<int>(num_units));
    for (int number = begin; number < end; ++number) {
        const Unit unit = given.unit(number);
        // From the warp's first pixel on.
        int columns = works ? min(given.width - unit.first_column, WIDTH) - 16 * member : 0;
        const storage* at = own_planes + unit.start;
        const float* taps_at = own_taps;
        given.spread<WEIGHT_PITCH>(unit, dz, taps, steps);
        Channels next = load_channels(
            at, eight_planes, left, columns - lane % 4 * 4, all_channels && columns >= 16);
        __syncthreads();
#pragma unroll 1
        while (columns > 0) {
            const Operands now = operands_of(next);
            at += 16 * members;
            columns -= 16 * members;
            next = load_channels(
                at, eight_planes, left, columns - lane % 4 * 4, all_channels && columns >= 16);
            add_pixels(c, now, taps_at);
            taps_at += 16 * members;
        }
        __syncthreads();
    }

    // Sums of the members of a team, in the same order in every run, in the place of the taps.
    float* const sums = taps + warp % teams * 32 * TAPS;
    for (int i = members - 1; i > 0; --i) {
        if (works && member == i)
            each_pair(c, lane, [&](int channel, int tap, float one, float two) {
                float* const to = sums + channel * TAPS + tap;
                to[0] = i == members - 1 ? one : to[0] + one;
                to[1] = i == members - 1 ? two : to[1] + two;
            });
        __syncthreads();
    }
    if (member > 0) return;
    float* const part = parts + blockIdx.x * part_size + blockIdx.z * channels * TAPS;
    each_pair(c, lane, [&](int channel, int tap, float one, float two) {
        const float* const others = sums + channel * TAPS + tap;
        if (own_first + channel >= channels) return;
        float* const to = part + (own_first + channel) * TAPS + tap;
        to[0] = members > 1 ? others[0] + one : one;
        to[1] = members > 1 ? others[1] + two : two;
    });
}
