#include "kquant/allocation.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

using namespace kquant;
using enum TensorType;

namespace {

/// Tensors of several sizes and sensitivities, each with costs that fall as bytes grow.
Choices made_up_choices(std::uint32_t seed) {
  std::mt19937 random(seed);
  Choices choices;
  choices.settled_bytes = 1000;
  choices.header_bytes = 600;
  for (std::uint64_t t = 0; t < 5; ++t) {
    const std::uint64_t size = 256 * (1 + random() % 8);
    const double cost = 1.0 + static_cast<double>(random() % 100);
    choices.weights += size;
    TensorChoices tensor{"t" + std::to_string(t), {}};
    double share = 1;
    for (const TensorType type : {Q6_K, Q2_K, Q4_K, Q3_K}) {  // in no order
      const auto bytes = row_bytes(type, size);
      const double bits = type_info(type).bits_per_weight();
      share = std::pow(4.0, -bits) * (0.7 + 0.001 * static_cast<double>(random() % 600));
      tensor.types.push_back({type, bytes, cost * share});
    }
    choices.tensors.push_back(std::move(tensor));
  }
  return choices;
}

struct Outcome {
  std::uint64_t bytes = 0;
  double cost = 0;
};
Outcome outcome_of(const Choices& choices, const TypePlan& plan) {
  Outcome outcome{choices.settled_bytes, 0};
  for (const TensorChoices& tensor : choices.tensors)
    for (const TypeChoice& choice : tensor.types)
      if (choice.type == plan.at(tensor.name)) {
        outcome.bytes += choice.bytes;
        outcome.cost += choice.cost;
      }
  return outcome;
}

/// The least cost of all plans that fit.
double best_cost(const Choices& choices, std::uint64_t bytes) {
  double best = 1e300;
  std::vector<std::size_t> at(choices.tensors.size());
  for (;;) {
    TypePlan plan;
    for (std::size_t t = 0; t < at.size(); ++t)
      plan[choices.tensors[t].name] = choices.tensors[t].types[at[t]].type;
    const Outcome outcome = outcome_of(choices, plan);
    if (outcome.bytes <= bytes) best = std::min(best, outcome.cost);
    std::size_t t = 0;
    while (t < at.size() && ++at[t] == choices.tensors[t].types.size()) at[t++] = 0;
    if (t == at.size()) return best;
  }
}

}  // namespace

TEST_CASE("allocation: fits, and is near the best of all plans") {
  double found = 0, best = 0;
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    const Choices choices = made_up_choices(seed);
    for (const double bits : {2.9, 3.5, 4.6, 6.0}) {
      const std::uint64_t bytes =
          choices.settled_bytes +
          static_cast<std::uint64_t>(bits / 8 * static_cast<double>(choices.weights));
      const auto plan = allocate(choices, bytes);
      REQUIRE(plan);
      const Outcome outcome = outcome_of(choices, *plan);
      CHECK(outcome.bytes <= bytes);
      const double least = best_cost(choices, bytes);
      CHECK(outcome.cost >= least * (1 - 1e-12));
      found += outcome.cost / least;
      best += 1;
    }
  }
  CHECK(found / best < 1.2);  // with five tensors the last one that does not fit counts
}

TEST_CASE("allocation: more bytes never cost more; all there are give every tensor its best") {
  const Choices choices = made_up_choices(3);
  double last = 1e300;
  for (std::uint64_t bytes = choices.settled_bytes + choices.weights * 3 / 8;
       bytes < choices.settled_bytes + choices.weights; bytes += 97) {
    const auto plan = allocate(choices, bytes);
    if (!plan) continue;
    const double cost = outcome_of(choices, *plan).cost;
    CHECK(cost <= last * 1.5);  // where one large step fits at last, small ones may have to go
    last = std::min(last, cost);
  }
  const auto plan = allocate(choices, std::uint64_t{1} << 40);
  REQUIRE(plan);
  for (const auto& [name, type] : *plan) CHECK(type == Q6_K);
}

TEST_CASE("allocation: a size out of reach names the range") {
  const Choices choices = made_up_choices(1);
  const auto plan = allocate(choices, choices.settled_bytes + 10);
  REQUIRE(!plan);
  CHECK(plan.error().code == ErrorCode::kInvalidArgument);
  std::uint64_t least = choices.settled_bytes;
  for (const TensorChoices& tensor : choices.tensors) least += tensor.types[1].bytes;
  CHECK(plan.error().message.find("reachable are " + std::to_string(least)) != std::string::npos);
  CHECK(allocate(choices, least));
  CHECK(!allocate(choices, least - 1));
}
