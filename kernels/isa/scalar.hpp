#pragma once
// Plain C++: the fallback, and the meaning of every operation.

#include "kernels/isa/concept.hpp"
#include "kernels/isa/lanes.hpp"
#include "kernels/isa/rows.hpp"
#include "kquant/dispatch.hpp"

namespace kquant::kernels {

struct Scalar {
  static constexpr Isa kIsa = Isa::kScalar;
  static constexpr const char* kName = "scalar";
  static constexpr int kColumns = 1;
  static constexpr std::uint8_t kActivationFlip = 0;

  struct Bytes {
    std::uint8_t v[64];
  };
  struct Ints {
    std::int32_t v[16];
  };
  struct Words {
    std::int16_t v[32];
  };
  struct Sums {
    std::int16_t v[16];
  };
  struct Octet {
    float v[8];
  };
  using Floats = Lanes<float>;

  KQ_INLINE static Bytes load_bytes(const std::uint8_t* p) {
    Bytes r;
    for (int i = 0; i < 64; ++i) r.v[i] = p[i];
    return r;
  }
  template <Plane kPlane>
  KQ_INLINE static Bytes plane(const std::uint8_t* p) {
    Bytes r;
    for (int t = 0; t < 4; ++t)
      for (int i = 0; i < 16; ++i) {
        const int byte = p[kPlane.at[t] + i], move = kPlane.move[t];
        r.v[16 * t + i] =
            static_cast<std::uint8_t>((move < 0 ? byte >> -move : byte << move) & kPlane.mask);
      }
    return r;
  }
  template <BitPlane kPlane>
  KQ_INLINE static Bytes bit_plane(const std::uint8_t* p) {
    Bytes r;
    for (int t = 0; t < 4; ++t)
      for (int i = 0; i < 16; ++i)
        r.v[16 * t + i] =
            static_cast<std::uint8_t>(((p[kPlane.at[t] + i / 8] >> (i % 8)) & 1) << kPlane.up);
    return r;
  }
  KQ_INLINE static Bytes merge(Bytes a, Bytes b) {
    for (int i = 0; i < 64; ++i) a.v[i] = static_cast<std::uint8_t>(a.v[i] | b.v[i]);
    return a;
  }
  KQ_INLINE static Bytes subtract(Bytes a, int n) {
    for (int i = 0; i < 64; ++i) a.v[i] = static_cast<std::uint8_t>(a.v[i] - n);
    return a;
  }
  template <int kQuarter>
  KQ_INLINE static Floats quarter(const Bytes& a) {
    Floats r;
    for (int i = 0; i < 16; ++i)
      r.v[i] = static_cast<float>(static_cast<std::int8_t>(a.v[16 * kQuarter + i]));
    return r;
  }

  template <int kSubs>
  KQ_INLINE static Sums sub_words(const std::uint32_t* words) {
    Sums r;
    for (int i = 0; i < 16; ++i) {
      const int sub = i * kSubs / 16;
      r.v[i] = static_cast<std::int8_t>((words[sub / 4] >> (8 * (sub % 4))) & 0xffu);
    }
    return r;
  }
  KQ_INLINE static Sums times(Sums a, int n) {
    for (int i = 0; i < 16; ++i) a.v[i] = static_cast<std::int16_t>(a.v[i] * n);
    return a;
  }
  template <int kChunk>
  KQ_INLINE static Words spread(const Sums& a) {
    Words r;
    for (int i = 0; i < 32; ++i) r.v[i] = a.v[4 * kChunk + i / 8];
    return r;
  }

  KQ_INLINE static Ints zero() { return Ints{}; }
  KQ_INLINE static Ints scaled_dot(Ints acc, const Bytes& q, const Bytes& a, const Words& s) {
    for (int i = 0; i < 16; ++i) {
      int sum = 0;
      for (int k = 4 * i; k < 4 * i + 4; ++k) sum += q.v[k] * static_cast<std::int8_t>(a.v[k]);
      acc.v[i] += s.v[2 * i] * sum;  // both words of a lane are the same
    }
    return acc;
  }
  KQ_INLINE static Ints dot_start(const Bytes&) { return Ints{}; }
  KQ_INLINE static Ints dot_signed(Ints acc, const Bytes& q, const Bytes& a) {
    for (int i = 0; i < 16; ++i)
      for (int k = 4 * i; k < 4 * i + 4; ++k)
        acc.v[i] += static_cast<std::int8_t>(q.v[k]) * static_cast<std::int8_t>(a.v[k]);
    return acc;
  }
  KQ_INLINE static Ints sums_dot(const Sums& w, const std::int16_t* sums) {
    Ints r{};
    for (int i = 0; i < 8; ++i)
      r.v[i] = w.v[2 * i] * sums[2 * i] + w.v[2 * i + 1] * sums[2 * i + 1];
    return r;
  }

