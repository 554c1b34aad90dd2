#include "server/engine/config.h"

#include <gtest/gtest.h>

#include "server/engine/settings_table.h"
#include "server/platform/fake_env.h"
#include "server/platform/working_directory.h"

namespace cairn {
namespace {

/// Remembers where it was sent; knows the directories it is told.
class RememberedDirectory final : public WorkingDirectory {
 public:
  Status Change(const std::string& path) override {
    if (path != "/data" && path != "/other") return Status::Io("No such file or directory");
    current_ = path;
    return Status::Ok();
  }
  std::string Current() const override { return current_; }

 private:
  std::string current_ = "/data";
};

class ConfigTest : public ::testing::Test {
 protected:
  void WriteFile(const std::string& path, std::string_view text) {
    ASSERT_TRUE(env_.WriteFileAtomically(path, text).ok());
  }
  std::string ReadFile(const std::string& path) {
    Result<std::string> text = env_.ReadFileToString(path);
    EXPECT_TRUE(text.ok());
    return text.ok() ? *text : "";
  }
  Status Load(std::vector<std::string> arguments, std::string_view stdin_text = "") {
    return config_.Load(ParseLaunchArguments(arguments), stdin_text);
  }
  std::string SetError(std::vector<Config::NameAndValue> pairs, SetContext context = {}) {
    return std::string(config_.Set(pairs, context).message());
  }
  std::string FatalAt(int line, const std::string& text, const std::string& reason) {
    return "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at "
           "line " +
           std::to_string(line) + "\n>>> '" + text + "'\n" + reason;
  }
  std::vector<Config::NameAndValue> Get(std::vector<std::string_view> patterns) {
    return config_.Get(patterns);
  }

