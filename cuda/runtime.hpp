#pragma once
// What is asked of a device: memory, copies, launches, all in the order of one queue. Two
// implementations: the CUDA runtime (runtime/nvidia.cu) and the emulator (runtime/emulated.cpp).
// Errors of copies and launches are kept: finish() says the first one.

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "cuda/vocabulary.hpp"
#include "kquant/cuda.hpp"

namespace kquant::cuda {

/// Whether kernels run on a device as they are compiled for sm_90a.
bool runs_hopper_code(const DeviceInfo& device);

/// A sequence of launches and copies on the device, to be run again and again.
class Recording {
 public:
  virtual ~Recording() = default;
};

class Queue {
 public:
  static Result<std::shared_ptr<Queue>> open(int ordinal);
  virtual ~Queue() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual Result<std::size_t> free_memory() = 0;

  virtual Result<void*> allocate(std::size_t bytes) = 0;
  virtual void release(void* p) = 0;
  /// Memory of the CPU that copies to and from the device do not wait for.
  virtual Result<void*> allocate_pinned(std::size_t bytes) = 0;
  virtual void release_pinned(void* p) = 0;

  virtual void copy_to_device(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_on_device(void* to, const void* from, std::size_t bytes) = 0;
  virtual void fill(void* to, std::byte value, std::size_t bytes) = 0;

  /// Waits until all is done. The first error since the last call: kUnavailable, or kOutOfMemory.
  virtual Result<void> finish() = 0;

  /// From here on launches and copies on the device are recorded, not run.
  virtual void begin_recording() = 0;
  virtual Result<std::unique_ptr<Recording>> end_recording() = 0;
  virtual void replay(const Recording& recording) = 0;

  template <class... P>
  void launch(const Launch& size, void (*kernel)(P...), std::type_identity_t<P>... arguments) {
#if defined(__CUDACC__)
    void* pointers[] = {&arguments...};
    launch_kernel(size, reinterpret_cast<const void*>(kernel), pointers);
#else
    launch_function(size, [=] { kernel(arguments...); });
#endif
  }

 protected:
  virtual void launch_kernel(const Launch&, const void* /*kernel*/, void** /*arguments*/) {}
  virtual void launch_function(const Launch&, std::function<void()> /*body*/) {}
};

/// Memory on a device, released with its owner.
class Buffer {
 public:
  Buffer() = default;
  /// Errors: kOutOfMemory: how much was asked for, for what, and how much is free.
  static Result<Buffer> allocate(const std::shared_ptr<Queue>& queue, std::size_t bytes,
                                 std::string_view what);
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) queue_->release(data_);
  }
  template <class T = std::byte>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Queue> queue_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace kquant::cuda
