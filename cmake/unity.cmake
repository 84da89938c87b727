# Unity builds: one unit per folder, since headers take most of the time (150
# instead of 540 s of CPU for all that a wheel holds). So two files of a room
# must not use a name for two things. -DCMAKE_UNITY_BUILD=OFF, as in the preset
# debug, compiles file by file.

include_guard(GLOBAL)

if(NOT DEFINED CMAKE_UNITY_BUILD)
  set(CMAKE_UNITY_BUILD ON)
endif()

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
