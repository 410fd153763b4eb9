#include "cuda/model/share.hpp"

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <string>

#include "cuda/layout.hpp"
#include "cuda/matrix.hpp"

namespace kquant::cuda {
namespace {

/// The rank-th of `ranks` parts of 0 … n - 1, of whole units but for the end.
Range part_of(std::size_t n, std::size_t unit, int rank, int ranks) {
  const std::size_t units = (n + unit - 1) / unit;
  const auto at = [&](int r) { return std::min(units * size(r) / size(ranks) * unit, n); };
  return {at(rank), at(rank + 1)};
}

/// Weights a block of any matrix that meets the same inputs in some layer: columns are cut between
/// blocks only.
std::size_t block_of(const Weights& weights, Projection LayerWeights::*which) {
  std::size_t block = 1;
  for (const LayerWeights& layer : weights.layers)
    for (const MatrixView& w : (layer.*which).matrices)
      block = std::lcm(block, std::size_t{type_info(w.type).block_size});
  return block;
}

/// Outputs `ranges` of a projection: rows of its matrices, fused or not.
ProjectionShare rows_of(const Projection& projection, std::initializer_list<Range> ranges) {
  ProjectionShare out;
  for (const Range& range : ranges) {
    std::size_t first = 0;  // output of the matrix
    for (const MatrixView& w : projection.matrices) {
      const std::size_t begin = std::max(range.begin, first);
      const std::size_t end = std::min(range.end, first + w.rows);
      if (begin < end) out.matrices.push_back(MatrixSlice(w).rows_from(begin - first, end - begin));
      first += w.rows;
    }
    if (!projection.bias.empty())
      out.bias.insert(out.bias.end(),
                      projection.bias.begin() + static_cast<std::ptrdiff_t>(range.begin),
                      projection.bias.begin() + static_cast<std::ptrdiff_t>(range.end));
  }
  return out;
}

/// Inputs `range` of a projection: columns of its matrices. One rank adds the bias.
ProjectionShare cols_of(const Projection& projection, Range range, bool first_rank) {
  ProjectionShare out;
  for (const MatrixView& w : projection.matrices)
    out.matrices.push_back(MatrixSlice(w).cols_from(range.begin, range.size()));
  if (first_rank) out.bias = projection.bias;
  return out;
}

/// What the widths of a model are divided into.
struct Units {
  std::size_t kv_heads, ff;

  Units(const Config& config, const Weights& weights, int ranks) {
    const std::size_t head_cols =
        size(config.n_heads / config.n_kv_heads) * size(config.head_dim_v);
    const std::size_t block = block_of(weights, &LayerWeights::attn_output);
    kv_heads = block / std::gcd(block, head_cols);
    // Units of 256 columns are whole ones on a device too; where there are too few, of one block.
    const std::size_t n_ff = size(config.n_ff);
    ff = block_of(weights, &LayerWeights::down);
    if (kUnitCols % ff == 0 && n_ff % kUnitCols == 0 && n_ff / kUnitCols >= size(ranks))
      ff = kUnitCols;
  }
};

Result<void> check(const Config& config, const Units& units, int ranks) {
  const std::size_t heads = size(config.n_kv_heads) / units.kv_heads;
  const std::size_t widths = size(config.n_ff) / units.ff;
  const std::size_t most = std::min({heads, widths, size(config.vocab_size)});
  if (size(ranks) <= most) return {};
  const std::string what =
      heads <= widths
          ? std::to_string(config.n_kv_heads) + " KV heads" +
                (units.kv_heads == 1 ? ""
                                     : ", only " + std::to_string(units.kv_heads) +
                                           " of which are whole blocks of the output matrix,")
          : "an MLP's width of " + std::to_string(config.n_ff) + ", in blocks of " +
                std::to_string(units.ff) + ",";
  return fail(ErrorCode::kUnsupported,
              "a model with " + what + " cannot be divided among " + std::to_string(ranks) +
                  " GPUs: " + (most == 1 ? "only one" : "at most " + std::to_string(most)) +
                  " would do");
}

}  // namespace

std::size_t ProjectionShare::outputs() const {
  std::size_t sum = 0;
  for (const MatrixSlice& matrix : matrices) sum += matrix.rows;
  return sum;
}

std::size_t Share::device_bytes() const {
  std::size_t bytes = 0;
  const auto add = [&](const ProjectionShare& projection) {
    for (const MatrixSlice& w : projection.matrices)
      bytes += cuda::device_bytes(w.type, w.rows, w.cols);
  };
  add(embedding);
  add(separate_output);
  for (const LayerShare& layer : layers)
    for (const auto* p : {&layer.qkv, &layer.attn_output, &layer.gate_up, &layer.down}) add(*p);
  return bytes;
}

Result<std::vector<Share>> divide(const Config& config, const Weights& weights, int ranks) {
  const Units units(config, weights, ranks);
  if (auto divisible = check(config, units, ranks); !divisible) return fail(divisible.error());
  const std::size_t group = size(config.n_heads / config.n_kv_heads), n_ff = size(config.n_ff);
  const std::size_t dim_k = size(config.head_dim_k), dim_v = size(config.head_dim_v);
  const std::size_t keys = size(config.n_heads) * dim_k;  // where K begins among outputs of QKV
  const std::size_t values = keys + size(config.n_kv_heads) * dim_k;
  const bool tied = weights.output.matrices.front().data == weights.embedding.matrices.front().data;

  std::vector<Share> shares;
  for (int rank = 0; rank < ranks; ++rank) {
    Share& share = shares.emplace_back();
    share.rank = rank;
    share.ranks = ranks;
    const Range kv = part_of(size(config.n_kv_heads), units.kv_heads, rank, ranks);
    const Range ff = part_of(n_ff, units.ff, rank, ranks);
    const std::size_t vocab_unit =
        size(config.vocab_size) >= size(ranks) * kUnitRows ? kUnitRows : 1;
    const Range vocabulary = part_of(size(config.vocab_size), vocab_unit, rank, ranks);
    share.kv_heads = kv;
    share.ff = ff;
    share.vocabulary = vocabulary;
    share.config = config;
    share.config.n_kv_heads = static_cast<int>(kv.size());
    share.config.n_heads = static_cast<int>(kv.size() * group);
    share.config.n_ff = static_cast<int>(ff.size());
    share.config.vocab_size = static_cast<int>(vocabulary.size());

    share.embedding = rows_of(weights.embedding, {vocabulary});
    if (!tied) share.separate_output = rows_of(weights.output, {vocabulary});
    for (const LayerWeights& layer : weights.layers)
      share.layers.push_back(
          {.qkv = rows_of(layer.qkv, {{kv.begin * group * dim_k, kv.end * group * dim_k},
                                      {keys + kv.begin * dim_k, keys + kv.end * dim_k},
                                      {values + kv.begin * dim_v, values + kv.end * dim_v}}),
           .attn_output = cols_of(layer.attn_output,
                                  {kv.begin * group * dim_v, kv.end * group * dim_v}, rank == 0),
           .gate_up = rows_of(layer.gate_up, {ff, {n_ff + ff.begin, n_ff + ff.end}}),
           .down = cols_of(layer.down, ff, rank == 0)});
  }
  return shares;
}

}  // namespace kquant::cuda
