# FAISS_EXT_BUNDLE (packaging/wheel): what is linked has Faiss, OpenBLAS,
# Fortran's runtime and zlib inside, from static libraries, and shows none of
# their symbols: a process may have a Faiss, a BLAS and a zlib besides.
#
# OpenBLAS is that with OpenMP's threads: omp_set_num_threads holds for it.
# Only the plug-in for Milvus keeps the OpenBLAS that its host brings along.

include_guard(GLOBAL)

option(FAISS_EXT_BUNDLE
       "Link static Faiss, OpenBLAS and zlib into all libraries (wheels)" OFF)

# Called after OpenMP was found: instead of find_package of BLAS, LAPACK, ZLIB.
# Faiss' own package names the shared libraries that it was built with; all who
# link it get the static ones.
function(faiss_ext_bundle_libraries)
  find_library(FAISS_EXT_STATIC_OPENBLAS libopenblas.a
    PATH_SUFFIXES openblas-openmp REQUIRED)
  find_library(FAISS_EXT_STATIC_ZLIB libz.a REQUIRED)
  get_target_property(kind faiss TYPE)
  if(NOT kind STREQUAL "STATIC_LIBRARY")
    message(FATAL_ERROR
      "FAISS_EXT_BUNDLE needs libfaiss.a, found is a ${kind} (${faiss_DIR})")
  endif()

  # OpenBLAS of Debian has LAPACK in Fortran. Of its runtime, only what copies
  # strings is left by --gc-sections; the rest (input and output) could not be
  # linked into a shared object.
  execute_process(
    COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgfortran.a
    OUTPUT_VARIABLE fortran OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT IS_ABSOLUTE "${fortran}")
    set(fortran "")
  endif()
  foreach(name IN ITEMS BLAS LAPACK)
    add_library(${name}::${name} INTERFACE IMPORTED GLOBAL)
    target_link_libraries(${name}::${name} INTERFACE
      ${FAISS_EXT_STATIC_OPENBLAS} ${fortran})
    target_link_options(${name}::${name} INTERFACE LINKER:--gc-sections)
  endforeach()
  add_library(ZLIB::ZLIB INTERFACE IMPORTED GLOBAL)
  target_link_libraries(ZLIB::ZLIB INTERFACE ${FAISS_EXT_STATIC_ZLIB})
  set_target_properties(faiss PROPERTIES INTERFACE_LINK_LIBRARIES
    "OpenMP::OpenMP_CXX;BLAS::BLAS")
  message(STATUS "Bundled: Faiss ${faiss_VERSION}, "
    "${FAISS_EXT_STATIC_OPENBLAS}, ${FAISS_EXT_STATIC_ZLIB}")
endfunction()
