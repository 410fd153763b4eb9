#pragma once
// AArch64 NEON: a chunk is four registers, one a quarter. Three instruction sets share this text,
// each in a translation unit with its flags (kernels/isa_flags.cmake), and are chosen at run time:
//
//     neon            every AArch64: widening multiplies, pairwise adds
//     neon_dotprod    sdot: 16 signed products a register, added in fours
//     neon_i8mm       usdot too: unsigned codes times signed activations, so that packed codes up
//     to
//                     255 need no flip (Q8_0) and take their scale in as bytes (Q2_K, Q3_K)
//
// The number of activations is loaded once for four dot products (a lane of a register each). smmla
// and ummla are not used: they multiply two rows of W with two rows of X, eight columns at a time,
// which a kernel that takes the rows of X one by one has no use for.

#include <arm_neon.h>

#include "kernels/isa/concept.hpp"
#include "kernels/isa/lanes.hpp"
#include "kernels/isa/rows.hpp"
#include "kquant/dispatch.hpp"

namespace kquant::kernels {

template <Isa kWhich>
struct NeonWith {
  static constexpr Isa kIsa = kWhich;
  static constexpr const char* kName = kWhich == Isa::kNeon          ? "neon"
                                       : kWhich == Isa::kNeonDotprod ? "neon_dotprod"
                                                                     : "neon_i8mm";
  static constexpr bool kHasUnsignedDot = kWhich == Isa::kNeonI8mm;
  static constexpr int kColumns = 4;
  static constexpr std::uint8_t kActivationFlip = 0;

  struct Bytes {
    uint8x16_t v[4];
  };
  struct Ints {
    int32x4_t v[4];
  };
  struct Words {
    int32x4_t v[4];  // the scale of quarter t in every lane
  };
  struct Sums {
    int16x8_t v[2];
  };
  struct Octet {
    float32x4_t v[2];
  };
  using Floats = Lanes<xsimd::batch<float, xsimd::neon64>>;

  KQ_INLINE static Bytes load_bytes(const std::uint8_t* p) {
    return {{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
  }
  template <Plane kPlane>
  KQ_INLINE static Bytes plane(const std::uint8_t* p) {
    return {{quarter_plane<kPlane.at[0], kPlane.move[0], kPlane.mask>(p),
             quarter_plane<kPlane.at[1], kPlane.move[1], kPlane.mask>(p),
             quarter_plane<kPlane.at[2], kPlane.move[2], kPlane.mask>(p),
             quarter_plane<kPlane.at[3], kPlane.move[3], kPlane.mask>(p)}};
  }
  template <BitPlane kPlane>
  KQ_INLINE static Bytes bit_plane(const std::uint8_t* p) {
    Bytes r;
    for (int t = 0; t < 4; ++t) {
      const uint8x8_t bit_of_weight = vcreate_u8(0x8040201008040201);
      const std::uint8_t* bits = p + kPlane.at[t];
      const uint8x16_t bytes = vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1]));
      const uint8x16_t set = vtstq_u8(bytes, vcombine_u8(bit_of_weight, bit_of_weight));
      r.v[t] = vandq_u8(set, vdupq_n_u8(static_cast<std::uint8_t>(1 << kPlane.up)));
    }
    return r;
  }
  KQ_INLINE static Bytes merge(Bytes a, Bytes b) {
    for (int t = 0; t < 4; ++t) a.v[t] = vorrq_u8(a.v[t], b.v[t]);
    return a;
  }
  KQ_INLINE static Bytes subtract(Bytes a, int n) {
    const uint8x16_t all = vdupq_n_u8(static_cast<std::uint8_t>(n));
    for (int t = 0; t < 4; ++t) a.v[t] = vsubq_u8(a.v[t], all);
    return a;
  }
  template <int kQuarter>
  KQ_INLINE static Floats quarter(Bytes a) {
    const int8x16_t codes = vreinterpretq_s8_u8(a.v[kQuarter]);
    const int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_s8(vget_high_s8(codes));
    return to_floats({{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
                       vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}});
  }

  template <int kSubs>
  KQ_INLINE static Sums sub_words(const std::uint32_t* words) {
    const auto pair = [&](int i) __attribute__((always_inline)) {
      return vreinterpret_s8_u64(vcreate_u64(words[i] | std::uint64_t{words[i + 1]} << 32));
    };
    if constexpr (kSubs == 16) {
      return {{vmovl_s8(pair(0)), vmovl_s8(pair(2))}};
    } else {
      static_assert(kSubs == 8);
      const int8x8x2_t twice = vzip_s8(pair(0), pair(0));
      return {{vmovl_s8(twice.val[0]), vmovl_s8(twice.val[1])}};
    }
  }
  KQ_INLINE static Sums times(Sums a, int n) {
    for (int i = 0; i < 2; ++i) a.v[i] = vmulq_n_s16(a.v[i], static_cast<std::int16_t>(n));
    return a;
  }
  template <int kChunk>
  KQ_INLINE static Words spread(Sums a) {
    const int16x8_t half = a.v[kChunk / 2];
    constexpr int kFirst = 4 * (kChunk % 2);
    return {{vdupq_n_s32(vgetq_lane_s16(half, kFirst)),
             vdupq_n_s32(vgetq_lane_s16(half, kFirst + 1)),
             vdupq_n_s32(vgetq_lane_s16(half, kFirst + 2)),
             vdupq_n_s32(vgetq_lane_s16(half, kFirst + 3))}};
  }

