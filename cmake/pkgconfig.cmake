# faiss_ext.pc and knowhere_plugin.pc, for builds without CMake. Programs need
# C++20: c++ -std=c++20 program.cpp $(pkg-config --cflags --libs faiss_ext)

include_guard(GLOBAL)

# What a program with Faiss' classes links: Faiss, and what it needs if it is
# static. Its own package has no .pc file.
function(faiss_ext_faiss_libraries out)
  get_target_property(files faiss LOCATION)
  get_target_property(kind faiss TYPE)
  if(kind STREQUAL "STATIC_LIBRARY")
    get_target_property(others faiss INTERFACE_LINK_LIBRARIES)
    list(TRANSFORM others REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1")
    list(APPEND files ${others})
  endif()
  list(REMOVE_DUPLICATES files)
  set(libraries "")
  foreach(file IN LISTS files)
    if(file STREQUAL "OpenMP::OpenMP_CXX")
      string(APPEND libraries " ${OpenMP_CXX_FLAGS}")
      continue()
    endif()
    # by its name where the linker looks anyway
    cmake_path(GET file PARENT_PATH folder)
    cmake_path(GET file STEM name)
    if(folder IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES AND name MATCHES "^lib(.+)")
      string(APPEND libraries " -l${CMAKE_MATCH_1}")
    elseif(IS_ABSOLUTE "${file}" OR file MATCHES "^-l")
      string(APPEND libraries " ${file}")
    endif()
  endforeach()
  set(${out} "${libraries}" PARENT_SCOPE)
endfunction()

# faiss_ext_add_pkg_config(NAME DESCRIPTION LIBRARIES)
function(faiss_ext_add_pkg_config PC_NAME PC_DESCRIPTION PC_LIBRARIES)
  # relative to the file, where it can be: installations may be moved
  set(PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
  set(PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
  set(PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" AND
     NOT IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    string(REGEX REPLACE "[^/]+" ".." up "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
    set(PC_PREFIX "\${pcfiledir}/${up}")
    set(PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
  endif()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/pkgconfig.in
    ${PROJECT_BINARY_DIR}/${PC_NAME}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${PC_NAME}.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT devel)
endfunction()
