#pragma once

// CAIRN_VECTOR_CLONES: a function so marked is compiled for several vector widths and the loader
// picks; sanitizers do not survive the resolvers that this needs.

#include "server/base/sanitizers.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !CAIRN_SANITIZED
#define CAIRN_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CAIRN_VECTOR_CLONES
#endif
