// What is said where a GPU, its driver, its memory or a launch will not do, and that memory is
// given back and the rest goes on. On emulated devices, which fail when they are told to.
#include "cuda/runtime.hpp"
#include "cuda/runtime/emulated.hpp"
#include "cuda/runtime/requirements.hpp"
#include "models.hpp"
#include "quantize/weights.hpp"

using namespace kquant;
using namespace kquant::cuda;
using test::distance, test::some_tokens;

namespace {

constexpr std::size_t kMemory = std::size_t{1} << 30;

/// Calls that launch kernels and copy results, as a user makes them.
struct Calls {
  static constexpr std::size_t kRows = 20, kCols = 512;
  std::vector<float> weights = test::random_weights(kRows * kCols, 0.02f);
  std::vector<std::byte> packed =
      test::packed_of(TensorType::Q4_K, weights, kCols, {.effort = Effort::kFast});

  Result<DeviceMatrix> upload(const Device& device) const {
    return DeviceMatrix::upload(device, {TensorType::Q4_K, kRows, kCols, packed.data()});
  }
  Result<std::vector<float>> multiply(const Device& device) const {
    const auto w = upload(device);
    if (!w) return fail(w.error());
    std::vector<float> y(3 * kRows);
    auto done = matmul(*w, {weights.data(), 3, kCols}, {y.data(), 3, kRows});
    if (!done) return fail(done.error());
    return y;
  }
  Result<std::vector<float>> dequantize(const Device& device) const {
    const auto w = upload(device);
    if (!w) return fail(w.error());
    std::vector<float> values(kRows * kCols);
    auto done = cuda::dequantize(*w, NumberType::kF32, values.data());
    if (!done) return fail(done.error());
    return values;
  }
  Result<std::vector<std::byte>> quantize(const Device& device) const {
    std::vector<std::byte> blocks(packed.size());
    auto done = cuda::quantize(device, TensorType::Q4_K, {weights.data(), kRows, kCols}, blocks,
                               {.effort = Effort::kFast});
    if (!done) return fail(done.error());
    return blocks;
  }
};

/// call(device) with each of its launches failing in turn, and once more afterwards.
template <class Call>
void check_launches(int launches, const Call& call) {
  const Device device(emulated_queue(kMemory));
  const auto expected = call(device);
  REQUIRE(expected);
  for (int before = 0; before < launches; ++before) {
    INFO("launch " << before);
    fail_launch(*device.queue(), before, Failure::kLaunch);
    const auto failed = call(device);
    REQUIRE(!failed);
    REQUIRE(failed.error().code == ErrorCode::kUnavailable);
    REQUIRE(failed.error().message == "GPU: launch: told to fail");
    REQUIRE(device.free_memory().value() == kMemory);
    const auto again = call(device);
    REQUIRE(again);
    const bool same = *again == *expected;
    REQUIRE(same);
  }
  REQUIRE(device.free_memory().value() == kMemory);
}

bool says(const Error& error, const std::string& text) {
  return error.message.find(text) != std::string::npos;
}

/// A prompt and tokens after it one by one: launched, recorded, replayed.
constexpr std::size_t kPrompt = 4, kTokens = 8;

Result<void> step(Transformer& model, std::span<const Token> tokens, KvCache& cache,
                  std::vector<float>& logits) {
  const auto at = static_cast<std::size_t>(cache.size());
  logits.assign(static_cast<std::size_t>(model.config().vocab_size), NAN);
  return model.forward(tokens.subspan(at, at == 0 ? kPrompt : 1), cache,
                       {logits.data(), 1, logits.size()});
}

}  // namespace

TEST_CASE("a driver that is too old or not there is named, with what is needed") {
  CHECK(insufficient_driver(12080, 13000).message ==
        "the NVIDIA driver is for CUDA 12.8, but this build needs 13.0: update the driver");
  CHECK(insufficient_driver(0, 13000).message == "no NVIDIA GPU was found: there is no driver");
  CHECK(insufficient_driver(12080, 13000).code == ErrorCode::kUnavailable);
}

