// Convolutions over semifields whose sum selects one of its terms, or can be inverted.
//
//   output[b,o,p] = (+)_{c,f} img[b, g*num_in + c, p*STRIDE + f*DILATION - pad] (x) kernel[o,c,f]
//
// over the taps f that lie in the image, g = o / num_out. Images and signals are volumes of depth
// (and height) 1.
//
// Shapes: img [B, groups*num_in, *image], kernel [groups*num_out, num_in, *TAPS], output and winners
// [B, groups*num_out, *output], all contiguous; grad_X like X.
// Threads: one per output value, in backward_img one per image value, a block inside one plane; in
// backward_kernel a block per kernel value and chunk of the planes. No two threads write to the same place.
// The functions of the semifield are C expressions. With ADD_SELECT the sum selects, and the number
// of the winning term, counted from 1, is kept; otherwise ADD and the macros after it are used.
// LIMITS: blocks of THREADS threads; planes of fewer than 2^31 pixels, fewer than 2^31 blocks.

#include "common.cuh"

#ifndef TAPS_D
#define TAPS_D 1
#define TAPS_H 3
#define TAPS_W 3
#define STRIDE_D 1
#define STRIDE_H 1
#define STRIDE_W 1
#define DILATION_D 1
#define DILATION_H 1
#define DILATION_W 1
#endif
#ifndef TIMES
#define TIMES img + kernel
#define D_TIMES_D_IMG 1
#define D_TIMES_D_KERNEL 1
#define ADD_SELECT left < right
#endif
#ifndef INDEX
#define INDEX unsigned char
#endif
#ifndef POST_SUM
#define POST_SUM acc
#define UNDO_POST_SUM res
#define D_POST_D_ACC 1
#endif

#define NUM_TAPS (TAPS_D * TAPS_H * TAPS_W)
#define THREADS 128

#define FUNCTION(type, name, first, second, expression)                                     \
    __device__ __forceinline__ type name(const real first, const real second) {             \
        (void)first, (void)second;                                                          \
        return expression;                                                                  \
    }

FUNCTION(real, times, img, kernel, TIMES)
FUNCTION(real, d_times_d_img, img, kernel, D_TIMES_D_IMG)
FUNCTION(real, d_times_d_kernel, img, kernel, D_TIMES_D_KERNEL)

struct Volume {
    int d, h, w;
    __device__ int size() const { return d * h * w; }
    __device__ int at(const Volume& p) const { return (p.d * h + p.h) * w + p.w; }
    __device__ bool has(const Volume& p) const {
        return p.d >= 0 && p.d < d && p.h >= 0 && p.h < h && p.w >= 0 && p.w < w;
    }
    __device__ Volume pixel(const int index) const {
        const int row = index / w;
        return {row / h, row % h, index % w};
    }
};

struct Sizes {
    int groups, num_in, num_out;
    Volume image, output, pad;
};

// The plane and the pixel of a thread.
struct Place {
    int plane, pixel;
    __device__ explicit Place(const int size) {
        const int blocks = (size + THREADS - 1) / THREADS;
        plane = int(blockIdx.x) / blocks;
        pixel = int(blockIdx.x) % blocks * THREADS + int(threadIdx.x);
    }
};

#define SIZES                                                                               \
    int64 groups, int64 num_in, int64 num_out, int64 image_d, int64 image_h, int64 image_w, \
        int64 output_d, int64 output_h, int64 output_w, int64 pad_d, int64 pad_h, int64 pad_w
#define TAKE_SIZES                                                                          \
    {                                                                                       \
        int(groups), int(num_in), int(num_out), {int(image_d), int(image_h), int(image_w)},                \
            {int(output_d), int(output_h), int(output_w)}, {int(pad_d), int(pad_h), int(pad_w)} \
    }

