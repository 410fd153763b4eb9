// How far quantized weights are from the original, beside another quantizer's and beside the least
// that any quantizer could reach.
//
//     quantizer_error --peer ggml=/path/to/libggml.so [--rows N] [--bound N] [--only Q4_K,…]
//                     [--golden DIR] [--model FILE.gguf[,IMATRIX]]...
//
// Prints a table a source of weights; sources are random ones (bell-shaped; heavy tails: Student's
// t with three degrees of freedom), the groups of DIR/input.f32 with DIR/imatrix.f32, the matrices
// of models, and their rows once more turned by a random rotation. Ratios of relative RMSE, ours
// to the peer's on the same weights: below 1 is better. With importances (of the file; for random
// rows, random ones) both are told of them, and errors are weighted with them. --bound: the same
// ratio for the least error there can be, from that many sub-blocks (exact_fit.hpp).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/exact_fit.hpp"
#include "bench/peer_quantizer.hpp"
#include "kquant/format/all.hpp"
#include "kquant/gguf.hpp"
#include "kquant/imatrix.hpp"
#include "lib/quantize/ranges.hpp"

namespace {

using namespace kquant;
using bench::PeerQuantizer;

/// Rows of one length with the importances of their columns.
struct Rows {
  std::size_t cols = 0;
  std::vector<float> x, importance;
};
struct Source {
  std::string name;
  std::vector<Rows> parts;  ///< rows of different matrices
  bool has_importance = true;
};

template <class T>
T value_of(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "{}\n", result.error().message);
  std::exit(1);
}

// ---- sources ----

Source random_source(const std::string& name, std::size_t rows, bool heavy) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::student_t_distribution<float> student(3);
  Rows part;
  part.cols = 1024;
  part.x.resize(rows * part.cols);
  for (float& v : part.x) v = 0.02f * (heavy ? student(random) : normal(random));
  part.importance.resize(part.cols);
  for (float& v : part.importance) v = std::exp(normal(random));
  return {name, {part}};
}

std::vector<float> read_floats(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

void add_golden(const std::filesystem::path& folder, std::vector<Source>& sources) {
  constexpr std::size_t kCols = 1024, kRowsPerGroup = 8;
  const auto x = read_floats(folder / "input.f32"),
             importance = read_floats(folder / "imatrix.f32");
  const char* const groups[] = {"gaussian", "heavy", "uniform", "outliers", "structured", "scales"};
  if (x.size() != std::size(groups) * kRowsPerGroup * kCols || importance.size() != kCols) {
    fmt::print(stderr, "{}: input.f32 or imatrix.f32 is missing or short\n", folder.string());
    std::exit(1);
  }
  for (std::size_t g = 0; g < std::size(groups); ++g) {
    // The first three rows of "scales" underflow the peer's binary16.
    const std::size_t first = g * kRowsPerGroup + (g == 5 ? 3 : 0), last = (g + 1) * kRowsPerGroup;
    const auto at = [&](std::size_t row) {
      return x.begin() + static_cast<std::ptrdiff_t>(row * kCols);
    };
    sources.push_back(
        {fmt::format("golden: {}", groups[g]), {{kCols, {at(first), at(last)}, importance}}});
  }
}

/// Up to `rows` rows of every matrix that a recipe would quantize, evenly spread.
Source model_source(const std::string& text, std::size_t rows) {
  const std::size_t comma = text.find(',');
  const gguf::File file = value_of(gguf::File::open(text.substr(0, comma)));
  std::optional<Imatrix> imatrix;
  if (comma != std::string::npos) imatrix = value_of(Imatrix::load(text.substr(comma + 1)));
  Source source{std::filesystem::path(file.path()).filename().string(), {}, imatrix.has_value()};
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (tensor.n_dims != 2 || tensor.cols() % 256 != 0) continue;
    Rows part;
    part.cols = tensor.cols();
    if (imatrix) {
      part.importance = value_of(imatrix->importance(tensor.name));
      if (part.importance.empty()) continue;
    }
    const std::size_t count = std::min<std::size_t>(rows, tensor.rows());
    const std::size_t bytes = row_bytes(tensor.type, part.cols);
    part.x.resize(count * part.cols);
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t row = r * tensor.rows() / count;
      const auto done = dequantize(tensor.type, tensor.data.subspan(row * bytes, bytes),
                                   {part.x.data() + r * part.cols, 1, part.cols});
      if (!done) value_of<int>(fail(done.error()));
    }
    source.parts.push_back(std::move(part));
  }
  return source;
}

