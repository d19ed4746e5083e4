// The weights of all layers in the order in which the lanes of front.cu or back.cu load them
// (msdtool/ops/cuda/fragments.py), as PACKED: their own type, or float32. And their gradients out of the
// order in which back.cu leaves them.

#include "common.cuh"
#include "tiles.cuh"

#ifndef PACKED
#define PACKED STORAGE
#endif

typedef PACKED packed_type;

// What a product takes of a weight: as TF32 its value, or what that leaves out.
__device__ __forceinline__ float32 part_of(float32 value, bool second, float32*) {
    const float cut = __uint_as_float(tf32_bits(value));
    return second ? __uint_as_float(tf32_bits(value - cut)) : cut;
}
template <class T> __device__ __forceinline__ T part_of(T value, bool, T*) { return value; }
template <class T> __device__ __forceinline__ float32 part_of(T value, bool, float32*) {
    return to_real(value);  // 16 bits have a place in TF32
}

// `places` says where each lies in `weights`, those of all layers one after another; -1 is a zero. Of two
// parts, each is `part_size` long. grid: count / THREADS.
extern "C" __global__ void __launch_bounds__(THREADS) pack(
    const storage* weights, const int* places, packed_type* packed, int64 count,
    int64 part_size) {
    const int64 i = int64(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= count) return;
    const storage value = places[i] < 0 ? from_real<storage>(0) : weights[places[i]];
    packed_type* const type = nullptr;
    packed[i] = part_of(value, i / part_size % PARTS == 1, type);
}

// Adds up the parts of the gradients of all weights, in their order. `places` says which weight, of those
// of all layers one after another, each number is the gradient of; -1 of none. grid: part_size / THREADS.
extern "C" __global__ void __launch_bounds__(THREADS) unpack(
    const float* parts, int64 part_size, int64 num_parts, const int* places, float* gradients) {
    const int64 i = int64(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= part_size || places[i] < 0) return;
    float sum = 0;
#pragma unroll 8
    for (int part = 0; part < num_parts; ++part) sum += parts[part * part_size + i];
    gradients[places[i]] += sum;
}
