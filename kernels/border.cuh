// The border rule rho and its adjoint, along one axis of `size` pixels.
//
// SYMMETRIC maps -1 -> 0 and size -> size - 1, REFLECT -1 -> 1 and size -> size - 2; beyond the
// border of ZEROS lie zeros. No position lies further out than one mirror image. The numbers are
// those of msdtool/border.py; of a rule that mirrors, the pixels at the edge that are not repeated.

enum Rule { SYMMETRIC = 0, REFLECT = 1, ZEROS = 2 };
const int NOWHERE = -(1 << 30);

// What a position and its mirror image at the lower or the upper border add up to. Not for ZEROS.
// Macros, as kernels take more registers with functions.
#define LOW_SUM(rule) ((rule) - 1)
#define HIGH_SUM(size, rule) (2 * (size) - 1 - (rule))

// The pixel that a position stands for; NOWHERE if it is a zero.
__device__ __forceinline__ int border(int position, int size, int rule) {
    if (position >= 0 && position < size) return position;
    if (rule == ZEROS) return NOWHERE;
    return position < 0 ? LOW_SUM(rule) - position : HIGH_SUM(size, rule) - position;
}

// The positions that stand for a pixel: itself (number 0) and its mirror images (1 and 2);
// NOWHERE if there is none.
__device__ __forceinline__ int preimage(int pixel, int number, int size, int rule) {
    if (number == 0) return pixel;
    if (rule == ZEROS) return NOWHERE;
    const int position = number == 1 ? LOW_SUM(rule) - pixel : HIGH_SUM(size, rule) - pixel;
    return position < 0 || position >= size ? position : NOWHERE;
}

// How many preimages have to be looked at if no tap reaches further than `reach`.
__device__ __forceinline__ int num_preimages(int pixel, int size, int reach) {
    return pixel <= reach || pixel >= size - 1 - reach ? 3 : 1;
}
