// The runtime on a GPU.
#include <string>

#include "cuda/hopper.hpp"
#include "cuda/runtime/nvidia.hpp"
#include "cuda/runtime/requirements.hpp"

namespace kquant::cuda {
namespace {

Error error_of(cudaError_t status, const std::string& what) {
  return Error{
      status == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kUnavailable,
      "GPU: " + what + ": " + cudaGetErrorString(status)};
}

Result<int> device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return fail(ErrorCode::kUnavailable, "no NVIDIA GPU was found");
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return fail(insufficient_driver(driver, runtime));
  }
  if (status != cudaSuccess) return fail(error_of(status, "cannot be used"));
  return count;
}

Result<DeviceInfo> info_of(int ordinal) {
  cudaDeviceProp p{};
  if (const cudaError_t s = cudaGetDeviceProperties(&p, ordinal); s != cudaSuccess)
    return fail(error_of(s, "cannot be asked for its properties"));
  return DeviceInfo{.ordinal = ordinal,
                    .name = p.name,
                    .compute_major = p.major,
                    .compute_minor = p.minor,
                    .multiprocessors = p.multiProcessorCount,
                    .memory = p.totalGlobalMem,
                    .shared_memory = p.sharedMemPerBlockOptin};
}

class NvidiaRecording : public Recording {
 public:
  explicit NvidiaRecording(cudaGraphExec_t e) : graph(e) {}
  ~NvidiaRecording() override { cudaGraphExecDestroy(graph); }
  cudaGraphExec_t graph;
};

/// Every call begins by making the queue's device the calling thread's: there may be several.
class NvidiaQueue : public Queue {
 public:
  NvidiaQueue(DeviceInfo info, cudaStream_t stream) : info_(std::move(info)), stream_(stream) {}
  ~NvidiaQueue() override {
    enter();
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  const DeviceInfo& info() const override { return info_; }
  cudaStream_t stream() const { return stream_; }
  Result<std::size_t> free_memory() override {
    enter();
    std::size_t available = 0, all = 0;
    if (const cudaError_t s = cudaMemGetInfo(&available, &all); s != cudaSuccess)
      return fail(error_of(s, "memory"));
    return available;
  }
  Result<void*> allocate(std::size_t bytes) override {
    enter();
    void* p = nullptr;
    if (const cudaError_t s = cudaMalloc(&p, bytes); s != cudaSuccess) {
      cudaGetLastError();  // or the next launch would report it again
      return fail(error_of(s, "allocation"));
    }
    return p;
  }
  void release(void* p) override {
    enter();
    cudaStreamSynchronize(stream_);
    cudaFree(p);
  }
  Result<void*> allocate_pinned(std::size_t bytes) override {
    enter();
    void* p = nullptr;
    if (const cudaError_t s = cudaMallocHost(&p, bytes); s != cudaSuccess) {
      cudaGetLastError();
      return fail(error_of(s, "pinned memory"));
    }
    return p;
  }
  void release_pinned(void* p) override { cudaFreeHost(p); }

  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    enter();
    keep(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copy");
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    enter();
    keep(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copy");
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes) override {
    enter();
    keep(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy");
  }
  void fill(void* to, std::byte value, std::size_t bytes) override {
    enter();
    keep(cudaMemsetAsync(to, static_cast<int>(value), bytes, stream_), "fill");
  }
  Result<void> finish() override {
    enter();
    keep(cudaStreamSynchronize(stream_), "computation");
    const cudaError_t first = std::exchange(first_, cudaSuccess);
    if (first != cudaSuccess) return fail(error_of(first, what_));
    return {};
  }
  void begin_recording() override {
    enter();
    keep(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "graph");
  }
  Result<std::unique_ptr<Recording>> end_recording() override {
    enter();
    cudaGraph_t graph = nullptr;
    cudaError_t status = cudaStreamEndCapture(stream_, &graph);
    // What failed while it was recorded is this recording's error, not that of a later finish().
    const bool complete = first_ == cudaSuccess;
    if (!complete) status = std::exchange(first_, cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    if (status == cudaSuccess) status = cudaGraphInstantiate(&exec, graph, 0);
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (status != cudaSuccess) {
      cudaGetLastError();
      return fail(error_of(status, complete ? "graph" : what_));
    }
    return std::make_unique<NvidiaRecording>(exec);
  }
  void replay(const Recording& recording) override {
    enter();
    keep(cudaGraphLaunch(static_cast<const NvidiaRecording&>(recording).graph, stream_), "graph");
  }

 protected:
  void launch_kernel(const Launch& size, const void* kernel, void** arguments) override {
    enter();
    constexpr std::size_t kWithoutAsking = std::size_t{48} << 10;
    if (size.shared > kWithoutAsking)
      keep(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                static_cast<int>(size.shared)),
           "shared memory");
    const auto u = [](int n) { return static_cast<unsigned>(n); };
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(u(size.x), u(size.y), u(size.z));
    config.blockDim = dim3(u(size.threads));
    config.dynamicSmemBytes = size.shared;
    config.stream = stream_;
    // It may begin before the one before it has ended: all kernels wait for that themselves, but
    // only as they are compiled for sm_90 (wait_for_previous_launches()).
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &overlap;
    config.numAttrs = runs_hopper_code(info_) ? 1 : 0;
    keep(cudaLaunchKernelExC(&config, kernel, arguments), "launch");
  }

 private:
  void enter() { cudaSetDevice(info_.ordinal); }
  void keep(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();
    if (first_ != cudaSuccess) return;
    first_ = status;
    what_ = what;
  }
  DeviceInfo info_;
  cudaStream_t stream_;
  cudaError_t first_ = cudaSuccess;
  const char* what_ = "";
};

}  // namespace

cudaStream_t stream_of(const Queue& queue) {
  return static_cast<const NvidiaQueue&>(queue).stream();
}

bool runs_hopper_code(const DeviceInfo& device) {
  return kBuiltForWarpgroups && device.compute_major == 9 && device.compute_minor == 0;
}

Result<std::vector<DeviceInfo>> devices() {
  const Result<int> count = device_count();
  if (!count) return fail(count.error());
  std::vector<DeviceInfo> found;
  for (int i = 0; i < *count; ++i) {
    auto info = info_of(i);
    if (!info) return fail(info.error());
    found.push_back(*info);
  }
  return usable_among(std::move(found));
}

Result<std::shared_ptr<Queue>> Queue::open(int ordinal) {
  const Result<int> count = device_count();
  if (!count) return fail(count.error());
  if (ordinal < 0 || ordinal >= *count) return fail(no_such_gpu(ordinal, *count));
  auto info = info_of(ordinal);
  if (!info) return fail(info.error());
  if (auto able = check_capability(*info); !able) return fail(able.error());
  cudaStream_t stream = nullptr;
  cudaError_t status = cudaSetDevice(ordinal);
  if (status == cudaSuccess) status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (status != cudaSuccess) return fail(error_of(status, "cannot be opened"));
  return std::make_shared<NvidiaQueue>(std::move(*info), stream);
}

Result<Device> Device::open(int ordinal) {
  auto queue = Queue::open(ordinal);
  if (!queue) return fail(queue.error());
  return Device(std::move(*queue));
}

}  // namespace kquant::cuda
