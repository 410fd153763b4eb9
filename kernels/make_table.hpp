#pragma once
// The kernels of every format for one ISA, generated from the list of formats.

#include "kernels/activations.hpp"
#include "kernels/attention.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/float_ops.hpp"
#include "kernels/isa/concept.hpp"
#include "kernels/multiply.hpp"
#include "kernels/multiply_plain.hpp"
#include "kernels/packed/multiply.hpp"
#include "kernels/packed/pack.hpp"
#include "kernels/table.hpp"
#include "kquant/format/all.hpp"

namespace kquant::kernels {

static_assert(kComputableTypes == WeightFormats::kSize + PlainFormats::kSize);

template <KernelIsa Isa>
constexpr KernelTable make_table() {
  KernelTable table{};
  table.isa = Isa::kIsa;
  table.isa_name = Isa::kName;
  int at = 0;
  WeightFormats::for_each([&]<class F>() {
    table.formats[at++] = {
        .type = F::type,
        .activations = kIsBlock32<F> ? ActivationKind::kInt8Per32 : ActivationKind::kInt8Per256,
        .dequantize_row = dequantize_row<F, Isa>,
        .multiply = multiply<F, Isa>,
        .pack_panel = pack_panel<F, Isa>,
        .panel_bytes = panel_bytes<F, Isa>,
        .multiply_packed = PackedKernel<F, Isa>::multiply,
        .packed_scratch_bytes = PackedKernel<F, Isa>::scratch_bytes};
  });
  PlainFormats::for_each([&]<class F>() {
    table.formats[at++] = {.type = F::type,
                           .activations = ActivationKind::kFloat,
                           .dequantize_row = dequantize_plain_row<F, Isa>,
                           .multiply = multiply_plain<F, Isa>,
                           .pack_panel = nullptr,
                           .panel_bytes = nullptr,
                           .multiply_packed = nullptr,
                           .packed_scratch_bytes = nullptr};
  });
  table.quantize[static_cast<int>(ActivationKind::kInt8Per256)] = quantize_activations<Isa, 256>;
  table.quantize[static_cast<int>(ActivationKind::kInt8Per32)] = quantize_activations<Isa, 32>;
  table.tile[static_cast<int>(ActivationKind::kInt8Per256)] = tile_activations<Isa, 256>;
  table.tile[static_cast<int>(ActivationKind::kInt8Per32)] = tile_activations<Isa, 32>;
  table.floats = float_ops<Isa>();
  table.attention = attention_ops<Isa>();
  return table;
}

}  // namespace kquant::kernels
