#pragma once
// Threads that do the same thing side by side, one a device: what one of them waits for, another
// one does.

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kquant/base/error.hpp"

namespace kquant::cuda {

class Workers {
 public:
  /// n - 1 threads: the caller of run() is the first worker. n > 0.
  explicit Workers(std::size_t n);
  ~Workers();

  /// fn(0) … fn(n - 1), all at once; waits for all. The first error or exception, by number.
  Result<void> run(const std::function<Result<void>(std::size_t)>& fn);

 private:
  void work(std::size_t index);
  void call(std::size_t index);

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  const std::function<Result<void>(std::size_t)>* fn_ = nullptr;
  unsigned round_ = 0;
  std::size_t left_ = 0;
  bool stop_ = false;
  std::vector<Result<void>> results_;
  std::vector<std::exception_ptr> exceptions_;
  std::vector<std::thread> threads_;
};

}  // namespace kquant::cuda
