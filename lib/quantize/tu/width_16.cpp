#include "quantize/encode_rows.hpp"

namespace kquant::detail {

EncodeRows find_encoder_16(TensorType type) {
  return find_encoder<16>(type);
}

}  // namespace kquant::detail
