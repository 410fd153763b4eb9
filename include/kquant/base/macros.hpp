#pragma once
// The only header that defines macros. Everything here is about where and how code is compiled,
// never about what it computes.

#if defined(__CUDACC__)
#define KQ_HOST_DEVICE __host__ __device__
#else
#define KQ_HOST_DEVICE
#endif

// Format helpers are compiled into translation units with different -m flags. If the compiler ever
// emitted one of them as a weak symbol, the linker could keep the AVX-512 copy for every caller.
// Forced inlining removes the symbol and with it the hazard (checked by
// test/layering/weak_symbols).
#if defined(__CUDACC__)
#define KQ_INLINE __forceinline__ KQ_HOST_DEVICE
#else
#define KQ_INLINE inline __attribute__((always_inline))
#endif

// How a kernel is declared: `template <class F> KQ_KERNEL(256) void name(Arguments a)`, with the
// number of threads a block has at most; KQ_KERNEL_SHARING where so many blocks shall find
// registers on one multiprocessor. Without a CUDA compiler kernels are ordinary functions, which an
// emulator runs (cuda/vocabulary/emulated.hpp).
#if defined(__CUDACC__)
#define KQ_KERNEL(threads) KQ_KERNEL_SHARING(threads, 1)
#define KQ_KERNEL_SHARING(threads, blocks) __global__ __launch_bounds__(threads, blocks)
#define KQ_DEVICE __device__ __forceinline__
#else
#define KQ_KERNEL(threads)
#define KQ_KERNEL_SHARING(threads, blocks)
#define KQ_DEVICE inline
#endif
