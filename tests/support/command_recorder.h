#pragma once

// CommandRecorder: keeps each command of an append-only file as a line, its words apart by blanks.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/aof_reader.h"

namespace cairn {

class CommandRecorder : public CommandSink {
 public:
  Status BeginFile(std::string_view) override { return Status::Ok(); }
  Status Command(std::span<const std::string_view> args) override {
    std::string line;
    for (std::string_view arg : args) line += (line.empty() ? "" : " ") + std::string(arg);
    lines.push_back(line);
    return Status::Ok();
  }
  std::vector<std::string> lines;
};

}  // namespace cairn
