// Convolutions with dilation under a border rule: forward, backward to the input, backward to
// weight and bias. Plain: one thread per pixel, one load per multiplication. The faster kernels are
// checked against it, and it computes the few channels inside a block of layers.
//
//     output_o(x) = bias_o + sum_{c, t} weight_{o,c,t} input_c(rho(stride * x + dilation * t))
//
// Shapes: input [B, C_in, *space], weight [C_out, C_in, K^n] with its taps contiguous, output and
// its gradient [B, C_out, *out_space], all but the weight with any strides. Space is D, H, W; in 2D,
// D is 1 and has no taps. Gradients are `real`: float for 16-bit storage.
//
// LIMITS: fewer than 2^31 pixels along any axis and per launch; any number of channels.

#ifndef NDIM
#define NDIM 2
#endif
#ifndef KERNEL_SIZE
#define KERNEL_SIZE 3
#endif

#include "common.cuh"
#include "border.cuh"

const int K = KERNEL_SIZE;
const int KZ = NDIM == 3 ? K : 1;
const int TAPS = KZ * K * K;
const int THREADS = 256;
const int WARPS = THREADS / 32;
const int TILE = 8;  // input channels per thread in backward_input

struct Pixel {
    int64 batch;
    int z, y, x;
};

__device__ __forceinline__ Pixel pixel_of(unsigned index, int64 depth, int64 height, int64 width) {
    const unsigned d = depth, h = height, w = width;
    const unsigned row = index / w, slice = row / h;
    return {slice / d, static_cast<int>(slice % d), static_cast<int>(row % h),
            static_cast<int>(index % w)};
}

// Offsets of the K taps of an axis around a pixel, in elements; negative for zeros.
template <int NUM_TAPS>
__device__ __forceinline__ void tap_offsets(
    int64* offsets, int64 centre, int64 dilation, int64 size, int64 rule, int64 step) {
#pragma unroll
    for (int tap = 0; tap < NUM_TAPS; ++tap) {
        const int position = static_cast<int>(centre + dilation * (tap - NUM_TAPS / 2));
        const int source = border(position, static_cast<int>(size), static_cast<int>(rule));
        offsets[tap] = source < 0 ? -1 : source * step;
    }
}

// grid: pixels of the output / THREADS, C_out.
extern "C" __global__ void __launch_bounds__(THREADS) convolution_forward(
    // inputs
    const storage* input, int64 input_b, int64 input_c, int64 input_z, int64 input_y, int64 input_x,
    const storage* weight, int64 weight_o, int64 weight_c,
    const storage* bias,  // [C_out], or null to add to what the output holds
    // output
    storage* output, int64 output_b, int64 output_c, int64 output_z, int64 output_y, int64 output_x,
    // sizes
    int64 batch, int64 c_in, int64 c_out, int64 depth, int64 height, int64 width,
    int64 out_depth, int64 out_height, int64 out_width,
    int64 stride, int64 dilation, int64 rule, int64 relu) {
    const unsigned index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= batch * out_depth * out_height * out_width) return;
    const Pixel at = pixel_of(index, out_depth, out_height, out_width);
    int64 offset_z[KZ], offset_y[K], offset_x[K];
    tap_offsets<KZ>(offset_z, NDIM == 3 ? stride * at.z : 0, dilation, depth, rule, input_z);
    tap_offsets<K>(offset_y, stride * at.y, dilation, height, rule, input_y);
    tap_offsets<K>(offset_x, stride * at.x, dilation, width, rule, input_x);
    output += at.batch * output_b + at.z * output_z + at.y * output_y + at.x * output_x;
    input += at.batch * input_b;
    for (int64 o = blockIdx.y; o < c_out; o += gridDim.y) {
        real sum = bias ? load(bias + o) : load(output + o * output_c);
#pragma unroll 1
        for (int64 c = 0; c < c_in; ++c) {
            const storage* plane = input + c * input_c;
            const storage* taps = weight + o * weight_o + c * weight_c;
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                const int64 z = offset_z[tap / (K * K)], y = offset_y[tap / K % K];
                const int64 x = offset_x[tap % K];
                if (z >= 0 && y >= 0 && x >= 0) sum += load(taps + tap) * load(plane + z + y + x);
            }
        }
        store(output + o * output_c, relu && sum < 0 ? real(0) : sum);
    }
}

