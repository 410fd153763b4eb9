#pragma once
// The kernels of one format, as a table.

#include "cuda/lookup.cuh"
#include "cuda/product.hpp"
#include "cuda/quantize.hpp"

namespace kquant::cuda {

struct FormatKernels {
  struct Shape {
    int rows = 0, columns = 0;  ///< of a block
    int threads = 0;
    std::size_t shared = 0;
    void (*kernel)(Product) = nullptr;
  };
  Shape few;
  Shape many[3];                                  ///< 16, 32 and 128 columns a block
  Shape warpgroup;                                ///< of X in tiles; its kernel may not be there
  void (*dequantize[3])(Table, std::byte*) = {};  ///< by Numbers
  void (*look_up)(Lookup) = nullptr;
  QuantizeShape quantize;  ///< none of plain types
};

/// Defined once for each of DeviceFormats, in inst/.
template <class F>
const FormatKernels& format_kernels();

/// Of a type that DeviceFormats has.
const FormatKernels& format_kernels_of(TensorType type);

}  // namespace kquant::cuda
