# Stands in for Slicer's macros for scripted modules. Files are copied into the build tree at the path by which they were
# listed, and one folder of the build tree is installed: a file listed as ../x is therefore built but not installed.
# Knows nothing about compiled modules, translations or byte-compiling.

if("${EXTENSION_NAME}" STREQUAL "")
  set(EXTENSION_NAME "${PROJECT_NAME}")
endif()

if(BUILD_TESTING)
  enable_testing()
endif()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(PARSE_ARGV 0 module "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES")
  if(module_UNPARSED_ARGUMENTS OR NOT module_NAME OR NOT module_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME or SCRIPTS missing, or unknown: ${module_UNPARSED_ARGUMENTS}")
  endif()
  set(built "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  set(copies)
  foreach(file IN LISTS module_SCRIPTS module_RESOURCES)
    if(IS_ABSOLUTE "${file}" OR NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: absolute or nonexistent file '${file}'")
    endif()
    add_custom_command(
      OUTPUT "${built}/${file}"
      COMMAND "${CMAKE_COMMAND}" -E copy "${CMAKE_CURRENT_SOURCE_DIR}/${file}" "${built}/${file}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${file}"
      )
    list(APPEND copies "${built}/${file}")
  endforeach()
  add_custom_target(Copy${module_NAME}Files ALL DEPENDS ${copies})
  install(DIRECTORY "${built}/" DESTINATION "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
endfunction()

# Slicer would run the script's unittest classes inside the application; here it has only to be there.
function(slicer_add_python_unittest)
  cmake_parse_arguments(PARSE_ARGV 0 unittest "" "SCRIPT" "SLICER_ARGS")
  if(unittest_UNPARSED_ARGUMENTS OR NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${unittest_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: nonexistent script '${unittest_SCRIPT}', or unknown arguments")
  endif()
  add_test(NAME "py_${unittest_SCRIPT}" COMMAND "${CMAKE_COMMAND}" -E true)
endfunction()
