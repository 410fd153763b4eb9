// Float operations against double precision, and all ISAs against each other, bit for bit.

#include "matmul/float_ops.hpp"

#include <cmath>
#include <functional>

#include "every_isa.hpp"
#include "worst.hpp"

using namespace kquant;

namespace {

/// Lengths with and without a rest after whole vectors.
const std::size_t kLengths[] = {1, 5, 16, 17, 64, 100, 259};

using Inputs = std::vector<float>;

/// Runs `op` on every ISA and length; `expected` in double, element by element.
void check(const std::function<std::vector<float>(const Inputs&, const Inputs&)>& op,
           const std::function<std::vector<double>(const Inputs&, const Inputs&)>& expected,
           double tolerance) {
  for (const std::size_t n : kLengths) {
    INFO("n " << n);
    const Inputs a = test::random_floats(n, 1, 3.0f), b = test::random_floats(n, 2, 1.0f);
    std::vector<float> first;
    test::for_each_isa([&](Isa) {
      const std::vector<float> result = op(a, b);
      if (first.empty()) first = result;
      REQUIRE(result.size() == first.size());
      CHECK(std::memcmp(result.data(), first.data(), 4 * result.size()) == 0);
    });
    const std::vector<double> exact = expected(a, b);
    REQUIRE(exact.size() == first.size());
    for (std::size_t i = 0; i < exact.size(); ++i)
      REQUIRE(std::abs(first[i] - exact[i]) <= tolerance * (std::abs(exact[i]) + 1e-30));
  }
}

/// fn at every element.
auto each(const std::function<double(double, double)>& fn) {
  return [fn](const Inputs& a, const Inputs& b) {
    std::vector<double> r;
    for (std::size_t i = 0; i < a.size(); ++i) r.push_back(fn(double{a[i]}, double{b[i]}));
    return r;
  };
}

}  // namespace

TEST_CASE("rms_norm") {
  check(
      [](const Inputs& x, const Inputs& w) {
        std::vector<float> out(x.size());
        ops::rms_norm(x, w, 1e-5f, out);
        return out;
      },
      [](const Inputs& x, const Inputs& w) {
        double sum = 0;
        for (const float v : x) sum += double{v} * v;
        const double factor = 1 / std::sqrt(sum / static_cast<double>(x.size()) + double{1e-5f});
        std::vector<double> r;
        for (std::size_t i = 0; i < x.size(); ++i) r.push_back(x[i] * factor * w[i]);
        return r;
      },
      1e-6);
}

TEST_CASE("silu_mul and gelu_tanh_mul") {
  check(
      [](const Inputs& g, const Inputs& u) {
        std::vector<float> out(g.size());
        ops::silu_mul(g, u, out);
        return out;
      },
      each([](double g, double u) { return g / (1 + std::exp(-g)) * u; }), 1e-6);
  check(
      [](const Inputs& g, const Inputs& u) {
        std::vector<float> out(g.size());
        ops::gelu_tanh_mul(g, u, out);
        return out;
      },
      each([](double g, double u) {
        // 0.5 (1 + tanh v) = 1 / (1 + exp(-2v)), without cancellation in the reference either
        const double v = 0.7978845608028654 * (g + 0.044715 * g * g * g);
        return g / (1 + std::exp(-2 * v)) * u;
      }),
      1e-5);
}

TEST_CASE("add and scale") {
  check(
      [](const Inputs& a, const Inputs& b) {
        std::vector<float> y = a;
        ops::add(b, y);
        ops::scale(y, 0.25f);
        return y;
      },
      each([](double a, double b) { return 0.25 * static_cast<float>(a + b); }), 0);
}

TEST_CASE("softmax sums to one, and to what double precision says") {
  check(
      [](const Inputs& a, const Inputs&) {
        std::vector<float> y = a;
        ops::softmax(y);
        return y;
      },
      [](const Inputs& a, const Inputs&) {
        const double most = *std::max_element(a.begin(), a.end());
        double sum = 0;
        std::vector<double> r;
        for (const float v : a) sum += std::exp(v - most);
        for (const float v : a) r.push_back(std::exp(v - most) / sum);
        return r;
      },
      2e-6);
}

TEST_CASE("softmax of masked, huge and NaN entries") {
  const float inf = std::numeric_limits<float>::infinity();
  test::for_each_isa([&](Isa) {
    std::vector<float> x = {-inf, 1000.0f, -inf, 1000.0f, -1e30f};
    ops::softmax(x);
    CHECK(x == std::vector<float>{0.0f, 0.5f, 0.0f, 0.5f, 0.0f});
    std::vector<float> bad = {1.0f, std::nanf(""), 2.0f};
    ops::softmax(bad);
    CHECK(std::isnan(bad[0]));
    CHECK(std::isnan(bad[1]));
  });
}

