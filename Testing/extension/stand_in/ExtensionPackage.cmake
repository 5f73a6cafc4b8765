# Stands in for Slicer's packaging: only the conditions without which it stops or skips the extension.

if(NOT EXTENSION_NAME STREQUAL PROJECT_NAME)
  message(FATAL_ERROR "EXTENSION_NAME '${EXTENSION_NAME}' differs from the project's name '${PROJECT_NAME}'")
endif()
foreach(name IN ITEMS LICENSE_FILE README_FILE)
  if(NOT EXISTS "${EXTENSION_${name}}")
    message(FATAL_ERROR "EXTENSION_${name} does not exist: '${EXTENSION_${name}}'")
  endif()
endforeach()