/// The rows turned by the same random reflections, one after another: what is left of a matrix's
/// structure is gone, and nothing but its spectrum stays.
Source rotated(Source source) {
  constexpr int kReflections = 24;
  source.name += ", rotated";
  source.has_importance = false;
  for (Rows& part : source.parts) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    part.importance.clear();
    std::vector<float> v(part.cols);
    for (int n = 0; n < kReflections; ++n) {
      double length = 0;
      for (float& e : v) e = normal(random), length += double{e} * e;
      for (std::size_t at = 0; at < part.x.size(); at += part.cols) {
        double along = 0;
        for (std::size_t k = 0; k < part.cols; ++k) along += double{v[k]} * part.x[at + k];
        const auto by = static_cast<float>(2 * along / length);
        for (std::size_t k = 0; k < part.cols; ++k) part.x[at + k] -= by * v[k];
      }
    }
  }
  return source;
}

// ---- errors ----

enum class Coder { kPeer, kFast, kBest };

/// The blocks of all parts, one part after another.
std::vector<std::vector<std::byte>> packed_by(const Source& source, TensorType type, bool weighted,
                                              Coder coder, const PeerQuantizer& peer) {
  std::vector<std::vector<std::byte>> packed;
  for (const Rows& part : source.parts) {
    const Span2d<const float> x(part.x.data(), part.x.size() / part.cols, part.cols);
    packed.emplace_back(x.rows * row_bytes(type, part.cols));
    QuantizeOptions options;
    if (weighted) options.importance = part.importance;
    options.effort = coder == Coder::kFast ? Effort::kFast : Effort::kBest;
    if (coder == Coder::kPeer)
      peer.quantize(type, x, packed.back(), options.importance);
    else if (const auto done = quantize(type, x, packed.back(), options); !done)
      value_of<int>(fail(done.error()));
  }
  return packed;
}

QuantizationError error_of(const Source& source, TensorType type, bool weighted,
                           const std::vector<std::vector<std::byte>>& packed) {
  QuantizationError sum;
  for (std::size_t i = 0; i < packed.size(); ++i) {
    const Rows& part = source.parts[i];
    QuantizeOptions options;
    if (weighted) options.importance = part.importance;
    sum += value_of(measure_error(type, {part.x.data(), part.x.size() / part.cols, part.cols},
                                  packed[i], options));
  }
  return sum;
}