  KQ_INLINE static Ints zero() {
    const int32x4_t none = vdupq_n_s32(0);
    return {{none, none, none, none}};
  }
  KQ_INLINE static Ints scaled_dot(Ints acc, Bytes q, Bytes a, Words s) {
    for (int t = 0; t < 4; ++t)  // codes <= 63 are the same as int8
      acc.v[t] = vmlaq_s32(acc.v[t], dot(vdupq_n_s32(0), q.v[t], a.v[t]), s.v[t]);
    return acc;
  }
  KQ_INLINE static Ints dot_start(Bytes) { return zero(); }
  KQ_INLINE static Ints dot_signed(Ints acc, Bytes q, Bytes a) {
    for (int t = 0; t < 4; ++t) acc.v[t] = dot(acc.v[t], q.v[t], a.v[t]);
    return acc;
  }
  KQ_INLINE static Ints sums_dot(Sums w, const std::int16_t* sums) {
    Ints r = zero();
    for (int i = 0; i < 2; ++i) {
      const int16x8_t s = vld1q_s16(sums + 8 * i);
      r.v[i] = vpaddq_s32(vmull_s16(vget_low_s16(w.v[i]), vget_low_s16(s)),
                          vmull_s16(vget_high_s16(w.v[i]), vget_high_s16(s)));
    }
    return r;
  }

