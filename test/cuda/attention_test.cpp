// Attention on the device against sums in double precision, and the plan of its blocks.
#include <cmath>
#include <map>

#include "cuda/attention.hpp"
#include "cuda/model/plan.hpp"
#include "cuda/rotate.cuh"
#include "device_memory.hpp"
#include "kernels/every_isa.hpp"

using namespace kquant;
using namespace kquant::cuda;
using test::size;
using test::to_device;
using test::to_host;

namespace {

struct Problem {
  int tokens, first, heads, kv_heads, dim_k, dim_v, window = 0;
  float soft_cap = 0;
  bool q8 = false;
  int blocks = 1;  ///< more than tiles: keys are divided
};

/// Rotation by nothing, then attention over first + tokens tokens, of which the last are new.
void check(const Device& device, const Problem& p) {
  INFO(p.tokens << " after " << p.first << ", heads " << p.heads << "/" << p.kv_heads << " of "
                << p.dim_k << ", " << p.dim_v << ", window " << p.window << ", cap " << p.soft_cap
                << (p.q8 ? ", q8_0" : ", f16") << ", blocks " << p.blocks);
  const int capacity = p.first + p.tokens + 3, all = p.first + p.tokens;
  const KvLayout kv{2, p.kv_heads, p.dim_k, p.dim_v, p.q8};
  const std::size_t width = size(p.heads * p.dim_k + p.kv_heads * (p.dim_k + p.dim_v));
  const std::vector<float> qkv = test::random_floats(size(all) * width, 4);
  auto cache = Buffer::allocate(device.queue(), kv.bytes(capacity), "test");
  REQUIRE(cache);
  std::vector<RowPlace> places;
  for (int i = 0; i < all; ++i) places.push_back({cache->as<>(), capacity, 0, i, 0});
  const Buffer places_on = to_device(device, places), qkv_on = to_device(device, qkv);
  const Buffer rope = to_device(device, std::vector<float>(2));
  const Buffer q =
      to_device(device, std::vector<std::uint16_t>(size(all * p.heads * kv.padded_k()), 0x7e00));
  const int total = p.heads + 2 * p.kv_heads;
  device.queue()->launch({.x = all,
                          .y = (total + kRotateWarps - 1) / kRotateWarps,
                          .threads = kRotateWarps * kWarp,
                          .shared = kRotateShared},
                         rotate_and_store<>,
                         Rotate{.qkv = qkv_on.as<float>(),
                                .q_heads = p.heads,
                                .kv = kv,
                                .layer = 1,
                                .rows = places_on.as<RowPlace>(),
                                .q_scale = 0.25f,
                                .rope = {rope.as<float>(), rope.as<float>()},
                                .pairs = 0,
                                .neox = false,
                                .q = q.as<std::uint16_t>()});

  const int group = p.heads / p.kv_heads;
  const PlannedPiece piece{cache->as<>(), capacity, 0, p.first, p.tokens};
  const AttentionPlan plan = plan_attention({&piece, 1}, p.kv_heads, group, p.window, p.blocks);
  const Buffer tiles = to_device(device, plan.tiles);
  const Buffer merges =
      to_device(device, plan.merges.empty() ? std::vector<AttentionMerge>(1) : plan.merges);
  const Buffer parts = to_device(
      device, std::vector<float>(plan.grid().bytes_of_parts(kv.dim_v) / sizeof(float), NAN));
  const int out_padded = (p.heads * p.dim_v + 5 + kUnitCols - 1) / kUnitCols * kUnitCols;
  constexpr std::uint16_t kUntouched = 0x1234;
  const Buffer out =
      to_device(device, std::vector<std::uint16_t>(size(p.tokens * out_padded), kUntouched));
  const HalfRows rows{.data = out.as<std::uint16_t>(), .padded = out_padded};
  attend(*device.queue(),
         {.tiles = tiles.as<AttentionTile>(),
          .merges = merges.as<AttentionMerge>(),
          .kv = kv,
          .layer = 1,
          .q_heads = p.heads,
          .window = p.window,
          .soft_cap = p.soft_cap,
          .q = q.as<std::uint16_t>() + size(p.first * p.heads * kv.padded_k()),
          .out = rows,
          .parts = parts.as<float>()},
         plan.grid());
  const auto found = to_host<std::uint16_t>(device, out);

  double error = 0, norm = 0;
  for (int i = 0; i < p.tokens; ++i) {
    for (int h = 0; h < p.heads; ++h) {
      const int position = p.first + i, kv_head = h / group;
      const int begin = p.window == 0 ? 0 : std::max(0, position + 1 - p.window);
      const float* query = qkv.data() + size(position) * width + size(h * p.dim_k);
      std::vector<double> score;
      for (int key = begin; key <= position; ++key) {
        const float* k = qkv.data() + size(key) * width + size((p.heads + kv_head) * p.dim_k);
        double s = 0;
        for (int d = 0; d < p.dim_k; ++d) s += 0.25 * double{query[d]} * double{k[d]};
        if (p.soft_cap > 0) s = double{p.soft_cap} * std::tanh(s / double{p.soft_cap});
        score.push_back(s);
      }
      const double most = *std::max_element(score.begin(), score.end());
      double sum = 0;
      for (double& s : score) sum += s = std::exp(s - most);
      for (int d = 0; d < p.dim_v; ++d) {
        double expected = 0;
        for (int key = begin; key <= position; ++key)
          expected += score[size(key - begin)] / sum *
                      double{qkv[size(key) * width +
                                 size((p.heads + p.kv_heads) * p.dim_k + kv_head * p.dim_v + d)]};
        const double got = to_float(Half{found[rows.at(i, h * p.dim_v + d)]});
        error += (got - expected) * (got - expected);
        norm += expected * expected;
      }
    }
    for (int d = p.heads * p.dim_v; d < out_padded; ++d)
      REQUIRE(found[rows.at(i, d)] == kUntouched);
  }
  REQUIRE(std::sqrt(error / norm) < (p.q8 ? 2e-2 : 3e-3));
}

}  // namespace