// Gradient before the ReLU at one pixel; `output` is null if there was no ReLU. Where the output is
// NaN the gradient passes, as in torch.
__device__ __forceinline__ real masked(
    const real* grad_output, int64 offset, const storage* output, int64 output_offset) {
    const real grad = grad_output[offset];
    return output && load(output + output_offset) <= 0 ? real(0) : grad;
}

// The output pixel that reads `position` on an axis through a tap, or -1.
__device__ __forceinline__ int reader(
    int position, int tap, int dilation, unsigned stride, int64 out_size) {
    const int scaled = position - dilation * tap;
    if (scaled < 0 || scaled % stride != 0) return -1;
    const int pixel = static_cast<int>(scaled / stride);
    return pixel < out_size ? pixel : -1;
}

// Adds to grad_input; grid: pixels of the input / THREADS, C_in / TILE.
extern "C" __global__ void __launch_bounds__(THREADS) convolution_backward_input(
    // forward inputs and output
    const storage* weight, int64 weight_o, int64 weight_c,
    const storage* output, int64 output_b, int64 output_c, int64 output_z, int64 output_y,
    int64 output_x,
    // gradient of the output
    const real* grad_output, int64 grad_b, int64 grad_c, int64 grad_z, int64 grad_y, int64 grad_x,
    // gradient of the input
    real* grad_input, int64 input_b, int64 input_c, int64 input_z, int64 input_y, int64 input_x,
    // sizes
    int64 batch, int64 c_in, int64 c_out, int64 depth, int64 height, int64 width,
    int64 out_depth, int64 out_height, int64 out_width, int64 stride, int64 dilation, int64 rule) {
    const unsigned index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= batch * depth * height * width) return;
    const Pixel at = pixel_of(index, depth, height, width);
    const int step = static_cast<int>(dilation), reach = step * (K / 2);
    const int rho = static_cast<int>(rule);
    const unsigned out_step = static_cast<unsigned>(stride), out_step_z = NDIM == 3 ? out_step : 1;
    const int d = static_cast<int>(depth), h = static_cast<int>(height), w = static_cast<int>(width);
    const int num_z = NDIM == 3 ? num_preimages(at.z, d, reach) : 1;
    const int num_y = num_preimages(at.y, h, reach), num_x = num_preimages(at.x, w, reach);
    output += at.batch * output_b;
    grad_output += at.batch * grad_b;
    grad_input += at.batch * input_b + at.z * input_z + at.y * input_y + at.x * input_x;
    for (int64 first = static_cast<int64>(blockIdx.y) * TILE; first < c_in;
         first += static_cast<int64>(gridDim.y) * TILE) {
        real sums[TILE] = {};
#pragma unroll 1
        for (int tap = 0; tap < TAPS; ++tap) {
            const int tap_z = tap / (K * K) - KZ / 2, tap_y = tap / K % K - K / 2;
            const int tap_x = tap % K - K / 2;
            for (int image = 0; image < num_z * num_y * num_x; ++image) {
                const int z = reader(preimage(at.z, image / (num_y * num_x), d, rho), tap_z, step,
                                     out_step_z, out_depth);
                const int y = reader(preimage(at.y, image / num_x % num_y, h, rho), tap_y, step,
                                     out_step, out_height);
                const int x = reader(preimage(at.x, image % num_x, w, rho), tap_x, step, out_step,
                                     out_width);
                if (z < 0 || y < 0 || x < 0) continue;
                const int64 grad_at = z * grad_z + y * grad_y + x * grad_x;
                const int64 output_at = z * output_z + y * output_y + x * output_x;
#pragma unroll 1
                for (int64 o = 0; o < c_out; ++o) {
                    const real delta = masked(grad_output, o * grad_c + grad_at,
                                              output, o * output_c + output_at);
#pragma unroll
                    for (int c = 0; c < TILE; ++c)
                        if (first + c < c_in)
                            sums[c] += load(weight + o * weight_o + (first + c) * weight_c + tap) * delta;
                }
            }
        }
#pragma unroll
        for (int c = 0; c < TILE; ++c)
            if (first + c < c_in) grad_input[(first + c) * input_c] += sums[c];
    }
}

