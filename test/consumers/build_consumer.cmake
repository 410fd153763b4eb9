# cmake -DKIND=find_package|add_subdirectory -DSOURCE=… -DBUILD=… -DWORK=… -P build_consumer.cmake
# Installs kquant (or points at its sources), then configures, builds and runs a consumer project.
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(arguments -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${COMPILER})
if(KIND STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  list(APPEND arguments -DCMAKE_PREFIX_PATH=${WORK}/prefix)
else()
  # As preset scalar-only compiles it, so that a compiler cache has to do it once.
  list(APPEND arguments -DKQUANT_SOURCE_DIR=${SOURCE} -DKQUANT_SCALAR_ONLY=ON -DKQUANT_WERROR=ON)
endif()
run(${CMAKE_COMMAND} -S ${SOURCE}/test/consumers/${KIND} -B ${WORK}/build ${arguments})
run(${CMAKE_COMMAND} --build ${WORK}/build --target consumer)
run(${WORK}/build/consumer)
