#include "cuda/model/device_backend.hpp"

#include <algorithm>
#include <atomic>

#include "model/cache_access.hpp"

namespace kquant::cuda {
namespace {

constexpr std::size_t kMostRecordings = 32;

}  // namespace

DeviceBackend::DeviceBackend(std::vector<std::unique_ptr<DevicePass>> passes)
    : passes_(std::move(passes)), workers_(passes_.size()) {}

Result<std::unique_ptr<Backend>> DeviceBackend::load(std::span<const Rank> ranks,
                                                     const Config& config, const Weights& weights) {
  auto shares = divide(config, weights, static_cast<int>(ranks.size()));
  if (!shares) return fail(shares.error());
  // Whether there is room everywhere is known before anything is copied anywhere.
  std::vector<std::unique_ptr<DevicePass>> passes;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    auto pass = DevicePass::make(ranks[i], std::move((*shares)[i]), weights);
    if (!pass) return fail(pass.error());
    passes.push_back(std::move(*pass));
  }
  // One after the other: the CPU puts the weights in order, with all its cores.
  for (const auto& pass : passes)
    if (auto uploaded = pass->upload(weights); !uploaded) return fail(uploaded.error());
  return std::unique_ptr<Backend>(new DeviceBackend(std::move(passes)));
}

std::vector<KvPlace> DeviceBackend::kv_places(KvType type) const {
  std::vector<KvPlace> places;
  for (const auto& pass : passes_)
    places.push_back({pass->queue(), kv_layout(pass->share().config, type == KvType::kQ8_0)});
  return places;
}

Result<void> DeviceBackend::check(const KvCache& cache) const {
  if (cache.type() == KvType::kF32)
    return fail(ErrorCode::kUnsupported, "a cache of type f32 on a GPU: only f16 and q8_0");
  if (cache.size() == 0) return {};
  const auto* storage = dynamic_cast<const DeviceKv*>(CacheAccess(cache).elsewhere());
  if (storage == nullptr || !storage->is_at(kv_places(cache.type())))
    return fail(ErrorCode::kInvalidArgument, "forward: the cache's tokens are on another device");
  return {};
}

Result<void> DeviceBackend::make_room(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) {
    std::vector<KvPlace> places = kv_places(piece.cache->type());
    const auto* storage = dynamic_cast<const DeviceKv*>(CacheAccess(*piece.cache).elsewhere());
    if (storage != nullptr && storage->is_at(places)) continue;
    auto made = DeviceKv::make(std::move(places), piece.cache->capacity());
    if (!made) return fail(made.error());
    CacheAccess::put_elsewhere(*piece.cache, std::move(*made));
  }
  return {};
}

Result<void> DeviceBackend::place(std::span<const Piece> pieces) {
  const KvType type = pieces.front().cache->type();
  for (const Piece& piece : pieces)
    if (piece.cache->type() != type)
      return fail(ErrorCode::kInvalidArgument,
                  "forward: on a GPU all caches of a batch have the same type");
  if (auto room = make_room(pieces); !room) return room;
  std::atomic<bool> moved = false;
  auto placed = workers_.run([&](std::size_t rank) -> Result<void> {
    std::vector<ChunkPiece> here;
    for (const Piece& piece : pieces) {
      const auto& storage = static_cast<const DeviceKv&>(*CacheAccess(*piece.cache).elsewhere());
      here.push_back({.tokens = piece.tokens,
                      .cache = storage.data(rank),
                      .capacity = storage.capacity(),
                      .position = piece.cache->size(),
                      .outputs = piece.outputs});
    }
    const auto done = passes_[rank]->place(here, type == KvType::kQ8_0);
    if (!done) return fail(done.error());
    if (*done) moved = true;
    return {};
  });
  if (moved || !placed) recordings_.clear();
  return placed;
}

