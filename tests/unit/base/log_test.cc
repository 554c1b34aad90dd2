#include "server/base/log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

namespace cairn {
namespace {

struct MemorySink : LogSink {
  void Write(LogLevel, std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
  MemorySink sink_;
  Logger logger_{{.pid = 4711,
                  .wall_micros = [] { return int64_t{1795435200'123999}; },
                  .sink = &sink_,
                  .level = LogLevel::kNotice,
                  .role = 'M'}};
};

TEST_F(LogTest, LineHasTheFormSupervisorsRead) {
  logger_.Log(LogLevel::kNotice, "Ready to accept {}", "connections");
  ASSERT_EQ(sink_.lines.size(), 1u);
  EXPECT_EQ(sink_.lines[0], "4711:M 23 Nov 2026 12:00:00.123 * Ready to accept connections\n");
}

TEST_F(LogTest, LevelsHaveTheirMarks) {
  logger_.set_level(LogLevel::kDebug);
  logger_.set_role('S');
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kVerbose, LogLevel::kNotice, LogLevel::kWarning}) {
    logger_.Line(level, "{}");
  }
  std::string marks;
  for (const std::string& line : sink_.lines) {
    EXPECT_EQ(line.substr(0, 7), "4711:S ");
    EXPECT_EQ(line.substr(line.size() - 4), " {}\n");
    marks.push_back(line[line.size() - 5]);
  }
  EXPECT_EQ(marks, ".-*#");
}

TEST_F(LogTest, FilterDropsWhatIsBelow) {
  logger_.Log(LogLevel::kVerbose, "no");
  logger_.Raw(LogLevel::kDebug, "no");
  EXPECT_TRUE(sink_.lines.empty());
  logger_.set_level(LogLevel::kWarning);
  logger_.Log(LogLevel::kNotice, "no");
  logger_.Log(LogLevel::kWarning, "yes");
  EXPECT_EQ(sink_.lines.size(), 1u);
}

TEST_F(LogTest, RawHasNoPrefix) {
  logger_.Raw(LogLevel::kWarning, "banner\n");
  EXPECT_EQ(sink_.lines, std::vector<std::string>{"banner\n"});
}

TEST_F(LogTest, SinkCanBeExchanged) {
  MemorySink other;
  logger_.set_sink(&other);
  logger_.Log(LogLevel::kNotice, "x");
  EXPECT_TRUE(sink_.lines.empty());
  EXPECT_EQ(other.lines.size(), 1u);
}

TEST_F(LogTest, ThreadsDoNotMixTheirLines) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 500; ++i) logger_.Log(LogLevel::kNotice, "{}", std::string(40, 'a' + t));
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(sink_.lines.size(), 2000u);
  for (const std::string& line : sink_.lines) {
    EXPECT_EQ(line.substr(line.size() - 41, 40), std::string(40, line[line.size() - 2]));
  }
}

}  // namespace
}  // namespace cairn
