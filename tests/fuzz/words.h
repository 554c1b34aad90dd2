#pragma once

// FuzzWords: the arguments of a command from a fuzzer's input, one a line. Each has memory of its
// own, so that a read past the end of one is seen.

#include <algorithm>
#include <string_view>
#include <vector>

namespace cairn {

class FuzzWords {
 public:
  explicit FuzzWords(std::string_view input) {
    while (!input.empty()) {
      const size_t end = std::min(input.find('\n'), input.size());
      owned_.emplace_back(input.begin(), input.begin() + end);
      input.remove_prefix(std::min(end + 1, input.size()));
    }
    for (const std::vector<char>& word : owned_) args_.emplace_back(word.data(), word.size());
  }
  const std::vector<std::string_view>& args() const { return args_; }

 private:
  std::vector<std::vector<char>> owned_;
  std::vector<std::string_view> args_;
};

}  // namespace cairn
