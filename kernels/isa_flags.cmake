# The only place with -m flags. One line an ISA: what lib/matmul/dispatch.cpp asks the machine for
# must cover what is allowed here.
#
#   KQUANT_ISAS             those built, by the name of their tu/ISA.cpp
#   KQUANT_FLAGS_<isa>      how that file is compiled

set(KQUANT_ISAS scalar)
set(KQUANT_FLAGS_scalar "")
if(NOT KQUANT_SCALAR_ONLY)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    list(APPEND KQUANT_ISAS avx2 avx512vnni)
    set(KQUANT_FLAGS_avx2 -mavx2 -mf16c -mfma)
    set(KQUANT_FLAGS_avx512vnni ${KQUANT_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # gcc 12 warns about its own avx512fintrin.h (gcc bug 105593).
      list(APPEND KQUANT_FLAGS_avx512vnni -Wno-maybe-uninitialized -Wno-uninitialized)
    endif()
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    list(APPEND KQUANT_ISAS neon neon_dotprod neon_i8mm)
    set(KQUANT_FLAGS_neon "")
    set(KQUANT_FLAGS_neon_dotprod -march=armv8.2-a+dotprod)
    set(KQUANT_FLAGS_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
  endif()
endif()
