#pragma once

// Which sanitizer this is built with: CAIRN_ASAN, CAIRN_SANITIZED (it or ThreadSanitizer), 0 or 1.
// GCC says it by macros, Clang by features.

#if defined(__has_feature)
#define CAIRN_HAS_FEATURE(name) __has_feature(name)
#else
#define CAIRN_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || CAIRN_HAS_FEATURE(address_sanitizer)
#define CAIRN_ASAN 1
#else
#define CAIRN_ASAN 0
#endif

#if CAIRN_ASAN || defined(__SANITIZE_THREAD__) || CAIRN_HAS_FEATURE(thread_sanitizer)
#define CAIRN_SANITIZED 1
#else
#define CAIRN_SANITIZED 0
#endif
