// cairn-check: looks into CairnKV's and Redis's files without a server. Exit status 0 = sound, 1 = damaged
// or unreadable, 2 = wrong usage.

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "persistence/check_aof.h"
#include "persistence/check_rdb.h"
#include "server/platform/env.h"

int main(int argc, char** argv) {
  constexpr int kUsageError = 2;
  const std::string_view what = argc == 3 ? argv[1] : "";
  if (what != "rdb" && what != "aof") {
    std::fprintf(stderr, "Usage: cairn-check rdb FILE\n       cairn-check aof FILE-OR-DIRECTORY\n");
    return kUsageError;
  }
  const std::unique_ptr<cairn::Env> env = cairn::NewPosixEnv();
  const std::string path = argv[2];
  return what == "rdb" ? cairn::CheckRdb(*env, path, stdout) : cairn::CheckAof(*env, path, stdout);
}
