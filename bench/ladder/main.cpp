// Times the steps of ladder.hpp with 1, 8 and 64 rows of X against a matrix of 4096 x 4096, of
// which there are so many copies that no cache holds them. One thread. Rounds go through all steps
// in turn, so that a slow moment of the machine meets all of them; the median counts.
//
//     ladder [ROUNDS]

#include <fmt/format.h>
#include <sys/mman.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <map>

#include "../weights.hpp"
#include "kquant/dispatch.hpp"
#include "ladder.hpp"

namespace kquant::ladder {
namespace {

using bench::Shape;

const Step kSteps[] = {{"1 naive", naive, false, false},
                       {"2 int8", int8_dot, false, false},
                       {"3 vpdpbusd, row by row", row_by_row, false, false},
                       {"4 lanes are rows", lanes_are_rows, true, false},
                       {"5 tile of rows of X", tile, true, false},
                       {"6 prefetch, huge pages", tile_prefetched, true, true},
                       {"7 two panels at once", two_panels, true, true}};
constexpr std::size_t kRows[] = {1, 8, 64};

/// Copies of one matrix.
class Copies {
 public:
  Copies(const std::vector<std::byte>& one, bool huge_pages) : one_(one.size()) {
    const std::size_t bytes = bench::copies_of(one_) * one_, page = std::size_t{2} << 20;
    const std::size_t rounded = (bytes + page - 1) / page * page;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(page, rounded)));
    if (data_ == nullptr) std::abort();
    madvise(data_.get(), rounded, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (std::size_t i = 0; i < bench::copies_of(one_); ++i)
      std::memcpy(data_.get() + i * one_, one.data(), one_);
  }
  const std::byte* next() { return data_.get() + turn_++ % bench::copies_of(one_) * one_; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::size_t one_, turn_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

/// X and its codes.
struct Inputs {
  std::vector<float> x, scales;
  std::vector<std::int8_t> codes, tiled;
  std::vector<std::int16_t> sums, pairs;
  Columns columns;

  Inputs(std::size_t m, std::size_t k) : x(bench::bell_shaped(m * k, 2)) {
    codes.resize(m * k);
    tiled.resize(m * k);
    for (std::size_t at = 0; at < m * k; at += kBlock) {
      float most = 0;
      for (std::size_t i = 0; i < kBlock; ++i) most = std::max(most, std::abs(x[at + i]));
      scales.push_back(most / 127);
      for (std::size_t run = at; run < at + kBlock; run += kRun) {
        int sum = 0;
        for (std::size_t i = run; i < run + kRun; ++i) {
          codes[i] = static_cast<std::int8_t>(std::nearbyint(x[i] / scales.back()));
          sum += codes[i];
        }
        sums.push_back(static_cast<std::int16_t>(sum));
        std::memcpy(tiled.data() + (run % k * m + run / k * kRun), codes.data() + run, kRun);
      }
    }
    for (std::size_t i = 0; i < sums.size(); i += 4)
      for (const std::size_t j : {0u, 2u, 1u, 3u}) pairs.push_back(sums[i + j]);
    columns = {m,           k, x.data(), codes.data(), scales.data(), sums.data(), pairs.data(),
               tiled.data()};
  }
};

double seconds() {  // of this thread: what others do on this machine is not counted
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int run(int rounds) {
  if (!find_isa("avx512vnni")) {
    fmt::print(stderr,
               "ladder: this machine has no AVX-512 VNNI, which its steps are written for\n");
    return 1;
  }
  const Shape shape{4096, 4096};
  const auto one = bench::make_weights(TensorType::Q4_K, shape);
  const MatrixView view{TensorType::Q4_K, shape.rows, shape.cols, one.data()};
  std::vector<std::byte> panels(one.size());
  pack_panels(one.data(), shape.rows, shape.cols, panels.data());
  Copies rows(one, false), packed(panels, false), packed_huge(panels, true);
  std::map<std::size_t, Inputs> inputs;
  for (const std::size_t m : kRows) inputs.try_emplace(m, m, shape.cols);

  std::map<std::pair<const Step*, std::size_t>, std::vector<double>> times;
  std::map<const Step*, double> errors;
  std::vector<float> y(kMostRows * shape.rows);
  for (int round = 0; round < rounds; ++round)
    for (const Step& step : kSteps)
      for (const auto& [m, in] : inputs) {
        Copies& copies = !step.packed ? rows : step.huge_pages ? packed_huge : packed;
        const int calls = m == 1 ? 8 : 1;
        const double start = seconds();
        for (int i = 0; i < calls; ++i)
          step.run({copies.next(), shape.rows, &in.columns, y.data()});
        times[{&step, m}].push_back((seconds() - start) / calls);
        if (round > 0) continue;
        const auto exact = bench::Reference::of(view, {in.x.data(), m, shape.cols});
        const double error = exact.error_of(y.data(), shape.rows, m);
        errors[&step] = std::isnan(error) ? INFINITY : std::max(errors[&step], error);
      }

  fmt::print("| step | M = 1 | M = 8 | M = 64 | error |\n|---|--:|--:|--:|--:|\n");
  bool right = true;
  for (const Step& step : kSteps) {
    fmt::print("| {} |", step.name);
    for (const std::size_t m : kRows) {
      std::vector<double>& t = times[{&step, m}];
      std::ranges::nth_element(t, t.begin() + static_cast<long>(t.size() / 2));
      const double time = t[t.size() / 2];
      if (m == 1)
        fmt::print(" {:.1f} GB/s |", static_cast<double>(one.size()) / time / 1e9);
      else
        fmt::print(" {:.1f} GOP/s |",
                   2.0 * static_cast<double>(shape.rows * shape.cols * m) / time / 1e9);
    }
    fmt::print(" {:.4f} |\n", errors[&step]);
    right = right && errors[&step] < 0.02;
  }
  if (!right) fmt::print(stderr, "ladder: a step is wrong: its error is not that of int8\n");
  return right ? 0 : 1;
}

}  // namespace
}  // namespace kquant::ladder

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  if (rounds < 1) {
    fmt::print(stderr, "ladder: ROUNDS must be at least 1\n");
    return 2;
  }
  return kquant::ladder::run(rounds);
}
