// Calls every function of the library on small networks, in buffers of exactly
// the size they need.

#include <cstdio>
#include <vector>

#include "msd_block.cpp"

namespace {

int failures = 0;

void exercise(Index axes, Index slices, Index height, Index width, Index layers,
              Index layer_width, Index padding,
              const std::vector<Index> &some_dilations) {
  const Index c_in = 2, outputs = 4, line = 64 / sizeof(REAL);
  std::vector<Index> dilations;
  for (Index layer = 0; layer < layers; ++layer)
    dilations.push_back(some_dilations[layer % some_dilations.size()]);
  const Network net{
      axes,        slices, height,  width, round_up(width, line), c_in,
      layer_width, layers, padding, 3,     dilations.data()};
  const auto filled = [](Index size) {
    std::vector<REAL> values(size);
    for (Index i = 0; i < size; ++i)
      values[i] = REAL(i * 7919 % 1009) / 1009 - REAL(0.4);
    return values;
  };
  std::vector<REAL> planes = filled(net.rows() * net.row_stride()),
                    grads(planes.size());
  std::vector<std::vector<REAL>> weights, weight_grads;
  std::vector<const REAL *> weight_pointers;
  std::vector<REAL *> gradient_pointers;
  for (Index layer = 0; layer < layers; ++layer) {
    const Index size =
        layer_width * net.channels_before(layer) * net.outer_taps() * 3;
    weights.push_back(filled(size));
    weight_grads.push_back(std::vector<REAL>(size));
  }
  for (Index layer = 0; layer < layers; ++layer) {
    weight_pointers.push_back(weights[layer].data());
    gradient_pointers.push_back(layer == 1 ? nullptr
                                           : weight_grads[layer].data());
  }
  const std::vector<REAL> bias = filled(layers * layer_width),
                          final_bias = filled(outputs);
  const std::vector<REAL> final_weight = filled(outputs * net.channels());
  const std::vector<REAL> upstream = filled(outputs * net.rows() * width);
  std::vector<REAL> output(upstream.size()), bias_grad(bias.size()),
      final_grad(final_weight.size());
  msd_use_large_pages(grads.data(), grads.size() * sizeof(REAL));
  failures +=
      msd_forward(&net, planes.data(), weight_pointers.data(), bias.data());
  failures += msd_final_forward(&net, planes.data(), final_weight.data(),
                                final_bias.data(), outputs, output.data());
  failures += msd_final_backward(&net, planes.data(), final_weight.data(),
                                 upstream.data(), outputs, grads.data(),
                                 final_grad.data());
  failures +=
      msd_backward(&net, planes.data(), grads.data(), weight_pointers.data(),
                   gradient_pointers.data(), bias_grad.data(), 1);
}

} // namespace

int main() {
  for (const Index padding : {SYMMETRIC, REFLECT, ZEROS}) {
    exercise(2, 1, 61, 83, 11, 1, padding, {1, 7, 20});
    exercise(2, 1, 40, 120, 5, 3, padding, {9, 2});
    exercise(2, 1, 4, 2100, 9, 1, padding, {3, 1});
    exercise(3, 8, 9, 70, 6, 1, padding, {7, 1});
    exercise(3, 15, 7, 16, 3, 2, padding, {1, 6});
    exercise(2, 1, 2, 2, 3, 1, padding, {1});
  }
  exercise(2, 1, 3, 5, 4, 1, ZEROS, {50, 2});
  std::printf("%d failures\n", failures);
  return failures;
}