Result<void> DeviceBackend::together(const std::function<Result<void>(std::size_t)>& fn) {
  auto all = workers_.run([&](std::size_t rank) {
    try {
      auto done = fn(rank);
      if (!done) passes_[rank]->abort();
      return done;
    } catch (...) {
      passes_[rank]->abort();
      throw;
    }
  });
  if (!all) recordings_.clear();  // NCCL waits for the last of them before it ends
  return all;
}

Result<const DeviceBackend::Recordings*> DeviceBackend::recordings_for(bool to_logits) {
  Shape shape({}, to_logits);
  for (const auto& pass : passes_) shape.first.push_back(pass->chunk().shape());
  const auto it = recordings_.find(shape);
  if (it == recordings_.end()) {
    if (recordings_.size() >= kMostRecordings) recordings_.clear();
    recordings_.emplace(std::move(shape), Recordings());
    return nullptr;
  }
  if (it->second.empty()) {
    Recordings made(passes_.size());
    auto done = together([&](std::size_t rank) -> Result<void> {
      auto recording = passes_[rank]->record(to_logits);
      if (!recording) return fail(recording.error());
      made[rank] = std::move(*recording);
      return {};
    });
    if (!done) return fail(done.error());
    it->second = std::move(made);
  }
  return &it->second;
}

Result<void> DeviceBackend::compute(std::span<const Piece> pieces, std::size_t logits) {
  if (auto placed = place(pieces); !placed) return placed;
  const bool to_logits = logits > 0;
  Result<const Recordings*> recordings = nullptr;
  if (std::ranges::all_of(pieces, [](const Piece& piece) { return piece.tokens.size() == 1; }))
    recordings = recordings_for(to_logits);
  if (!recordings) return fail(recordings.error());
  auto done = together([&](std::size_t rank) {
    DevicePass& pass = *passes_[rank];
    if (*recordings == nullptr)
      pass.run(to_logits);
    else
      pass.queue()->replay(*(**recordings)[rank]);
    if (to_logits)
      pass.fetch_logits(logits);
    else if (rank == 0)
      pass.fetch_hidden();  // all devices have the same
    return pass.finish();
  });
  if (!done) return done;
  for (const Piece& piece : pieces) CacheAccess::advance(*piece.cache, piece.tokens.size());
  return {};
}

void DeviceBackend::copy_logits(Span2d<float> to, std::size_t first, std::size_t rows) const {
  for (const auto& pass : passes_) {
    const Range& vocabulary = pass->share().vocabulary;
    for (std::size_t row = 0; row < rows; ++row)
      std::copy_n(pass->logits() + row * vocabulary.size(), vocabulary.size(),
                  to.row(first + row).data() + vocabulary.begin);
  }
}

Result<Span2d<const float>> DeviceBackend::run(std::span<const Piece> pieces) {
  if (auto done = compute(pieces, 0); !done) return fail(done.error());
  const DevicePass& pass = *passes_.front();
  return Span2d<const float>(pass.hidden().data(), static_cast<std::size_t>(pass.chunk().outputs()),
                             static_cast<std::size_t>(pass.share().config.n_embd));
}

Result<void> DeviceBackend::run_to_logits(std::span<const Piece> pieces, Span2d<float> logits) {
  if (logits.rows == 0 || logits.rows > DevicePass::kLogitRows)
    return Backend::run_to_logits(pieces, logits);
  if (auto done = compute(pieces, logits.rows); !done) return done;
  copy_logits(logits, 0, logits.rows);
  return {};
}

Result<void> DeviceBackend::project(Span2d<const float> hidden, Span2d<float> logits) {
  for (std::size_t first = 0; first < hidden.rows; first += DevicePass::kLogitRows) {
    const std::size_t n = std::min(DevicePass::kLogitRows, hidden.rows - first);
    auto done = together([&](std::size_t rank) {
      DevicePass& pass = *passes_[rank];
      pass.project(hidden.middle_rows(first, n));
      pass.fetch_logits(n);
      return pass.finish();
    });
    if (!done) return done;
    copy_logits(logits, first, n);
  }
  return {};
}

}  // namespace kquant::cuda
