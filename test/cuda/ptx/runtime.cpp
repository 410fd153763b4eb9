// Those functions of the CUDA runtime that this project calls, over blocks that run on the CPU:
// linked in its place, tests run as they do on a GPU. All is done when it is called, or replayed.
//
// KQUANT_PTX names a file with the PTX of the program, of the one architecture that the device then
// is.

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <unordered_map>

#include "block.hpp"

namespace kquant::ptx {
namespace {

constexpr std::size_t kMemory = std::size_t{8} << 30;
constexpr int kMultiprocessors = 4;

/// Kernels' mangled names, by what launches name them with.
std::unordered_map<const void*, std::string>& kernel_names() {
  static std::unordered_map<const void*, std::string> names;
  return names;
}

/// What KQUANT_PTX_TRAFFIC names is written at the end: a line for each instruction of a kernel.
struct TrafficFile {
  const char* const path = std::getenv("KQUANT_PTX_TRAFFIC");
  std::optional<TrafficCount> count;
  TrafficFile() {
    if (path != nullptr) count.emplace();
  }
  ~TrafficFile() {
    if (!count) return;
    std::ofstream out(path);
    out << "kernel,line,sectors,fewest_sectors,rounds,fewest_rounds\n";
    for (const auto& [kernel, instructions] : count->kernels)
      for (const auto& [i, t] : instructions)
        out << kernel << ',' << i->line << ',' << t.sectors << ',' << t.fewest_sectors << ','
            << t.rounds << ',' << t.fewest_rounds << '\n';
  }
} traffic_file;

Module& module() {
  static Module read = [] {
    const char* const path = std::getenv("KQUANT_PTX");
    std::ifstream in(path != nullptr ? path : "");
    std::ostringstream text;
    text << in.rdbuf();
    if (!in) throw Fault("KQUANT_PTX: expected a file with the PTX of this program");
    return Module(std::move(text).str());
  }();
  return read;
}

bool is_hopper() {
  return module().target() == "sm_90a";
}
std::size_t shared_memory_limit() {
  return is_hopper() ? 227u << 10 : 163u << 10;
}

struct Steps {
  std::vector<std::function<cudaError_t()>> all;
};
struct Stream {
  std::unique_ptr<Steps> recording;
};

template <class T, class Handle>
T* of(Handle handle) {
  return reinterpret_cast<T*>(handle);
}

/// Now, or whenever what is being recorded is replayed.
cudaError_t in_order(cudaStream_t stream, std::function<cudaError_t()> step) {
  Steps* const recording = of<Stream>(stream)->recording.get();
  if (recording == nullptr) return step();
  recording->all.push_back(std::move(step));
  return cudaSuccess;
}

std::mutex mutex;
std::string last_fault;  ///< what cudaErrorLaunchFailure means

cudaError_t failed(const Fault& fault) {
  std::fprintf(stderr, "%s\n", fault.what());  // not every test says what failed
  last_fault = fault.what();
  return cudaErrorLaunchFailure;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel_handle, void** arguments) {
  const auto& [x, y, z] = config.gridDim;
  constexpr unsigned kMost = 65535;
  if (x == 0 || y == 0 || z == 0 || y > kMost || z > kMost || config.blockDim.x > 1024 ||
      config.dynamicSmemBytes > shared_memory_limit())
    return cudaErrorInvalidConfiguration;
  const Kernel& kernel = module().kernel(kernel_names().at(kernel_handle));
  std::vector<u8> parameters(kernel.parameter_bytes);
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i)
    std::memcpy(parameters.data() + kernel.parameters[i].at, arguments[i],
                kernel.parameters[i].bytes);
  const Dim grid{x, y, z}, block{config.blockDim.x, config.blockDim.y, config.blockDim.z};
  const auto shared = static_cast<u32>(config.dynamicSmemBytes);
  return in_order(config.stream, [=, &kernel, parameters = std::move(parameters)] {
    static u64 launches = 0;
    const std::lock_guard lock(mutex);
    try {
      ptx::launch(kernel, grid, block, shared, parameters.data(), ++launches);
      return cudaSuccess;
    } catch (const Fault& fault) {
      return failed(fault);
    }
  });
}

}  // namespace
}  // namespace kquant::ptx

using namespace kquant::ptx;

extern "C" {

// What objects that nvcc has compiled call before main().
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* handle, char*, const char* name, int, void*, void*,
                            void*, void*, int*) {
  kernel_names()[handle] = name;
}
// Their <<<…>>>, of which there is none.
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, std::size_t*, void*) {
  return cudaErrorNotSupported;
}
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) {
  return cudaErrorNotSupported;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return cudaErrorNotSupported;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, is_hopper() ? "PTX of sm_90a" : "PTX of sm_80");
  properties->major = is_hopper() ? 9 : 8;
  properties->multiProcessorCount = kMultiprocessors;
  properties->totalGlobalMem = kMemory;
  properties->sharedMemPerBlockOptin = shared_memory_limit();
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  return cudaDriverGetVersion(version);
}
const char* cudaGetErrorString(cudaError_t status) {
  if (status == cudaErrorLaunchFailure) return last_fault.c_str();
  if (status == cudaErrorMemoryAllocation) return "out of memory";
  return status == cudaErrorInvalidConfiguration ? "invalid configuration" : "not supported";
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* all) {
  *available = *all = kMemory;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  *p = bytes > kMemory ? nullptr : DeviceMemory::instance().allocate(bytes);
  return *p != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* p) {
  DeviceMemory::instance().release(p);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  *p = std::malloc(bytes);
  return *p != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return in_order(stream, [=] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return in_order(stream, [=] {
    std::memset(to, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new Stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete of<Stream>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return of<Stream>(stream)->recording == nullptr ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  of<Stream>(stream)->recording = std::make_unique<Steps>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(of<Stream>(stream)->recording.release());
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* to, cudaGraph_t graph, unsigned long long) {
  *to = reinterpret_cast<cudaGraphExec_t>(new Steps(*of<Steps>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete of<Steps>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete of<Steps>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (const auto& step : of<Steps>(graph)->all)
    if (const cudaError_t status = step(); status != cudaSuccess) return status;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int bytes) {
  return static_cast<std::size_t>(bytes) <= shared_memory_limit() ? cudaSuccess
                                                                  : cudaErrorInvalidValue;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel,
                                void** arguments) {
  try {
    return launch(*config, kernel, arguments);
  } catch (const Fault& fault) {
    return failed(fault);
  }
}

}  // extern "C"
