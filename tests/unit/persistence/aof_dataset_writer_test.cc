#include "persistence/aof_dataset_writer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "persistence/aof_reader.h"
#include "tests/support/command_recorder.h"

namespace cairn {
namespace {

constexpr size_t kLong = size_t{3} << 20;
constexpr size_t kBufferBytes = size_t{64} << 10;

/// Keeps the file, and the most that the writer itself had gathered for one write.
class GatheringSink final : public ByteSink {
 public:
  explicit GatheringSink(std::string_view passed) : passed_(passed) {}
  Status Append(std::string_view bytes) override {
    const bool passes = bytes.data() >= passed_.data() &&
                        bytes.data() + bytes.size() <= passed_.data() + passed_.size();
    if (!passes) most_gathered = std::max(most_gathered, bytes.size());
    file += bytes;
    return Status::Ok();
  }
  std::string file;
  size_t most_gathered = 0;

 private:
  std::string_view passed_;
};

class AofDatasetWriterTest : public testing::Test {
 protected:
  AofDatasetWriterTest() : long_(kLong, 'l'), sink_(long_), writer_(&sink_) {}

  ValueSink& Key(std::string_view key) { return **writer_.Key(key, KeyMeta()); }
  std::vector<std::string> Commands() {
    EXPECT_TRUE(writer_.Finish().ok());
    EXPECT_EQ(writer_.bytes(), sink_.file.size());
    CommandRecorder recorder;
    AofScan scan;
    EXPECT_TRUE(ScanAofText(sink_.file, 0, recorder, &scan).ok());
    EXPECT_EQ(scan.tail, AofTail::kWhole) << scan.reason;
    return recorder.lines;
  }

  const std::string long_;
  GatheringSink sink_;
  AofDatasetWriter writer_;
};

TEST_F(AofDatasetWriterTest, LongStringsPassThrough) {
  const std::string_view piece(long_);
  const std::string_view pieces[] = {piece.substr(0, kLong / 2), "short", piece.substr(kLong / 2)};
  ASSERT_TRUE(Key("in pieces").StringPieces(pieces).ok());
  ASSERT_TRUE(Key("whole").String(piece).ok());
  ASSERT_TRUE(Key("short").String("v").ok());
  const auto lines = Commands();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0],
            "SET in pieces " + long_.substr(0, kLong / 2) + "short" + long_.substr(kLong / 2));
  EXPECT_EQ(lines[1], "SET whole " + long_);
  EXPECT_EQ(lines[2], "SET short v");
  EXPECT_LE(sink_.most_gathered, kBufferBytes);
}

TEST_F(AofDatasetWriterTest, ItemsOfOneCommandAreSixtyFourOrAsManyAsAreShort) {
  ValueSink& hash = Key("h");
  ASSERT_TRUE(hash.Begin(ValueKind::kHash, 65).ok());
  for (int i = 0; i < 65; ++i) ASSERT_TRUE(hash.Field(std::to_string(i), "v").ok());
  ASSERT_TRUE(hash.End().ok());
  ValueSink& list = Key("l");
  ASSERT_TRUE(list.Begin(ValueKind::kList, 20).ok());
  const std::string middling(kBufferBytes / 4, 'm');
  for (int i = 0; i < 17; ++i) ASSERT_TRUE(list.Item(middling).ok());
  ASSERT_TRUE(list.Item(long_).ok());
  ASSERT_TRUE(list.Item("last").ok());
  ASSERT_TRUE(list.End().ok());

  std::vector<std::string> sizes;
  for (const std::string& line : Commands()) {
    const auto words = 1 + std::count(line.begin(), line.end(), ' ');
    sizes.push_back(line.substr(0, line.find(' ')) + " " + std::to_string(words));
  }
  EXPECT_EQ(sizes,
            (std::vector<std::string>{"HMSET 130", "HMSET 4", "RPUSH 6", "RPUSH 6", "RPUSH 6",
                                      "RPUSH 6", "RPUSH 3", "RPUSH 3", "RPUSH 3"}));
  EXPECT_LE(sink_.most_gathered, 3 * kBufferBytes);
}

}  // namespace
}  // namespace cairn