TEST_CASE("GPUs that are too old are named, and left out where there are others") {
  const DeviceInfo volta{.ordinal = 0, .name = "V100", .compute_major = 7, .compute_minor = 0};
  const DeviceInfo turing{.ordinal = 1, .name = "T4", .compute_major = 7, .compute_minor = 5};
  const DeviceInfo ampere{.ordinal = 2, .name = "A100", .compute_major = 8, .compute_minor = 0};
  CHECK(check_capability(ampere));
  const auto refused = check_capability(turing);
  REQUIRE(!refused);
  CHECK(refused.error().code == ErrorCode::kUnavailable);
  CHECK(refused.error().message ==
        "GPU 1 (T4) has compute capability 7.5, but 8.0 or newer is needed");
  const auto none = usable_among({volta, turing});
  REQUIRE(!none);
  CHECK(none.error().message ==
        "no NVIDIA GPU of compute capability 8.0 or newer was found: GPU 0 (V100) has compute "
        "capability 7.0, GPU 1 (T4) has compute capability 7.5");
  const auto some = usable_among({volta, ampere, turing});
  REQUIRE(some);
  REQUIRE(some->size() == 1);
  CHECK(some->front().ordinal == 2);
  CHECK(no_such_gpu(3, 1).message == "there is no GPU 3, only GPU 0");
  CHECK(no_such_gpu(-1, 4).message == "there is no GPU -1, only 0 to 3");
}

TEST_CASE("a launch that fails is its call's error; memory is given back and the next call works") {
  const Calls calls;
  check_launches(2, [&](const Device& device) { return calls.multiply(device); });
  check_launches(1, [&](const Device& device) { return calls.dequantize(device); });
  check_launches(1, [&](const Device& device) { return calls.quantize(device); });
}

TEST_CASE(
    "a launch that fails within a model leaves its cache as it was, and the next step works") {
  const Device device(emulated_queue(kMemory));
  {
    Transformer model = test::load(test::fixture_path("llama3.gguf"), device.accelerator());
    const auto tokens = some_tokens(model, kTokens);
    std::vector<float> logits;
    std::vector<std::vector<float>> expected;
    KvCache whole(model.config(), 16);
    while (whole.size() < static_cast<int>(kTokens)) {
      REQUIRE(step(model, tokens, whole, logits));
      expected.push_back(logits);
    }
    for (int before : {0, 1, 7, 13}) {  // also within what is recorded
      KvCache cache(model.config(), 20 + before);
      int failures = 0;
      for (const std::vector<float>& wanted : expected) {
        INFO("launch " << before << " after token " << cache.size());
        const int size = cache.size();
        fail_launch(*device.queue(), before, Failure::kLaunch);
        const auto done = step(model, tokens, cache, logits);
        fail_launch(*device.queue(), -1, Failure::kLaunch);
        if (!done) {
          ++failures;
          REQUIRE(done.error().code == ErrorCode::kUnavailable);
          REQUIRE(cache.size() == size);
          REQUIRE(step(model, tokens, cache, logits));
        }
        REQUIRE(cache.size() > size);
        REQUIRE(distance(logits, wanted) < 5e-3);
      }
      REQUIRE(failures >= 1);
    }
    // A launch that fails while a step is recorded: a model that has met the shape once.
    Transformer fresh = test::load(test::fixture_path("llama3.gguf"), device.accelerator());
    KvCache cache(fresh.config(), 16);
    REQUIRE(step(fresh, tokens, cache, logits));
    REQUIRE(step(fresh, tokens, cache, logits));
    fail_launch(*device.queue(), 5, Failure::kLaunch);
    REQUIRE(!step(fresh, tokens, cache, logits));
    REQUIRE(cache.size() == kPrompt + 1);
    REQUIRE(step(fresh, tokens, cache, logits));
    REQUIRE(distance(logits, expected[2]) < 5e-3);
  }
  REQUIRE(device.free_memory().value() == kMemory);
}

TEST_CASE("a device that is lost answers with errors, gives memory back, and the CPU goes on") {
  for (const bool divided : {false, true}) {
    const std::vector<Device> devices{Device(emulated_queue(kMemory, 0)),
                                      Device(emulated_queue(kMemory, 1))};
    {
      const auto accelerator =
          divided ? tensor_parallel(devices).value() : devices.front().accelerator();
      Transformer model = test::load(test::fixture_path("llama3.gguf"), accelerator);
      const auto tokens = some_tokens(model, kTokens);
      std::vector<float> logits;
      KvCache cache(model.config(), 16);
      REQUIRE(step(model, tokens, cache, logits));
      fail_launch(*devices.front().queue(), 5, Failure::kDevice);
      for (int attempt = 0; attempt < 3; ++attempt) {
        const auto done = step(model, tokens, cache, logits);
        REQUIRE(!done);
        REQUIRE(done.error().code == ErrorCode::kUnavailable);
        REQUIRE(cache.size() == kPrompt);
      }
      KvCache another(model.config(), 16);
      REQUIRE(!step(model, tokens, another, logits));
      const Calls calls;
      REQUIRE(!calls.upload(devices.front()));
      REQUIRE(!calls.quantize(devices.front()));
      Transformer on_cpu = test::load(test::fixture_path("llama3.gguf"), nullptr);
      KvCache of_cpu(on_cpu.config(), 16);
      REQUIRE(step(on_cpu, tokens, of_cpu, logits));
    }
    for (const Device& device : devices) REQUIRE(device.free_memory().value() == kMemory);
  }
}

