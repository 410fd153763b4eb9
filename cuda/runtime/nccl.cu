// Sums over GPUs of this process, by NCCL.
#include <nccl.h>

#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>

#include "cuda/runtime/communicator.hpp"
#include "cuda/runtime/nvidia.hpp"

namespace kquant::cuda {
namespace {

Error error_of(ncclResult_t status, ncclComm_t communicator) {
  const char* more = ncclGetLastError(communicator);
  return {ErrorCode::kUnavailable,
          std::string("NCCL: ") + ncclGetErrorString(status) +
              (more != nullptr && *more != 0 ? std::string(": ") + more : std::string())};
}

/// Of all ranks.
struct Ring {
  ~Ring() {
    if (end.joinable()) end.join();
    for (const ncclComm_t communicator : communicators)
      if (!aborted) ncclCommDestroy(communicator);
  }
  std::vector<std::shared_ptr<Queue>> queues;
  std::vector<ncclComm_t> communicators;
  /// Shared by those who use communicators, so that none is ended under them.
  std::shared_timed_mutex mutex;
  bool aborted = false;
  /// Aborts: the last of them returns when no graph is left that has recorded a sum, and those who
  /// have these graphs wait for each other first.
  std::thread end;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<Ring> ring, std::size_t rank)
      : ring_(std::move(ring)), rank_(rank) {}

  void sum(float* x, std::size_t n) override {
    const std::shared_lock lock(ring_->mutex);
    if (ring_->aborted) return;
    const Queue& queue = *ring_->queues[rank_];
    cudaSetDevice(queue.info().ordinal);
    const ncclResult_t status =
        ncclAllReduce(x, x, n, ncclFloat32, ncclSum, own(), stream_of(queue));
    if (first_ == ncclSuccess) first_ = status;
  }

  void abort() override {
    // To add to a stream takes no time, but the first sum makes connections: a rank that waits
    // there for one that never comes is freed only by this.
    constexpr std::chrono::seconds kPatience{5};
    const std::unique_lock lock(ring_->mutex, kPatience);
    if (std::exchange(ring_->aborted, true)) return;
    ring_->end = std::thread([communicators = ring_->communicators] {
      for (const ncclComm_t communicator : communicators) ncclCommAbort(communicator);
    });
  }

  Result<void> check() override {
    const std::shared_lock lock(ring_->mutex);
    if (ring_->aborted)
      return fail(ErrorCode::kUnavailable,
                  "NCCL: a GPU failed, and the others were told not to wait for it");
    ncclResult_t status = first_;
    if (status == ncclSuccess) ncclCommGetAsyncError(own(), &status);
    if (status != ncclSuccess) return fail(error_of(status, own()));
    return {};
  }

 private:
  ncclComm_t own() const { return ring_->communicators[rank_]; }
  std::shared_ptr<Ring> ring_;
  std::size_t rank_;
  ncclResult_t first_ = ncclSuccess;
};

}  // namespace

Result<std::vector<std::shared_ptr<Communicator>>> Communicator::open(
    std::span<const std::shared_ptr<Queue>> queues) {
  auto ring = std::make_shared<Ring>();
  ring->queues.assign(queues.begin(), queues.end());
  std::vector<int> ordinals;
  for (const auto& queue : queues) ordinals.push_back(queue->info().ordinal);
  std::vector<ncclComm_t> made(queues.size());
  const ncclResult_t status =
      ncclCommInitAll(made.data(), static_cast<int>(made.size()), ordinals.data());
  if (status != ncclSuccess) return fail(error_of(status, nullptr));
  ring->communicators = std::move(made);
  std::vector<std::shared_ptr<Communicator>> all;
  for (std::size_t rank = 0; rank < queues.size(); ++rank)
    all.push_back(std::make_shared<NcclCommunicator>(ring, rank));
  return all;
}

}  // namespace kquant::cuda
