// A few threads that live for one call: nothing remains that a fork could break, and no second
// OpenMP runtime competes with that of torch.
#pragma once

#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "simd.h"

class Team {
public:
    int size = 1;

    // Wait until all members are here.
    void barrier() {
        if (size == 1) return;
        const unsigned now = phase.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
            arrived.store(0, std::memory_order_relaxed);
            phase.store(now + 1, std::memory_order_release);
            return;
        }
        wait([&] { return phase.load(std::memory_order_acquire) != now; });
    }

    // Call work(member) on up to `wanted` threads, this one included.
    template <class Work>
    void run(int wanted, const Work& work) {
        std::vector<std::thread> others;
        std::atomic<bool> ready{false};
        try {
            others.reserve(wanted - 1);
            for (int member = 1; member < wanted; ++member)
                others.emplace_back([&, member] {
                    wait([&] { return ready.load(std::memory_order_acquire); });
                    work(member);
                });
        } catch (const std::exception&) {
            // No more threads, or no memory for one: those that have started do all the work.
        }
        size = static_cast<int>(others.size()) + 1;
        ready.store(true, std::memory_order_release);
        work(0);
        for (std::thread& other : others) other.join();
    }

private:
    std::atomic<int> arrived{0};
    std::atomic<unsigned> phase{0};

    template <class Condition>
    static void wait(const Condition& done) {
        for (int spins = 0; !done(); ++spins)
            if (spins > 4000) std::this_thread::yield();
    }
};
