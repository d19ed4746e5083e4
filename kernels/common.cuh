// Shared by the kernels: storage types, shared memory, warp sums.
//
// Tensors are stored as STORAGE, one of float32, float64, float16, bfloat16 (torch's names), and
// computed as `real`: double for float64, float for the others. Integer parameters of a kernel are
// `long long`, floating-point ones `double`: that is what msdtool/ops/cuda/launcher.py passes.
//
// No header of the toolkit is needed: the 16-bit types are converted here.

#ifndef STORAGE
#define STORAGE float32
#endif

typedef long long int64;

// Where the kernels run on a CPU for testing, the shim defines CPU_SHIM and replaces what follows.
#ifndef CPU_SHIM

// Dynamic shared memory of a block, as an array of `type`.
#define DYNAMIC_SHARED(type, name)                              \
    extern __shared__ __align__(16) unsigned char shared_bytes[]; \
    type* const name = reinterpret_cast<type*>(shared_bytes)

__device__ __forceinline__ float half_bits_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

#endif

typedef float float32;
typedef double float64;
struct float16 { unsigned short bits; };
struct bfloat16 { unsigned short bits; };

typedef STORAGE storage;

template <class T> struct RealOf { typedef float type; };
template <> struct RealOf<float64> { typedef double type; };
typedef RealOf<storage>::type real;

__device__ __forceinline__ float to_real(float32 value) { return value; }
__device__ __forceinline__ double to_real(float64 value) { return value; }
__device__ __forceinline__ float to_real(float16 value) { return half_bits_to_float(value.bits); }
__device__ __forceinline__ float to_real(bfloat16 value) {
    return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

// Rounded to the nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ bfloat16 to_bfloat16(float value) {
    const unsigned bits = __float_as_uint(value);
    const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return {static_cast<unsigned short>(value != value ? 0x7fffu : rounded >> 16)};
}

template <class T> __device__ __forceinline__ T from_real(real value);
template <> __device__ __forceinline__ float32 from_real<float32>(real value) {
    return static_cast<float>(value);
}
template <> __device__ __forceinline__ float64 from_real<float64>(real value) { return value; }
template <> __device__ __forceinline__ float16 from_real<float16>(real value) {
    return {float_to_half_bits(static_cast<float>(value))};
}
template <> __device__ __forceinline__ bfloat16 from_real<bfloat16>(real value) {
    return to_bfloat16(static_cast<float>(value));
}

__device__ __forceinline__ real load(const storage* address) { return to_real(*address); }
__device__ __forceinline__ void store(storage* address, real value) {
    *address = from_real<storage>(value);
}

// The element some bytes after another. An offset of 32 bits is cheap to keep, one for each tap, and to
// add to the address of a plane; NONE stands for the offset of no pixel.
const unsigned NONE = 0xffffffffu;
template <class T> __device__ __forceinline__ const T* after(const T* address, unsigned bytes) {
    return reinterpret_cast<const T*>(reinterpret_cast<const char*>(address) + bytes);
}

const unsigned ALL_LANES = 0xffffffffu;

// Sum over the lanes of a warp, in a fixed order; every lane receives it.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
}
