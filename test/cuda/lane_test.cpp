// A thread's lane computes what a register's does, bit for bit: sums in the same order, the same
// one of two zeros. (Whole blocks seldom show it: the last bit of a sum rarely moves a rounded
// scale.)
#include "cuda/lane.hpp"

#include <bit>
#include <cmath>
#include <random>

#include "device.hpp"
#include "device_memory.hpp"
#include "quantize/block_scales.hpp"
#include "quantize/register_lanes.hpp"

using namespace kquant;

namespace {

using Registers = detail::Lanes<4>;

constexpr int kOperations = 12;

/// fn(i, what operation i makes of x and y).
template <class V, class Fn>
void each_operation(V x, V y, Fn fn) {
  fn(0, x.template sum_of_block<8>());
  fn(1, x.template sum_of_block<16>());
  fn(2, x.template largest_of_block<8>());
  fn(3, x.template largest_of_block<16>());
  fn(4, smaller(x, y));
  fn(5, larger(x, y));
  fn(6, -x);
  fn(7, detail::ratio(x, y));
  fn(8, detail::inverse_of(x));
  fn(9, detail::round_down(x));
  fn(10, exponent_alone(detail::magnitude(x) + V::all(1)));
  fn(11, select(x != y, 3.0f * x - y, V::zero()) * x);
}

void operations_on_device(const float* x, const float* y, float* out) {
  const cuda::Lane mine = cuda::Lane::load(x + cuda::thread());
  each_operation(mine, cuda::Lane::load(y + cuda::thread()), [&](int i, cuda::Lane result) {
    result.store(out + i * cuda::kWarp + cuda::thread());
  });
}

std::vector<float> numbers(std::mt19937& random) {
  std::vector<float> x(cuda::kWarp);
  std::normal_distribution<float> normal;
  for (float& v : x) {
    switch (random() % 6) {
      case 0:
        v = random() % 2 == 0 ? 0.0f : -0.0f;
        break;
      case 1:
        v = normal(random) * 1e-40f;
        break;
      case 2:
        v = std::round(4 * normal(random));
        break;
      default:
        v = normal(random);
    }
  }
  return x;
}

}  // namespace

TEST_CASE("a thread's lane computes what a register's does") {
  const auto device = test::device();
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    auto x = numbers(random);
    const auto y = numbers(random);
    if (trial % 4 == 0)  // nothing but zeros, and what is below them
      for (float& v : x) v = std::copysign(v < -1 ? v : 0.0f, v);
    const auto dx = test::to_device(*device, x), dy = test::to_device(*device, y);
    const auto out = test::to_device(*device, std::vector<float>(kOperations * cuda::kWarp));
    device->queue()->launch({.threads = cuda::kWarp}, operations_on_device, dx.as<const float>(),
                            dy.as<const float>(), out.as<float>());
    const auto found = test::to_host<float>(*device, out);
    for (std::size_t group = 0; group < cuda::kWarp; group += detail::kLanes)
      each_operation(Registers::load(x.data() + group), Registers::load(y.data() + group),
                     [&](int i, Registers result) {
                       float expected[detail::kLanes];
                       result.store(expected);
                       for (std::size_t l = 0; l < detail::kLanes; ++l) {
                         INFO("trial " << trial << ", operation " << i << ", lane " << l);
                         const float mine = found[test::size(i) * cuda::kWarp + group + l];
                         REQUIRE(std::bit_cast<std::uint32_t>(mine) ==
                                 std::bit_cast<std::uint32_t>(expected[l]));
                       }
                     });
  }
}
