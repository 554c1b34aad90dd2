#pragma once

// BuildNumber: what a library of this folder is made of. tensor.so and tensor_torch.so share C++
// types, so two that were not built together may not meet. It stands in the library's file too, as
// an ELF note: a library is judged before it is opened. build_number.cmake makes it. Any thread.

#include <string>

namespace cairn::tensor {

/// 32 hexadecimal digits: of the sources of both libraries, and of the compiler and its options.
const char* BuildNumber();

/// The name in the note.
inline constexpr const char* kBuildNoteName = "cairn";

/// The number in the file of a library; empty when it has none or cannot be read.
std::string ReadBuildNumber(const std::string& path);

}  // namespace cairn::tensor
