// Append-only files that the disk refuses, or that somebody shortens, while they are read: their
// pages would end the process with SIGBUS. A load asks first, is refused in so many words, and
// leaves the file as it found it.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "persistence/aof_reader.h"
#include "tests/support/both_envs.h"
#include "tests/support/command_recorder.h"

namespace cairn {
namespace {

constexpr uint64_t kPage = 4096;  // at least: what is cut off in one that was touched stays there
constexpr uint64_t kWindow = 4 * kPage;

std::string Set(size_t value_bytes, char fill = 'v') {
  return "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$" + std::to_string(value_bytes) + "\r\n" +
         std::string(value_bytes, fill) + "\r\n";
}

/// One command of exactly so many bytes.
std::string SetOf(size_t text_bytes) {
  size_t value_bytes = text_bytes;
  while (Set(value_bytes).size() > text_bytes) --value_bytes;
  return Set(value_bytes);
}

std::string Sets(size_t text_bytes) {
  std::string text;
  while (text.size() < text_bytes) text += Set(234);
  return text;
}

std::string Group(std::string text, const std::string& group) {
  const std::string_view bytes = group;
  text += FormatAofCheckLine(text.size(), 0, {&bytes, 1});
  return text + group;
}

// -- Nothing is touched before it was asked for.

/// A text whose pages cannot be read until somebody asks for them, as those of a file that is
/// mapped and not there. To touch another one ends the test.
class GuardedText {
 public:
  explicit GuardedText(std::string_view text) : size_(text.size()) {
    room_ = static_cast<char*>(
        ::mmap(nullptr, Pages(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CAIRN_CHECK(room_ != MAP_FAILED);
    text.copy(room_, size_);
    CAIRN_CHECK(::mprotect(room_, Pages(size_), PROT_NONE) == 0);
  }
  ~GuardedText() { ::munmap(room_, Pages(size_)); }
  std::string_view view() const { return {room_, size_}; }
  Status MakeReadable(uint64_t offset, uint64_t size) {
    EXPECT_LE(offset + size, size_);
    asked_bytes_ += size;
    most_asked_ = std::max(most_asked_, size);
    const uint64_t from = offset / kPage * kPage;
    CAIRN_CHECK(::mprotect(room_ + from, Pages(offset + size) - from, PROT_READ) == 0);
    return Status::Ok();
  }
  uint64_t asked_bytes_ = 0, most_asked_ = 0;

 private:
  static uint64_t Pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
  const size_t size_;
  char* room_;
};

struct Text {
  const char* name;
  std::function<std::string()> make;
};

/// Each of several windows.
std::vector<Text> Texts() {
  const std::string hole(5 * kPage, '\0');
  std::string many = "*1201\r\n$3\r\nDEL\r\n";
  for (int i = 0; i < 1200; ++i) many += "$10\r\n0123456789\r\n";
  const auto torn = [](std::string text) { return text + "*3\r\n$3\r\nSET\r\n$9\r\nab"; };
  return {
      {"Commands", [] { return Sets(10 * kPage); }},
      {"ACommandOfManyWindows", [] { return Set(5) + Set(14 * kPage) + Set(5); }},
      {"ACommandOfManyWords", [many] { return Sets(3 * kPage) + many + many + Set(3); }},
      {"Groups", [] { return Group(Group(Group("", Sets(3 * kPage)), Sets(9 * kPage)), Set(7)); }},
      {"ALongNote", [] { return Set(9) + "#TS:" + std::string(9 * kPage, '1') + "\r\n" + Set(9); }},
      {"ANoteWithoutEnd", [] { return Set(9) + "#TS:" + std::string(9 * kPage, '1'); }},
      // What comes next begins where the first window ends.
      {"ACommandAtTheEdge", [] { return SetOf(kWindow) + Set(5) + Sets(5 * kPage); }},
      {"ANoteAcrossTheEdge", [] { return SetOf(kWindow - 1) + "#CAIRNS\r\n" + Sets(5 * kPage); }},
      {"AGroupAtTheEdge",
       [] {
         const size_t line = Group("", Set(kPage)).size() - Set(kPage).size() + 1;  // a digit more
         return Group(Group("", SetOf(kWindow - line)), Sets(5 * kPage));
       }},
      {"Padding", [] { return Group("", Sets(5 * kPage)) + std::string(9 * kPage, kAofPadding); }},
      {"PaddingAlone", [] { return std::string(9 * kPage, kAofPadding); }},
      {"ATornCommand", [torn] { return torn(Sets(9 * kPage)); }},
      {"ATornGroup",
       [] { return Group("", Sets(5 * kPage)) + Group("", Sets(9 * kPage)).substr(0, 6 * kPage); }},
      {"AGroupThatDoesNotMatch",
       [] {
         std::string text = Group(Group("", Sets(5 * kPage)), Sets(9 * kPage));
         text[6 * kPage] ^= 1;
         return Group(text, Sets(5 * kPage));
       }},
      {"AHole", [hole] { return Group(Group("", Set(5)) + hole, Sets(5 * kPage)); }},
      {"AHoleAtTheEnd", [hole] { return Sets(2 * kPage) + hole; }},
      {"Garbage", [] { return Set(5) + "+?" + Sets(9 * kPage); }},
      {"ABadGroupLine", [] { return Group("", Set(5)) + "#CAIRN:x" + Sets(9 * kPage); }},
  };
}

class GuardedScanTest : public testing::TestWithParam<Text> {};

TEST_P(GuardedScanTest, AsksBeforeItTouchesAndSeesTheSame) {
  const std::string text = GetParam().make();
  for (const uint64_t start : {uint64_t{0}, uint64_t{0} + Set(5).size()}) {
    if (start > 0 && !text.starts_with(Set(5))) continue;  // as behind a preamble
    CommandRecorder plain, guarded;
    AofScan expected, scan;
    ASSERT_TRUE(ScanAofText(text, start, plain, &expected).ok());
    GuardedText memory(text);
    AofScanOptions options;
    options.window_bytes = kWindow;
    options.make_readable = [&](uint64_t offset, uint64_t size) {
      return memory.MakeReadable(offset, size);
    };
    bool preamble = true;
    ASSERT_TRUE(HasRdbPreamble(memory.view(), options.make_readable, &preamble).ok());
    EXPECT_FALSE(preamble);
    ASSERT_TRUE(ScanAofText(memory.view(), start, guarded, &scan, options).ok());
    EXPECT_EQ(scan.tail, expected.tail);
    EXPECT_EQ(scan.good_bytes, expected.good_bytes);
    EXPECT_EQ(scan.pad_bytes, expected.pad_bytes);
    EXPECT_EQ(scan.error_offset, expected.error_offset);
    EXPECT_EQ(scan.reason, expected.reason);
    EXPECT_EQ(scan.covered, expected.covered);
    EXPECT_TRUE(guarded.lines == plain.lines);
    // Once each, but for the steps in which the end is looked for.
    EXPECT_LE(memory.asked_bytes_, text.size() + scan.pad_bytes + kWindow);
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, GuardedScanTest, testing::ValuesIn(Texts()),
                         [](const testing::TestParamInfo<Text>& text) { return text.param.name; });

// -- Files that are shortened while they are read, on both disks.

class ShortenedFileTest : public OnBothEnvs {
 protected:
  void SetUp() override {
    OnBothEnvs::SetUp();
    location_.directory = directory_;
    file_ = *manifest_.AddIncrement(location_.append_name);
    path_ = location_.PathOf(file_.name);
  }
  void TearDown() override {
    EXPECT_TRUE(env_->RemoveIfThere(path_).ok());
    EXPECT_TRUE(env_->ListDir(directory_)->empty());
    OnBothEnvs::TearDown();
  }

  /// Cuts the file when it is opened, or at a command.
  class Shortens final : public CommandRecorder {
   public:
    Shortens(ShortenedFileTest* test, int at_command) : test_(test), at_command_(at_command) {}
    Status BeginFile(std::string_view) override {
      if (at_command_ == 0) test_->Shorten();
      return Status::Ok();
    }
    Status Command(std::span<const std::string_view> args) override {
      uint64_t sum = 0;  // every byte of them
      for (const std::string_view arg : args) {
        for (const char byte : arg) sum += static_cast<unsigned char>(byte);
      }
      EXPECT_GT(sum, 0u);
      lines.emplace_back(args[0]);
      if (static_cast<int>(lines.size()) == at_command_) test_->Shorten();
      return Status::Ok();
    }

   private:
    ShortenedFileTest* const test_;
    const int at_command_;
  };

  void Shorten() {
    auto file = env_->OpenAppend(path_);
    ASSERT_TRUE(file.ok() && (*file)->Truncate(kLeftBytes).ok());
  }

  /// Returns how many commands ran.
  size_t ExpectRefusal(const std::string& text, int at_command) {
    auto file = env_->OpenTruncate(path_);
    EXPECT_TRUE(file.ok() && (*file)->Append(text).ok());
    EXPECT_TRUE((*file)->Close().ok());
    Shortens sink(this, at_command);
    const auto no_rdb = [](const std::string&) -> Result<uint64_t> { return uint64_t{0}; };
    AofLoadOptions options;
    options.window_bytes = kWindow;
    const auto report = LoadAof(*env_, location_, manifest_, no_rdb, sink, options);
    EXPECT_FALSE(report.ok());
    EXPECT_EQ(report.status().code(), StatusCode::kIo);
    EXPECT_EQ(report.status().message(), "Unrecoverable error reading the append only file " +
                                             path_ + ": the file got shorter");
    const std::string left = *env_->ReadFileToString(path_);
    EXPECT_TRUE(left == text.substr(0, kLeftBytes)) << "it was changed, too";
    return sink.lines.size();
  }

  static constexpr uint64_t kLeftBytes = 9 * kPage;
  AofLocation location_;
  AofManifest manifest_;
  AofFile file_;
  std::string path_;
};

TEST_P(ShortenedFileTest, EndsTheLoadAndIsNoTornEnd) {
  const std::string text = Sets(14 * kPage);
  const size_t loaded = ExpectRefusal(text, 1);
  EXPECT_GT(loaded, 1u);
  EXPECT_LT(loaded, text.size() / 234);
  EXPECT_EQ(ExpectRefusal(text, 0), 0u);
}

TEST_P(ShortenedFileTest, EndsTheLoadInsideAGroup) {
  EXPECT_EQ(ExpectRefusal(Group(Group("", Set(5)), Sets(14 * kPage)), 1), 1u);
}

TEST_P(ShortenedFileTest, EndsTheLoadWhereWhatFollowsIsLookedAt) {
  EXPECT_EQ(ExpectRefusal(Group("", Set(5)) + Set(5) + "*?" + Sets(14 * kPage), 2), 2u);
}

TEST_P(ShortenedFileTest, EndsTheLoadWherePaddingIsLookedFor) {
  EXPECT_EQ(ExpectRefusal(Set(5) + std::string(14 * kPage, kAofPadding), 0), 0u);
}

INSTANTIATE_TEST_SUITE_P(Envs, ShortenedFileTest, testing::Bool(), OnBothEnvs::NameOf);

}  // namespace
}  // namespace cairn
