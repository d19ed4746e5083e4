// Runs CUDA kernels on the CPU: a block's threads are fibers, blocks run one after another.
//
// Included before a kernel's source, as plain C++17. Strict where a GPU would be undefined: threads
// that end or wait elsewhere while others wait at a barrier are an error, shared memory starts as
// noise for every block, and the order in which threads run can be changed (`Config::order`):
// results that depend on it betray a missing barrier.

#pragma once

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define CPU_SHIM 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__ static const
#define __restrict__ __restrict

// Static shared memory lies together, so that it can be filled with noise. Sanitizers watch only
// what lies in no section of ours.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static __attribute__((section("shim_shared")))
extern "C" __attribute__((weak)) unsigned char __start_shim_shared[];
extern "C" __attribute__((weak)) unsigned char __stop_shim_shared[];
#endif

#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(shim::dynamic_shared())
#define __syncthreads() shim::block_barrier(__LINE__)
#define __syncwarp(...) shim::warp_barrier(shim::mask_of(__VA_ARGS__), __LINE__)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
typedef dim3 uint3;
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };

inline dim3 threadIdx, blockIdx, blockDim, gridDim;
const int warpSize = 32;

namespace shim {

const int WARP = 32;
const int SLOT_BYTES = 64;
const size_t STACK_BYTES = 128 * 1024;

enum State { NEW, READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Thread {
    State state = NEW;
    int line = 0;  // of the barrier where it waits
    int fiber = -1;
};

struct Warp {
    unsigned arrived = 0;
    alignas(16) unsigned char slots[WARP][SLOT_BYTES];
};

// A place in the execution of a stack. Where the processor is known, switching takes nanoseconds;
// elsewhere the system does it, in a microsecond.
#if defined(__x86_64__)

typedef void* Context;

extern "C" void shim_switch(Context* from, Context to);
asm(R"(
    .text
    .weak shim_switch
    .hidden shim_switch
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

inline void switch_context(Context* from, Context* to) { shim_switch(from, *to); }

inline void make_context(Context* context, void* stack, size_t size, void (*entry)()) {
    uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + size) & ~uintptr_t(15);
    void** slots = reinterpret_cast<void**>(top) - 8;  // six registers, entry, its return address
    memset(slots, 0, 8 * sizeof(void*));
    slots[6] = reinterpret_cast<void*>(entry);
    *context = slots;
}

#else

typedef ucontext_t Context;

inline void switch_context(Context* from, Context* to) { swapcontext(from, to); }

inline void make_context(Context* context, void* stack, size_t size, void (*entry)()) {
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = size;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
}

#endif

struct Fiber {
    Context context;
    void* stack = nullptr;
    void* fake_stack = nullptr;
};

struct Config {
    unsigned grid[3];
    unsigned block[3];
    long long shared_bytes;
    int order;  // 0 forward, 1 backward, else shuffled with this seed
};

struct Block {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<int> order;
    size_t next_new = 0;
    int arrived = 0, barrier_line = 0;
    int current = -1;
    void (*body)(void*) = nullptr;
    void* arguments = nullptr;
};

inline Block block;
inline std::vector<Fiber*> fibers;
inline std::vector<int> idle_fibers;
inline int started_fiber;
inline Context main_context;
inline void* main_fake_stack;
inline const void* main_stack;
inline size_t main_stack_size;
inline void* shared_memory;
inline char message[256];

inline void* dynamic_shared() { return shared_memory; }

inline void before_switch(void** fake_stack, const void* stack, size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake_stack, stack, size);
#else
    (void)fake_stack, (void)stack, (void)size;
#endif
}

inline void after_switch(void* fake_stack, const void** stack, size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, stack, size);
#else
    (void)fake_stack, (void)stack, (void)size;
#endif
}

inline void set_thread(int thread) {
    block.current = thread;
    threadIdx.x = thread % blockDim.x;
    threadIdx.y = thread / blockDim.x % blockDim.y;
    threadIdx.z = thread / (blockDim.x * blockDim.y);
}

inline Fiber* current_fiber() { return fibers[block.threads[block.current].fiber]; }

inline void to_main() {
    Fiber* fiber = current_fiber();
    before_switch(&fiber->fake_stack, main_stack, main_stack_size);
    switch_context(&fiber->context, &main_context);
    after_switch(fiber->fake_stack, &main_stack, &main_stack_size);
}

