#include "kquant/model/accelerator.hpp"

#include "cuda/model/device_backend.hpp"

namespace kquant::cuda {
namespace {

class Gpus : public Accelerator {
 public:
  explicit Gpus(std::vector<Rank> ranks) : ranks_(std::move(ranks)) {}
  Result<std::unique_ptr<Backend>> load(const Config& config, const Weights& weights) override {
    return DeviceBackend::load(ranks_, config, weights);
  }

 private:
  std::vector<Rank> ranks_;
};

}  // namespace

std::shared_ptr<Accelerator> Device::accelerator() const {
  return std::make_shared<Gpus>(std::vector<Rank>{{queue_, nullptr}});
}

Result<std::shared_ptr<Accelerator>> tensor_parallel(std::span<const Device> devices) {
  if (devices.empty()) return fail(ErrorCode::kInvalidArgument, "tensor parallelism: no GPUs");
  std::vector<std::shared_ptr<Queue>> queues;
  for (const Device& device : devices) queues.push_back(device.queue());
  auto communicators = Communicator::open(queues);
  if (!communicators) return fail(communicators.error());
  std::vector<Rank> ranks;
  for (std::size_t i = 0; i < queues.size(); ++i)
    ranks.push_back({queues[i], std::move((*communicators)[i])});
  return std::make_shared<Gpus>(std::move(ranks));
}

}  // namespace kquant::cuda
