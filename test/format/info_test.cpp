#include <catch2/catch.hpp>

#include "kquant/format/all.hpp"

using namespace kquant;

TEST_CASE("types are found by id and by name in any letter case") {
  CHECK(find_type(12u)->name == "Q4_K");
  CHECK(find_type("q4_k")->type == TensorType::Q4_K);
  CHECK(find_type("bf16")->type == TensorType::BF16);
  CHECK(find_type(4u) == nullptr);  // Q4_2, removed from GGUF long ago
  CHECK(find_type("Q4") == nullptr);
}

TEST_CASE("bits per weight are the textbook figures") {
  CHECK(type_info(TensorType::Q2_K).bits_per_weight() == 2.625);
  CHECK(type_info(TensorType::Q3_K).bits_per_weight() == 3.4375);
  CHECK(type_info(TensorType::Q4_K).bits_per_weight() == 4.5);
  CHECK(type_info(TensorType::Q5_K).bits_per_weight() == 5.5);
  CHECK(type_info(TensorType::Q6_K).bits_per_weight() == 6.5625);
  CHECK(type_info(TensorType::Q8_0).bits_per_weight() == 8.5);
  CHECK(row_bytes(TensorType::Q6_K, 4096) == 16 * 210);
}

TEST_CASE("the table and the format list agree") {
  int blocks = 0;
  for (const TypeInfo& info : detail::kTypes) {
    const bool listed = WeightFormats::visit(info.type, []<class F>() {}) ||
                        ActivationFormats::visit(info.type, []<class F>() {});
    CHECK(listed == (info.support == Support::kBlock));
    CHECK(PlainFormats::visit(info.type, []<class F>() {}) == (info.support == Support::kPlain));
    blocks += listed;
  }
  CHECK(blocks == WeightFormats::kSize + ActivationFormats::kSize);
}
