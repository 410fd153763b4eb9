#pragma once
// What runs a model in place of the CPU. cuda::Device::accelerator() makes one.

#include <memory>

#include "kquant/base/error.hpp"
#include "kquant/model/config.hpp"

namespace kquant {

class Backend;
struct Weights;

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  /// Takes a copy of the weights. Errors: kOutOfMemory (what is needed, what is free),
  /// kUnsupported.
  virtual Result<std::unique_ptr<Backend>> load(const Config& config, const Weights& weights) = 0;
};

/// Keys and values of a KvCache that are not in the CPU's memory.
class KvStorage {
 public:
  virtual ~KvStorage() = default;
  /// An empty one for the same model, of another capacity.
  virtual Result<std::unique_ptr<KvStorage>> make_another(int capacity) const = 0;
  /// Precondition: `from` was made by this one's make_another, or the other way round.
  virtual Result<void> copy_prefix(const KvStorage& from, int size) = 0;
};

}  // namespace kquant
