#pragma once
// Instantiates all kernels of one format; included by inst/FORMAT.cu only.

#include "cuda/few_columns.cuh"
#include "cuda/format_kernels.hpp"
#include "cuda/many_columns.cuh"
#include "cuda/quantize.cuh"
#include "cuda/warpgroup_columns.cuh"

namespace kquant::cuda {

template <class Shape>
FormatKernels::Shape shape_of(int columns, void (*kernel)(Product)) {
  return {Shape::kRows, columns, Shape::kThreads, Shape::kShared, kernel};
}

template <class F>
FormatKernels::Shape warpgroup_shape_of() {
  if constexpr (kBuiltForWarpgroups)
    return {WarpgroupColumns<F>::kRows, WarpgroupColumns<F>::kColumns,
            WarpgroupColumns<F>::kThreads, WarpgroupColumns<F>::kShared, warpgroup_columns<F>};
  else
    return {};
}

template <class F>
QuantizeShape quantize_shape_of() {
  if constexpr (DeviceLayout<F>::kPlain)
    return {};
  else
    return {.weights = detail::kWeightsAtOnce<F>,
            .shared = kQuantizeGroups * sizeof(Assembly<F>),
            .plan = detail::plan_of<F>,
            .even_out = detail::even_out<F>,
            .kernel = quantize_rows<F>};
}

template <class F>
const FormatKernels& format_kernels() {
  static const FormatKernels table{
      .few = shape_of<FewColumns<F>>(kMostFewColumns, few_columns<F>),
      .many = {shape_of<ManyColumns<F, 16>>(16, many_columns<F, 16>),
               shape_of<ManyColumns<F, 32>>(32, many_columns<F, 32>),
               shape_of<ManyColumns<F, 128>>(128, many_columns<F, 128>)},
      .warpgroup = warpgroup_shape_of<F>(),
      .dequantize = {dequantize<F, Numbers::kF32>, dequantize<F, Numbers::kF16>,
                     dequantize<F, Numbers::kBf16>},
      .look_up = look_up<F>,
      .quantize = quantize_shape_of<F>()};
  return table;
}

}  // namespace kquant::cuda
