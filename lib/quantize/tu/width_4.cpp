#include "quantize/encode_rows.hpp"

namespace kquant::detail {

EncodeRows find_encoder_4(TensorType type) {
  return find_encoder<4>(type);
}

}  // namespace kquant::detail