  FakeEnv env_{1};
  RememberedDirectory directory_;
  Config config_{env_, directory_};
};

// -- Launch arguments

TEST_F(ConfigTest, ArgumentsBecomeLines) {
  const auto options = [](std::vector<std::string> words) {
    return ParseLaunchArguments(words).options;
  };
  EXPECT_EQ(options({"--port", "7"}), "port \"7\" ");
  EXPECT_EQ(options({"--port 7", "--hz", "5"}), "port 7 \nhz \"5\" ");
  EXPECT_EQ(options({"--save", "1", "2", "--save", "3", "4"}),
            "save \"1\" \"2\" \nsave \"3\" \"4\" ");
  EXPECT_EQ(options({"--save", "--port", "7"}), "save \"\"\nport \"7\" ");
  EXPECT_EQ(options({"--port", "7", "--save"}), "port \"7\" \nsave \"\"");
  EXPECT_EQ(options({"--requirepass", "--x"}), "requirepass \"--x\" ");
  EXPECT_EQ(options({"-x"}), "\"-x\" ");
}

TEST_F(ConfigTest, FirstWordIsTheFileAndDashIsStdin) {
  const auto parse = [](std::vector<std::string> words) { return ParseLaunchArguments(words); };
  EXPECT_EQ(parse({"a.conf", "--hz", "5"}).config_file, "a.conf");
  EXPECT_TRUE(parse({"-"}).read_stdin);
  EXPECT_TRUE(parse({"a.conf", "--hz", "5", "-"}).read_stdin);
  EXPECT_FALSE(parse({"a.conf", "-", "--hz", "5"}).read_stdin);
  EXPECT_EQ(parse({"--version"}).mode, LaunchArguments::Mode::kVersion);
  EXPECT_EQ(parse({"-h"}).mode, LaunchArguments::Mode::kHelp);
  EXPECT_EQ(parse({"--generate-conf"}).mode, LaunchArguments::Mode::kGenerateConf);
  EXPECT_EQ(parse({"a.conf", "--version"}).mode, LaunchArguments::Mode::kServe);
}

TEST_F(ConfigTest, FileThenStdinThenOptions) {
  WriteFile("/a.conf", "port 1\nhz 20\ntimeout 3\n");
  ASSERT_TRUE(Load({"/a.conf", "--timeout", "9", "-"}, "hz 30\ntimeout 4\n").ok());
  EXPECT_EQ(config_.settings().port, 1);
  EXPECT_EQ(config_.settings().hz, 30);
  EXPECT_EQ(config_.settings().timeout, 9);
  EXPECT_EQ(config_.file_path(), "/a.conf");
}

// -- Loading

TEST_F(ConfigTest, FatalErrorsNameTheLine) {
  const std::pair<const char*, std::string> kCases[] = {
      {"port abc\n", FatalAt(1, "port abc", "argument couldn't be parsed into an integer")},
      {"\n# c\n  port \"12\t\r\n",
       FatalAt(3, "port \"12", "Unbalanced quotes in configuration line")},
      {"port 1 2\n", FatalAt(1, "port 1 2", "wrong number of arguments")},
      {"nosuch 1\n", FatalAt(1, "nosuch 1", "Bad directive or wrong number of arguments")},
      {"include\n", FatalAt(1, "include", "Bad directive or wrong number of arguments")},
      {"mod.x\n", FatalAt(1, "mod.x", "Module config specified without value")},
      {"dir /nowhere\n", FatalAt(1, "dir /nowhere", "No such file or directory")},
      {"save 1\n", FatalAt(1, "save 1", "Invalid save parameters")},
      {"unixsocketperm 1000",
       FatalAt(1, "unixsocketperm 1000", "argument must be between 0 and 777 inclusive")},
      {"appenddirname a/b",
       FatalAt(1, "appenddirname a/b", "appenddirname can't be a path, just a dirname")},
      {"replicaof h x", FatalAt(1, "replicaof h x", "Invalid master port")},
  };
  for (const auto& [text, expected] : kCases) {
    Config config(env_, directory_);
    const Status status = config.LoadText(text);
    EXPECT_EQ(status.code(), StatusCode::kCorruption) << text;
    EXPECT_EQ(status.message(), expected);
  }
}

TEST_F(ConfigTest, AMissingFileIsNamed) {
  const Status status = Load({"nope.conf"});
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(status.message(),
            "Fatal error, can't open config file '/data/nope.conf': No such file or directory");
}

TEST_F(ConfigTest, SaveLinesReplaceTheDefaultsAndAddUp) {
  ASSERT_TRUE(config_.LoadText("save 10 1\nsave \"20 2 30 3\"\n").ok());
  EXPECT_EQ(config_.GetOne("save"), "10 1 20 2 30 3");
  Config other(env_, directory_);
  ASSERT_TRUE(other.LoadText("save 10 1\nsave \"\"\n").ok());
  EXPECT_EQ(other.GetOne("save"), "");
  Config untouched(env_, directory_);
  ASSERT_TRUE(untouched.LoadText("port 1\n").ok());
  EXPECT_EQ(untouched.GetOne("save"), "3600 1 300 100 60 10000");
}

TEST_F(ConfigTest, IncludeReadsPatternsInOrderAndStopsAtACycle) {
  ASSERT_TRUE(env_.CreateDir("/conf").ok());
  WriteFile("/conf/a.conf", "port 1\nhz 20\n");
  WriteFile("/conf/b.conf", "port 2\n");
  ASSERT_TRUE(config_.LoadText("include /conf/*.conf\ntimeout 5\n").ok());
  EXPECT_EQ(config_.settings().port, 2);
  EXPECT_EQ(config_.settings().hz, 20);
  EXPECT_EQ(config_.settings().timeout, 5);
  EXPECT_TRUE(config_.LoadText("include /conf/none*\n").ok());
  // Any part of the path may be a pattern, and a directory is no file.
  for (const char* directory : {"/conf/d1", "/conf/d2", "/conf/d2/c.conf", "/conf/.d3"})
    ASSERT_TRUE(env_.CreateDir(directory).ok());
  WriteFile("/conf/d1/c.conf", "port 3\n");
  WriteFile("/conf/.d3/c.conf", "port 4\n");
  ASSERT_TRUE(config_.LoadText("include /c*f/*/c.conf\n").ok());
  EXPECT_EQ(config_.settings().port, 3);
  // In the order of whole paths, not of their parts.
  ASSERT_TRUE(env_.CreateDir("/conf/d1-").ok());
  WriteFile("/conf/d1-/c.conf", "port 5\n");
  ASSERT_TRUE(config_.LoadText("include /conf/d1*/c.conf\n").ok());
  EXPECT_EQ(config_.settings().port, 3);
  WriteFile("/conf/loop.conf", "include /conf/loop.conf\n");
  EXPECT_EQ(config_.LoadText("include /conf/loop.conf\n").code(), StatusCode::kCorruption);
}

TEST_F(ConfigTest, DirectivesAreKeptAndJudged) {
  config_.SetDirectiveCheck("rename-command", [](std::span<const std::string> words) {
    return words[0] == "GET" ? std::string() : std::string("No such command in rename-command");
  });
  ASSERT_TRUE(config_.LoadText("rename-command GET \"\"\nloadmodule m.so a b\nm.x 1\n").ok());
  EXPECT_EQ(config_.settings().rename_command[0], (std::vector<std::string>{"GET", ""}));
  EXPECT_EQ(config_.settings().loadmodule[0], (std::vector<std::string>{"m.so", "a", "b"}));
  EXPECT_EQ(config_.settings().module_settings[0], (std::vector<std::string>{"m.x", "1"}));
  EXPECT_EQ(config_.LoadText("rename-command FOO x\n").message(),
            FatalAt(1, "rename-command FOO x", "No such command in rename-command"));
}

// -- GET

TEST_F(ConfigTest, GetEchoesTheNameAndHidesTheHidden) {
  EXPECT_EQ(Get({"MaxMemory", "maxmemory"}),
            (std::vector<Config::NameAndValue>{{"MaxMemory", "0"}}));
  EXPECT_EQ(Get({"slave-p*"}), (std::vector<Config::NameAndValue>{{"slave-priority", "100"}}));
  EXPECT_EQ(Get({"watchdog-period"}).size(), 1U);
  EXPECT_TRUE(Get({"watchdog-perio*"}).empty());
  EXPECT_TRUE(Get({"nosuch", "user"}).empty());
}

// -- SET

/// Every number at its bounds and one past them, whatever rows the table gets.
TEST_F(ConfigTest, SetIsAllOrNothing) {
  EXPECT_EQ(SetError({{"hz", "20"}, {"dir", "/other"}, {"port", "abc"}}),
            "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected "
            "config");
  ASSERT_TRUE(config_.LoadText("enable-protected-configs local\n").ok());
  const Settings before = config_.settings();
  EXPECT_EQ(SetError({{"hz", "20"}, {"dir", "/other"}, {"port", "abc"}}, {.client_is_local = true}),
            "ERR CONFIG SET failed (possibly related to argument 'port') - argument couldn't be "
            "parsed into an integer");
  EXPECT_TRUE(config_.settings() == before);
  EXPECT_EQ(directory_.Current(), "/data");
  EXPECT_EQ(SetError({{"hz", "20"}, {"dir", "/other"}}, {.client_is_local = true}), "");
  EXPECT_EQ(directory_.Current(), "/other");
  EXPECT_EQ(config_.GetOne("dir"), "/other");
}

TEST_F(ConfigTest, ARefusingHookUndoesTheOthers) {
  std::vector<std::string> calls;
  config_.OnChange("hz", [&](const Settings& before, const Settings& after) {
    calls.push_back(std::to_string(before.hz) + ">" + std::to_string(after.hz));
    return Status::Ok();
  });
  config_.OnChange("port", [](const Settings&, const Settings& after) {
    return after.port == 1 ? Status::Io("Unable to listen on this port. Check server logs.")
                           : Status::Ok();
  });
  EXPECT_EQ(SetError({{"hz", "20"}, {"port", "1"}}),
            "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on "
            "this port. Check server logs.");
  EXPECT_EQ(calls, (std::vector<std::string>{"10>20", "20>10"}));
  EXPECT_EQ(config_.settings().hz, 10);
  EXPECT_EQ(config_.settings().port, 6379);
  EXPECT_EQ(SetError({{"hz", "10"}}), "");
  EXPECT_EQ(calls.size(), 2U) << "no call without a change";
}

TEST_F(ConfigTest, SomeValuesAreTakenToTheNearestSensibleOne) {
  EXPECT_EQ(SetError({{"hz", "0"}, {"repl-backlog-size", "1"}}), "");
  EXPECT_EQ(config_.settings().hz, 1);
  EXPECT_EQ(config_.settings().repl_backlog_size, 16384);
  EXPECT_EQ(SetError({{"hz", "501"}, {"repl-backlog-size", "16385"}}), "");
  EXPECT_EQ(config_.settings().hz, 500);
  EXPECT_EQ(config_.settings().repl_backlog_size, 16385);
}

TEST_F(ConfigTest, SetWhileLoading) {
  EXPECT_EQ(SetError({{"appendonly", "yes"}}, {.loading = true}),
            "LOADING Redis is loading the dataset in memory");
  EXPECT_EQ(SetError({{"hz", "20"}}, {.loading = true}), "");
}

TEST_F(ConfigTest, NumbersHoldTheirBounds) {
  int checked = 0;
  for (const SettingSpec* spec : AllSettings()) {
    const auto* field = std::get_if<NumberField>(&spec->value);
    if (field == nullptr) continue;
    ++checked;
    Settings settings;
    const auto error = [&](const std::string& word) {
      return ParseSetting(*spec, settings, std::vector<std::string>{word});
    };
    const bool octal = field->form == NumberForm::kOctal;
    const bool percent = field->form == NumberForm::kMemoryOrPercent;
    EXPECT_EQ(error(percent ? std::to_string(-field->min) + "%" : std::to_string(field->min)), "")
        << spec->name;
    EXPECT_EQ(error(octal ? "777" : std::to_string(field->max)), "") << spec->name;
    EXPECT_EQ(FormatSetting(*spec, settings), octal ? "777" : std::to_string(field->max));
    EXPECT_NE(
        error(percent ? std::to_string(1 - field->min) + "%" : std::to_string(field->min - 1)), "")
        << spec->name;
    if (field->max != kMaxUint64) {
      EXPECT_NE(error(octal ? "1000" : std::to_string(field->max + 1)), "") << spec->name;
    }
    // As in Redis, an amount of memory beyond 64 bits is the most that there is.
    const bool saturates =
        percent || (field->form == NumberForm::kMemory && field->max == kMaxUint64);
    EXPECT_EQ(error("18446744073709551616").empty(), saturates) << spec->name;
    EXPECT_NE(error("x"), "") << spec->name;
  }
  EXPECT_GT(checked, 60);
}

TEST_F(ConfigTest, TheRetainedLimitIsAutoOrAtLeastAMebibyte) {
  const auto get = [this] { return Get({"snapshot-retained-limit"}).at(0).second; };
  EXPECT_EQ(get(), "auto");
  EXPECT_EQ(SetError({{"snapshot-retained-limit", "1mb"}}), "");
  EXPECT_EQ(get(), "1048576");
  for (const char* less : {"1048575", "0", ""}) {
    EXPECT_EQ(SetError({{"snapshot-retained-limit", less}}),
              "ERR CONFIG SET failed (possibly related to argument 'snapshot-retained-limit') - "
              "argument must be at least 1mb, or 'auto'");
  }
  for (const char* none : {"5%", "-1", "automatic"}) {
    EXPECT_EQ(SetError({{"snapshot-retained-limit", none}}),
              "ERR CONFIG SET failed (possibly related to argument 'snapshot-retained-limit') - "
              "argument must be a memory value or 'auto'");
  }
  EXPECT_EQ(get(), "1048576");

  WriteFile("/c.conf", "hz 10\n");
  ASSERT_TRUE(Load({"/c.conf"}).ok());
  for (const auto& [value, line] : {std::pair{"3145728", "snapshot-retained-limit 3mb\n"},
                                    {"3145729", "snapshot-retained-limit 3145729\n"},
                                    {"AUTO", "snapshot-retained-limit auto\n"}}) {
    ASSERT_EQ(SetError({{"snapshot-retained-limit", value}}), "");
    ASSERT_TRUE(config_.Rewrite().ok());
    EXPECT_NE(ReadFile("/c.conf").find(line), std::string::npos) << ReadFile("/c.conf");
    Config again(env_, directory_);
    const std::vector<std::string> file{"/c.conf"};
    ASSERT_TRUE(again.Load(ParseLaunchArguments(file), "").ok());
    EXPECT_EQ(again.settings().snapshot_retained_limit, config_.settings().snapshot_retained_limit);
  }
}

TEST_F(ConfigTest, EveryRowExplainsItself) {
  for (const SettingSpec* spec : AllSettings()) {
    EXPECT_GT(std::string_view(spec->help).size(), 15U) << spec->name;
    EXPECT_TRUE(spec->later == nullptr || spec->needless == nullptr) << spec->name;
  }
}

// -- REWRITE

TEST_F(ConfigTest, RewriteNeedsAFileAndIsRepeatable) {
  EXPECT_EQ(config_.Rewrite().message(), "ERR The server is running without a config file");
  WriteFile("/a.conf", "# mine\nport 7\n\n\n# tail\n");
  ASSERT_TRUE(Load({"/a.conf"}).ok());
  EXPECT_EQ(SetError({{"maxmemory", "2048"}}), "");
  ASSERT_TRUE(config_.Rewrite().ok());
  const std::string once = ReadFile("/a.conf");
  EXPECT_EQ(once,
            "# mine\nport 7\n\n# tail\n\n# Generated by CONFIG REWRITE\nsave 3600 1\nsave 300 100\n"
            "save 60 10000\ndir \"/data\"\nmaxmemory 2kb\n"
            "latency-tracking-info-percentiles 50 99 99.9\n");
  // Redis takes the end of the last line for the begin of an empty one; there is never a second.
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(config_.Rewrite().ok());
    EXPECT_EQ(ReadFile("/a.conf"), once + "\n");
  }
}

/// What is written back reads as the same value. The addresses were found by config_fuzz.
TEST_F(ConfigTest, RewrittenValuesReadAsTheyWere) {
  WriteFile("/a.conf", "notify-keyspace-events AKEA\nbind y po GET \"\"\nuser e m.so1a\n");
  ASSERT_TRUE(Load({"/a.conf"}).ok());
  ASSERT_TRUE(config_.Rewrite().ok());
  Config again(env_, directory_);
  const std::vector<std::string> arguments = {"/a.conf"};
  ASSERT_EQ(again.Load(ParseLaunchArguments(arguments), "").message(), "");
  EXPECT_EQ(again.settings(), config_.settings());
}

TEST_F(ConfigTest, AFailedRewriteLeavesTheFile) {
  WriteFile("/a.conf", "port 7\n");
  ASSERT_TRUE(Load({"/a.conf"}).ok());
  EXPECT_EQ(SetError({{"port", "8"}}), "");
  const uint64_t before = env_.io_calls();
  ASSERT_TRUE(config_.Rewrite().ok());
  const uint64_t calls = env_.io_calls() - before;
  ASSERT_GT(calls, 2U);
  for (uint64_t n = 1; n <= calls; ++n) {
    WriteFile("/a.conf", "port 7\n");
    env_.FailNthCall(n, Status::Io("write: No space left on device"));
    EXPECT_FALSE(config_.Rewrite().ok()) << n;
    env_.FailNthCall(0, Status::Ok());
    const std::string text = ReadFile("/a.conf");
    EXPECT_TRUE(text == "port 7\n" || text.starts_with("port 8\n")) << n << ": " << text;
  }
}

TEST_F(ConfigTest, LineSourcesReplaceTheirLines) {
  WriteFile("/a.conf", "user old on\nloadmodule m.so\nport 7\n");
  ASSERT_TRUE(Load({"/a.conf"}).ok());
  config_.SetLineSource("user", [] { return std::vector<std::string>{"a on", "b off"}; });
  ASSERT_TRUE(config_.Rewrite().ok());
  const std::string text = ReadFile("/a.conf");
  EXPECT_TRUE(text.starts_with("user a on\nloadmodule m.so\nport 7\n")) << text;
  EXPECT_NE(text.find("\nuser b off\n"), std::string::npos);
}

// -- Texts

/// What the generated file shows is true: with every '#' taken from its example lines it loads, and
/// leaves every setting at its default.
TEST_F(ConfigTest, GeneratedFileLoadsToTheDefaults) {
  std::string text;
  const std::string generated = GenerateDefaultConfig();
  int settings = 0;
  for (size_t start = 0; start < generated.size();) {
    const size_t end = generated.find('\n', start);
    const std::string line = generated.substr(start, end - start);
    start = end + 1;
    EXPECT_LE(line.size(), 140U) << line;
    const std::string name = line.size() > 2 ? line.substr(2, line.find(' ', 2) - 2) : "";
    const SettingSpec* spec = FindSetting(name);
    // An example line follows a line that is '#' alone; prose never does.
    if (spec == nullptr || generated.substr(0, start).rfind("\n#\n") == std::string::npos) continue;
    if (name == "dir" || name != spec->name) continue;
    if (line.find(". ") != std::string::npos || line.ends_with('.')) continue;
    text += line.substr(2) + "\n";
    ++settings;
  }
  EXPECT_GT(settings, 180);
  ASSERT_EQ(config_.LoadText(text).message(), "");
  Settings defaults;
  defaults.dir = "/data";
  for (const SettingSpec* spec : AllSettings()) {
    EXPECT_EQ(FormatSetting(*spec, config_.settings()), FormatSetting(*spec, defaults))
        << spec->name;
  }
}

}  // namespace
}  // namespace cairn