/// Errors of blocks in units of the least that their sub-blocks can have, each with a scale (and
/// min) of its own that is any real number. Of evenly spread blocks, about so many sub-blocks.
template <class F>
std::vector<double> above_least(
    const Source& source, bool weighted, std::size_t sub_blocks,
    const std::vector<const std::vector<std::vector<std::byte>>*>& coded) {
  std::size_t have = 0;
  for (const Rows& part : source.parts) have += part.x.size() / F::kBlock;
  const std::size_t step = std::max<std::size_t>(1, have * kSubs<F> / sub_blocks);
  double least = 0;
  std::vector<double> errors(coded.size());
  std::size_t n = 0;
  const std::vector<float> ones(F::kBlock, 1.0f);
  for (std::size_t p = 0; p < source.parts.size(); ++p) {
    const Rows& part = source.parts[p];
    for (std::size_t at = 0; at < part.x.size(); at += F::kBlock) {
      if (n++ % step != 0) continue;
      const auto x = std::span(part.x).subspan(at, F::kBlock);
      const auto w = weighted ? std::span(part.importance).subspan(at % part.cols, F::kBlock)
                              : std::span<const float>(ones);
      for (std::size_t j = 0; j < F::kBlock; j += F::kSub) {
        const auto sub = x.subspan(j, F::kSub), sub_w = w.subspan(j, F::kSub);
        least += F::kHasMin ? bench::least_error_with_min(sub, sub_w, detail::kCodes<F>.high,
                                                          detail::kDirectScale<F>)
                            : bench::least_error(sub, sub_w, detail::kCodes<F>.low,
                                                 detail::kCodes<F>.high);
      }
      for (std::size_t c = 0; c < coded.size(); ++c) {
        typename F::Block block;
        std::memcpy(&block, (*coded[c])[p].data() + at / F::kBlock * sizeof block, sizeof block);
        float y[F::kBlock];
        dequantize_block<F>(block, y);
        for (std::size_t i = 0; i < x.size(); ++i)
          errors[c] += double{w[i]} * (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
      }
    }
  }
  for (double& e : errors) e = std::sqrt(e / least);
  return errors;
}

void print_table(const Source& source, const PeerQuantizer& peer, const std::string& only,
                 std::size_t bound) {
  std::size_t weights = 0;
  for (const Rows& part : source.parts) weights += part.x.size();
  fmt::print("\n### {} ({} weights)\n\n", source.name, weights);
  fmt::print(
      "| type | importance | peer | fast | best | best, plain |{}\n|---|---|--:|--:|--:|--:|{}\n",
      bound > 0 ? " peer : least | best : least |" : "", bound > 0 ? "--:|--:|" : "");
  const auto print = [&]<class F>() {
    if (!only.empty() &&
        ("," + only + ",").find("," + std::string(F::name) + ",") == std::string::npos)
      return;
    for (const bool weighted : {false, true}) {
      if (weighted && !source.has_importance) continue;
      const auto theirs = packed_by(source, F::type, weighted, Coder::kPeer, peer);
      const auto fast = packed_by(source, F::type, weighted, Coder::kFast, peer);
      const auto best = packed_by(source, F::type, weighted, Coder::kBest, peer);
      const auto reference = error_of(source, F::type, weighted, theirs);
      const auto ours = error_of(source, F::type, weighted, best);
      fmt::print("| {} | {} | {:.5f} | {:.4f} | {:.4f} | {:.4f} |", F::name,
                 weighted ? "yes" : "no", reference.weighted_rel_rmse(),
                 error_of(source, F::type, weighted, fast).weighted_rel_rmse() /
                     reference.weighted_rel_rmse(),
                 ours.weighted_rel_rmse() / reference.weighted_rel_rmse(),
                 ours.rel_rmse() / reference.rel_rmse());
      if (bound > 0)
        for (const double ratio : above_least<F>(source, weighted, bound, {&theirs, &best}))
          fmt::print(" {:.4f} |", ratio);
      fmt::print("\n");
      std::fflush(stdout);
    }
  };
  WeightFormats::for_each(print);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Error of quantized weights beside another quantizer's and the least possible");
  std::string peer_path, golden, only;
  std::vector<std::string> models;
  std::size_t rows = 64, bound = 0;
  app.add_option("--peer", peer_path, "ggml=/path/to/libggml.so")->required();
  app.add_option("--rows", rows, "Rows of each matrix")->check(CLI::PositiveNumber);
  app.add_option("--bound", bound, "Sub-blocks for the least possible error; 0: leave it out");
  app.add_option("--only", only, "Types, separated by commas");
  app.add_option("--golden", golden, "Folder with input.f32 and imatrix.f32");
  app.add_option("--model", models, "FILE.gguf, or FILE.gguf,IMATRIX")->take_all();
  CLI11_PARSE(app, argc, argv);
  const auto peer = value_of(PeerQuantizer::open(peer_path));

  std::vector<Source> sources = {random_source("bell-shaped", rows, false),
                                 random_source("heavy tails", rows, true)};
  if (!golden.empty()) add_golden(golden, sources);
  for (const std::string& model : models) {
    sources.push_back(model_source(model, rows));
    sources.push_back(rotated(sources.back()));
  }
  fmt::print("Ratios of relative RMSE to the peer's ({}).\n", peer_path);
  for (const Source& source : sources) print_table(source, peer, only, bound);
  return 0;
}
