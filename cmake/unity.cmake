# Unity builds for tools that look at every header anew in every file: the
# sanitizers' presets and clang-tidy (-DCMAKE_UNITY_BUILD=ON). One unit per
# folder, so that two files of a room must not use a name for two things.
# What is shipped is compiled file by file.

include_guard(GLOBAL)

# Groups the sources of `target`, but for those with flags of their own.
function(faiss_ext_unite target)
  set_property(TARGET ${target} PROPERTY UNITY_BUILD_MODE GROUP)
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    get_property(flags SOURCE ${source} TARGET_DIRECTORY ${target}
      PROPERTY COMPILE_OPTIONS)
    if(NOT flags)
      cmake_path(GET source PARENT_PATH folder)
      cmake_path(GET folder STEM room)
      set_property(SOURCE ${source} TARGET_DIRECTORY ${target}
        PROPERTY UNITY_GROUP "room_${room}")
    endif()
  endforeach()
endfunction()
