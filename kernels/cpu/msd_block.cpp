// An MSD block and its final layer on the CPU: plain C functions over the buffers of one image
// (network.h) of type REAL, float or double. Each returns 0, or 1 if memory runs out.

#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "backward.h"
#include "final.h"
#include "forward.h"

namespace {

template <class Work>
int run(const Work& work) {
    try {
        Team team;
        work(team);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

extern "C" {

// Ask the system for large pages before a buffer's memory is touched: otherwise a row of all
// channels would span dozens of small ones. The system may ignore it.
void msd_use_large_pages(void* start, Index bytes) {
#ifdef __linux__
    constexpr Index PAGE = 4096;
    const auto address = reinterpret_cast<std::uintptr_t>(start);
    const Index begin = round_up(static_cast<Index>(address), PAGE);
    const Index size = static_cast<Index>(address) + bytes - begin;
    if (size > 0) madvise(reinterpret_cast<void*>(begin), size, MADV_HUGEPAGE);
#endif
}

// Compute the channels after the first c_in, which hold the input.
int msd_forward(const Network* net, REAL* planes, const REAL* const* weights, const REAL* bias) {
    return run([&](Team& team) { Forward<REAL>(*net, planes, weights, bias).run(team); });
}

// Add to the gradients of weights and bias, which are null where not needed. `grads` starts as the
// gradient with respect to all channels, and ends as that of the first c_in if `input` is not 0.
int msd_backward(const Network* net, const REAL* planes, REAL* grads, const REAL* const* weights,
                 REAL* const* weight_grads, REAL* bias_grad, int input) {
    return run([&](Team& team) {
        const Gradients<REAL> wanted{weight_grads, bias_grad, input != 0};
        Backward<REAL>(*net, planes, grads, weights, wanted).run(team);
    });
}

// Write the final layer's output [outputs, row, width].
int msd_final_forward(const Network* net, const REAL* planes, const REAL* weight, const REAL* bias,
                      Index outputs, REAL* output) {
    return run([&](Team& team) {
        FinalLayer<REAL>(*net, planes, weight, outputs).forward(team, bias, output);
    });
}

// Write grads from the gradient of the output, and add to that of the weight unless it is null.
int msd_final_backward(const Network* net, const REAL* planes, const REAL* weight,
                       const REAL* upstream, Index outputs, REAL* grads, REAL* grad_weight) {
    return run([&](Team& team) {
        FinalLayer<REAL>(*net, planes, weight, outputs)
            .backward(team, upstream, grads, grad_weight);
    });
}

}  // extern "C"
