// What the lanes of a warp do together, and the barriers of a block.

#include <cstring>

#include "block.hpp"
#include "half.hpp"

namespace kquant::ptx {
namespace {

/// operands: to, whether from a lane that is there, from, mask, 31, lanes.
void shuffle_xor(Block&, Warp& w, const Instruction& i, u32 active) {
  if (active != kAllLanes || w.uniform(i.operands[5], active) != kAllLanes ||
      w.uniform(i.operands[4], active) != 31)
    throw Fault("not known here: shuffles among less than a warp");
  std::array<u32, kLanes> values;
  lanes(active, [&](u32 l) { values[l] = w.get<u32>(i.operands[2], l); });
  lanes(active, [&](u32 l) {
    w.set<u32>(i.operands[0], l, values[l ^ (w.get<u32>(i.operands[3], l) & 31)]);
    if (i.operands[1].index != kNowhere) w.set<u32>(i.operands[1], l, 1);
  });
}

void vote_any(Block&, Warp& w, const Instruction& i, u32 active) {
  if (w.uniform(i.operands[2], active) != kAllLanes)
    throw Fault("not known here: a vote of less than a warp");
  bool any = false;
  lanes(active, [&](u32 l) { any = any || w.get<u32>(i.operands[1], l) != 0; });
  lanes(active, [&](u32 l) { w.set<u32>(i.operands[0], l, any); });
}

void block_barrier(Block& b, Warp& w, const Instruction& i, u32 active) {
  const u32 all = static_cast<u32>(b.warps.size()) * kLanes;
  b.arrive(w, w.uniform(i.operands[0], active),
           i.operands.size() > 1 ? w.uniform(i.operands[1], active) : all);
}

/// Four 8 x 8 matrices of halves, whose rows lanes 8i … 8i + 7 point at: word i of lane 4g + t is
/// (2t, g) and (2t + 1, g) of matrix i.
void load_matrices_transposed(Block& b, Warp& w, const Instruction& i, u32 active) {
  u16 rows[4][8][8];
  lanes(active, [&](u32 l) {
    const u32 at = w.get<u32>(i.operands[0], l) + static_cast<u32>(i.offset);
    std::memcpy(rows[l / 8][l % 8], b.shared.read(at, 16, 16, w.number, w.knows), 16);
  });
  lanes(active, [&](u32 l) {
    const u32 g = l / 4, t = l % 4;
    for (u32 m = 0; m < 4; ++m)
      w.set<u32>(i.operands[1 + m], l, rows[m][2 * t][g] | u32{rows[m][2 * t + 1][g]} << 16);
  });
}

// Operands of m16n8k16. Lane 4g + t has, of A: words (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t
// + 8), two columns each; of B: (2t, g) and (2t + 8, g), two rows each; of C: (g, 2t), (g, 2t + 1)
// and the same of row g + 8.
struct A {
  float at[16][16];
};
struct B {
  float at[16][8];
};

A read_a(const Warp& w, const Register* words) {
  A a;
  for (u32 l = 0; l < kLanes; ++l)
    for (u32 n = 0; n < 4; ++n) {
      const u32 both = w.get<u32>(words[n], l), row = l / 4 + 8 * (n % 2),
                col = 2 * (l % 4) + 8 * (n / 2);
      a.at[row][col] = half_to_float(both & 0xffff);
      a.at[row][col + 1] = half_to_float(both >> 16);
    }
  return a;
}
B read_b(const Warp& w, const Register* words) {
  B b;
  for (u32 l = 0; l < kLanes; ++l)
    for (u32 n = 0; n < 2; ++n) {
      const u32 both = w.get<u32>(words[n], l), row = 2 * (l % 4) + 8 * n;
      b.at[row][l / 4] = half_to_float(both & 0xffff);
      b.at[row + 1][l / 4] = half_to_float(both >> 16);
    }
  return b;
}
/// to = c + a b
void multiply(Warp& w, const Register* to, const Register* c, const A& a, const B& b) {
  for (u32 l = 0; l < kLanes; ++l)
    for (u32 n = 0; n < 4; ++n) {
      const u32 row = l / 4 + 8 * (n / 2), col = 2 * (l % 4) + n % 2;
      float sum = w.get<float>(c[n], l);
      for (u32 k = 0; k < 16; ++k) sum += a.at[row][k] * b.at[k][col];
      w.set<float>(to[n], l, sum);
    }
}

/// operands: 4 of D, 4 of A, 2 of B, 4 of C.
void mma(Block&, Warp& w, const Instruction& i, u32) {
  const Register* const o = i.operands.data();
  multiply(w, o, o + 10, read_a(w, o + 4), read_b(w, o + 8));
}

/// operands: 64 of D, 4 of A, B's descriptor, whether D is added. A warp has 16 of the 64 rows, and
/// of its own needs no other: so each computes when it comes.
///
/// B is 128 rows of 16 halves in shared memory, swizzled by 128 bytes: groups of 8 rows, `stride`
/// bytes apart, of 128 bytes each, in which 16-byte pieces change places by the lowest three bits
/// of the row.
void wgmma(Block& b, Warp& w, const Instruction& i, u32 active) {
  const Register* const o = i.operands.data();
  const u64 descriptor = w.get<u64>(o[68], 0);
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0)
    throw Fault("not known here: an operand that is not swizzled by 128 bytes");
  if (w.uniform(o[69], active) == 0) throw Fault("not known here: a product that is not added");
  const u32 begin = static_cast<u32>(descriptor & 0x3fff) << 4,
            stride = static_cast<u32>(descriptor >> 32 & 0x3fff) << 4;
  const A a = read_a(w, o + 64);
  Warp::Product product;
  for (u32 n = 0; n < 4; ++n) {
    product.registers[n] = o[64 + n];
    for (u32 l = 0; l < kLanes; ++l) product.values[n][l] = w.get<u32>(o[64 + n], l);
  }
  for (u32 group = 0; group < 16; ++group) {
    B part;
    for (u32 row = 0; row < 8; ++row)
      for (u32 k = 0; k < 16; k += 8) {
        u32 at = begin + group * stride + row * 128 + k * 2;
        at ^= (at >> 7 & 7) << 4;
        u16 halves[8];
        std::memcpy(halves, b.shared.read(at, 16, 16, w.number, w.knows), 16);
        product.reads.push_back(at);
        for (u32 n = 0; n < 8; ++n) part.at[k + n][row] = half_to_float(halves[n]);
      }
    multiply(w, o + std::size_t{4} * group, o + std::size_t{4} * group, a, part);
  }
  w.products.push_back(std::move(product));
}
void commit_products(Block&, Warp& w, const Instruction&, u32) {
  w.product_groups.push_back(std::exchange(w.products, {}));
}
/// Until here products may have read what they were given.
void wait_for_products(Block& b, Warp& w, const Instruction& i, u32) {
  while (w.product_groups.size() > static_cast<std::size_t>(i.offset)) {
    for (const Warp::Product& product : w.product_groups.front()) {
      for (const u32 at : product.reads) b.shared.note_read(at, 16, w.number, w.knows);
      for (u32 n = 0; n < 4; ++n)
        for (u32 l = 0; l < kLanes; ++l)
          if (w.get<u32>(product.registers[n], l) != product.values[n][l])
            throw Fault("a register that a product may still be reading has changed");
    }
    w.product_groups.erase(w.product_groups.begin());
  }
}

}  // namespace

