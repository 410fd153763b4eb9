// What several devices do when one of them cannot; and how a model is divided. On emulated devices,
// which fail when they are told to.
#include <thread>

#include "cuda/model/share.hpp"
#include "cuda/model/workers.hpp"
#include "cuda/runtime/communicator.hpp"
#include "cuda/runtime/emulated.hpp"
#include "models.hpp"

using namespace kquant;
using namespace kquant::cuda;

namespace {

/// A model without numbers: one layer, all matrices of one type.
struct Shape {
  int heads = 8, kv_heads = 4, dim = 64, ff = 1024, vocab = 100;
  TensorType type = TensorType::Q4_K;
};
struct Described {
  Config config;
  Weights weights;
  std::vector<std::byte> bytes;

  explicit Described(const Shape& s) : bytes(std::size_t{1} << 22) {
    config.n_layers = 1;
    config.n_embd = 256;
    config.n_ff = s.ff;
    config.n_heads = s.heads;
    config.n_kv_heads = s.kv_heads;
    config.head_dim_k = config.head_dim_v = s.dim;
    config.vocab_size = s.vocab;
    const auto matrix = [&](int rows, int cols) {
      return MatrixView{s.type, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols),
                        bytes.data()};
    };
    weights.embedding.matrices = weights.output.matrices = {matrix(s.vocab, 256)};
    LayerWeights& layer = weights.layers.emplace_back();
    layer.qkv.matrices = {matrix((s.heads + 2 * s.kv_heads) * s.dim, 256)};  // fused
    layer.attn_output.matrices = {matrix(256, s.heads * s.dim)};
    layer.gate_up.matrices = {matrix(s.ff, 256), matrix(s.ff, 256)};
    layer.down.matrices = {matrix(256, s.ff)};
  }
};

std::string refusal(const Shape& shape, int ranks) {
  const Described model(shape);
  const auto shares = divide(model.config, model.weights, ranks);
  return shares ? "" : shares.error().message;
}

}  // namespace

TEST_CASE("shares are whole blocks, and together the model") {
  for (const TensorType type : {TensorType::Q4_K, TensorType::Q8_0, TensorType::F16})
    for (const int ranks : {1, 2, 3, 4}) {
      const Described model({.heads = 16, .type = type});
      const auto shares = divide(model.config, model.weights, ranks);
      REQUIRE(shares);
      REQUIRE(shares->size() == static_cast<std::size_t>(ranks));
      Range heads, ff, vocabulary;
      std::size_t bytes = 0;
      for (const Share& share : *shares) {
        REQUIRE(share.kv_heads.begin == heads.end);
        REQUIRE(share.ff.begin == ff.end);
        REQUIRE(share.vocabulary.begin == vocabulary.end);
        heads = share.kv_heads;
        ff = share.ff;
        vocabulary = share.vocabulary;
        REQUIRE(heads.size() > 0);
        REQUIRE(ff.size() % 256 == 0);
        REQUIRE(vocabulary.size() > 0);
        const LayerShare& layer = share.layers.front();
        REQUIRE(layer.qkv.matrices.size() == 3);
        REQUIRE(layer.qkv.outputs() == heads.size() * (4 + 2) * 64);
        REQUIRE(layer.qkv.matrices[2].data ==
                model.weights.layers.front().qkv.matrices.front().row((16 + 4 + heads.begin) * 64));
        REQUIRE(layer.attn_output.matrices.front().cols == heads.size() * 4 * 64);
        REQUIRE(layer.attn_output.matrices.front().row(3) ==
                model.weights.layers.front().attn_output.matrices.front().row(3) +
                    row_bytes(type, heads.begin * 4 * 64));
        REQUIRE(layer.gate_up.outputs() == 2 * ff.size());
        for (const MatrixSlice& w : layer.down.matrices) bytes += w.rows * row_bytes(type, w.cols);
      }
      REQUIRE(heads.end == 4);
      REQUIRE(ff.end == 1024);
      REQUIRE(vocabulary.end == 100);
      REQUIRE(bytes == model.weights.layers.front().down.matrices.front().bytes());
    }
}

TEST_CASE("what cannot be divided is refused, with how many devices would do") {
  REQUIRE(refusal({}, 2).empty());
  // Two heads of 64 to a KV head: 128 columns, half a super-block.
  REQUIRE(refusal({}, 4) ==
          "a model with 4 KV heads, only 2 of which are whole blocks of the output matrix, cannot "
          "be divided among 4 GPUs: at most 2 would do");
  REQUIRE(refusal({.type = TensorType::Q8_0}, 4).empty());
  REQUIRE(refusal({.kv_heads = 1}, 2) ==
          "a model with 1 KV heads cannot be divided among 2 GPUs: only one would do");
  REQUIRE(refusal({.heads = 16, .ff = 512}, 4) ==
          "a model with an MLP's width of 512, in blocks of 256, cannot be divided among 4 GPUs: "
          "at most 2 would do");
  REQUIRE(refusal({.ff = 512, .type = TensorType::Q8_0}, 4).empty());
}