  KQ_INLINE static Floats to_floats(const Ints& a) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[i]);
    return r;
  }
  KQ_INLINE static Floats load(const float* p) { return Floats::load(p); }
  KQ_INLINE static Floats load(const Half* p) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = kquant::to_float(p[i]);
    return r;
  }
  KQ_INLINE static Floats load(const BFloat16* p) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = kquant::to_float(p[i]);
    return r;
  }
  KQ_INLINE static Floats load(const std::int8_t* p) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(p[i]);
    return r;
  }
  KQ_INLINE static Floats multiply_add(const Floats& acc, const Floats& a, const Floats& b) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = __builtin_fmaf(a.v[i], b.v[i], acc.v[i]);
    return r;
  }
  KQ_INLINE static void store_half(const Floats& a, Half* p) {
    for (int i = 0; i < 16; ++i) p[i] = kquant::to_half(a.v[i]);
  }
  KQ_INLINE static void store_codes(const Floats& a, std::uint8_t* p) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(static_cast<int>(a.v[i]));
  }
  KQ_INLINE static float reduce_add(Floats a) {
    for (int width = 8; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
    return a.v[0];
  }
  KQ_INLINE static float to_float(Half h) { return kquant::to_float(h); }
  KQ_INLINE static float square_root(float x) { return __builtin_sqrtf(x); }

  template <int kStride>
  KQ_INLINE static Octet halves(const std::uint8_t* p) {
    Octet r;
    for (int i = 0; i < 8; ++i) {
      const int bits = p[kStride * i] | p[kStride * i + 1] << 8;
      r.v[i] = kquant::to_float(Half{static_cast<std::uint16_t>(bits)});
    }
    return r;
  }
  KQ_INLINE static Octet load_octet(const float* p) {
    Octet r;
    for (int i = 0; i < 8; ++i) r.v[i] = p[i];
    return r;
  }
  KQ_INLINE static Octet multiply(Octet a, const Octet& b) {
    for (int i = 0; i < 8; ++i) a.v[i] *= b.v[i];
    return a;
  }
  KQ_INLINE static void store_octet(const Octet& a, float* p) {
    for (int i = 0; i < 8; ++i) p[i] = a.v[i];
  }
  KQ_INLINE static Floats widen(const Octet& a) {
    Floats r = Floats::all(0.0f);
    for (int i = 0; i < 8; ++i) r.v[i] = a.v[i];
    return r;
  }
  template <int kChunk>
  KQ_INLINE static Floats spread_octet(const Octet& a) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = a.v[2 * kChunk + i / 8];
    return r;
  }

  // Lanes are rows (isa/rows.hpp).
  using Rows = RowVectors<4>;
  static constexpr bool kCentersBytes = true;
  static constexpr bool kPremultiplies = false, kPairsSums = false, kScalesInDot = false,
                        kSharesActivations = false;
  template <int kMaxCode, int kCount>
  KQ_INLINE static Rows::Int dot(Rows::Int acc, const Rows::Word* w, const std::int8_t* a) {
    for (int i = 0; i < kCount; ++i)
      for (int j = 0; j < 4; ++j) {
        const auto codes = (Rows::Int)((w[i] >> (8 * j)) & 0xffu);
        acc += (kMaxCode > 127 ? codes - 128 : codes) * a[4 * i + j];
      }
    return acc;
  }
  KQ_INLINE static Rows::Int dot_pairs(Rows::Int acc, Rows::Word pairs, const std::int16_t* a) {
    const Rows::Int low = (Rows::Int)(pairs << 16) >> 16, high = (Rows::Int)pairs >> 16;
    return acc + low * a[0] + high * a[1];
  }
  KQ_INLINE static Rows::Float multiply_add(Rows::Float a, Rows::Float b, Rows::Float c) {
    Rows::Float r{};
    for (int i = 0; i < Rows::kRows; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return r;
  }
  KQ_INLINE static Rows::Float row_halves(const std::uint8_t* p) {
    Rows::Float r{};
    for (int i = 0; i < Rows::kRows; ++i) {
      Half half;
      __builtin_memcpy(&half, p + 2 * i, 2);
      r[i] = kquant::to_float(half);
    }
    return r;
  }
};
static_assert(KernelIsa<Scalar>);

}  // namespace kquant::kernels
