// Vectors by the compilers' own extension, so that one source serves every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

using Index = std::int64_t;

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
constexpr int REGISTERS = 32;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
constexpr int REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16;
constexpr int REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 16;
constexpr int REGISTERS = 16;
#endif

// A register tile: TILE_ROWS x TILE_VECTORS sums. It leaves registers for one row of vectors and
// one broadcast. Two groups of three taps make six rows.
constexpr int TILE_ROWS = 6;
constexpr int TILE_VECTORS = REGISTERS == 32 ? 4 : 2;
// A tile of dot products: three taps times DOT_ROWS channels.
constexpr int DOT_ROWS = REGISTERS == 32 ? 8 : 4;

template <class T>
struct Simd {
    static constexpr int LANES = VECTOR_BYTES / sizeof(T);
    typedef T Vector __attribute__((vector_size(VECTOR_BYTES)));
    typedef T Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <class T>
using Vector = typename Simd<T>::Vector;

template <class T>
inline Vector<T> load(const T* from) {
    return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <class T>
inline void store(T* to, Vector<T> value) {
    *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

// The value, or zero where the condition is not positive; a condition that is not a number keeps it.
template <class T>
inline Vector<T> keep_positive(Vector<T> condition, Vector<T> value) {
    const auto drop = condition <= Vector<T>{};
    return (Vector<T>)(~drop & (decltype(drop))value);
}

template <class T>
inline T lane_sum(Vector<T> value) {
    T lanes[Simd<T>::LANES];
    std::memcpy(lanes, &value, sizeof lanes);
    for (int half = Simd<T>::LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

inline Index round_up(Index value, Index step) { return (value + step - 1) / step * step; }
