#pragma once
// What a KvCache has in the memory of one device, or of several, each with its KV heads.

#include <span>
#include <vector>

#include "cuda/kv_layout.hpp"
#include "cuda/runtime.hpp"
#include "kquant/model/kv_cache.hpp"

namespace kquant::cuda {

/// Where some of the heads are, and how.
struct KvPlace {
  std::shared_ptr<Queue> queue;
  KvLayout layout;
};

class DeviceKv : public KvStorage {
 public:
  static Result<std::unique_ptr<DeviceKv>> make(std::vector<KvPlace> places, int capacity);
  Result<std::unique_ptr<KvStorage>> make_another(int capacity) const override;
  Result<void> copy_prefix(const KvStorage& from, int size) override;

  std::byte* data(std::size_t rank) const { return buffers_[rank].as<>(); }
  int capacity() const { return capacity_; }
  bool is_at(std::span<const KvPlace> places) const;

 private:
  std::vector<KvPlace> places_;
  std::vector<Buffer> buffers_;  ///< one a place
  int capacity_ = 0;
};

}  // namespace kquant::cuda