TEST_CASE("a device without room for its share is named, with what it needs") {
  constexpr std::size_t kLarge = std::size_t{1} << 30, kTooLittle = std::size_t{1} << 20;
  std::size_t taken = 0;
  {
    const std::vector<Device> devices{Device(emulated_queue(kLarge, 0)),
                                      Device(emulated_queue(kLarge, 1))};
    const Transformer model = test::load(test::embedded(), tensor_parallel(devices).value());
    taken = kLarge - devices[1].free_memory().value();
  }
  const std::vector<Device> devices{Device(emulated_queue(kLarge, 0)),
                                    Device(emulated_queue(taken - kTooLittle, 1))};
  const auto refused =
      Transformer::load(test::embedded(), {.accelerator = tensor_parallel(devices).value()});
  REQUIRE(!refused);
  INFO(refused.error().message);
  REQUIRE(refused.error().code == ErrorCode::kOutOfMemory);
  REQUIRE(refused.error().message.find(
              "GPU 1 (emulated): its share of the weights, as one of 2 GPUs, needs ") !=
          std::string::npos);
  REQUIRE(devices[0].free_memory().value() == kLarge);
}

TEST_CASE("a chunk that one device has no memory for fails on all, which go on with less") {
  const std::vector<Device> devices{Device(emulated_queue(std::size_t{1} << 30, 0)),
                                    Device(emulated_queue(std::size_t{1} << 26, 1))};
  const auto accelerator = tensor_parallel(devices);
  REQUIRE(accelerator);
  Transformer model = test::load(test::fixture_path("llama3.gguf"), *accelerator);
  const auto tokens = test::some_tokens(model, 3);
  const auto vocab = static_cast<std::size_t>(model.config().vocab_size);
  std::vector<float> logits(vocab);
  const Span2d<float> out(logits.data(), 1, vocab);
  KvCache large(model.config(), 1 << 18), small(model.config(), 8);
  const auto refused = model.forward(tokens, large, out);
  REQUIRE(!refused);
  REQUIRE(refused.error().code == ErrorCode::kOutOfMemory);
  REQUIRE(refused.error().message.starts_with("GPU 1 (emulated): no memory for keys and values"));
  REQUIRE(large.size() == 0);
  REQUIRE(model.forward(tokens, small, out));
  REQUIRE(small.size() == 3);
}

TEST_CASE("sums are the same everywhere, run or recorded; who gives up frees those who wait") {
  const std::vector<std::shared_ptr<Queue>> queues{
      emulated_queue(1 << 20, 0), emulated_queue(1 << 20, 1), emulated_queue(1 << 20, 2)};
  const auto ends = Communicator::open(queues);
  REQUIRE(ends);
  Workers workers(3);
  std::vector<std::vector<float>> x(3, std::vector<float>(5));
  REQUIRE(workers.run([&](std::size_t rank) -> Result<void> {
    x[rank].assign(5, static_cast<float>(rank + 1));
    (*ends)[rank]->sum(x[rank].data(), 5);
    queues[rank]->begin_recording();
    (*ends)[rank]->sum(x[rank].data(), 5);
    const auto recorded = queues[rank]->end_recording();
    queues[rank]->replay(**recorded);
    queues[rank]->replay(**recorded);
    return (*ends)[rank]->check();
  }));
  for (const auto& of_rank : x) REQUIRE(of_rank == std::vector<float>(5, 54.0f));
  const auto given_up = workers.run([&](std::size_t rank) -> Result<void> {
    if (rank == 1)
      (*ends)[rank]->abort();
    else
      (*ends)[rank]->sum(x[rank].data(), 5);
    return (*ends)[rank]->check();
  });
  REQUIRE(!given_up);
  REQUIRE(given_up.error().code == ErrorCode::kUnavailable);
}

TEST_CASE("workers give the first error or exception, and go on") {
  Workers workers(3);
  for (int round = 0; round < 3; ++round) {
    const auto failed = workers.run([](std::size_t rank) -> Result<void> {
      if (rank == 0) return {};
      return fail(ErrorCode::kUnavailable, std::to_string(rank));
    });
    REQUIRE(!failed);
    REQUIRE(failed.error().message == "1");
    REQUIRE_THROWS_AS(workers.run([](std::size_t rank) -> Result<void> {
      if (rank == 2) throw std::bad_alloc();
      return {};
    }),
                      std::bad_alloc);
    REQUIRE(workers.run([](std::size_t) { return Result<void>(); }));
  }
}
