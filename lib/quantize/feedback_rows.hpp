#pragma once
// A few rows of weights to packed blocks, by the error of their products.
//
//   1. from the first column to the last: each block's scales by the ordinary search, of what its
//      weights have become by the errors before them; then its codes one by one, each error handed
//      on to the columns after it
//   2. as long as it helps: any code, sub-block scale or min, and d and dmin, changed to what is
//      best with all others as they are
//
//   3. where it is asked for, the row's d and dmin raised by what least squares make them too small
//
// Steps 1 and 2 lower the same sum, E = e H e^T with e = w - w'. Step 1 sees it as sum_j D_j^2 (x_j
// - w'_j)^2 where x_j = w_j + sum_{i<j} e_i M_ij, step 2 by its gradient g = H e.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block_scales.hpp"
#include "encoder.hpp"
#include "kquant/base/span2d.hpp"

namespace kquant::detail {

/// What all rows share; K x K each, row-major.
struct FeedbackMatrices {
  std::size_t cols = 0;
  const float* hessian = nullptr;     ///< H
  const float* factor = nullptr;      ///< M, unit upper triangular: H = (M D) (M D)^T
  const float* importance = nullptr;  ///< D^2
};

/// c += a b: a is n x k, b k x m.
void add_product(Span2d<const float> a, Span2d<const float> b, Span2d<float> c);

/// y += factor * x
inline void add_scaled(float factor, const float* x, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

template <class F>
class FeedbackRows {
 public:
  static constexpr std::size_t kRows = 32;  ///< at most, at a time

  FeedbackRows(const FeedbackMatrices& matrices, Effort effort, bool unbiased)
      : m_(matrices), effort_(effort), unbiased_(unbiased), blocks_(m_.cols / kBlock) {
    for (auto* v : {&x_, &e_, &g_}) v->resize(kRows * m_.cols);
    codes_.resize(kRows * m_.cols);
    scales_.resize(kRows * blocks_);
    panel_.resize(kRows * kBlock);
    panel_importance_.resize(kRows * kBlock);
    packed_.resize(kRows * sizeof(Block));
  }

  /// w: rows <= kRows. out: row after row of blocks.
  void encode(Span2d<const float> w, std::byte* out) {
    w_ = w;
    for (std::size_t r = 0; r < w.rows; ++r) {
      std::copy_n(w.row(r).data(), m_.cols, x_.data() + r * m_.cols);
    }
    for (std::size_t b = 0; b < blocks_; ++b) feed_block(b);
    std::fill(g_.begin(), g_.end(), 0.0f);
    add_product(view(e_), {m_.hessian, m_.cols, m_.cols}, view(g_));
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      int changes = 0;
      for (std::size_t b = 0; b < blocks_; b += kBlocksAPanel)
        changes += descend(b, std::min(b + kBlocksAPanel, blocks_));
      if (changes == 0) break;
    }
    if (unbiased_) lengthen();
    for (std::size_t r = 0; r < w.rows; ++r) {
      for (std::size_t b = 0; b < blocks_; ++b) {
        const Block block =
            pack_block<F>(scales_[r * blocks_ + b], codes_.data() + r * m_.cols + b * kBlock);
        std::memcpy(out + (r * blocks_ + b) * sizeof block, &block, sizeof block);
      }
    }
  }

 private:
  using Block = typename F::Block;
  static constexpr std::size_t kBlock = F::kBlock, kSub = F::kSub;
  static constexpr int kSweeps = 4;
  static constexpr float kFloor = 0.05f;  ///< see QuantizeOptions::importance_floor

  /// Step 2 takes so many columns at a time: that square of H stays in the cache.
  static constexpr std::size_t kBlocksAPanel = std::max<std::size_t>(1, 256 / kBlock);

  Span2d<float> view(std::vector<float>& v) { return {v.data(), w_.rows, m_.cols}; }

  // ---- 1: from the first column to the last ----

  void feed_block(std::size_t b) {
    const std::size_t first = b * kBlock, rest = m_.cols - first - kBlock;
    find_scales(b);
    for (std::size_t r = 0; r < w_.rows; ++r) feed_codes(r, b);
    if (rest == 0) return;
    const Span2d<float> errors(e_.data() + first, w_.rows, kBlock, m_.cols);
    const Span2d<const float> factor(m_.factor + first * m_.cols + first + kBlock, kBlock, rest,
                                     m_.cols);
    add_product(errors, factor, {x_.data() + first + kBlock, w_.rows, rest, m_.cols});
  }

  /// The rows' blocks side by side are one long row to the search.
  void find_scales(std::size_t b) {
    for (std::size_t r = 0; r < w_.rows; ++r) {
      std::copy_n(x_.data() + r * m_.cols + b * kBlock, kBlock, panel_.data() + r * kBlock);
      std::copy_n(m_.importance + b * kBlock, kBlock, panel_importance_.data() + r * kBlock);
    }
    const std::size_t n = w_.rows * kBlock;
    find_encoder(F::type)({panel_.data(), n, 1, n, panel_importance_.data(), kFloor, effort_, false,
                           packed_.data(), packed_.size()});
    for (std::size_t r = 0; r < w_.rows; ++r) {
      Block block;
      std::memcpy(&block, packed_.data() + r * sizeof block, sizeof block);
      scales_[r * blocks_ + b] = {F::d(block), F::kHasMin ? F::dmin(block) : 0.0f,
                                  F::unpack_scales(block)};
    }
  }

  void feed_codes(std::size_t r, std::size_t b) {
    const std::size_t first = b * kBlock;
    const float* w = w_.row(r).data() + first;
    float* x = x_.data() + r * m_.cols + first;
    float* e = e_.data() + r * m_.cols + first;
    std::int8_t* codes = codes_.data() + r * m_.cols + first;
    const BlockScales<F>& scales = scales_[r * blocks_ + b];
    for (std::size_t i = 0; i < kBlock; ++i) {
      const int j = static_cast<int>(i / kSub);
      const float scale = scales.scale(j), min = scales.min(j);
      codes[i] = nearest_code(x[i], scale, min);
      e[i] = w[i] - value(scale, min, codes[i]);
      add_scaled(e[i], m_.factor + (first + i) * m_.cols + first + i + 1, kBlock - i - 1,
                 x + i + 1);
    }
  }

  static float value(float scale, float min, int code) {
    const float v = scale * static_cast<float>(code);
    return F::kHasMin ? v - min : v;
  }
  static std::int8_t nearest_code(float x, float scale, float min) {
    if (std::fabs(scale) < 0x1p-100f) return static_cast<std::int8_t>(clamp_code(0.0f));
    return static_cast<std::int8_t>(round_even(clamp_code((F::kHasMin ? x + min : x) / scale)));
  }
  static float clamp_code(float c) {
    constexpr float kLow = kCodes<F>.low, kHigh = kCodes<F>.high;
    return c > kLow ? (c < kHigh ? c : kHigh) : kLow;
  }

  // ---- 2: coordinate by coordinate ----

  /// Blocks [begin, end) of each row. Their changes count for other columns only when all is done.
  int descend(std::size_t begin, std::size_t end) {
    panel_first_ = begin * kBlock;
    panel_cols_ = (end - begin) * kBlock;
    const std::size_t last = panel_first_ + panel_cols_;
    change_.resize(w_.rows * panel_cols_);
    int changes = 0;
    for (std::size_t r = 0; r < w_.rows; ++r) {
      e = e_.data() + r * m_.cols;
      g = g_.data() + r * m_.cols;
      w = w_.row(r).data();
      codes = codes_.data() + r * m_.cols;
      float* const change = change_.data() + r * panel_cols_;
      for (std::size_t i = 0; i < panel_cols_; ++i) change[i] = -e[panel_first_ + i];
      for (std::size_t b = begin; b < end; ++b) {
        BlockScales<F>& scales = scales_[r * blocks_ + b];
        for (std::size_t j = 0; j < kSubs<F>; ++j) {
          if constexpr (!kDirectScale<F>) changes += improve_sub_scale(b, j, scales);
          changes += improve_codes(b, j, scales);
        }
        changes += improve_super(b, scales);
      }
      for (std::size_t i = 0; i < panel_cols_; ++i) change[i] += e[panel_first_ + i];
    }
    if (changes == 0) return 0;
    const auto spread = [&](std::size_t from, std::size_t to) {
      if (from == to) return;
      add_product({change_.data(), w_.rows, panel_cols_},
                  {m_.hessian + panel_first_ * m_.cols + from, panel_cols_, to - from, m_.cols},
                  {g_.data() + from, w_.rows, to - from, m_.cols});
    };
    spread(0, panel_first_);
    spread(last, m_.cols);
    return changes;
  }

  /// w' of column i becomes smaller by `by`: its error larger.
  void change_error(std::size_t i, float by) {
    add_scaled(by, m_.hessian + i * m_.cols + panel_first_, panel_cols_, g + panel_first_);
  }

  /// Each code of a sub-block to its best, one after the other.
  int improve_codes(std::size_t b, std::size_t j, const BlockScales<F>& scales) {
    const float scale = scales.scale(static_cast<int>(j)), min = scales.min(static_cast<int>(j));
    if (std::fabs(scale) < 0x1p-100f) return 0;
    const std::size_t first = b * kBlock + j * kSub;
    int changes = 0;
    for (std::size_t i = first; i < first + kSub; ++i) {
      const float curvature = m_.hessian[i * m_.cols + i];
      const float wish = static_cast<float>(codes[i]) + g[i] / (scale * curvature);
      const auto code = static_cast<std::int8_t>(round_even(clamp_code(wish)));
      if (code == codes[i]) continue;
      const float by = value(scale, min, code) - value(scale, min, codes[i]);
      if (!(2 * by * g[i] - by * by * curvature > 0)) continue;
      codes[i] = code;
      e[i] = w[i] - value(scale, min, code);
      change_error(i, -by);
      ++changes;
    }
    return changes;
  }

  /// A sub-block's integer scale and min, its codes following.
  int improve_sub_scale(std::size_t b, std::size_t j, BlockScales<F>& scales) {
    const int sub = static_cast<int>(j);
    const std::size_t first = b * kBlock + j * kSub;
    const int scale0 = scales.words.scale_at(sub), min0 = F::kHasMin ? scales.words.min_at(sub) : 0;
    float best = 0;
    int best_scale = scale0, best_min = min0;
    std::int8_t best_codes[kSub];
    for (int s = scale0 - 1; s <= scale0 + 1; ++s) {
      if (s < kScales<F>.low || s > kScales<F>.high) continue;
      for (int m = min0 - F::kHasMin; m <= min0 + F::kHasMin; ++m) {
        if ((s == scale0 && m == min0) || (F::kHasMin && (m < kMins<F>.low || m > kMins<F>.high)))
          continue;
        std::int8_t found[kSub];
        const float gain =
            try_scale(first, scales.d * static_cast<float>(s),
                      F::kHasMin ? scales.dmin * static_cast<float>(m) : 0.0f, found);
        if (!(gain > best)) continue;
        best = gain;
        best_scale = s;
        best_min = m;
        std::copy_n(found, kSub, best_codes);
      }
    }
    if (best_scale == scale0 && best_min == min0) return 0;
    scales.words.set_scale(sub, best_scale);
    if constexpr (F::kHasMin) scales.words.set_min(sub, best_min);
    const float scale = scales.scale(sub), min = scales.min(sub);
    for (std::size_t i = 0; i < kSub; ++i) {
      codes[first + i] = best_codes[i];
      set_error(first + i, w[first + i] - value(scale, min, best_codes[i]));
    }
    return 1;
  }

  /// What is gained where a sub-block has this scale and min, and codes that suit them.
  float try_scale(std::size_t first, float scale, float min, std::int8_t* found) const {
    float gradient[kSub];
    std::copy_n(g + first, kSub, gradient);
    float gain = 0;
    for (std::size_t i = 0; i < kSub; ++i) {
      const float* row = m_.hessian + (first + i) * m_.cols + first;
      const float old = w[first + i] - e[first + i];
      found[i] = nearest_code(old + gradient[i] / row[i], scale, min);
      const float by = value(scale, min, found[i]) - old;
      gain += by * (2 * gradient[i] - by * row[i]);
      add_scaled(-by, row, kSub, gradient);
    }
    return gain;
  }

  void set_error(std::size_t i, float error) {
    const float by = error - e[i];
    if (by == 0) return;
    e[i] = error;
    change_error(i, by);
  }

  /// d and dmin, for the codes and integers as they are.
  int improve_super(std::size_t b, BlockScales<F>& scales) {
    const std::size_t first = b * kBlock;
    float u[kBlock], v[kBlock];  // value = d u - dmin v
    double uu = 0, uv = 0, vv = 0, ug = 0, vg = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const int j = static_cast<int>(i / kSub);
      u[i] = static_cast<float>(scales.words.scale_at(j) * codes[first + i]);
      v[i] = F::kHasMin ? static_cast<float>(scales.words.min_at(j)) : 0.0f;
    }
    for (std::size_t i = 0; i < kBlock; ++i) {
      const float* row = m_.hessian + (first + i) * m_.cols + first;
      float hu = 0, hv = 0;
      for (std::size_t k = 0; k < kBlock; ++k) hu += row[k] * u[k];
      if constexpr (F::kHasMin)
        for (std::size_t k = 0; k < kBlock; ++k) hv += row[k] * v[k];
      uu += double{u[i]} * hu;
      uv += double{u[i]} * hv;
      vv += double{v[i]} * hv;
      ug += double{u[i]} * g[first + i];
      vg += double{v[i]} * g[first + i];
    }
    // e' = e - by u + min_by v
    double by = 0, min_by = 0;
    const double det = uu * vv - uv * uv;
    if (F::kHasMin && det > 1e-6 * uu * vv) {
      by = (ug * vv - vg * uv) / det;
      min_by = (ug * uv - vg * uu) / det;
    } else if (uu > 0) {
      by = ug / uu;
    }
    const float d = nearest_half(scales.d + static_cast<float>(by));
    float dmin = F::kHasMin ? nearest_half(scales.dmin + static_cast<float>(min_by)) : 0.0f;
    if (F::kHasMin && !kDirectScale<F> && dmin < 0) dmin = 0;
    by = double{d} - double{scales.d};
    min_by = double{dmin} - double{scales.dmin};
    const double gain =
        2 * by * ug - 2 * min_by * vg - by * by * uu + 2 * by * min_by * uv - min_by * min_by * vv;
    if (!(gain > 0)) return 0;
    scales.d = d;
    scales.dmin = dmin;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const int j = static_cast<int>(i / kSub);
      set_error(first + i, w[first + i] - value(scales.scale(j), scales.min(j), codes[first + i]));
    }
    return 1;
  }

  // ---- 3: see QuantizeOptions::unbiased ----

  /// A row's d and dmin, all of them, times w H w^T / w H w'^T.
  void lengthen() {
    std::fill(x_.begin(), x_.end(), 0.0f);
    add_product(w_, {m_.hessian, m_.cols, m_.cols}, view(x_));
    for (std::size_t r = 0; r < w_.rows; ++r) {
      double whole = 0, missing = 0;
      for (std::size_t i = 0; i < m_.cols; ++i) {
        whole += double{w_.row(r)[i]} * x_[r * m_.cols + i];
        missing += double{w_.row(r)[i]} * g_[r * m_.cols + i];
      }
      if (!(2 * missing < whole)) continue;  // hardly anything of the row is left
      const double by = whole / (whole - missing);
      for (std::size_t b = 0; b < blocks_; ++b) {
        BlockScales<F>& scales = scales_[r * blocks_ + b];
        scales.d = nearest_half(static_cast<float>(scales.d * by));
        scales.dmin = nearest_half(static_cast<float>(scales.dmin * by));
      }
    }
  }

  FeedbackMatrices m_;
  Effort effort_;
  bool unbiased_;
  std::size_t blocks_;
  Span2d<const float> w_;
  std::vector<float> x_, e_, g_;
  std::vector<std::int8_t> codes_;
  std::vector<BlockScales<F>> scales_;
  std::vector<float> panel_, panel_importance_, change_;
  std::vector<std::byte> packed_;

  // Of the row that descends, and of the columns it does so in.
  std::size_t panel_first_ = 0, panel_cols_ = 0;
  const float* w = nullptr;
  float *e = nullptr, *g = nullptr;
  std::int8_t* codes = nullptr;
};

}  // namespace kquant::detail
