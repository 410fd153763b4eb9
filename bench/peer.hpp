#pragma once
// Other libraries' products, for comparison: any libggml, plain or with weights repacked as its
// users have them (ggml: the CPU backend's repack buffers; ik_llama.cpp: its run-time repacking).
//
// Found when a benchmark runs, never when it is built: nothing here knows ggml's headers, and the
// few functions that are used are declared in peer.cpp. Two of them may be loaded at once as long
// as they do not share the names of their parts (libggml-cpu.so, …).

#include <array>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "kquant/base/error.hpp"
#include "kquant/matmul.hpp"

namespace kquant::bench {

struct GgmlFunctions;

/// Copies of one matrix in a peer's memory.
class PeerMatrix {
 public:
  virtual ~PeerMatrix() = default;
  virtual std::size_t bytes() const = 0;  ///< of one copy
  virtual std::size_t copies() const = 0;
};

/// X (m x K) times each copy of a matrix in turn.
class PeerProduct {
 public:
  virtual ~PeerProduct() = default;
  /// Y = X W^T with copy `turn` modulo their number.
  virtual void compute(std::size_t turn) = 0;
  /// m x N, row-major, of the last call.
  virtual std::span<const float> result() = 0;
};

class Peer {
 public:
  /// `path` as for dlopen. Errors: kNotFound (no such library), kUnsupported (a function is
  /// missing).
  static Result<Peer> open(std::string name, const std::string& path);

  const std::string& name() const { return name_; }
  /// Where its parts were found.
  std::string folder() const;
  /// The loader takes a library that is named like one it has for the same: then this peer is
  /// (partly) the other one, and nothing measured with it means anything.
  bool shares_code_with(const Peer& other) const;

  /// True where it takes this type, and, if `repacked`, has another layout for it.
  bool can_load(const MatrixView& w, bool repacked) const;
  /// Precondition: can_load. Errors: kOutOfMemory.
  Result<std::shared_ptr<PeerMatrix>> load(const MatrixView& w, bool repacked,
                                           std::size_t copies) const;
  /// Precondition: x.cols is w's. Keeps `w`; copies x.
  Result<std::unique_ptr<PeerProduct>> product(std::shared_ptr<PeerMatrix> w, Span2d<const float> x,
                                               int n_threads) const;

 private:
  std::string name_;
  std::array<std::filesystem::path, 2>
      parts_;  ///< files with the tensors and with the processor's code
  std::shared_ptr<const GgmlFunctions> ggml_;
};

}  // namespace kquant::bench
