# The kernels: one table, and faiss_ext_add_kernels(target).
#
# Flags belong to one file: nothing else of the project is compiled for more
# than the baseline CPU. A level of another processor, or one whose check does
# not compile, is left out; NONE is always there.
#
# Adding an ISA: one row here, one file, one entry in kernels/dispatch.cpp.

include_guard(GLOBAL)
include(CheckCXXSourceCompiles)

# level (as in SCANN_HAVE_<level>); file; processor; flags; compile check
set(FAISS_EXT_KERNEL_TABLE
  AVX512 avx512.cpp "x86_64|AMD64"
    "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vnni"
    "<immintrin.h>\n__m512i f(__m512i a) { return _mm512_dpbusd_epi32(a, _mm512_permutexvar_epi8(a, a), a)"
  AVX2 avx2.cpp "x86_64|AMD64"
    "-mavx2 -mfma -mf16c"
    "<immintrin.h>\n__m256 f(__m256 a, __m128i b) { return _mm256_fmadd_ps(a, _mm256_cvtph_ps(b), a)"
  NEON neon.cpp "aarch64|arm64|ARM64"
    ""
    "<arm_neon.h>\nuint8x16_t f(const uint8_t* p) { return vqtbl4q_u8(vld1q_u8_x4(p), vld1q_u8(p))"
)

# Exact-order kernels return the same bits at every level only if the compiler
# fuses no multiply-add of its own. Kernels are noexcept and call nothing that
# throws; without exceptions an object has no symbol but its table.
set(FAISS_EXT_KERNEL_FLAGS
  -ffp-contract=off -fno-exceptions $<$<NOT:$<CONFIG:Debug>>:-O3>)

# Adds the kernels and their dispatch to `target`.
function(faiss_ext_add_kernels target)
  set(dir ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../faiss_ext/kernels)
  cmake_path(NORMAL_PATH dir)
  target_sources(${target} PRIVATE ${dir}/dispatch.cpp ${dir}/scalar.cpp)
  set_property(SOURCE ${dir}/scalar.cpp TARGET_DIRECTORY ${target}
    PROPERTY COMPILE_OPTIONS ${FAISS_EXT_KERNEL_FLAGS})
  set(levels NONE)
  set(definitions)

  list(LENGTH FAISS_EXT_KERNEL_TABLE cells)
  math(EXPR last "${cells} - 1")
  foreach(i RANGE 0 ${last} 5)
    list(SUBLIST FAISS_EXT_KERNEL_TABLE ${i} 5 row)
    list(GET row 0 level)
    list(GET row 1 file)
    list(GET row 2 processor)
    list(GET row 3 flags)
    list(GET row 4 check)
    if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(${processor})$")
      continue()
    endif()
    set(CMAKE_REQUIRED_FLAGS "${flags}")
    check_cxx_source_compiles(
      "#include ${check}; }\nint main() {}" FAISS_EXT_COMPILES_${level})
    if(NOT FAISS_EXT_COMPILES_${level})
      message(WARNING "The compiler lacks ${flags}: no ${level} kernels")
      continue()
    endif()
    separate_arguments(flags UNIX_COMMAND "${flags}")
    target_sources(${target} PRIVATE ${dir}/${file})
    set_property(SOURCE ${dir}/${file} TARGET_DIRECTORY ${target}
      PROPERTY COMPILE_OPTIONS ${FAISS_EXT_KERNEL_FLAGS} ${flags})
    list(APPEND definitions SCANN_HAVE_${level})
    list(APPEND levels ${level})
  endforeach()

  set_property(SOURCE ${dir}/dispatch.cpp TARGET_DIRECTORY ${target}
    PROPERTY COMPILE_DEFINITIONS ${definitions})
  list(JOIN levels " " levels)
  message(STATUS "Kernel levels of ${target}: ${levels}")
endfunction()