TEST_CASE("exp and tanh over their whole range") {
  test::for_each_isa([](Isa) {
    double worst_exp = 0, worst_tanh = 0;
    for (float x = -87.0f; x < 0.0f; x += 0.00373f) {
      std::vector<float> pair = {0.0f, x};  // softmax: 1 / (1 + e), e / (1 + e)
      ops::softmax(pair);
      const double e = std::exp(double{x});
      worst_exp = test::worse(worst_exp, std::abs(pair[1] / (e / (1 + e)) - 1));
    }
    CHECK(worst_exp < 1e-6);
    for (double size = 1e-6; size < 40; size *= 1.0007)
      for (const double sign : {1.0, -1.0}) {
        std::vector<float> x = {static_cast<float>(sign * size)};
        const double exact = std::tanh(double{x[0]});
        ops::soft_cap(x, 1.0f);
        worst_tanh = test::worse(worst_tanh, std::abs(x[0] / exact - 1));
      }
    CHECK(worst_tanh < 5e-7);

    std::vector<float> edges = {0.0f, 1e4f, -1e4f, std::numeric_limits<float>::infinity()};
    ops::soft_cap(edges, 30.0f);
    CHECK(edges == std::vector<float>{0.0f, 30.0f, -30.0f, 30.0f});
    const std::vector<float> gates = {-200.0f, 200.0f, -87.4f, 0.0f}, ones(4, 1.0f);
    std::vector<float> out(4);
    ops::silu_mul(gates, ones, out);
    CHECK(out[0] == 0.0f);
    CHECK(out[1] == 200.0f);
    CHECK(std::abs(out[2]) < 1e-35f);
    CHECK(out[3] == 0.0f);
    const std::vector<float> nan = {std::nanf("")}, one = {1.0f};
    out.resize(1);
    ops::silu_mul(nan, one, out);
    CHECK(std::isnan(out[0]));
  });
}

TEST_CASE("rope rotates pairs and leaves the rest of a head alone") {
  for (const std::size_t n_pairs : {8u, 16u, 21u, 32u}) {
    const std::size_t head_dim = 2 * n_pairs + 4, n_heads = 3;
    std::vector<float> cos, sin, cos_twice, sin_twice;
    for (std::size_t i = 0; i < n_pairs; ++i) {
      cos.push_back(std::cos(0.3f * static_cast<float>(i)));
      sin.push_back(std::sin(0.3f * static_cast<float>(i)));
      cos_twice.insert(cos_twice.end(), {cos[i], cos[i]});
      sin_twice.insert(sin_twice.end(), {-sin[i], sin[i]});
    }
    const auto x = test::random_floats(n_heads * head_dim, 5);
    for (const bool neox : {false, true}) {
      std::vector<float> first;
      test::for_each_isa([&](Isa) {
        std::vector<float> y = x;
        if (neox)
          ops::rope_neox(y, head_dim, cos, sin);
        else
          ops::rope_normal(y, head_dim, cos_twice, sin_twice);
        if (first.empty()) first = y;
        CHECK(std::memcmp(y.data(), first.data(), 4 * y.size()) == 0);
        for (std::size_t h = 0; h < n_heads; ++h) {
          const float *from = x.data() + h * head_dim, *to = y.data() + h * head_dim;
          for (std::size_t i = 0; i < n_pairs; ++i) {
            const std::size_t a = neox ? i : 2 * i, b = neox ? i + n_pairs : 2 * i + 1;
            CHECK(to[a] ==
                  Approx(double{from[a]} * cos[i] - double{from[b]} * sin[i]).margin(1e-6));
            CHECK(to[b] ==
                  Approx(double{from[a]} * sin[i] + double{from[b]} * cos[i]).margin(1e-6));
          }
          for (std::size_t i = 2 * n_pairs; i < head_dim; ++i) CHECK(to[i] == from[i]);
        }
      });
    }
  }
}

TEST_CASE("binary16 conversions of every ISA equal the portable ones, all 65,536") {
  std::vector<Half> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = Half{static_cast<std::uint16_t>(i)};
  test::for_each_isa([&](Isa) {
    std::vector<float> floats(all.size());
    kernels::find(kernels::table(), TensorType::F16)
        ->dequantize_row(reinterpret_cast<const std::byte*>(all.data()), all.size(), floats.data());
    std::vector<Half> back(all.size());
    kernels::table().attention.store_value[static_cast<std::size_t>(kernels::KvKind::kF16)](
        floats.data(), floats.size(), reinterpret_cast<std::byte*>(back.data()));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const float portable = to_float(all[i]);
      wrong += std::memcmp(&portable, &floats[i], 4) != 0 || back[i].bits != to_half(portable).bits;
    }
    CHECK(wrong == 0);
  });
}
