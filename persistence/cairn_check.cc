// cairn-check: looks into CairnKV's and Redis's files without a server. Exit status 0 = sound, 1 =
// damaged or unreadable, 2 = wrong usage.

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "persistence/check_aof.h"
#include "persistence/check_rdb.h"
#include "server/platform/env.h"
#include "server/platform/mapped_file.h"

namespace {

constexpr int kUsageError = 2;

int Usage() {
  std::fprintf(stderr,
               "Usage: cairn-check rdb FILE\n       cairn-check aof [--fix] FILE-OR-DIRECTORY\n");
  return kUsageError;
}

void Say(const char* words) {
  [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, words, std::strlen(words));
}

/// A page that went between the ask and the touch ends in words as well, and in the status of what
/// is unreadable. What was printed before is left in its buffer: to write it is not for handlers.
void EndForFile(const char* path) {
  Say(path);
  Say(": cannot be read: the disk failed, or the file got shorter\n");
  ::_exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc >= 3 ? argv[1] : "";
  const bool fix = argc == 4 && std::string_view(argv[2]) == "--fix";
  if (argc != (fix ? 4 : 3)) return Usage();
  cairn::HandleUnreadableFiles(&EndForFile);
  const std::unique_ptr<cairn::Env> env = cairn::NewPosixEnv();
  const std::string path = argv[argc - 1];
  if (what == "rdb" && !fix) return cairn::CheckRdb(*env, path, stdout);
  if (what != "aof") return Usage();
  cairn::CheckAofOptions options;
  options.fix = fix;
  options.check_rdb = [&](const std::string& file) { return cairn::CheckRdbPart(*env, file); };
  return cairn::CheckAof(*env, path, options, stdout);
}
