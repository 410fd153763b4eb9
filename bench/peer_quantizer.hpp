#pragma once
// Another library's quantizer, for comparison: ggml_quantize_chunk of any libggml, found when the
// program runs.

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kquant/quantize.hpp"

namespace kquant::bench {

class PeerQuantizer {
 public:
  /// NAME=PATH, or PATH alone, which is as for dlopen. Errors: kNotFound (no such library),
  /// kUnsupported (no such function).
  static Result<PeerQuantizer> open(const std::string& text) {
    const std::string path = text.substr(text.find('=') + 1);  // npos + 1 = 0: all of it
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return fail(ErrorCode::kNotFound, fmt::format("peer: {}", dlerror()));
    PeerQuantizer peer;
    peer.quantize_ = reinterpret_cast<Quantize*>(dlsym(library, "ggml_quantize_chunk"));
    if (peer.quantize_ == nullptr)
      return fail(ErrorCode::kUnsupported,
                  fmt::format("peer: {} has no function ggml_quantize_chunk", path));
    return peer;
  }

  /// Rows one after another, on this thread. importance: of the columns, or empty.
  void quantize(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                std::span<const float> importance) const {
    quantize_(static_cast<int>(type), in.data, out.data(), 0, static_cast<std::int64_t>(in.rows),
              static_cast<std::int64_t>(in.cols), importance.empty() ? nullptr : importance.data());
  }

 private:
  using Quantize = std::size_t(int type, const float* in, void* out, std::int64_t start,
                               std::int64_t rows, std::int64_t cols, const float* importance);
  Quantize* quantize_ = nullptr;
};

}  // namespace kquant::bench
