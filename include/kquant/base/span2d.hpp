#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

namespace kquant {

/// A view of `rows` x `cols` elements, row-major; consecutive rows lie `stride` elements apart.
template <class T>
struct Span2d {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;

  constexpr Span2d() = default;
  constexpr Span2d(T* data_, std::size_t rows_, std::size_t cols_, std::size_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  constexpr Span2d(T* data_, std::size_t rows_, std::size_t cols_)
      : Span2d(data_, rows_, cols_, cols_) {}

  /// A view of mutable elements is also a view of const ones.
  template <class U>
  requires(std::is_same_v<const U, T>) constexpr Span2d(const Span2d<U>& other)
      : Span2d(other.data, other.rows, other.cols, other.stride) {}

  constexpr std::span<T> row(std::size_t r) const { return {data + r * stride, cols}; }

  /// Rows [first, first + count).
  constexpr Span2d middle_rows(std::size_t first, std::size_t count) const {
    return {data + first * stride, count, cols, stride};
  }
};

}  // namespace kquant
