# What makes a fault end a process instead of being used by somebody: stack
# protector, checked libc functions, read-only relocations, branch targets.
# Everything of ours gets what the compiler and the linker have.
#
# -DFAISS_EXT_HARDENING=OFF leaves it out: for processors and tools that lack
# something, or where a distribution's flags say it all.

include_guard(GLOBAL)
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)
include(CheckLinkerFlag)

option(FAISS_EXT_HARDENING "Hardening flags of compiler and linker" ON)

# Adds the flags to what is linked with `target` (an INTERFACE library).
function(faiss_ext_harden target)
  if(NOT FAISS_EXT_HARDENING)
    return()
  endif()
  foreach(flag -z,relro -z,now -z,noexecstack)
    string(MAKE_C_IDENTIFIER "FAISS_EXT_LINKS_${flag}" has)
    check_linker_flag(CXX "LINKER:${flag}" ${has})
    if(${has})
      target_link_options(${target} INTERFACE "LINKER:${flag}")
    endif()
  endforeach()
  # sanitizers see more without the rest
  if(FAISS_EXT_SANITIZED)
    return()
  endif()
  # Shadow stacks, but no landing pads (-fcf-protection=full): Linux checks none
  # in user space, and they took 1 % of the instructions of a search.
  # clang only warns of what another processor has
  set(CMAKE_REQUIRED_FLAGS -Werror)
  foreach(flag -fstack-protector-strong -fstack-clash-protection
               -fcf-protection=return -mbranch-protection=standard)
    string(MAKE_C_IDENTIFIER "FAISS_EXT_COMPILES_${flag}" has)
    check_cxx_compiler_flag(${flag} ${has})
    if(${has})
      target_compile_options(${target} INTERFACE ${flag})
    endif()
  endforeach()
  # needs optimisation; some compilers define it themselves, higher perhaps
  set(CMAKE_REQUIRED_FLAGS -O2)
  check_cxx_source_compiles(
    "#ifdef _FORTIFY_SOURCE\n#error defined\n#endif\nint main() {}"
    FAISS_EXT_LACKS_FORTIFY_SOURCE)
  if(FAISS_EXT_LACKS_FORTIFY_SOURCE)
    target_compile_definitions(${target} INTERFACE
      $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
  endif()
endfunction()