// Give up on the launch; never returns to the thread.
inline void fail(const char* what, int line) {
    if (!message[0]) {
        snprintf(message, sizeof message, "block (%u, %u, %u), thread (%u, %u, %u), line %d: %s",
                 blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, line,
                 what);
    }
    to_main();
}

// A fiber runs new threads one after another until one of them has to wait.
inline void fiber_main() {
    const int index = started_fiber;
    after_switch(nullptr, &main_stack, &main_stack_size);
    while (block.next_new < block.order.size()) {
        const int thread = block.order[block.next_new++];
        set_thread(thread);
        block.threads[thread].fiber = index;
        block.body(block.arguments);
        block.threads[block.current].state = DONE;
    }
    idle_fibers.push_back(index);
    before_switch(nullptr, main_stack, main_stack_size);
    switch_context(&fibers[index]->context, &main_context);
}

inline void resume(Fiber* fiber) {
    before_switch(&main_fake_stack, fiber->stack, STACK_BYTES);
    switch_context(&main_context, &fiber->context);
    after_switch(main_fake_stack, nullptr, nullptr);
}

inline void start_fiber() {
    if (idle_fibers.empty()) {
        Fiber* fiber = new Fiber;
        fiber->stack = malloc(STACK_BYTES);
        idle_fibers.push_back(static_cast<int>(fibers.size()));
        fibers.push_back(fiber);
    }
    const int index = idle_fibers.back();
    idle_fibers.pop_back();
    Fiber* fiber = fibers[index];
    started_fiber = index;
    make_context(&fiber->context, fiber->stack, STACK_BYTES, fiber_main);
    resume(fiber);
}

inline int count(State state) {
    int found = 0;
    for (const Thread& thread : block.threads) found += thread.state == state;
    return found;
}

// Where no thread can continue: the reason, with the line of the barrier.
inline void report_deadlock() {
    for (size_t index = 0; index < block.threads.size(); ++index) {
        const Thread& thread = block.threads[index];
        if (thread.state == AT_BLOCK_BARRIER || thread.state == AT_WARP_BARRIER) {
            set_thread(static_cast<int>(index));
            snprintf(message, sizeof message,
                     "block (%u, %u, %u): thread (%u, %u, %u) waits at a barrier in line %d that "
                     "not all threads reach; %d threads have ended",
                     blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z,
                     thread.line, count(DONE));
            return;
        }
    }
}

inline void run_block() {
    block.next_new = 0;
    block.arrived = 0;
    for (Thread& thread : block.threads) thread = Thread();
    for (Warp& warp : block.warps) warp.arrived = 0;
    while (!message[0]) {
        if (block.next_new < block.order.size()) {
            start_fiber();
            continue;
        }
        bool progress = false;
        for (int thread : block.order) {
            if (block.threads[thread].state != READY || message[0]) continue;
            progress = true;
            set_thread(thread);
            resume(current_fiber());
        }
        if (progress) continue;
        if (count(DONE) < static_cast<int>(block.threads.size())) report_deadlock();
        return;
    }
}

inline void wait(State state, int line) {
    Thread& thread = block.threads[block.current];
    thread.state = state;
    thread.line = line;
    const int index = block.current;
    to_main();
    set_thread(index);
}

inline void block_barrier(int line) {
    if (block.arrived == 0) block.barrier_line = line;
    if (block.barrier_line != line) fail("threads of a block wait at different barriers", line);
    if (++block.arrived < static_cast<int>(block.threads.size())) return wait(AT_BLOCK_BARRIER, line);
    block.arrived = 0;
    for (Thread& thread : block.threads)
        if (thread.state == AT_BLOCK_BARRIER) thread.state = READY;
}

inline unsigned mask_of(unsigned mask = 0xffffffffu) { return mask; }
inline int lane() { return block.current % WARP; }

// Lanes of the current warp that exist.
inline unsigned existing_lanes() {
    const int first = block.current / WARP * WARP;
    const int size = static_cast<int>(block.threads.size()) - first;
    return size >= WARP ? 0xffffffffu : (1u << size) - 1;
}

inline void warp_barrier(unsigned mask, int line) {
    const int first = block.current / WARP * WARP;
    Warp& warp = block.warps[block.current / WARP];
    mask &= existing_lanes();
    if (!(mask >> lane() & 1)) fail("a lane takes part that is not in the mask", line);
    warp.arrived |= 1u << lane();
    if ((warp.arrived & mask) != mask) return wait(AT_WARP_BARRIER, line);
    warp.arrived &= ~mask;
    for (int index = 0; index < WARP; ++index)
        if (mask >> index & 1 && first + index != block.current)
            block.threads[first + index].state = READY;
}

