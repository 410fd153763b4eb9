#include "kquant/model/accelerator.hpp"

#include "cuda/model/pass.hpp"

namespace kquant::cuda {
namespace {

class Gpu : public Accelerator {
 public:
  explicit Gpu(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}
  Result<std::unique_ptr<Backend>> load(const Config& config, const Weights& weights) override {
    return DevicePass::load(queue_, config, weights);
  }

 private:
  std::shared_ptr<Queue> queue_;
};

}  // namespace

std::shared_ptr<Accelerator> Device::accelerator() const {
  return std::make_shared<Gpu>(queue_);
}

}  // namespace kquant::cuda
