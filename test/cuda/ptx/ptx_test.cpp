// What the machine says of kernels, written in PTX, that do what they must not; and that it says
// nothing of the same kernels as they should be.
#include <catch2/catch.hpp>
#include <cstring>

#include "block.hpp"

namespace kquant::ptx {
namespace {

/// A kernel of one parameter, the address of a result, in %rd1, with its thread's number in %t.
std::string kernel_of(const std::string& body) {
  return ".target sm_90a\n.visible .entry kernel(\n.param .u64 result\n)\n.maxntid 128, 1, 1\n{\n"
         ".reg .pred %p<9>;\n.reg .b16 %h<9>;\n.reg .b32 %r<99>;\n.reg .b32 %t;\n.reg .f32 "
         "%f<9>;\n.reg .b64 %rd<9>;\n"
         "ld.param.u64 %rd1, [result];\nmov.u32 %t, %tid.x;\nmov.u32 %r90, "
         "_ZN6kquant4cuda13kquant_sharedE;\n"
         "shl.b32 %r91, %t, 2;\ncvt.u64.u32 %rd2, %r91;\nadd.s64 %rd2, %rd1, %rd2;\nadd.s32 %r92, "
         "%r90, %r91;\n" +
         body + "\nret;\n}\n";
}

/// What each of `threads` threads has stored at [%rd2].
std::vector<u32> run(const std::string& body, u32 threads, u32 blocks = 1) {
  Module module(kernel_of(body));
  const auto p = static_cast<u32*>(DeviceMemory::instance().allocate(threads * sizeof(u32)));
  const std::unique_ptr<u32, void (*)(u32*)> owner(
      p, [](u32* q) { DeviceMemory::instance().release(q); });
  const auto address = reinterpret_cast<u64>(p);
  u8 parameters[sizeof address];
  std::memcpy(parameters, &address, sizeof address);
  launch(module.kernel("kernel"), {blocks}, {threads}, 1024, parameters, 1);
  return {p, p + threads};
}

/// The Fault that running it ends with; "" where there is none.
std::string fault(const std::string& body, u32 threads) {
  try {
    run(body, threads);
  } catch (const Fault& f) {
    return f.what();
  }
  return "";
}
const auto says = [](const char* text) { return Catch::Matchers::Contains(text); };

/// Each thread stores its number in shared memory and reads its neighbour's in the other warp.
std::string exchange(const std::string& between, const std::string& after) {
  return "st.shared.u32 [%r92], %t;\n" + between +
         "xor.b32 %r1, %r91, 128;\nadd.s32 %r1, %r90, %r1;\n"
         "ld.shared.u32 %r2, [%r1];\n" +
         after + "st.global.u32 [%rd2], %r2;\n";
}

TEST_CASE("warps that read what others write have to wait for them") {
  const std::vector<u32> found = run(exchange("bar.sync 0;\n", ""), 64, 3);
  for (u32 i = 0; i < 64; ++i) CHECK(found[i] == (i ^ 32));
  CHECK_THAT(fault(exchange("", ""), 64), says("race: byte"));
  CHECK_THAT(fault(exchange("bar.sync 0;\n", "st.shared.u32 [%r92], %r2;\n"), 64),
             says("race: byte"));
  CHECK(fault(exchange("bar.sync 0;\n", "bar.sync 0;\nst.shared.u32 [%r92], %r2;\n"), 64).empty());
  CHECK_THAT(
      fault(exchange("setp.lt.u32 %p1, %t, 32;\n@%p1 bra over;\nbar.sync 0;\nover:\n", ""), 64),
      says("kernel, block 0 0 0, line"));
}

TEST_CASE("a barrier that not all reach is a fault, not an endless wait") {
  CHECK_THAT(fault("setp.lt.u32 %p1, %t, 32;\n@%p1 bar.sync 0;\n", 64), says("no warp can go on"));
  CHECK_THAT(fault("setp.lt.u32 %p1, %t, 5;\n@%p1 bar.sync 0;\n", 32), says("only some lanes"));
}

TEST_CASE("memory that is not there, or not so aligned, is a fault") {
  CHECK(fault("st.global.u32 [%rd2], %t;\n", 64).empty());
  CHECK_THAT(fault("st.global.u32 [%rd2+4], %t;\n", 64), says("not allocated: 4 bytes"));
  CHECK_THAT(fault("ld.global.u32 %r1, [%rd2+-4];\n", 64), says("not allocated: 4 bytes"));
  CHECK_THAT(fault("st.global.u32 [%rd2+2], %t;\n", 32), says("misaligned"));
  CHECK_THAT(fault("st.shared.u32 [%r92+1020], %t;\n", 32), says("beyond shared memory"));
}

/// Threads of one warp copy 16 bytes each to shared memory, where they read their first word.
std::string copies(const std::string& wait) {
  return "st.global.u32 [%rd2], %t;\nshl.b32 %r1, %t, 4;\nadd.s32 %r1, %r1, %r90;\n"
         "cp.async.cg.shared.global [%r1], [%rd1], 16;\ncp.async.commit_group;\n" +
         wait +
         "ld.shared.u32 %r2, [%r1+4];\n"
         "cp.async.wait_group 0;\nst.global.u32 [%rd2], %r2;\n";
}
TEST_CASE("what is copied is there once it has been waited for, and not before") {
  CHECK(run(copies("cp.async.wait_group 0;\n"), 32) == std::vector<u32>(32, 1));
  CHECK(run(copies("cp.async.wait_group 1;\n"), 32) == std::vector<u32>(32, ~0u));
}

/// A bulk copy of the first 64 bytes by thread 0, for which all wait, or not.
std::string bulk(const std::string& wait) {
  return "st.global.u32 [%rd2], %t;\nsetp.ne.s32 %p1, %t, 0;\n@%p1 bra start;\n"
         "mbarrier.init.shared::cta.b64 [%r90], 1;\nstart:\nbar.sync 0;\nadd.s32 %r1, %r90, "
         "64;\n@%p1 bra wait;\n"
         "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 64;\n"
         "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 64, "
         "[%r90];\nwait:\n" +
         wait + "ld.shared.u32 %r2, [%r1+12];\nbar.sync 0;\n" +
         (wait.empty() ? "again: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r90], 0;\n@!%p2 "
                         "bra again;\n"
                       : "") +
         "st.global.u32 [%rd2], %r2;\n";
}
TEST_CASE("a bulk copy is waited for by the phase of its mbarrier") {
  const char* const kWait =
      "{\nagain: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r90], 0;\n@!%p2 bra again;\n}\n";
  CHECK(run(bulk(kWait), 64) == std::vector<u32>(64, 3));
  CHECK_THAT(fault(bulk(""), 64), says("race: byte"));
  CHECK_THAT(fault("mbarrier.arrive.shared::cta.b64 _, [%r90];\n", 32), says("no mbarrier"));
}

/// A product of a warp, all of whose B is the same 8 rows.
std::string product(const std::string& after) {
  std::string sums;
  for (int i = 0; i < 64; ++i) sums += (i > 0 ? ", %c" : "%c") + std::to_string(i);
  return ".reg .f32 %c<64>;\n.reg .b32 %a<4>;\nmov.u32 %a0, 0;\nmov.u32 %a1, 0;\nmov.u32 %a2, 0;\n"
         "mov.u32 %a3, 0;\nmov.u64 %rd3, 0x4000000000000000;\nsetp.ne.b32 %p1, 1, 0;\n"
         "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" +
         sums +
         "}, {%a0, %a1, %a2, %a3}, %rd3, %p1, 1, 1, 0;\n"
         "wgmma.commit_group.sync.aligned;\n" +
         after;
}
TEST_CASE("registers of a product do not change before it has been waited for") {
  const std::string wait = "wgmma.wait_group.sync.aligned 0;\n", change = "mov.u32 %a2, 1;\n";
  CHECK(fault(product(wait + change), 32).empty());
  CHECK_THAT(fault(product(change + wait), 32), says("a product may still be reading"));
  CHECK_THAT(fault(product(""), 32), says("ends before its products do"));
}

/// Of one warp's accesses, without those of the kernel's parameter.
Traffic traffic(const std::string& body) {
  const TrafficCount count;
  run(body, 32);
  return count.total();
}
TEST_CASE("sectors and rounds of accesses are counted") {
  const auto device = [](const std::string& body) {
    const Traffic t = traffic(body);
    CHECK((t.rounds == 0 && t.fewest_rounds == 0));
    return std::pair(t.sectors, t.fewest_sectors);
  };
  const std::string store =
      "cvt.u64.u32 %rd3, %r1;\nadd.s64 %rd3, %rd1, %rd3;\n"
      "st.global.u32 [%rd3], %t;\n";
  using Pair = std::pair<u64, u64>;
  CHECK(device("st.global.u32 [%rd2], %t;\n") == Pair(4, 4));
  CHECK(device("and.b32 %r1, %r91, 15;\n" + store) == Pair(1, 1));  // the same four words
  CHECK(device("and.b32 %r1, %t, 15;\nshl.b32 %r1, %r1, 3;\n" + store) == Pair(4, 2));
  CHECK(device("and.b32 %r1, %t, 3;\nshl.b32 %r1, %r1, 5;\n" + store) == Pair(4, 1));
  CHECK(device("setp.ne.s32 %p1, %t, 0;\n@!%p1 st.global.u32 [%rd2], %t;\n") == Pair(1, 1));

  const auto shared = [](const std::string& body) {
    const Traffic t = traffic(body);
    CHECK((t.sectors == 0 && t.fewest_sectors == 0));
    return std::pair(t.rounds, t.fewest_rounds);
  };
  const auto every = [](int shift, const std::string& access) {
    return "shl.b32 %r1, %t, " + std::to_string(shift) +
           ";\nand.b32 %r1, %r1, 1023;\nadd.s32 %r1, %r1, %r90;\n" + access + ";\n";
  };
  const std::string word = "st.shared.u32 [%r1], %t",
                    four = "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r1]";
  CHECK(shared(every(2, word)) == Pair(1, 1));
  CHECK(shared(every(3, word)) == Pair(2, 1));
  CHECK(shared(every(5, word)) == Pair(8, 1));
  CHECK(shared(every(7, word)) == Pair(8, 1));  // eight words, each written by four lanes
  CHECK(shared(every(4, four)) == Pair(4, 4));
  CHECK(shared(every(5, four)) == Pair(8, 4));

  const Traffic copied = traffic(copies("cp.async.wait_group 0;\n"));
  CHECK((copied.sectors == 4 + 1 + 4 && copied.fewest_sectors == copied.sectors));
  CHECK((copied.rounds == 4 + 4 && copied.fewest_rounds == 4 + 1));
}

TEST_CASE("lanes that branch apart meet again") {
  const std::string branches =
      "mov.u32 %r1, 0;\nand.b32 %r2, %t, 3;\nloop:\nadd.s32 %r1, %r1, 10;\nsetp.ge.u32 %p1, %r1, "
      "40;\n@%p1 bra out;\n"
      "sub.s32 %r2, %r2, 1;\nsetp.ge.s32 %p2, %r2, 0;\n@%p2 bra loop;\nout:\nmov.u32 %r5, "
      "-1;\nmov.u32 %r6, 31;\nmov.u32 %r7, 1;\n"
      "shfl.sync.bfly.b32 %r3|%p3, %r1, %r7, %r6, %r5;\nst.global.u32 [%rd2], %r3;\n";
  const std::vector<u32> found = run(branches, 32);
  for (u32 i = 0; i < 32; ++i) CHECK(found[i] == 10 * ((i ^ 1) % 4 + 1));
}

TEST_CASE("instructions do what PTX says") {
  const auto one = [](const std::string& body) {
    return run(body + "\nst.global.u32 [%rd2], %r1;\n", 1)[0];
  };
  CHECK(
      one("mov.u32 %r2, 0x44332211;\nmov.u32 %r3, 0x88776655;\nprmt.b32 %r1, %r2, %r3, 0x7362;") ==
      0x88447733);
  CHECK(one("mov.u32 %r2, 0x8000;\nprmt.b32 %r1, %r2, %r2, 0x9;") == 0x000000ff);
  CHECK(one("mov.u32 %r2, 0xf0f0;\nmov.u32 %r3, 0x1234;\nmov.u32 %r4, 0xabcd;\nlop3.b32 %r1, %r2, "
            "%r3, %r4, 0xca;") == 0x1b3d);
  CHECK(one("mov.u32 %r2, 5;\nmov.u32 %r3, 0xffff0000;\nbfi.b32 %r1, %r2, %r3, 4, 3;") ==
        0xffff0050);
  CHECK(one("mov.u32 %r2, -7;\nshr.s32 %r1, %r2, 1;") == static_cast<u32>(-4));
  CHECK(one("mov.u32 %r2, -7;\nmov.u32 %r3, 40;\nshr.u32 %r1, %r2, %r3;") == 0);
  CHECK(one("mov.f32 %f1, 0f7FC00000;\nsetp.ltu.f32 %p1, %f1, %f1;\nselp.u32 %r1, 3, 4, %p1;") ==
        3);
  CHECK(one("mov.f32 %f1, 0fC0200000;\ncvt.rzi.s32.f32 %r1, %f1;") == static_cast<u32>(-2));
  CHECK(one("mov.f32 %f1, 0f477FF000;\ncvt.rn.f16.f32 %h1, %f1;\ncvt.u32.u16 %r1, %h1;") ==
        0x7c00);  // 65520
  // 2^-24 times 1.5, subnormal, is a tie: to even.
  CHECK(one("mov.u32 %r2, 0x00010001;\nmov.u32 %r3, 0x3e003e00;\nmul.rn.f16x2 %r1, %r2, %r3;") ==
        0x00020002);
  // 3 * 683/1024 + 2^-24 is above the tie of 2 and 2 + 2^-9, to which binary32 would round it.
  CHECK(one("mov.u32 %r2, 0x42004200;\nmov.u32 %r3, 0x39563956;\nmov.u32 %r4, 0x00010001;\n"
            "fma.rn.f16x2 %r1, %r2, %r3, %r4;") == 0x40014001);
  CHECK(one("mov.u32 %r2, -3;\ncvt.s64.s32 %rd3, %r2;\nshr.s64 %rd3, %rd3, 1;\ncvt.u32.u64 %r1, "
            "%rd3;") == static_cast<u32>(-2));
  CHECK_THAT(fault("sin.approx.f32 %f1, %f1;\n", 32), says("not known here: sin.approx.f32"));
}

}  // namespace
}  // namespace kquant::ptx
