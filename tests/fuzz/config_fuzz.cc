// Any bytes as a configuration file: loading ends in settings or in an error, what was loaded is
// rewritten, and the rewritten file loads to the same settings.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/base/check.h"
#include "server/engine/config.h"
#include "server/engine/settings_table.h"
#include "server/platform/fake_env.h"
#include "server/platform/working_directory.h"

namespace {

class OneDirectory final : public cairn::WorkingDirectory {
 public:
  cairn::Status Change(const std::string&) override { return cairn::Status::Ok(); }
  std::string Current() const override { return "/"; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  cairn::FakeEnv env(1);
  OneDirectory directory;
  if (!env.WriteFileAtomically("/fuzz.conf", text).ok()) return 0;
  cairn::LaunchArguments arguments;
  arguments.config_file = "/fuzz.conf";
  cairn::Config first(env, directory);
  if (!first.Load(arguments, "").ok()) return 0;
  // A log file named like the file would be rewritten; a file that includes others may be undone by
  // them.
  if (text.find("include") != std::string::npos || text.find("INCLUDE") != std::string::npos)
    return 0;
  if (first.settings().logfile.find("fuzz.conf") != std::string::npos) return 0;
  CAIRN_CHECK(first.Rewrite().ok());
  cairn::Config second(env, directory);
  CAIRN_CHECK(second.Load(arguments, "").ok());
  for (const cairn::SettingSpec* spec : cairn::AllSettings()) {
    CAIRN_CHECK(cairn::FormatSetting(*spec, first.settings()) ==
                cairn::FormatSetting(*spec, second.settings()));
  }
  return 0;
}
