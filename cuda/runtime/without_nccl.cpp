// What a build for GPUs without NCCL says of several of them.
#include "cuda/runtime/communicator.hpp"

namespace kquant::cuda {

Result<std::vector<std::shared_ptr<Communicator>>> Communicator::open(
    std::span<const std::shared_ptr<Queue>>) {
  return fail(ErrorCode::kUnavailable,
              "a model cannot be divided among GPUs: this kquant was built without NCCL (cmake -D "
              "KQUANT_NCCL=ON)");
}

}  // namespace kquant::cuda
