// kquant blocks: raw float32 rows to packed blocks and back, and one block drawn for a person.

#include <fmt/format.h>

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "commands.hpp"
#include "kquant/base/atomic_file.hpp"
#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string type, in, out, importance;
  std::size_t cols = 0, block = 0;
};

const TypeInfo& type_of(const Options& o) {
  const TypeInfo* info = find_type(std::string_view(o.type));
  if (info == nullptr || !can_quantize(info->type)) {
    std::string known;
    for (const TypeInfo& t : detail::kTypes)
      if (can_quantize(t.type)) known += fmt::format(" {}", t.name);
    give_up(ErrorCode::kInvalidArgument, fmt::format("unknown type '{}': one of{}", o.type, known));
  }
  return *info;
}

std::vector<float> floats_of(const std::string& path, const std::string& bytes) {
  if (bytes.size() % sizeof(float) != 0)
    give_up(ErrorCode::kBadFile,
            fmt::format("{}: {} bytes are not a whole number of float32", path, bytes.size()));
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

std::span<const std::byte> bytes_of_text(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// Columns of a row: as asked for, or one block (every layout is a sequence of blocks).
std::size_t columns(const Options& o, const TypeInfo& info) {
  const std::size_t cols = o.cols > 0 ? o.cols : info.block_size;
  if (cols % info.block_size != 0)
    give_up(ErrorCode::kInvalidArgument,
            fmt::format("--cols {} is not a multiple of {}'s block of {} weights", cols, info.name,
                        info.block_size));
  return cols;
}

void write(const std::string& path, std::span<const std::byte> bytes) {
  AtomicFile file = value_of(AtomicFile::create(path));
  check(file.write(bytes));
  check(file.commit());
}

void encode(const Options& o) {
  const TypeInfo& info = type_of(o);
  const std::size_t cols = columns(o, info);
  const std::vector<float> rows = floats_of(o.in, read_text(o.in));
  if (rows.empty() || rows.size() % cols != 0)
    give_up(ErrorCode::kBadFile,
            fmt::format("{}: {} floats are not rows of {} columns", o.in, rows.size(), cols));
  std::vector<float> importance;
  if (!o.importance.empty()) importance = floats_of(o.importance, read_text(o.importance));
  const Span2d<const float> in(rows.data(), rows.size() / cols, cols);
  std::vector<std::byte> packed(in.rows * row_bytes(info.type, cols));
  const QuantizeOptions options{.importance = importance, .threads = 0};
  check(quantize(info.type, in, packed, options));
  write(o.out, packed);
  const QuantizationError error = value_of(measure_error(info.type, in, packed, options));
  fmt::print("{} rows of {} columns: {} -> {} bytes, {:.4f} bits per weight, relative RMSE {:.6f}",
             in.rows, cols, rows.size() * sizeof(float), packed.size(), info.bits_per_weight(),
             error.rel_rmse());
  if (!importance.empty()) fmt::print(" (weighted {:.6f})", error.weighted_rel_rmse());
  fmt::print("\n");
}

void decode(const Options& o) {
  const TypeInfo& info = type_of(o);
  const std::string packed = read_text(o.in);
  if (packed.empty() || packed.size() % info.block_bytes != 0)
    give_up(ErrorCode::kBadFile,
            fmt::format("{}: {} bytes are not a whole number of {} blocks of {} bytes", o.in,
                        packed.size(), info.name, info.block_bytes));
  const std::size_t n_blocks = packed.size() / info.block_bytes;
  std::vector<float> values(n_blocks * info.block_size);
  check(dequantize(info.type, bytes_of_text(packed), {values.data(), n_blocks, info.block_size}));
  write(o.out, std::as_bytes(std::span(values)));
  fmt::print("{} blocks of {} -> {} floats\n", n_blocks, info.name, values.size());
}

template <class F>
void draw(std::size_t index, const typename F::Block& block) {
  const auto scales = F::unpack_scales(block);
  float values[F::kBlock];
  dequantize_block<F>(block, values);
  fmt::print("{} block {}: {} bytes, {} weights, codes of {} bits", F::name, index, sizeof block,
             F::kBlock, F::kBits);
  fmt::print("\n\n  d = {:.8g}", F::d(block));
  if (F::kHasMin) fmt::print(", dmin = {:.8g}", F::dmin(block));
  fmt::print("\n  value = (d * scale) * {}{}\n",
             F::kZero != 0 ? fmt::format("(q - {})", F::kZero) : "q",
             F::kHasMin ? " - (dmin * min)" : "");
  constexpr int kPerLine = 16;
  for (int sub = 0; sub < kSubs<F>; ++sub) {
    fmt::print("\n  weights {:>3}-{:<3}  scale {:>4} -> {:<13.7g}", sub * F::kSub,
               (sub + 1) * F::kSub - 1, scales.scale_at(sub),
               F::d(block) * static_cast<float>(scales.scale_at(sub)));
    if (F::kHasMin)
      fmt::print("  min {:>4} -> {:.7g}", scales.min_at(sub),
                 F::dmin(block) * static_cast<float>(scales.min_at(sub)));
    fmt::print("\n");
    for (int first = sub * F::kSub; first < (sub + 1) * F::kSub; first += kPerLine) {
      fmt::print("    q    ");
      for (int w = first; w < first + kPerLine; ++w)
        fmt::print("{:>9}", code_at<F>(bytes_of<F>(block), w / F::kRun, w % F::kRun));
      fmt::print("\n    value");
      for (int w = first; w < first + kPerLine; ++w) fmt::print(" {:>8.4g}", values[w]);
      fmt::print("\n");
    }
  }
}

void show(const Options& o) {
  const TypeInfo& info = type_of(o);
  const std::string packed = read_text(o.in);
  const std::size_t n_blocks = packed.size() / info.block_bytes;
  if (o.block >= n_blocks)
    give_up(ErrorCode::kOutOfRange,
            fmt::format("{}: there is no block {}: {} bytes hold {} whole blocks of {}", o.in,
                        o.block, packed.size(), n_blocks, info.name));
  const auto draw_one = [&]<class F>() {
    typename F::Block block;
    std::memcpy(&block, packed.data() + o.block * sizeof block, sizeof block);
    draw<F>(o.block, block);
  };
  if (!WeightFormats::visit(info.type, draw_one) && !ActivationFormats::visit(info.type, draw_one))
    give_up(ErrorCode::kInvalidArgument, fmt::format("{} has no blocks to show", info.name));
}

}  // namespace

void add_blocks(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("blocks", "Raw little-endian float32 rows to packed blocks and back");
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  kquant blocks encode --type Q4_K --cols 4096 rows.f32 rows.q4_k\n"
      "  kquant blocks decode --type Q4_K rows.q4_k back.f32\n"
      "  kquant blocks show --type Q4_K --block 3 rows.q4_k");
  const auto add = [&](const char* name, const char* help, auto run) {
    CLI::App* sub = command->add_subcommand(name, help);
    sub->add_option("--type", o->type, "Tensor type, such as Q4_K")->required();
    sub->add_option("IN", o->in, "File to read")->required();
    sub->callback([o, run] { run(*o); });
    return sub;
  };
  CLI::App* encoder = add("encode", "float32 rows to packed blocks", encode);
  encoder->add_option("OUT", o->out, "File to write")->required();
  encoder->add_option("--cols", o->cols, "Columns a row (default: one block)");
  encoder->add_option("--imatrix", o->importance, "float32 file with one importance a column");
  CLI::App* decoder = add("decode", "Packed blocks to float32", decode);
  decoder->add_option("OUT", o->out, "File to write")->required();
  decoder->add_option("--cols", o->cols,
                      "Ignored: blocks follow one another whatever the row length");
  CLI::App* shower = add("show", "One block's fields and values", show);
  shower->add_option("--block", o->block, "Which block, from 0")->capture_default_str();
}

}  // namespace kquant::cli
