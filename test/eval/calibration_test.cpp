#include "kquant/eval/calibration.hpp"

#include <catch2/catch.hpp>

#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

TEST_CASE("an imatrix holds the mean squares of what each matrix met") {
  Transformer model = load_fixture("phi3.gguf");
  std::string text;
  for (int i = 0; i < 100; ++i) text += "the of an or " + std::to_string(i);
  int calls = 0;
  const auto imatrix = collect_imatrix(
      model, text, {.context = 20, .chunks = 3, .progress = [&](int done, int total) {
                      CHECK(done == ++calls);
                      return total == 3;
                    }});
  REQUIRE(imatrix);
  CHECK(calls == 3);
  CHECK(imatrix->chunk_count == 3);
  CHECK(imatrix->chunk_size == 20);
  CHECK(imatrix->entries().size() == 2 * 4);  // fused QKV and gate-up; no output matrix

  const std::string name = "blk.1.ffn_down.weight";
  std::vector<double> squares(64);
  model.observe([&](std::string_view tensor, Span2d<const float> x) {
    if (tensor != name) return;
    for (std::size_t row = 0; row < x.rows; ++row)
      for (std::size_t col = 0; col < x.cols; ++col)
        squares[col] += double{x.row(row)[col]} * x.row(row)[col];
  });
  const auto tokens = model.tokenizer().encode(text);
  KvCache cache(model.config(), 20);
  for (std::size_t window = 0; window < 3; ++window) {
    cache.clear();
    logits_of(model, std::span(*tokens).subspan(window * 20, 20), cache, 0);
  }
  const auto importance = imatrix->importance(name);
  REQUIRE(importance);
  REQUIRE(importance->size() == squares.size());
  for (std::size_t i = 0; i < squares.size(); ++i)
    CHECK((*importance)[i] == Approx(squares[i] / 60).epsilon(1e-5));

  CHECK(collect_imatrix(model, "the", {.context = 20}).error().code == ErrorCode::kInvalidArgument);
  CHECK(collect_imatrix(model, text, {.context = 20, .progress = [](int, int) { return false; }})
            .error()
            .code == ErrorCode::kInvalidArgument);
}