  KQ_INLINE static Floats to_floats(Ints a) {
    return {{vcvtq_f32_s32(a.v[0]), vcvtq_f32_s32(a.v[1]), vcvtq_f32_s32(a.v[2]),
             vcvtq_f32_s32(a.v[3])}};
  }
  KQ_INLINE static Floats load(const float* p) { return Floats::load(p); }
  KQ_INLINE static Floats load(const Half* p) {
    const auto four = [&](int i) __attribute__((always_inline)) {
      return vcvt_f32_f16(
          vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p) + 4 * i)));
    };
    return {{four(0), four(1), four(2), four(3)}};
  }
  KQ_INLINE static Floats load(const BFloat16* p) {
    const auto four = [&](int i) __attribute__((always_inline)) {
      return vreinterpretq_f32_u32(
          vshll_n_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p) + 4 * i), 16));
    };
    return {{four(0), four(1), four(2), four(3)}};
  }
  KQ_INLINE static Floats load(const std::int8_t* p) {
    const int16x8_t low = vmovl_s8(vld1_s8(p)), high = vmovl_s8(vld1_s8(p + 8));
    const auto four = [](int16x4_t v) __attribute__((always_inline)) {
      return vcvtq_f32_s32(vmovl_s16(v));
    };
    return {{four(vget_low_s16(low)), four(vget_high_s16(low)), four(vget_low_s16(high)),
             four(vget_high_s16(high))}};
  }
  KQ_INLINE static Floats multiply_add(Floats acc, Floats a, Floats b) {
    for (int i = 0; i < 4; ++i) acc.v[i] = vfmaq_f32(acc.v[i], a.v[i], b.v[i]);
    return acc;
  }
  KQ_INLINE static void store_half(Floats a, Half* p) {
    for (int i = 0; i < 4; ++i)
      vst1_u16(reinterpret_cast<std::uint16_t*>(p) + 4 * i,
               vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
  }
  KQ_INLINE static void store_codes(Floats a, std::uint8_t* p) {
    int16x4_t words[4];
    for (int i = 0; i < 4; ++i) words[i] = vmovn_s32(vcvtnq_s32_f32(a.v[i]));
    const int8x8_t low = vmovn_s16(vcombine_s16(words[0], words[1]));
    const int8x8_t high = vmovn_s16(vcombine_s16(words[2], words[3]));
    vst1q_u8(p, vreinterpretq_u8_s8(vcombine_s8(low, high)));
  }
  KQ_INLINE static float reduce_add(Floats a) {
    const float32x4_t v0 = a.v[0], v1 = a.v[1], v2 = a.v[2], v3 = a.v[3];
    const float32x4_t four = vaddq_f32(vaddq_f32(v0, v2), vaddq_f32(v1, v3));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  KQ_INLINE static float to_float(Half h) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h.bits))), 0);
  }
  KQ_INLINE static float square_root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }

  template <int kStride>
  KQ_INLINE static Octet halves(const std::uint8_t* p) {
    std::uint16_t bits[8];
    for (int i = 0; i < 8; ++i) __builtin_memcpy(bits + i, p + kStride * i, 2);
    return {{vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits))),
             vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits + 4)))}};
  }
  KQ_INLINE static Octet load_octet(const float* p) { return {{vld1q_f32(p), vld1q_f32(p + 4)}}; }
  KQ_INLINE static Octet multiply(Octet a, Octet b) {
    return {{vmulq_f32(a.v[0], b.v[0]), vmulq_f32(a.v[1], b.v[1])}};
  }
  KQ_INLINE static void store_octet(Octet a, float* p) {
    vst1q_f32(p, a.v[0]);
    vst1q_f32(p + 4, a.v[1]);
  }
  KQ_INLINE static Floats widen(Octet a) {
    return {{a.v[0], a.v[1], vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}};
  }
  template <int kChunk>
  KQ_INLINE static Floats spread_octet(Octet a) {
    const float32x4_t low = vdupq_laneq_f32(a.v[kChunk / 2], 2 * (kChunk % 2));
    const float32x4_t high = vdupq_laneq_f32(a.v[kChunk / 2], 2 * (kChunk % 2) + 1);
    return {{low, low, high, high}};
  }

  // Lanes are rows (isa/rows.hpp).
  using Rows = RowVectors<4>;
  static constexpr bool kCentersBytes = !kHasUnsignedDot;
  static constexpr bool kPremultiplies = kHasUnsignedDot, kPairsSums = false, kScalesInDot = false,
                        kSharesActivations = false;
  template <int kMaxCode, int kCount>
  KQ_INLINE static Rows::Int dot(Rows::Int acc, const Rows::Word* w, const std::int8_t* a) {
    static_assert(kCount % 4 == 0);
    auto sum = (int32x4_t)acc;
    unrolled<kCount / 4>([&]<int kFour>() __attribute__((always_inline)) {
      const int8x16_t four = vld1q_s8(a + 16 * kFour);
      unrolled<4>([&]<int kLane>() __attribute__((always_inline)) {
        auto codes = (uint8x16_t)w[4 * kFour + kLane];
        if constexpr (kMaxCode > 127 && kCentersBytes) codes = veorq_u8(codes, vdupq_n_u8(0x80));
        sum = dot_lane<kMaxCode, kLane>(sum, codes, four);
      });
    });
    return (Rows::Int)sum;
  }
  KQ_INLINE static Rows::Int dot_pairs(Rows::Int acc, Rows::Word pairs, const std::int16_t* a) {
    const Rows::Int low = (Rows::Int)(pairs << 16) >> 16, high = (Rows::Int)pairs >> 16;
    return acc + low * a[0] + high * a[1];
  }
  KQ_INLINE static Rows::Float multiply_add(Rows::Float a, Rows::Float b, Rows::Float c) {
    return (Rows::Float)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
  }
  KQ_INLINE static Rows::Float row_halves(const std::uint8_t* p) {
    return (Rows::Float)vcvt_f32_f16(
        vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))));
  }

 private:
  template <int kAt, int kMove, int kMask>
  KQ_INLINE static uint8x16_t quarter_plane(const std::uint8_t* p) {
    uint8x16_t v = vld1q_u8(p + kAt);
    if constexpr (kMove < 0)
      v = vshrq_n_u8(v, -kMove);
    else if constexpr (kMove > 0)
      v = vshlq_n_u8(v, kMove);
    if constexpr (kMask != 255) v = vandq_u8(v, vdupq_n_u8(kMask));
    return v;
  }
  KQ_INLINE static int32x4_t dot(int32x4_t acc, uint8x16_t q_bits, uint8x16_t a_bits) {
    const int8x16_t q = vreinterpretq_s8_u8(q_bits), a = vreinterpretq_s8_u8(a_bits);
#if defined(__ARM_FEATURE_DOTPROD)
    static_assert(kWhich != Isa::kNeon);
    return vdotq_s32(acc, q, a);
#else
    static_assert(kWhich == Isa::kNeon);
    const int16x8_t low = vmull_s8(vget_low_s8(q), vget_low_s8(a));
    const int16x8_t high = vmull_s8(vget_high_s8(q), vget_high_s8(a));
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
  }
  /// codes (int8 where they fit or are centred, else unsigned) times the four activations of a
  /// lane.
  template <int kMaxCode, int kLane>
  KQ_INLINE static int32x4_t dot_lane(int32x4_t acc, uint8x16_t codes, int8x16_t a) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
    static_assert(kHasUnsignedDot);
    return vusdotq_laneq_s32(acc, codes, a, kLane);
#elif defined(__ARM_FEATURE_DOTPROD)
    return vdotq_laneq_s32(acc, vreinterpretq_s8_u8(codes), a, kLane);
#else
    return dot(acc, codes, vreinterpretq_u8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(a), kLane)));
#endif
  }
};

}  // namespace kquant::kernels
