#include "cuda/model/kv_storage.hpp"

#include <algorithm>

namespace kquant::cuda {
namespace {

Error with_what_fits(Error error, const KvPlace& place) {
  const auto free = place.queue->free_memory();
  if (error.code == ErrorCode::kOutOfMemory && free)
    error.message +=
        ": about " + std::to_string(place.layout.tokens_in(*free)) + " tokens would fit";
  return error;
}

}  // namespace

Result<std::unique_ptr<DeviceKv>> DeviceKv::make(std::vector<KvPlace> places, int capacity) {
  auto out = std::make_unique<DeviceKv>();
  for (const KvPlace& place : places) {
    auto buffer = Buffer::allocate(place.queue, place.layout.bytes(capacity),
                                   "keys and values of " + std::to_string(capacity) + " tokens");
    if (!buffer) return fail(with_what_fits(buffer.error(), place));
    out->buffers_.push_back(std::move(*buffer));
  }
  out->places_ = std::move(places);
  out->capacity_ = capacity;
  return out;
}

Result<std::unique_ptr<KvStorage>> DeviceKv::make_another(int capacity) const {
  auto made = make(places_, capacity);
  if (!made) return fail(made.error());
  return std::unique_ptr<KvStorage>(std::move(*made));
}

bool DeviceKv::is_at(std::span<const KvPlace> places) const {
  return std::ranges::equal(places_, places, {}, &KvPlace::queue, &KvPlace::queue);
}

Result<void> DeviceKv::copy_prefix(const KvStorage& other, int size) {
  const auto& from = static_cast<const DeviceKv&>(other);
  if (!is_at(from.places_))
    return fail(ErrorCode::kInvalidArgument, "copy of a prefix: the caches are on other devices");
  const auto n = static_cast<std::size_t>(size);
  for (std::size_t rank = 0; rank < places_.size(); ++rank) {
    Queue& queue = *places_[rank].queue;
    const KvLayout& l = places_[rank].layout;
    const auto copy = [&](std::size_t to_at, std::size_t from_at, std::size_t token_bytes) {
      if (token_bytes > 0)
        queue.copy_on_device(data(rank) + to_at, from.data(rank) + from_at, n * token_bytes);
    };
    for (int layer = 0; layer < l.layers; ++layer)
      for (int head = 0; head < l.heads; ++head) {
        copy(l.key_codes(layer, head, capacity_), l.key_codes(layer, head, from.capacity_),
             l.code_bytes(l.dim_k));
        copy(l.key_scales(layer, head, capacity_), l.key_scales(layer, head, from.capacity_),
             l.scale_bytes(l.dim_k));
        copy(l.value_codes(layer, head, capacity_), l.value_codes(layer, head, from.capacity_),
             l.code_bytes(l.dim_v));
        copy(l.value_scales(layer, head, capacity_), l.value_scales(layer, head, from.capacity_),
             l.scale_bytes(l.dim_v));
      }
  }
  Result<void> first;
  for (const KvPlace& place : places_)
    if (auto done = place.queue->finish(); !done && first) first = done;
  return first;
}

}  // namespace kquant::cuda
