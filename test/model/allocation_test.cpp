// Decoding takes memory in its first step only. Counts what this executable asks of operator new.

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <new>

#include "test/model/fixture.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1  // as gcc says it
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
TEST_CASE("decoding allocates nothing after its first step") {
  WARN("SKIPPED: the address sanitizer has an operator new of its own");
}
#else

namespace {
std::atomic<long> allocations{0};
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

using namespace kquant;
using namespace kquant::test;

TEST_CASE("decoding allocates nothing after its first step") {
  for (const std::string gguf : {"gemma3.gguf", "phi3_longrope.gguf"}) {
    Transformer model = load_fixture(gguf);
    KvCache cache(model.config(), 200);
    const std::vector<Token> token{5};
    std::vector<float> logits(128);
    const auto step = [&] { return model.forward(token, cache, {logits.data(), 1, 128}); };
    const long before = allocations;
    REQUIRE(step());
    CHECK(allocations > before);  // the count counts
    const long first = allocations;
    bool good = true;
    for (int i = 0; i < 150; ++i) good = good && step();
    const long last = allocations;
    CHECK(good);
    CHECK(last == first);

    std::vector<KvCache> caches;
    for (int i = 0; i < 3; ++i) caches.emplace_back(model.config(), 200);
    std::vector<Sequence> batch;
    for (KvCache& each : caches) batch.push_back({token, &each});
    logits.resize(3 * 128);
    const auto batch_step = [&] { return model.forward_batch(batch, {logits.data(), 3, 128}); };
    REQUIRE(batch_step());
    const long first_of_batch = allocations;
    for (int i = 0; i < 150; ++i) good = good && batch_step();
    const long last_of_batch = allocations;
    CHECK(good);
    CHECK(last_of_batch == first_of_batch);
  }
}

#endif
