#include "cuda/model/kv_storage.hpp"

namespace kquant::cuda {

Result<std::unique_ptr<DeviceKv>> DeviceKv::make(const std::shared_ptr<Queue>& queue,
                                                 const KvLayout& layout, int capacity) {
  auto buffer = Buffer::allocate(queue, layout.bytes(capacity),
                                 "keys and values of " + std::to_string(capacity) + " tokens");
  if (!buffer) return fail(buffer.error());
  auto out = std::make_unique<DeviceKv>();
  out->queue_ = queue;
  out->layout_ = layout;
  out->capacity_ = capacity;
  out->buffer_ = std::move(*buffer);
  return out;
}

Result<std::unique_ptr<KvStorage>> DeviceKv::make_another(int capacity) const {
  auto made = make(queue_, layout_, capacity);
  if (!made) return fail(made.error());
  return std::unique_ptr<KvStorage>(std::move(*made));
}

Result<void> DeviceKv::copy_prefix(const KvStorage& other, int size) {
  const auto& from = static_cast<const DeviceKv&>(other);
  const auto n = static_cast<std::size_t>(size);
  const auto copy = [&](std::size_t to_at, std::size_t from_at, std::size_t token_bytes) {
    if (token_bytes > 0)
      queue_->copy_on_device(data() + to_at, from.data() + from_at, n * token_bytes);
  };
  for (int layer = 0; layer < layout_.layers; ++layer)
    for (int head = 0; head < layout_.heads; ++head) {
      const KvLayout& l = layout_;
      copy(l.key_codes(layer, head, capacity_), l.key_codes(layer, head, from.capacity_),
           l.code_bytes(l.dim_k));
      copy(l.key_scales(layer, head, capacity_), l.key_scales(layer, head, from.capacity_),
           l.scale_bytes(l.dim_k));
      copy(l.value_codes(layer, head, capacity_), l.value_codes(layer, head, from.capacity_),
           l.code_bytes(l.dim_v));
      copy(l.value_scales(layer, head, capacity_), l.value_scales(layer, head, from.capacity_),
           l.scale_bytes(l.dim_v));
    }
  return queue_->finish();
}

}  // namespace kquant::cuda
