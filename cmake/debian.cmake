# FAISS_EXT_DEBIAN (packaging/deb): what CPack makes of an installation below
# /usr. One package for each component:
#
#   runtime  libfaiss-ext0          both libraries
#   devel    libfaiss-ext-dev       headers, CMake package, .pc files
#   python   python3-faiss-ext      for the Python of this Debian
#   plugin   knowhere-scann-plugin  "SCANN" of the Milvus server, where there is one

if(NOT FAISS_EXT_DEBIAN)
  return()
endif()

# ------------------------------------------------------- what only they hold

if(FAISS_EXT_BUILD_PYTHON)
  install(DIRECTORY faiss_ext/python/faiss_ext
    DESTINATION ${FAISS_EXT_PYTHON_DIR} COMPONENT python
    PATTERN __pycache__ EXCLUDE)
  # so that pip and importlib.metadata know of it
  file(CONFIGURE OUTPUT METADATA CONTENT
"Metadata-Version: 2.1
Name: faiss_ext
Version: @PROJECT_VERSION@
Summary: @PROJECT_DESCRIPTION@
Requires-Dist: numpy
" @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/METADATA COMPONENT python
    DESTINATION ${FAISS_EXT_PYTHON_DIR}faiss_ext-${PROJECT_VERSION}.dist-info)
endif()

set(packages libfaiss-ext0 libfaiss-ext-dev python3-faiss-ext)
set(CPACK_COMPONENTS_ALL runtime devel python)
if(TARGET knowhere_scann)
  list(APPEND packages knowhere-scann-plugin)
  list(APPEND CPACK_COMPONENTS_ALL plugin)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/links)
  # faiss_ext.milvus_host looks beside itself
  file(RELATIVE_PATH to_plugin
    /${FAISS_EXT_PYTHON_DIR}faiss_ext /${FAISS_EXT_PLUGIN_DIR})
  foreach(name IN ITEMS libknowhere_scann.so libknowhere_scann_engine.so)
    file(CREATE_LINK ${to_plugin}/${name} ${PROJECT_BINARY_DIR}/links/${name}
      SYMBOLIC)
    install(FILES ${PROJECT_BINARY_DIR}/links/${name} COMPONENT python
      DESTINATION ${FAISS_EXT_PYTHON_DIR}faiss_ext)
  endforeach()
endif()

file(READ ${PROJECT_SOURCE_DIR}/LICENSE licence)
file(READ ${PROJECT_SOURCE_DIR}/THIRD_PARTY_NOTICES.md notices)
file(WRITE ${PROJECT_BINARY_DIR}/copyright "${licence}\n${notices}")
foreach(package component IN ZIP_LISTS packages CPACK_COMPONENTS_ALL)
  install(FILES ${PROJECT_BINARY_DIR}/copyright
    DESTINATION share/doc/${package} COMPONENT ${component})
endforeach()

# --------------------------------------------------------------- CPack's part

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_VENDOR "the authors of ScaNN for Faiss")
set(CPACK_PACKAGE_CONTACT "The ScaNN for Faiss authors <root@localhost>")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# a release's ABI is its own until 1.0
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY "=")
# the module and the plug-in have the engine inside
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR})

set(version ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
set(about "ScaNN (score-aware 4-bit codes of vectors) as a Faiss index")

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libfaiss-ext0)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
  "${about} - library\n libfaiss_ext, an IndexIVF of Faiss, and libknowhere_plugin, index types\n behind the interface of Milvus' Knowhere.")

set(CPACK_DEBIAN_DEVEL_PACKAGE_NAME libfaiss-ext-dev)
set(CPACK_DEBIAN_DEVEL_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVEL_PACKAGE_DEPENDS
  "libfaiss-ext0 (= ${version}), libfaiss-dev (>= ${faiss_VERSION}), libfaiss-dev (<< ${faiss_VERSION}+~)")
set(CPACK_COMPONENT_DEVEL_DESCRIPTION
  "${about} - development files\n Headers, CMake package and pkg-config files.")

if(FAISS_EXT_BUILD_PYTHON)
  set(CPACK_DEBIAN_PYTHON_PACKAGE_NAME python3-faiss-ext)
  set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
  math(EXPR next "${Python_VERSION_MINOR} + 1")
  set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS
    "python3 (>= 3.${Python_VERSION_MINOR}), python3 (<< 3.${next}), python3-numpy")
  set(CPACK_DEBIAN_PYTHON_PACKAGE_SUGGESTS knowhere-scann-plugin)
  set(CPACK_COMPONENT_PYTHON_DESCRIPTION
    "${about} - Python\n The package faiss_ext: index, files, Knowhere's index types, hosts.")
  foreach(script IN ITEMS postinst prerm)
    set(file ${PROJECT_BINARY_DIR}/debian/${script})
    if(script STREQUAL postinst)
      set(command "[ \"$1\" != configure ] || py3compile -p python3-faiss-ext")
    else()
      set(command "py3clean -p python3-faiss-ext")
    endif()
    file(WRITE ${file} "#!/bin/sh\nset -e\n${command}\n")
    file(CHMOD ${file} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE
      GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
    list(APPEND CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA ${file})
  endforeach()
endif()

set(CPACK_DEBIAN_PLUGIN_PACKAGE_NAME knowhere-scann-plugin)
set(CPACK_DEBIAN_PLUGIN_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_PLUGIN_PACKAGE_SUGGESTS python3-faiss-ext)
set(CPACK_COMPONENT_PLUGIN_DESCRIPTION
  "${about} - plug-in for Milvus\n libknowhere_scann.so, preloaded into the Milvus 2.3.5 server, serves its\n index type SCANN.")

include(CPack)
