#include "kquant/model/kv_cache.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/huge_pages.hpp"
#include "model/cache_access.hpp"

namespace kquant {

KvCache::KvCache(const Config& config, int capacity, KvType type)
    : capacity_(std::max(capacity, 0)),
      type_(type),
      n_layers_(config.n_layers),
      n_kv_heads_(config.n_kv_heads),
      head_dim_k_(config.head_dim_k),
      head_dim_v_(config.head_dim_v),
      storage_(std::make_unique_for_overwrite<std::byte[]>(bytes() + CacheAccess::kAlign)) {
  prefer_huge_pages(storage_.get(), bytes() + CacheAccess::kAlign);
}

std::size_t KvCache::bytes() const {
  return static_cast<std::size_t>(n_layers_) * CacheAccess(*this).layer_bytes();
}

Result<void> KvCache::copy_prefix(const KvCache& from, int size) {
  const CacheAccess source(from), target(*this);
  if (!target.same_shape(source))
    return fail(ErrorCode::kInvalidArgument,
                "copy of a prefix: the caches are of different models or types");
  if (size < 0 || size > from.size_)
    return fail(
        ErrorCode::kOutOfRange,
        fmt::format("copy of a prefix: {} tokens of a cache that holds {}", size, from.size_));
  if (size > capacity_)
    return fail(ErrorCode::kOutOfRange,
                fmt::format("copy of a prefix: {} tokens into a cache with a capacity of {}", size,
                            capacity_));
  if (this == &from) {
    truncate(size);
    return {};
  }
  if (from.elsewhere_ != nullptr && size > 0) {
    if (elsewhere_ == nullptr) {
      auto made = from.elsewhere_->make_another(capacity_);
      if (!made) return fail(made.error());
      elsewhere_ = std::move(*made);
    }
    if (auto copied = elsewhere_->copy_prefix(*from.elsewhere_, size); !copied) return copied;
    size_ = size;
    return {};
  }
  elsewhere_.reset();
  target.copy_tokens(source, static_cast<std::size_t>(size));
  size_ = size;
  return {};
}

void KvCache::truncate(int size) {
  size_ = std::clamp(size, 0, size_);
}

}  // namespace kquant
