#pragma once
// What a KvCache has in a device's memory.

#include "cuda/kv_layout.hpp"
#include "cuda/runtime.hpp"
#include "kquant/model/kv_cache.hpp"

namespace kquant::cuda {

class DeviceKv : public KvStorage {
 public:
  static Result<std::unique_ptr<DeviceKv>> make(const std::shared_ptr<Queue>& queue,
                                                const KvLayout& layout, int capacity);
  Result<std::unique_ptr<KvStorage>> make_another(int capacity) const override;
  Result<void> copy_prefix(const KvStorage& from, int size) override;

  std::byte* data() const { return buffer_.as<>(); }
  int capacity() const { return capacity_; }
  bool is_on(const Queue& queue) const { return queue_.get() == &queue; }

 private:
  std::shared_ptr<Queue> queue_;
  KvLayout layout_;
  int capacity_ = 0;
  Buffer buffer_;
};

}  // namespace kquant::cuda
