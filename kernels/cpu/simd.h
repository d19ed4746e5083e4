// Vectors by the compilers' own extension, so that one source serves every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#define UNROLL _Pragma("GCC unroll 16")

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

// The value, or zero where the condition is not positive; where the condition is NaN, the value.
template <class T>
inline Vector<T> keep_positive(Vector<T> condition, Vector<T> value) {
    const auto drop = condition <= Vector<T>{};
    return (Vector<T>)(~drop & (decltype(drop))value);
}

template <class T, std::size_t... I>
inline Vector<T> add_neighbours(Vector<T> a, Vector<T> b, std::index_sequence<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, (2 * I)...) +
           __builtin_shufflevector(a, b, (2 * I + 1)...);
#else
    typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Lane;
    typedef Lane Lanes __attribute__((vector_size(VECTOR_BYTES)));
    return __builtin_shuffle(a, b, Lanes{Lane(2 * I)...}) +
           __builtin_shuffle(a, b, Lanes{Lane(2 * I + 1)...});
#endif
}

// sums[i] += sum of the lanes of values[i], for i < wanted; COUNT is a power of two. Pairs of
// vectors are folded into one until each lane holds a whole sum; here a sum is spread over WIDTH
// lanes.
template <class T, int COUNT, int WIDTH = Simd<T>::LANES>
inline void add_lane_sums(const Vector<T> (&values)[COUNT], T* sums, int wanted) {
    constexpr int LANES = Simd<T>::LANES;
    if constexpr (WIDTH == 1) {
        T lanes[COUNT * LANES];
        UNROLL
        for (int i = 0; i < COUNT; ++i) store<T>(lanes + i * LANES, values[i]);
        for (int i = 0; i < wanted; ++i) sums[i] += lanes[i];
    } else {
        constexpr int HALF = (COUNT + 1) / 2;
        Vector<T> folded[HALF];
        UNROLL
        for (int i = 0; i < HALF; ++i)
            folded[i] = add_neighbours<T>(values[2 * i], values[COUNT > 1 ? 2 * i + 1 : 0],
                                          std::make_index_sequence<LANES>{});
        add_lane_sums<T, HALF, WIDTH / 2>(folded, sums, wanted);
    }
}

inline Index round_up(Index value, Index step) {
    return (value + step - 1) / step * step;
}
