#include "cuda/model/workers.hpp"

namespace kquant::cuda {

Workers::Workers(std::size_t n) : results_(n), exceptions_(n) {
  for (std::size_t i = 1; i < n; ++i) threads_.emplace_back([this, i] { work(i); });
}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  begin_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::call(std::size_t index) {
  try {
    results_[index] = (*fn_)(index);
  } catch (...) {
    exceptions_[index] = std::current_exception();
  }
}

void Workers::work(std::size_t index) {
  for (unsigned seen = 0;;) {
    {
      std::unique_lock lock(mutex_);
      begin_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
    }
    call(index);
    const std::lock_guard lock(mutex_);
    if (--left_ == 0) end_.notify_one();
  }
}

Result<void> Workers::run(const std::function<Result<void>(std::size_t)>& fn) {
  {
    const std::lock_guard lock(mutex_);
    fn_ = &fn;
    left_ = threads_.size();
    ++round_;
  }
  begin_.notify_all();
  call(0);
  {
    std::unique_lock lock(mutex_);
    end_.wait(lock, [&] { return left_ == 0; });
  }
  for (std::exception_ptr& exception : exceptions_)
    if (exception) {
      const std::exception_ptr first = exception;
      exceptions_.assign(exceptions_.size(), nullptr);
      std::rethrow_exception(first);
    }
  for (const Result<void>& result : results_)
    if (!result) return result;
  return {};
}

}  // namespace kquant::cuda
