// The rings in which front.cu adds up the sums of its outputs, in shared memory: of an output the rows
// from a dilation above to a dilation below the two rows of a pass.

const int ROWS = 2;  // of a pass

__device__ __forceinline__ bool inside(int row, int rows) {
    return static_cast<unsigned>(row) < static_cast<unsigned>(rows);
}

// An offset in a ring some way on, which is less than once around.
__device__ __forceinline__ int turned(int place, int way, int size) {
    const unsigned there = place + way;
    return min(there, there - static_cast<unsigned>(size));  // what is below 0 is large
}

__device__ __forceinline__ float& at(float* address, int bytes) {
    return *reinterpret_cast<float*>(reinterpret_cast<char*>(address) + bytes);
}

// What all threads need of an output for the two rows of a pass: its dilation, and where in its ring the
// sums of that row lie, and of those a dilation above and below, in bytes; -1 if they are none of the
// band. Last, where the sums go that are complete now.
struct alignas(16) Output {
    int dilation;
    float bias;
    int here[ROWS], below[ROWS], above[ROWS];
    int64 targets[ROWS];
};

// An output's ring, in bytes; one thread turns it. `place` is that of the row `passed`.
struct Ring {
    int start, size, way, place;
    int64 targets;  // from the sums to the first column and row; -1 if the output has no slice here

    __device__ __forceinline__ void tell(Output& output, int passed, int rows, int columns, int64 pitch) {
        const int s = output.dilation / 4;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const int row = passed + r;
            output.here[r] = inside(row, rows) ? start + place : -1;
            output.below[r] = inside(row + s, rows) ? start + turned(place, way, size) : -1;
            const bool complete = targets >= 0 && inside(row - s, rows);
            output.above[r] = complete ? start + turned(place, size - way, size) : -1;
            output.targets[r] = targets + (complete ? row - s : 0) * pitch;
            place = turned(place, 4 * columns, size);
        }
    }
};
