# cmake -DKIND=find_package|add_subdirectory -DSOURCE=… -DBUILD=… -DWORK=… -DCOMPILER=… -DBUILD_TYPE=… -DFLAGS=…
#   -P build_consumer.cmake
# Installs kquant (or points at its sources), then configures, builds and runs a consumer project.
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
# As the tests are compiled: what a compiler cache has is not compiled again.
set(arguments -G Ninja -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_BUILD_TYPE=${BUILD_TYPE})
string(TOUPPER "${BUILD_TYPE}" type)
list(APPEND arguments "-DCMAKE_CXX_FLAGS_${type}=${FLAGS}")
if(KIND STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  list(APPEND arguments -DCMAKE_PREFIX_PATH=${WORK}/prefix)
else()
  list(APPEND arguments -DKQUANT_SOURCE_DIR=${SOURCE} -DKQUANT_SCALAR_ONLY=ON -DKQUANT_WERROR=ON)
endif()
run(${CMAKE_COMMAND} -S ${SOURCE}/test/consumers/${KIND} -B ${WORK}/build ${arguments})
run(${CMAKE_COMMAND} --build ${WORK}/build --target consumer)
run(${WORK}/build/consumer)
