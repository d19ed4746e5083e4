// An MSD network as one writes it first, to compare the other kernels with (msdtool/bench/naive.py):
// one kernel per layer for each of forward, backward to the input and backward to the weights.
//
// One thread per pixel and one load per multiplication; a layer's weights in shared memory; the
// gradients of the weights by a reduction in each warp and atomic additions, so that two runs may
// differ in the last bits.
//
// Shapes: buffer and grads [C, height, width], of which a layer reads the first `channels`; weight
// [channels, 9]; delta, the gradient before the ReLU, [height, width]. grid: pixels / block.
//
// LIMITS: 2D, symmetric border rule, float32, width 1, one image.

#include "common.cuh"
#include "border.cuh"

__device__ void load_weights(float* shared, const float* weight, int64 channels) {
    for (int64 i = threadIdx.x; i < channels * 9; i += blockDim.x) shared[i] = weight[i];
    __syncthreads();
}

extern "C" __global__ void naive_forward(
    const float* buffer, const float* weight, const float* bias, float* output,
    int64 channels, int64 height, int64 width, int64 dilation) {
    DYNAMIC_SHARED(float, weights);
    load_weights(weights, weight, channels);
    const int64 index = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= height * width) return;
    const int y = index / width, x = index % width;
    float sum = bias[0];
    for (int64 c = 0; c < channels; ++c)
        for (int tap = 0; tap < 9; ++tap) {
            const int row = border(y + dilation * (tap / 3 - 1), height, SYMMETRIC);
            const int column = border(x + dilation * (tap % 3 - 1), width, SYMMETRIC);
            sum += weights[c * 9 + tap] * buffer[(c * height + row) * width + column];
        }
    output[index] = sum < 0 ? 0 : sum;
}

extern "C" __global__ void naive_backward_input(
    const float* weight, const float* delta, float* grads,
    int64 channels, int64 height, int64 width, int64 dilation) {
    DYNAMIC_SHARED(float, weights);
    load_weights(weights, weight, channels);
    const int64 index = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= height * width) return;
    const int y = index / width, x = index % width;
    const int rows = num_preimages(y, height, dilation);
    const int columns = num_preimages(x, width, dilation);
    for (int64 c = 0; c < channels; ++c) {
        float sum = 0;
        for (int tap = 0; tap < 9; ++tap)
            for (int image = 0; image < rows * columns; ++image) {
                const int row = preimage(y, image / columns, height, SYMMETRIC) -
                                dilation * (tap / 3 - 1);
                const int column = preimage(x, image % columns, width, SYMMETRIC) -
                                   dilation * (tap % 3 - 1);
                if (row >= 0 && row < height && column >= 0 && column < width)
                    sum += weights[c * 9 + tap] * delta[row * width + column];
            }
        grads[c * height * width + index] += sum;
    }
}

extern "C" __global__ void naive_backward_weight(
    const float* buffer, const float* delta, float* grad_weight,
    int64 channels, int64 height, int64 width, int64 dilation) {
    const int64 index = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const bool inside = index < height * width;
    const int y = inside ? index / width : 0, x = inside ? index % width : 0;
    const float factor = inside ? delta[index] : 0;
    for (int64 c = 0; c < channels; ++c)
        for (int tap = 0; tap < 9; ++tap) {
            const int row = border(y + dilation * (tap / 3 - 1), height, SYMMETRIC);
            const int column = border(x + dilation * (tap % 3 - 1), width, SYMMETRIC);
            const float sum = warp_sum(factor * buffer[(c * height + row) * width + column]);
            if (threadIdx.x % 32 == 0) atomicAdd(grad_weight + c * 9 + tap, sum);
        }
}
