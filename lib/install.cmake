# What an installed kquant is: find_package(kquant) gives kquant::format, kquant::kquant, kquant::eval,
# kquant::cuda.
include(CMakePackageConfigHelpers)

install(TARGETS kquant_format kquant kquant_eval kquant_cuda EXPORT kquantTargets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/kquant DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT kquantTargets NAMESPACE kquant:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kquant)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/kquantConfig.cmake.in kquantConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kquant)
write_basic_package_version_file(kquantConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kquantConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/kquantConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kquant)
