// What the kernels for tensor cores share (front.cu, back.cu, pack.cu): terms of a product, the order
// of weights, loads.
//
// The product of a block of layers has 72 columns, or as many rows: the taps of 8 outputs, ordered
// [row of taps][output][column of taps]. 16 bytes of packed weights are a lane's part of two tiles.
//
// TERMS 1: one product; float32 is cut to TF32. TERMS 3: float32 is the sum of two TF32, and of four
// products all but the smallest are added; what is infinite makes NaN.

#ifndef TERMS
#define TERMS 1
#endif

#include "mma.cuh"

const int OUTPUTS = 8;
const int TAPS = 9 * OUTPUTS;
const int WIDTH = 128;  // columns that a block multiplies
const int THREADS = 256;
const int TILES = TAPS / 8, TILE_PAIRS = 5;
const int PARTS = TERMS == 3 ? 2 : 1;  // of a weight
const int FRAGMENTS = TILE_PAIRS * 32;  // of 16 bytes: the taps of a step of channels, forward
const bool NARROW = sizeof(storage) == 2;

struct alignas(8) Pair { unsigned bits[2]; };
struct alignas(16) Four { unsigned bits[4]; };

// Pixels are read once by a block, weights by all of its warps.
#ifdef CPU_SHIM
template <class T> __device__ __forceinline__ T held(T value) { return value; }
template <class T> __device__ __forceinline__ Pair stream_pair(const T* at) {
    return *reinterpret_cast<const Pair*>(at);
}
template <class T> __device__ __forceinline__ unsigned stream_word(const T* at) {
    return *reinterpret_cast<const unsigned*>(at);
}
template <class T> __device__ __forceinline__ Four stream_four(const T* at) {
    return *reinterpret_cast<const Four*>(at);
}
__device__ __forceinline__ Four cached(const Four* at) { return *at; }
#else
// A value that the compiler keeps in registers instead of computing it again in each turn of a loop.
__device__ __forceinline__ int64 held(int64 value) {
    asm("" : "+l"(value));
    return value;
}
template <class T> __device__ __forceinline__ T* held(T* address) {  // in global memory
    size_t global = __cvta_generic_to_global(address);
    asm("" : "+l"(global));
    return static_cast<T*>(__cvta_global_to_generic(global));
}
__device__ __forceinline__ unsigned held(unsigned value) {
    asm volatile("" : "+r"(value));
    return value;
}
template <class T> __device__ __forceinline__ Pair stream_pair(const T* at) {
    Pair pair;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
                 : "=r"(pair.bits[0]), "=r"(pair.bits[1]) : "l"(at));
    return pair;
}
template <class T> __device__ __forceinline__ unsigned stream_word(const T* at) {
    unsigned word;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(word) : "l"(at));
    return word;
}
template <class T> __device__ __forceinline__ Four stream_four(const T* at) {
    Four four;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(four.bits[0]), "=r"(four.bits[1]), "=r"(four.bits[2]), "=r"(four.bits[3]) : "l"(at));
    return four;
}
__device__ __forceinline__ Four cached(const Four* at) {
    Four four;
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(four.bits[0]), "=r"(four.bits[1]), "=r"(four.bits[2]), "=r"(four.bits[3]) : "l"(at));
    return four;
}
#endif

// The part of a float that TF32 cuts off, rounded to the nearest but for what has no place.
__device__ __forceinline__ unsigned rest_bits(unsigned value, unsigned cut) {
    return __float_as_uint(__uint_as_float(value) - __uint_as_float(cut)) + 0x1000u;
}
