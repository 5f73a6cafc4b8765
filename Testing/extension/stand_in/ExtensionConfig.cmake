# Stands in for Slicer's extension description: writes the EXTENSION_* metadata, one a line, into the build tree, and refuses
# what Slicer's packaging refuses. Knows nothing about modules.

set(lines)
foreach(name IN ITEMS NAME HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS LICENSE_FILE README_FILE)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is empty")
  endif()
  string(APPEND lines "${name}=${EXTENSION_${name}}\n")
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/extension.txt" "${lines}")