// Sums over chunks of pixels, [chunks, C_out, C_in, TAPS + 1]; the last of each row is for the bias.
// Added up in order afterwards, so that two runs agree. grid: chunks, C_out * C_in.
extern "C" __global__ void __launch_bounds__(THREADS) convolution_backward_weight(
    // forward input and output
    const storage* input, int64 input_b, int64 input_c, int64 input_z, int64 input_y, int64 input_x,
    const storage* output, int64 output_b, int64 output_c, int64 output_z, int64 output_y,
    int64 output_x,
    // gradient of the output
    const real* grad_output, int64 grad_b, int64 grad_c, int64 grad_z, int64 grad_y, int64 grad_x,
    // gradients of weight and bias
    real* partial_sums,
    // sizes
    int64 batch, int64 c_in, int64 c_out, int64 depth, int64 height, int64 width,
    int64 out_depth, int64 out_height, int64 out_width, int64 stride, int64 dilation, int64 rule) {
    __shared__ real warp_sums[WARPS][TAPS + 1];
    const unsigned num_pixels = batch * out_depth * out_height * out_width;
    const unsigned chunk = (num_pixels + gridDim.x - 1) / gridDim.x, first = blockIdx.x * chunk;
    const unsigned stop = min(first + chunk, num_pixels), num_sources = c_in;
    for (unsigned pair = blockIdx.y; pair < c_out * c_in; pair += gridDim.y) {
        const int64 o = pair / num_sources, c = pair % num_sources;
        real sums[TAPS + 1] = {};
#pragma unroll 1
        for (unsigned index = first + threadIdx.x; index < stop; index += THREADS) {
            const Pixel at = pixel_of(index, out_depth, out_height, out_width);
            const real delta = masked(
                grad_output,
                at.batch * grad_b + o * grad_c + at.z * grad_z + at.y * grad_y + at.x * grad_x, output,
                at.batch * output_b + o * output_c + at.z * output_z + at.y * output_y +
                    at.x * output_x);
            int64 offset_z[KZ], offset_y[K], offset_x[K];
            tap_offsets<KZ>(offset_z, NDIM == 3 ? stride * at.z : 0, dilation, depth, rule, input_z);
            tap_offsets<K>(offset_y, stride * at.y, dilation, height, rule, input_y);
            tap_offsets<K>(offset_x, stride * at.x, dilation, width, rule, input_x);
            const storage* plane = input + at.batch * input_b + c * input_c;
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                const int64 z = offset_z[tap / (K * K)], y = offset_y[tap / K % K];
                const int64 x = offset_x[tap % K];
                if (z >= 0 && y >= 0 && x >= 0) sums[tap] += delta * load(plane + z + y + x);
            }
            sums[TAPS] += delta;
        }
#pragma unroll
        for (int tap = 0; tap <= TAPS; ++tap) {
            const real sum = warp_sum(sums[tap]);
            if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32][tap] = sum;
        }
        __syncthreads();
        for (int tap = threadIdx.x; tap <= TAPS; tap += THREADS) {
            real sum = 0;
            for (int warp = 0; warp < WARPS; ++warp) sum += warp_sums[warp][tap];
            partial_sums[(int64(blockIdx.x) * c_out * c_in + pair) * (TAPS + 1) + tap] = sum;
        }
        __syncthreads();
    }
}
