#pragma once

namespace kquant::test {

/// The larger of two errors, and NaN where one is, which std::max() may drop.
inline double worse(double a, double b) {
  return a != a || b <= a ? a : b;
}

}  // namespace kquant::test
