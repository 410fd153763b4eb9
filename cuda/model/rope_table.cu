#include "cuda/model/rope_table.hpp"

#include <bit>
#include <cmath>
#include <vector>

namespace kquant::cuda {

Result<bool> DeviceRope::extend(const std::shared_ptr<Queue>& queue, int count) {
  constexpr unsigned kLeast = 512;
  if (count <= count_) return false;
  const unsigned rows = std::bit_ceil(std::max(static_cast<unsigned>(count), kLeast));
  std::vector<float> values;
  values.reserve(rows * rope_.frequencies.size() * 2);
  for (unsigned position = 0; position < rows; ++position)
    for (const double frequency : rope_.frequencies) {
      const double angle = position * frequency;
      values.push_back(static_cast<float>(std::cos(angle) * rope_.magnitude));
      values.push_back(static_cast<float>(std::sin(angle) * rope_.magnitude));
    }
  auto buffer = Buffer::allocate(queue, values.size() * sizeof(float), "rotations");
  if (!buffer) return fail(buffer.error());
  queue->copy_to_device(buffer->as<>(), values.data(), values.size() * sizeof(float));
  if (auto done = queue->finish(); !done) return fail(done.error());
  buffer_ = std::move(*buffer);
  count_ = static_cast<int>(rows);
  return true;
}

}  // namespace kquant::cuda