TEST_CASE("attention of every kind, in every order", "[small]") {
  const auto device = test::device();
  if (!device) return;
  test::in_every_order([&] {
    for (const bool q8 : {false, true}) {
      check(
          *device,
          {.tokens = 1, .first = 0, .heads = 2, .kv_heads = 1, .dim_k = 32, .dim_v = 32, .q8 = q8});
      check(*device, {.tokens = 70,
                      .first = 0,
                      .heads = 2,
                      .kv_heads = 2,
                      .dim_k = 64,
                      .dim_v = 64,
                      .q8 = q8});
      check(*device, {.tokens = 9,
                      .first = 130,
                      .heads = 8,
                      .kv_heads = 2,
                      .dim_k = 128,
                      .dim_v = 128,
                      .q8 = q8});
      // Warps with rows of their own, and with keys of their own: up to 16 rows.
      for (const int tokens : {17, 2}) {
        check(*device, {.tokens = tokens,
                        .first = 61,
                        .heads = 2,
                        .kv_heads = 1,
                        .dim_k = 256,
                        .dim_v = 256,
                        .q8 = q8});
        check(*device, {.tokens = tokens,
                        .first = 64,
                        .heads = 3,
                        .kv_heads = 1,
                        .dim_k = 96,
                        .dim_v = 80,
                        .window = 33,
                        .q8 = q8});
        check(*device, {.tokens = tokens,
                        .first = 7,
                        .heads = 2,
                        .kv_heads = 2,
                        .dim_k = 6,
                        .dim_v = 4,
                        .soft_cap = 2,
                        .q8 = q8});
      }
    }
  });
}

TEST_CASE("attention whose keys are divided among blocks", "[small]") {
  const auto device = test::device();
  if (!device) return;
  check(*device, {.tokens = 1,
                  .first = 700,
                  .heads = 4,
                  .kv_heads = 1,
                  .dim_k = 64,
                  .dim_v = 64,
                  .blocks = 8});
  check(*device, {.tokens = 1,
                  .first = 300,
                  .heads = 8,
                  .kv_heads = 2,
                  .dim_k = 128,
                  .dim_v = 128,
                  .window = 100,
                  .blocks = 64});
  check(*device, {.tokens = 20,
                  .first = 257,
                  .heads = 4,
                  .kv_heads = 1,
                  .dim_k = 32,
                  .dim_v = 64,
                  .q8 = true,
                  .blocks = 64});
}

TEST_CASE("attention over whole tiles", "[whole]") {
  const auto device = test::device();
  if (!device) return;
  for (const int dim : {64, 128, 256})
    for (const bool q8 : {false, true}) {
      check(*device, {.tokens = 32,
                      .first = 224,
                      .heads = 8,
                      .kv_heads = 2,
                      .dim_k = dim,
                      .dim_v = dim,
                      .q8 = q8});
      check(*device, {.tokens = 1,
                      .first = 511,
                      .heads = 16,
                      .kv_heads = 1,
                      .dim_k = dim,
                      .dim_v = dim,
                      .q8 = q8,
                      .blocks = 4});
    }
}

TEST_CASE("plans have every query row and key once") {
  for (const int window : {0, 50})
    for (const int blocks : {1, 64, 264})
      for (const int tokens : {1, 45}) {
        const std::vector<PlannedPiece> pieces{{nullptr, 2000, 0, 301, tokens},
                                               {nullptr, 2000, tokens, 0, 1},
                                               {nullptr, 2000, tokens + 1, 64, 5}};
        constexpr int kGroup = 3, kHeads = 2;
        const AttentionPlan plan = plan_attention(pieces, kHeads, kGroup, window, blocks);
        // (first row of the piece, head, query row, key) -> how often
        std::map<std::tuple<int, int, int, int>, int> seen;
        for (const AttentionTile& tile : plan.tiles) {
          REQUIRE(tile.end > tile.begin);
          REQUIRE(tile.end - tile.begin <= kQueryRows);
          REQUIRE(tile.key_end <= tile.first_position + (tile.end - 1) / kGroup + 1);
          for (int row = tile.begin; row < tile.end; ++row)
            for (int key = tile.key_begin; key < tile.key_end; ++key)
              ++seen[{tile.first_row, tile.kv_head, row, key}];
        }
        for (const PlannedPiece& piece : pieces)
          for (int head = 0; head < kHeads; ++head)
            for (int row = 0; row < piece.tokens * kGroup; ++row) {
              const int position = piece.first_position + row / kGroup;
              const int begin = window == 0 ? 0 : std::max(0, position + 1 - window);
              for (int key = begin; key <= position; ++key) {
                const auto it = seen.find({piece.first_row, head, row, key});
                REQUIRE(it != seen.end());
                REQUIRE(it->second == 1);
              }
            }
        REQUIRE((plan.parts == 1) == plan.merges.empty());
        std::size_t parts = 0;
        for (const AttentionMerge& merge : plan.merges) {
          for (int i = 0; i < merge.parts; ++i) {
            const AttentionTile& tile = plan.tiles[size(merge.first_part + i)];
            REQUIRE(tile.part == merge.first_part + i);
            REQUIRE(tile.begin == merge.begin);
            REQUIRE(tile.kv_head == merge.kv_head);
            REQUIRE(tile.first_row == merge.first_row);
          }
          parts += size(merge.parts);
        }
        if (!plan.merges.empty()) REQUIRE(parts == plan.tiles.size());
      }
}
