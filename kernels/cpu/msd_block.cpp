// An MSD block on the CPU: plain C functions over the buffers of one image, for float and double.
// Each returns 0, or 1 where memory is short.

#include <new>

#include "backward.h"
#include "forward.h"

namespace {

template <class T>
int forward(const Network* net, T* planes, const T* const* weights, const T* bias) try {
    Team team;
    Forward<T>(*net, planes, weights, bias).run(team, std::min<Index>(net->rows(), 64));
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

template <class T>
int backward(const Network* net, const T* planes, T* grads, const T* const* weights,
             T* const* weight_grads, T* bias_grad, int input) try {
    Team team;
    Backward<T>(*net, planes, grads, weights, {weight_grads, bias_grad, input != 0}).run(team);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

}  // namespace

#define MSD_EXPORT(suffix, T)                                                                     \
    extern "C" int msd_forward_##suffix(const Network* net, T* planes, const T* const* weights,   \
                                        const T* bias) {                                          \
        return forward<T>(net, planes, weights, bias);                                            \
    }                                                                                             \
    extern "C" int msd_backward_##suffix(const Network* net, const T* planes, T* grads,           \
                                         const T* const* weights, T* const* weight_grads,         \
                                         T* bias_grad, int input) {                               \
        return backward<T>(net, planes, grads, weights, weight_grads, bias_grad, input);          \
    }

MSD_EXPORT(float32, float)
MSD_EXPORT(float64, double)
