# find_package(etexport), with -Detexport_DIR="$(python -m etexport --cmake-dir)": a model script as a target (docs/library.md).
cmake_minimum_required(VERSION 3.20) # DEPFILE for every generator

# The Python that has etexport: that of the environment in which this file lies, else the one on PATH.
get_filename_component(etexport_environment "${CMAKE_CURRENT_LIST_DIR}/../../../../../../.." ABSOLUTE)
get_filename_component(etexport_clone "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
find_program(
  ETEXPORT_PYTHON
  NAMES python3 python
  HINTS "${etexport_clone}/.venv/bin" "${etexport_environment}/bin"
  DOC "the Python in which etexport is installed")
execute_process(
  COMMAND "${ETEXPORT_PYTHON}" -m etexport --version
  RESULT_VARIABLE etexport_failed
  OUTPUT_VARIABLE etexport_said
  ERROR_QUIET)
if(etexport_failed)
  set(etexport_FOUND FALSE)
  set(etexport_NOT_FOUND_MESSAGE "${ETEXPORT_PYTHON} has no etexport; say which Python has: -DETEXPORT_PYTHON=PATH")
  return()
endif()
string(REGEX MATCH "[0-9.]+" etexport_VERSION "${etexport_said}")

# etexport_add_model(NAME SCRIPT model.py (CORE m4f | BOARD board) [OPTIMIZE size]): a static library NAME, whose header is NAME.h.
# SCRIPT may be a .pte. It is the folder of `etexport library`, made once when CMake runs, and again in a build for which the
# script, a file that it imports or a file that it names has changed.
function(etexport_add_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SCRIPT;CORE;BOARD;OPTIMIZE" "")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SCRIPT)
    message(FATAL_ERROR "etexport_add_model(NAME SCRIPT model.py (CORE m4f | BOARD board) [OPTIMIZE size]), not: ${ARGN}")
  endif()
  get_filename_component(script "${arg_SCRIPT}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${name}")
  set(command "${ETEXPORT_PYTHON}" -m etexport library "${script}" --name ${name} -o "${folder}" --depfile "${folder}.d")
  foreach(option CORE BOARD OPTIMIZE)
    if(arg_${option})
      string(TOLOWER "--${option}" word)
      list(APPEND command ${word} "${arg_${option}}")
    endif()
  endforeach()

  string(SHA256 asked "${command}")
  if(NOT EXISTS "${folder}/README.md" OR NOT "${asked}" STREQUAL "$CACHE{etexport_asked_${name}}")
    message(STATUS "Making ${name} of ${arg_SCRIPT}")
    execute_process(
      COMMAND ${command}
      WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
      RESULT_VARIABLE failed
      ERROR_VARIABLE said
      OUTPUT_QUIET)
    if(failed)
      message(FATAL_ERROR "${said}")
    endif()
    set(etexport_asked_${name} "${asked}" CACHE INTERNAL "the command that made ${name}")
  endif()

  set(sources "${folder}/src/${name}.cpp" "${folder}/src/${name}_constants.c")
  add_custom_command(
    OUTPUT "${folder}/README.md"
    BYPRODUCTS ${sources}
    COMMAND ${command}
    DEPENDS "${script}"
    DEPFILE "${folder}.d"
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    COMMENT "Making ${name} of ${arg_SCRIPT}"
    VERBATIM)
  add_custom_target(${name}_made DEPENDS "${folder}/README.md")
  add_subdirectory("${folder}" "${folder}/build")
  add_dependencies(${name} ${name}_made)
endfunction()
