# The language, the warnings and the sanitizers, for every target of the manager.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  message(FATAL_ERROR
    "g++ ${CMAKE_CXX_COMPILER_VERSION} miscompiles coroutines (double frees in co_await expressions). "
    "Use clang++-19: cmake --preset release, or run scripts/bootstrap.")
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

option(LLM_MANAGER_WERROR "Treat warnings as errors" ON)
set(LLM_MANAGER_SANITIZE "" CACHE STRING "Value of -fsanitize=, empty for none")

add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
                    -Wold-style-cast -Wimplicit-fallthrough -Wmissing-field-initializers)
# Designated initialisers leave the rest at its default on purpose.
add_compile_options(-Wno-missing-designated-field-initializers)
if(LLM_MANAGER_WERROR)
  add_compile_options(-Werror)
endif()
if(LLM_MANAGER_SANITIZE)
  add_compile_options(-fsanitize=${LLM_MANAGER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${LLM_MANAGER_SANITIZE})
endif()

find_program(LLM_MANAGER_LLD NAMES ld.lld-19)
if(LLM_MANAGER_LLD)
  add_link_options(-fuse-ld=${LLM_MANAGER_LLD})
  if(CMAKE_BUILD_TYPE STREQUAL Release)
    # The daemon waits most of its life: what it never runs, or has twice, is not to lie in memory.
    add_link_options(-Wl,--gc-sections -Wl,--icf=safe)
  endif()
endif()
find_program(LLM_MANAGER_CCACHE ccache)
if(LLM_MANAGER_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LLM_MANAGER_CCACHE})
endif()

add_compile_definitions(
  BOOST_ASIO_NO_DEPRECATED
  BOOST_ASIO_DISABLE_BOOST_COROUTINE
  SPDLOG_FMT_EXTERNAL
)