TEST_CASE("memory that is not there: what is needed, what is free, and nothing stays taken") {
  const Calls calls;
  const Device none(emulated_queue(0));
  const auto no_upload = calls.upload(none);
  REQUIRE(!no_upload);
  CHECK(no_upload.error().code == ErrorCode::kOutOfMemory);
  CHECK(no_upload.error().message ==
        "GPU 0 (emulated): no memory for weights: 1 MiB are needed, 0 MiB of 0 MiB are free");
  // Wherever it ends: between the buffers of a call, too.
  for (std::size_t memory = 0; memory < std::size_t{1} << 20; memory += std::size_t{1} << 13) {
    INFO(memory << " bytes");
    const Device device(emulated_queue(memory));
    const auto y = calls.multiply(device);
    const auto values = calls.dequantize(device);
    const auto blocks = calls.quantize(device);
    if (!y) CHECK(y.error().code == ErrorCode::kOutOfMemory);
    if (!values) CHECK(values.error().code == ErrorCode::kOutOfMemory);
    if (!blocks) CHECK(blocks.error().code == ErrorCode::kOutOfMemory);
    if (blocks) CHECK((*blocks == calls.packed));
    REQUIRE(device.free_memory().value() == memory);
  }
}

TEST_CASE("a model without room says what it needs and what would fit") {
  const auto path = test::embedded();
  std::size_t needed = 0;
  {
    const Device device(emulated_queue(kMemory));
    const Transformer model = test::load(path, device.accelerator());
    needed = kMemory - device.free_memory().value();
  }
  const auto refusal = [&](std::size_t memory) {
    const Device device(emulated_queue(memory));
    const auto refused = Transformer::load(path, {.accelerator = device.accelerator()});
    REQUIRE(!refused);
    REQUIRE(refused.error().code == ErrorCode::kOutOfMemory);
    REQUIRE(device.free_memory().value() == memory);
    return refused.error();
  };
  const Error weights = refusal(needed - 1);
  INFO(weights.message);
  CHECK(says(weights, "GPU 0 (emulated): the weights need "));
  CHECK(says(weights, " MiB are free: a quantization to 99 % of the size would fit"));
  for (const std::size_t parts : {1u, 3u, 5u}) {
    const Error scratch = refusal((std::size_t{4} << 20) * parts / 8);
    INFO(scratch.message);
    CHECK(says(scratch, "GPU 0 (emulated): no memory for "));
    CHECK(says(scratch, " for the weights: the model does not fit, however quantized"));
  }
}

TEST_CASE("a cache without room says how many tokens would fit, and so many do") {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    const Device device(emulated_queue(std::size_t{1} << 26));
    Transformer model = test::load(test::fixture_path("llama3.gguf"), device.accelerator());
    const auto tokens = some_tokens(model, kTokens);
    std::vector<float> logits;
    {
      // Scratch that grows with the first step is taken.
      KvCache small(model.config(), 8, type);
      REQUIRE(step(model, tokens, small, logits));
    }
    const std::size_t free = device.free_memory().value();
    KvCache large(model.config(), 1 << 20, type);
    const auto refused = step(model, tokens, large, logits);
    REQUIRE(!refused);
    const std::string& message = refused.error().message;
    INFO(message);
    CHECK(refused.error().code == ErrorCode::kOutOfMemory);
    CHECK(says(refused.error(), "no memory for keys and values of 1048576 tokens: "));
    CHECK(device.free_memory().value() == free);
    const std::string before = "free: about ";
    const auto at = message.find(before);
    REQUIRE(at != std::string::npos);
    const int fits = std::stoi(message.substr(at + before.size()));
    {
      KvCache two_more(model.config(), fits + 2, type);
      CHECK(!step(model, tokens, two_more, logits));
    }
    KvCache fitting(model.config(), fits, type);
    CHECK(step(model, tokens, fitting, logits));
    CHECK(fitting.size() == static_cast<int>(kPrompt));
  }
}
