// Products of small matrices on the tensor cores, one per warp: C [16, 8] += A [16, K] B [K, 8],
// K = 8 for TF32 and 16 for the 16-bit types. Each lane holds some elements (PTX ISA, "Matrix
// fragments for mma.m16n8k8 / m16n8k16"):
//   C: c0, c1 row lane / 4, columns lane % 4 * 2 and + 1; c2, c3 the same in row + 8;
//   A: a0, a2 row lane / 4, a1, a3 row + 8; a0, a1 in the first half of the columns, at lane % 4
//      (16 bits: the pair at lane % 4 * 2), a2, a3 in the second half;
//   B: b0 in the first half of the rows, b1 in the second, at lane % 4 as in A; column lane / 4.
// They need compute capability 8.0.

#if !defined(CPU_SHIM)

// Rounded to the nearest TF32, ties away from zero.
__device__ __forceinline__ unsigned tf32_bits(float value) {
#if __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
#else
    return __float_as_uint(value);
#endif
}

#if __CUDA_ARCH__ >= 800
#define MMA(name, shape)                                                              \
    __device__ __forceinline__ void name(float* c, const unsigned* a, const unsigned* b) { \
        asm volatile("mma.sync.aligned." shape                                        \
            " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"        \
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                          \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));      \
    }
#else
#define MMA(name, shape) \
    __device__ __forceinline__ void name(float*, const unsigned*, const unsigned*) { __trap(); }
#endif

MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
MMA(mma_float16, "m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_bfloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")

#endif
