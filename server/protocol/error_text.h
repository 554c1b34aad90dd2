#pragma once

// The text of an error line apart from its code.

#include <string_view>

namespace cairn {

/// An error line without a leading "ERR ", to stand inside of another one. Other codes stay.
inline std::string_view WithoutErr(std::string_view line) {
  constexpr std::string_view kCode = "ERR ";
  if (line.starts_with(kCode)) line.remove_prefix(kCode.size());
  return line;
}

}  // namespace cairn
