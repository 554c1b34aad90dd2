#pragma once

// CAIRN_VECTOR_CLONES: a function so marked is compiled for several vector widths and the loader
// picks; sanitizers do not survive the resolvers that this needs.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAIRN_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CAIRN_VECTOR_CLONES
#endif
