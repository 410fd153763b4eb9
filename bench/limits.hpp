#pragma once
// limits_avx512.cpp, which is compiled for it: only to be called where find_isa("avx512vnni") is.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>

void vnni_peak(benchmark::State& state);

/// Reads n bytes (a multiple of 256); the result depends on all of them.
std::uint64_t read_bytes_avx512(const std::byte* p, std::size_t n);