// Show a value to the other lanes of the warp and look at theirs, through `read`.
template <class T, class Read> void exchange(unsigned mask, const T& value, int line, Read read) {
    static_assert(sizeof(T) <= SLOT_BYTES, "a slot is too small");
    auto& slots = block.warps[block.current / WARP].slots;
    memcpy(slots[lane()], &value, sizeof(T));
    warp_barrier(mask, line);
    read(slots);
    warp_barrier(mask, line);
}

template <class T> T shuffle(unsigned mask, T value, int source, int line) {
    T result = value;
    exchange(mask, value, line, [&](auto& slots) {
        if (source < 0 || source >= WARP) return;
        if (!((mask & existing_lanes()) >> source & 1)) fail("a lane reads one not in the mask", line);
        memcpy(&result, slots[source], sizeof(T));
    });
    return result;
}

inline unsigned ballot(unsigned mask, bool predicate, int line) {
    unsigned votes = 0;
    exchange(mask, predicate, line, [&](auto& slots) {
        for (int index = 0; index < WARP; ++index)
            if ((mask & existing_lanes()) >> index & 1 && slots[index][0]) votes |= 1u << index;
    });
    return votes;
}

inline void fill_with_noise() {
#if !defined(__SANITIZE_ADDRESS__)
    if (__start_shim_shared)
        memset(__start_shim_shared, 0xff, __stop_shim_shared - __start_shim_shared);
#endif
}

inline void make_order(int order) {
    const size_t size = block.threads.size();
    block.order.resize(size);
    for (size_t index = 0; index < size; ++index)
        block.order[index] = static_cast<int>(order == 1 ? size - 1 - index : index);
    if (order < 2) return;
    unsigned state = static_cast<unsigned>(order);
    for (size_t index = size; index > 1; --index) {
        state = state * 1664525u + 1013904223u;
        std::swap(block.order[index - 1], block.order[(state >> 8) % index]);
    }
}

// An argument as Python passes it: a pointer to elements of `size` bytes, an integer or a real.
struct Argument {
    char kind;
    int size;
    union {
        void* pointer;
        long long integer;
        double floating;
    };
};

template <class T> bool fits(const Argument& argument) {
    if constexpr (std::is_pointer_v<T>)
        return argument.kind == 'p' &&
               (argument.size == 0 || argument.size == sizeof(std::remove_pointer_t<T>));
    else if constexpr (std::is_same_v<T, long long>)
        return argument.kind == 'i';
    else
        return std::is_same_v<T, double> && argument.kind == 'd';
}

template <class T> T value_of(const Argument& argument) {
    if constexpr (std::is_pointer_v<T>)
        return static_cast<T>(argument.pointer);
    else if constexpr (std::is_same_v<T, double>)
        return argument.floating;
    else
        return static_cast<T>(argument.integer);
}

template <class... Types, size_t... Index>
bool all_fit(const Argument* arguments, std::index_sequence<Index...>) {
    bool fit[] = {true, fits<Types>(arguments[Index])...};
    for (size_t index = 1; index < sizeof fit; ++index) {
        if (fit[index]) continue;
        snprintf(message, sizeof message, "argument %zu has another type than the kernel's parameter",
                 index - 1);
        return false;
    }
    return true;
}

template <class... Types, size_t... Index>
void run_grid(void (*kernel)(Types...), const Argument* arguments, std::index_sequence<Index...>) {
    auto body = [&] { kernel(value_of<Types>(arguments[Index])...); };
    block.body = [](void* self) { (*static_cast<decltype(body)*>(self))(); };
    block.arguments = &body;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x && !message[0]; ++blockIdx.x) {
                fill_with_noise();
                run_block();
            }
}

// Run a kernel on a grid; null, or what went wrong.
template <class... Types>
const char* launch(void (*kernel)(Types...), const Config& config, const Argument* arguments,
                   int num_arguments) {
    message[0] = 0;
    if (num_arguments != static_cast<int>(sizeof...(Types))) {
        snprintf(message, sizeof message, "got %d arguments; the kernel has %zu parameters",
                 num_arguments, sizeof...(Types));
        return message;
    }
    constexpr auto indices = std::index_sequence_for<Types...>();
    if (!all_fit<Types...>(arguments, indices)) return message;
    gridDim = {config.grid[0], config.grid[1], config.grid[2]};
    blockDim = {config.block[0], config.block[1], config.block[2]};
    const size_t size = static_cast<size_t>(blockDim.x) * blockDim.y * blockDim.z;
    block.threads.assign(size, Thread());
    block.warps.resize((size + WARP - 1) / WARP);
    make_order(config.order);
    idle_fibers.clear();
    for (size_t index = 0; index < fibers.size(); ++index)
        idle_fibers.push_back(static_cast<int>(index));
    shared_memory = malloc(static_cast<size_t>(config.shared_bytes));
    memset(shared_memory, 0xff, static_cast<size_t>(config.shared_bytes));
    run_grid(kernel, arguments, indices);
    free(shared_memory);
    return message[0] ? message : nullptr;
}

}  // namespace shim