__device__ __forceinline__ Volume shift_of(const Sizes& sizes, const int tap) {
    return {
        tap / (TAPS_H * TAPS_W) * DILATION_D - sizes.pad.d,
        tap / TAPS_W % TAPS_H * DILATION_H - sizes.pad.h,
        tap % TAPS_W * DILATION_W - sizes.pad.w,
    };
}

// The image pixel that a tap of an output pixel reads.
__device__ __forceinline__ Volume read_by(const Sizes& sizes, const Volume& p, const int tap) {
    const Volume shift = shift_of(sizes, tap);
    return {p.d * STRIDE_D + shift.d, p.h * STRIDE_H + shift.h, p.w * STRIDE_W + shift.w};
}

// The output pixel whose tap reads an image pixel; outside the output if there is none.
__device__ __forceinline__ Volume reader_of(const Sizes& sizes, const Volume& q, const int tap) {
    const Volume shift = shift_of(sizes, tap);
    const int d = q.d - shift.d, h = q.h - shift.h, w = q.w - shift.w;
    if (d % STRIDE_D || h % STRIDE_H || w % STRIDE_W) return {-1, -1, -1};
    return {d / STRIDE_D, h / STRIDE_H, w / STRIDE_W};
}

// Sum: sums the terms of an output value. Share: the derivative of an output value with respect to
// one of its terms.
#ifdef ADD_SELECT

FUNCTION(bool, add_select, left, right, ADD_SELECT)

struct Sum {
    real best;
    int winner;
    __device__ void add(const real value, const int number) {
        if (!add_select(best, value)) return;
        best = value;
        winner = number;
    }
    __device__ real result() const { return best; }
};

struct Share {
    const INDEX* winners;
    const storage* output;
    __device__ real of(const int64 index, const int number, real, real) const {
        return winners[index] == number ? 1 : 0;
    }
};

#else

FUNCTION(real, add_right, acc, val, ADD)
FUNCTION(real, subtract, res, val, SUBTRACT)
FUNCTION(real, d_add_d_right, acc, val, D_ADD_D_RIGHT)
FUNCTION(real, post_sum, acc, unused, POST_SUM)
FUNCTION(real, undo_post_sum, res, unused, UNDO_POST_SUM)
FUNCTION(real, d_post_d_acc, acc, unused, D_POST_D_ACC)

struct Sum {
    real total;
    int winner;  // none
    __device__ void add(const real value, int) { total = add_right(total, value); }
    __device__ real result() const { return post_sum(total, 0); }
};

// Each term is removed from the sum again.
struct Share {
    const INDEX* winners;
    const storage* output;
    __device__ real of(const int64 index, int, const real img, const real kernel) const {
        const real total = undo_post_sum(load(output + index), 0);
        const real value = times(img, kernel);
        return d_post_d_acc(total, 0) * d_add_d_right(subtract(total, value), value);
    }
};

#endif

// winners may be null.
extern "C" __global__ void __launch_bounds__(THREADS) semifield_forward(
    const storage* img, const storage* kernel,  // inputs
    storage* output, INDEX* winners,            // outputs
    SIZES, double zero) {
    const Sizes sizes TAKE_SIZES;
    const Place place(sizes.output.size());
    if (place.pixel >= sizes.output.size()) return;
    const Volume p = sizes.output.pixel(place.pixel);
    // Planes count all groups of an image, and of each its channels.
    const int group = place.plane / sizes.num_out, o = place.plane % (sizes.groups * sizes.num_out);
    const storage* values = img + int64(group) * sizes.num_in * sizes.image.size();
    const storage* weights = kernel + int64(o) * sizes.num_in * NUM_TAPS;
    Sum sum = {real(zero), 0};
    for (int c = 0; c < sizes.num_in; ++c) {
        for (int tap = 0; tap < NUM_TAPS; ++tap) {
            const Volume q = read_by(sizes, p, tap);
            if (!sizes.image.has(q)) continue;
            const real value = times(load(values + sizes.image.at(q)), load(weights + tap));
            sum.add(value, c * NUM_TAPS + tap + 1);
        }
        values += sizes.image.size();
        weights += NUM_TAPS;
    }
    const int64 index = int64(place.plane) * sizes.output.size() + place.pixel;
    store(output + index, sum.result());
    if (winners) winners[index] = static_cast<INDEX>(sum.winner);
}

