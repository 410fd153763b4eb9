#include "quantize/encode_rows.hpp"

namespace kquant::detail {

EncodeRows find_encoder_8(TensorType type) {
  return find_encoder<8>(type);
}

}  // namespace kquant::detail