#define __shfl_sync(mask, value, source) shim::shuffle(mask, value, source, __LINE__)
#define __shfl_xor_sync(mask, value, step) shim::shuffle(mask, value, shim::lane() ^ (step), __LINE__)
#define __shfl_down_sync(mask, value, step) shim::shuffle(mask, value, shim::lane() + (step), __LINE__)
#define __shfl_up_sync(mask, value, step) shim::shuffle(mask, value, shim::lane() - (step), __LINE__)
#define __ballot_sync(mask, predicate) shim::ballot(mask, predicate, __LINE__)
#define __any_sync(mask, predicate) (shim::ballot(mask, predicate, __LINE__) != 0)
#define __all_sync(mask, predicate) (shim::ballot(mask, !(predicate), __LINE__) == 0)

template <class To, class From> To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}
inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
inline float __int_as_float(int bits) { return bits_as<float>(bits); }
inline unsigned __float_as_uint(float value) { return bits_as<unsigned>(value); }
inline int __float_as_int(float value) { return bits_as<int>(value); }
inline double __longlong_as_double(long long bits) { return bits_as<double>(bits); }
template <class T> T atomicAdd(T* address, T value) {
    const T before = *address;
    *address = before + value;
    return before;
}
template <class T> T __ldg(const T* address) { return *address; }
template <class T> T min(T left, T right) { return right < left ? right : left; }
template <class T> T max(T left, T right) { return left < right ? right : left; }

inline float half_bits_to_float(unsigned short bits) {
    return static_cast<float>(bits_as<_Float16>(bits));
}
inline unsigned short float_to_half_bits(float value) {
    return bits_as<unsigned short>(static_cast<_Float16>(value));
}

// Four bytes of the eight of both values, one for each hexadecimal digit of the selector.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i)
        result |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}

inline unsigned tf32_bits(float value) {
    return value != value ? 0x7fffffffu : (bits_as<unsigned>(value) + 0x1000u) & ~0x1fffu;
}

namespace shim {

struct Registers { unsigned a[4], b[2]; };

// C [16, 8] += A [16, depth] B [depth, 8] as mma.sync does it; `Element` reads one from a register.
template <int depth, class Element>
void multiply(float* c, const unsigned* a, const unsigned* b, int line) {
    Registers own;
    memcpy(own.a, a, sizeof own.a);
    memcpy(own.b, b, sizeof own.b);
    const int half = depth / 2, per_lane = half / 4;
    exchange(0xffffffffu, own, line, [&](auto& slots) {
        const Registers* lanes[WARP];
        for (int i = 0; i < WARP; ++i) lanes[i] = reinterpret_cast<const Registers*>(slots[i]);
        for (int i = 0; i < 4; ++i) {
            const int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
            float sum = c[i];
            for (int k = 0; k < depth; ++k) {
                const int number = k % half / per_lane;
                sum += Element::read(lanes[row % 8 * 4 + number]->a[k / half * 2 + row / 8],
                                     k % per_lane) *
                       Element::read(lanes[column * 4 + number]->b[k / half], k % per_lane);
            }
            c[i] = sum;
        }
    });
}

struct Tf32 {
    static float read(unsigned bits, int) { return bits_as<float>(bits & ~0x1fffu); }
};
struct Float16 {
    static float read(unsigned bits, int number) {
        return half_bits_to_float(static_cast<unsigned short>(bits >> 16 * number));
    }
};
struct Bfloat16 {
    static float read(unsigned bits, int number) {
        return bits_as<float>(bits >> 16 * number << 16);
    }
};

}  // namespace shim

#define mma_tf32(c, a, b) shim::multiply<8, shim::Tf32>(c, a, b, __LINE__)
#define mma_float16(c, a, b) shim::multiply<16, shim::Float16>(c, a, b, __LINE__)
#define mma_bfloat16(c, a, b) shim::multiply<16, shim::Bfloat16>(c, a, b, __LINE__)
