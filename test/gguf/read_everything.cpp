#include "gguf/byte_builder.hpp"

namespace kquant::test {

std::uint64_t read_everything(const gguf::File& file) {
  std::uint64_t sum = 0;
  const auto add = [&sum](auto bytes) {
    for (const auto b : bytes) sum = sum * 31 + static_cast<std::uint64_t>(b);
  };
  for (std::size_t i = 0; i < file.metadata_count(); ++i) {
    add(file.key(i));
    const gguf::Value value = file.value(i);
    add(value.bytes());
    sum += static_cast<std::uint64_t>(value.as_int().value_or(0)) + value.count();
    sum += value.as_float().has_value() + value.as_bool().value_or(false);
    if (const auto text = value.as_string()) add(*text);
    if (const auto texts = value.as_strings())
      for (const std::string_view text : *texts) add(text);
    if (const auto ints = value.as_ints()) add(*ints);
    if (const auto floats = value.as_floats()) sum += floats->size();
    sum += file.find(file.key(i)).has_value();
  }
  for (const gguf::Tensor& tensor : file.tensors()) {
    add(tensor.name);
    add(tensor.data);
    sum += tensor.size();
    sum += file.find_tensor(tensor.name) != nullptr;
  }
  return sum;
}

}  // namespace kquant::test