extern "C" __global__ void __launch_bounds__(THREADS) semifield_backward_img(
    const storage* img, const storage* kernel,    // forward inputs
    const INDEX* winners, const storage* output,  // forward outputs, one of them null
    const storage* grad_output,                   // gradient of the output
    storage* grad_img,                            // gradient of the input
    SIZES) {
    const Sizes sizes TAKE_SIZES;
    const Share share = {winners, output};
    const Place place(sizes.image.size());
    if (place.pixel >= sizes.image.size()) return;
    const Volume q = sizes.image.pixel(place.pixel);
    const int group = place.plane / sizes.num_in, c = place.plane % sizes.num_in;
    const int64 index = int64(place.plane) * sizes.image.size() + place.pixel;
    const real value = load(img + index);
    real sum = 0;
    for (int o = 0; o < sizes.num_out; ++o) {
        const int64 plane = (int64(group) * sizes.num_out + o) * sizes.output.size();
        const int of_kernel = group % sizes.groups * sizes.num_out + o;
        const storage* weights = kernel + (int64(of_kernel) * sizes.num_in + c) * NUM_TAPS;
        for (int tap = 0; tap < NUM_TAPS; ++tap) {
            const Volume p = reader_of(sizes, q, tap);
            if (!sizes.output.has(p)) continue;
            const int64 at = plane + sizes.output.at(p);
            const real weight = load(weights + tap);
            const real part = share.of(at, c * NUM_TAPS + tap + 1, value, weight);
            if (part != 0) sum += load(grad_output + at) * part * d_times_d_img(value, weight);
        }
    }
    store(grad_img + index, sum);
}

// grad_kernel holds one sum per chunk and kernel value, [chunks, groups*num_out, num_in, *TAPS].
extern "C" __global__ void __launch_bounds__(THREADS) semifield_backward_kernel(
    const storage* img, const storage* kernel,    // forward inputs
    const INDEX* winners, const storage* output,  // forward outputs, one of them null
    const storage* grad_output,                   // gradient of the output
    double* grad_kernel,                          // gradient of the input
    SIZES, int64 num_images, int64 chunk_size) {
    const Sizes sizes TAKE_SIZES;
    const Share share = {winners, output};
    const int tap = blockIdx.x % NUM_TAPS, c = blockIdx.x / NUM_TAPS % sizes.num_in;
    const int o = blockIdx.x / NUM_TAPS / sizes.num_in;
    const real weight = load(kernel + blockIdx.x);
    const int start = blockIdx.y * int(chunk_size), size = sizes.output.size();
    const int stop = size - start < chunk_size ? size : start + int(chunk_size);
    double sum = 0;
    for (int image = 0; image < num_images; ++image) {
        const int64 group = int64(image) * sizes.groups + o / sizes.num_out;
        const storage* values = img + (group * sizes.num_in + c) * sizes.image.size();
        const int64 plane = (int64(image) * sizes.groups * sizes.num_out + o) * size;
        for (int pixel = start + threadIdx.x; pixel < stop; pixel += THREADS) {
            const Volume q = read_by(sizes, sizes.output.pixel(pixel), tap);
            if (!sizes.image.has(q)) continue;
            const real value = load(values + sizes.image.at(q));
            const real part = share.of(plane + pixel, c * NUM_TAPS + tap + 1, value, weight);
            if (part != 0)
                sum += load(grad_output + plane + pixel) * part * d_times_d_kernel(value, weight);
        }
    }
    __shared__ double sums[THREADS / 32];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < THREADS / 32; ++warp) sum += sums[warp];
        grad_kernel[int64(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
    }
}