bool decode_collective(const Statement& s, Names& names, Instruction& to) {
  const std::string& opcode = s.opcode();
  const auto put_all = [&](std::size_t n) {
    for (std::size_t group = 0; group < s.operands.size() && to.operands.size() < n; ++group)
      for (const std::string& name : s.operands[group])
        to.operands.push_back(names.operand(name, opcode == "wgmma" && group == 2));
    return to.operands.size() == n;
  };
  to.collective = true;
  if (opcode == "bar" && s.has("warp")) return true;
  if (opcode == "setmaxnreg") return true;
  if (opcode == "wgmma" && s.has("fence")) return true;
  if (opcode == "bar" && s.has("sync")) {
    to.execute = block_barrier;
    return put_all(s.operands.size());
  }
  if (opcode == "shfl" && s.has("bfly")) {
    to.execute = shuffle_xor;
    return put_all(6);
  }
  if (opcode == "vote" && s.has("any")) {
    to.execute = vote_any;
    return put_all(3);
  }
  if (opcode == "ldmatrix" && s.has("m8n8") && s.has("x4") && s.has("trans")) {
    to.execute = load_matrices_transposed;
    to.space = Space::kShared;
    to.bytes = 16;
    to.operands.push_back(names.address(s.operands.at(1).at(0), Space::kShared, to.offset));
    for (const std::string& name : s.operands[0]) to.operands.push_back(names.operand(name, false));
    return true;
  }
  if (opcode == "mma") {
    to.execute = mma;
    return s.text.starts_with("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") && put_all(14);
  }
  if (opcode == "wgmma" && s.has("commit_group")) {
    to.execute = commit_products;
    return true;
  }
  if (opcode == "wgmma" && s.has("wait_group")) {
    to.execute = wait_for_products;
    to.offset = std::stoi(s.operands.at(0).at(0));
    return true;
  }
  if (opcode == "wgmma") {
    to.execute = wgmma;
    const auto is = [&](std::size_t n, std::string_view value) {
      return s.operands.at(n).at(0) == value;
    };
    return s.has("m64n128k16") && s.types == std::vector{Type::kF32, Type::kF16, Type::kF16} &&
           is(4, "1") && is(5, "1") && is(6, "0") && put_all(70);
  }
  return false;
}

}  // namespace kquant::ptx
