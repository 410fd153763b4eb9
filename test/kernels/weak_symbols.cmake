# Looks at the weak symbols of one ISA's or register width's translation unit, as built (OBJECT) and
# unoptimised (SOURCE compiled at -O0): each must carry the type of its ISA (kernels::Avx2,
# xsimd::avx2, …) or its width (Lanes<8>) in its name.
# Any other could be an inline function that ordinary code has too, and the linker would be free to
# keep the copy with the wrong instructions. No hazard: constants (template parameter objects, tables
# of a format, the pointer to the personality routine) and clang's two-call stub that ends the program.
separate_arguments(FLAGS)
get_filename_component(isa ${SOURCE} NAME_WE)
set(own_avx2 "kernels::Avx2|xsimd::avx2?[^0-9]")
set(own_avx512vnni "kernels::Avx512Vnni|xsimd::(types::simd_)?avx512")
# The three share xsimd's float vectors, in which dotprod and i8mm have no say.
set(own_neon "kernels::NeonWith<[(]kquant::Isa[)]3>|xsimd::neon64")
set(own_neon_dotprod "kernels::NeonWith<[(]kquant::Isa[)]4>|xsimd::neon64")
set(own_neon_i8mm "kernels::NeonWith<[(]kquant::Isa[)]5>|xsimd::neon64")

set(own_width_8 "Lanes<8>|find_encoder<8>")
set(own_width_16 "Lanes<16>|find_encoder<16>")

set(unoptimised ${CMAKE_CURRENT_BINARY_DIR}/${isa}-O0.o)
execute_process(COMMAND ${COMPILER} ${FLAGS} -O0 -c ${SOURCE} -o ${unoptimised}
  COMMAND_ERROR_IS_FATAL ANY)

foreach(object ${OBJECT} ${unoptimised})
  execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols
    COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")
  string(REPLACE "\n" ";" symbols "${symbols}")
  set(n_weak 0)
  set(foreign "")
  foreach(symbol IN LISTS symbols)
    if(symbol MATCHES "^[0-9a-f]* [WVuvw] " AND NOT symbol MATCHES "([WV] (template parameter object|DW.ref.|__clang_call_terminate)|[Vu] kquant::detail::k[A-Z][A-Za-z]*<)")
      math(EXPR n_weak "${n_weak} + 1")
      if(NOT symbol MATCHES "${own_${isa}}")
        string(APPEND foreign "  ${symbol}\n")
      endif()
    endif()
  endforeach()
  if(n_weak EQUAL 0)
    message(FATAL_ERROR "${object}: no weak symbol at all: not the kernels?")
  endif()
  if(foreign)
    message(FATAL_ERROR "${object}: weak symbols of any ISA:\n${foreign}")
  endif()
  message(STATUS "${object}: ${n_weak} weak symbols, all its own")
endforeach()
