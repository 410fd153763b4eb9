// Writes a model that computes the same, with its channels in another order: F32, and weights that
// share no block with those they shared one with before.
//
//     permuted_model gemma-q4_k_m.gguf -o permuted.gguf
//
// A published file's weights return to its own grid where they are quantized to the same types, by
// any quantizer. Here every block of 32 or 256 holds weights of many old blocks, with as many
// scales, as weights that were never quantized do. Exchanged with each other are, in all tensors
// alike so that only sums run in another order:
//
//     channels of the residual stream     columns of what reads it, rows of what writes it, norms
//     channels within a value head        rows of attn_v, columns of attn_output
//     channels of the feed-forward part   rows of ffn_gate and ffn_up, columns of ffn_down

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "give_up.hpp"
#include "kquant/gguf.hpp"
#include "kquant/quantize.hpp"

namespace {

using namespace kquant;
using bench::check;
using bench::give_up;
using bench::value_of;

/// Where the channel now at a place was before.
using Order = std::vector<std::size_t>;

Order shuffled(std::size_t n, std::mt19937& random) {
  Order order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

/// The same order within each of `count` neighbouring groups.
Order repeated(const Order& order, std::size_t count) {
  Order all;
  for (std::size_t group = 0; group < count; ++group)
    for (const std::size_t at : order) all.push_back(group * order.size() + at);
  return all;
}

class Permutations {
 public:
  explicit Permutations(const gguf::File& in) : random_(1) {
    const std::string architecture(value_of(in.get_string("general.architecture")));
    const auto count = [&](const char* key) {
      return static_cast<std::size_t>(value_of(in.get_int(architecture + key)));
    };
    n_embd_ = count(".embedding_length");
    const std::size_t n_heads = count(".attention.head_count");
    const std::string head_key = architecture + ".attention.value_length";
    head_dim_ = in.find(head_key) ? static_cast<std::size_t>(value_of(in.get_int(head_key)))
                                  : n_embd_ / n_heads;
    residual_ = shuffled(n_embd_, random_);
  }

  /// Of a tensor's rows and columns; empty where they stay.
  std::pair<Order, Order> of(const gguf::Tensor& tensor) {
    const std::string name(tensor.name);
    const std::size_t dot = name.starts_with("blk.") ? name.find('.', 4) + 1 : 0;
    const std::string layer = name.substr(0, dot), role = name.substr(dot);
    const std::size_t rows = tensor.rows(), cols = tensor.cols();
    if (role == "attn_q_norm.weight" || role == "attn_k_norm.weight" || role == "rope_freqs.weight")
      return {};
    if (tensor.n_dims == 1 && role.ends_with("_norm.weight") && cols == n_embd_)
      return {{}, residual_};
    if (role == "token_embd.weight" || role == "output.weight" || role == "attn_q.weight" ||
        role == "attn_k.weight")
      return {{}, residual_};
    if (role == "attn_v.weight") return {repeated(head_of(layer), rows / head_dim_), residual_};
    if (role == "attn_output.weight")
      return {residual_, repeated(head_of(layer), cols / head_dim_)};
    if (role == "ffn_gate.weight" || role == "ffn_up.weight")
      return {feed_forward_of(layer, rows), residual_};
    if (role == "ffn_down.weight") return {residual_, feed_forward_of(layer, cols)};
    give_up(fmt::format("tensor '{}': no rule how its channels are exchanged", name));
  }

 private:
  const Order& head_of(const std::string& layer) { return get(heads_, layer, head_dim_); }
  const Order& feed_forward_of(const std::string& layer, std::size_t n) {
    return get(feed_forward_, layer, n);
  }
  const Order& get(std::map<std::string, Order>& orders, const std::string& layer, std::size_t n) {
    Order& order = orders[layer];
    if (order.empty()) order = shuffled(n, random_);
    return order;
  }

  std::mt19937 random_;
  std::size_t n_embd_ = 0, head_dim_ = 0;
  Order residual_;
  std::map<std::string, Order> heads_, feed_forward_;  ///< by layer
};

void write(const gguf::File& in, const std::string& path) {
  Permutations permutations(in);
  std::vector<gguf::TensorSpec> specs;
  for (const gguf::Tensor& tensor : in.tensors()) {
    specs.push_back(gguf::spec_of(tensor));
    specs.back().type = TensorType::F32;
  }
  auto metadata = gguf::Metadata::copy_of(in);
  metadata.set_u32("general.file_type", 0);
  auto writer = value_of(gguf::Writer::create(path, metadata, std::move(specs)));
  std::vector<float> row, permuted;
  for (const gguf::Tensor& tensor : in.tensors()) {
    const auto [rows, cols] = permutations.of(tensor);
    const std::size_t n = tensor.cols(), bytes = row_bytes(tensor.type, n);
    row.resize(n);
    permuted.resize(n);
    for (std::size_t r = 0; r < tensor.rows(); ++r) {
      const std::size_t from = rows.empty() ? r : rows[r];
      check(dequantize(tensor.type, tensor.data.subspan(from * bytes, bytes), {row.data(), 1, n}));
      for (std::size_t c = 0; c < n; ++c) permuted[c] = row[cols.empty() ? c : cols[c]];
      check(writer.append(std::as_bytes(std::span(permuted))));
    }
    in.release(tensor.data);
  }
  check(writer.finish());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Writes a model that computes the same, its channels in another order (F32)"};
  std::string in, out;
  app.add_option("IN", in, "GGUF model")->required();
  app.add_option("-o,--output", out, "GGUF file to write")->required();
  CLI11_PARSE(app, argc, argv);
  write(value_of(gguf::File::open(in)), out);
  return 0;
}
