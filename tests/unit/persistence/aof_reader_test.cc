#include "persistence/aof_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "persistence/aof_text.h"
#include "server/platform/fake_env.h"
#include "tests/support/asked_number.h"
#include "tests/support/command_recorder.h"

namespace cairn {
namespace {

constexpr std::string_view kSetA = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
constexpr std::string_view kSetB = "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n";
constexpr std::string_view kMulti = "*1\r\n$5\r\nMULTI\r\n";
constexpr std::string_view kExec = "*1\r\n$4\r\nEXEC\r\n";

/// The beginnings of files as well.
class Recorder final : public CommandRecorder {
 public:
  Status BeginFile(std::string_view name) override {
    lines.push_back("file " + std::string(name));
    return Status::Ok();
  }
};

AofScan Scan(std::string_view text, Recorder* recorder = nullptr) {
  Recorder own;
  AofScan scan;
  EXPECT_TRUE(ScanAofText(text, 0, recorder != nullptr ? *recorder : own, &scan).ok());
  return scan;
}

std::string Text(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (std::string_view part : parts) text += part;
  return text;
}

/// Adds a checked group at the end of *text.
void AddGroup(std::string* text, uint64_t synced, std::string_view group) {
  *text += FormatAofCheckLine(text->size(), synced, {&group, 1});
  *text += group;
}

TEST(AofReaderTest, TheWorkedExampleOfTheDocument) {  // docs/aof.md
  std::string text;
  AddGroup(&text, 0, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + std::string(kSetA));
  EXPECT_EQ(text,
            "#CAIRN:50:c7abc215d0287343:0\r\n"
            "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n");
  Recorder recorder;
  const AofScan scan = Scan(text, &recorder);
  EXPECT_EQ(scan.tail, AofTail::kWhole);
  EXPECT_EQ(scan.checked_bytes, text.size());
  EXPECT_TRUE(scan.covered);
  EXPECT_EQ(recorder.lines, (std::vector<std::string>{"SELECT 0", "SET a 1"}));
}

/// Notes how far ahead of their turn commands are announced.
class AheadRecorder final : public CommandRecorder {
 public:
  void Announce(std::span<const std::string_view> args) override {
    announced.push_back(std::string(args.back()));
    EXPECT_LE(announced.size(), lines.size() + kAofAhead);
    most_ahead = std::max(most_ahead, announced.size() - lines.size());
  }
  Status Command(std::span<const std::string_view> args) override {
    EXPECT_LT(lines.size(), announced.size());
    EXPECT_EQ(announced[lines.size()], args.back()) << "not in the order of the file";
    return CommandRecorder::Command(args);
  }
  std::vector<std::string> announced;
  size_t most_ahead = 0;
};

TEST(AofReaderTest, CommandsAreAnnouncedInOrderBeforeTheirTurn) {
  const auto set = [](int number) {
    const std::string key = std::to_string(1000 + number);
    return "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n" + key + "\r\n";
  };
  std::string plain, checked;
  for (int i = 0; i < 100; ++i) plain += set(i);
  for (int i = 0; i < 100; i += 50) {
    std::string group;
    for (int j = i; j < i + 50; ++j) group += set(j);
    AddGroup(&checked, 0, group);
  }
  for (std::string* text : {&plain, &checked}) {
    AheadRecorder recorder;
    AofScan scan;
    *text += "*3\r\n$3\r\nSET";  // what does not parse is neither announced nor run
    ASSERT_TRUE(ScanAofText(*text, 0, recorder, &scan).ok());
    EXPECT_EQ(scan.commands, 100u);
    EXPECT_EQ(scan.tail, AofTail::kTorn);
    EXPECT_EQ(recorder.lines.size(), 100u);
    EXPECT_EQ(recorder.announced.size(), 100u);
    EXPECT_EQ(recorder.most_ahead, kAofAhead);
  }
}

TEST(AofReaderTest, NothingIsParsedBehindACommandOfManyWords) {
  std::string text(kSetA);
  text += "*2000\r\n$3\r\nDEL\r\n";
  for (int i = 1; i < 2000; ++i) text += "$1\r\nd\r\n";
  text += kSetB;
  AheadRecorder recorder;
  AofScan scan;
  ASSERT_TRUE(ScanAofText(text, 0, recorder, &scan).ok());
  EXPECT_EQ(scan.commands, 3u);
  EXPECT_EQ(recorder.most_ahead, 2u);
}

TEST(AofReaderTest, ACutAtEveryByteKeepsTheWholeCommandsBefore) {
  const std::string text = Text({kSetA, kSetB});
  for (size_t size = 0; size <= text.size(); ++size) {
    const AofScan scan = Scan(std::string_view(text).substr(0, size));
    const size_t whole = size == text.size() ? size : size >= kSetA.size() ? kSetA.size() : 0;
    EXPECT_EQ(scan.good_bytes, whole) << size;
    EXPECT_EQ(scan.tail, whole == size ? AofTail::kWhole : AofTail::kTorn) << size;
  }
}

TEST(AofReaderTest, ACutInsideATransactionGoesBackToBeforeMulti) {
  const std::string text = Text({kSetA, kMulti, kSetB, kSetA, kExec});
  for (size_t size = kSetA.size() + 1; size < text.size(); ++size) {
    const AofScan scan = Scan(std::string_view(text).substr(0, size));
    EXPECT_EQ(scan.tail, AofTail::kTorn) << size;
    EXPECT_EQ(scan.good_bytes, kSetA.size()) << size;
  }
}

TEST(AofReaderTest, ACheckedFileCutAtEveryByteKeepsTheWholeGroupsBefore) {
  std::string text;
  AddGroup(&text, 0, kSetA);
  const size_t first = text.size();
  AddGroup(&text, first, Text({kMulti, kSetA, kSetB, kExec}));
  for (size_t size = 1; size < text.size(); ++size) {
    const AofScan scan = Scan(std::string_view(text).substr(0, size));
    if (size == first) continue;
    // The first byte of a check line looks like padding.
    const bool seems_padded = size == 1 || size == first + 1;
    EXPECT_EQ(scan.tail, seems_padded ? AofTail::kWhole : AofTail::kTorn) << size;
    EXPECT_EQ(scan.good_bytes, size < first ? 0 : first) << size;
  }
}

TEST(AofReaderTest, EveryFlippedBitOfACheckedFileIsFound) {
  std::string text;
  AddGroup(&text, 0, kSetA);
  const size_t first = text.size();
  AddGroup(&text, first, kSetB);
  AddGroup(&text, first, kSetA);
  for (size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string broken = text;
      broken[at] = static_cast<char>(broken[at] ^ (1 << bit));
      Recorder recorder;
      const AofScan scan = Scan(broken, &recorder);
      if (scan.tail == AofTail::kWhole) {
        // The last check line became another comment: what it covered is as it was.
        ASSERT_TRUE(at > text.size() - 58 && at < text.size() - 51) << at << " bit " << bit;
        ASSERT_EQ(recorder.lines, (std::vector<std::string>{"SET a 1", "SET b 2", "SET a 1"}));
        continue;
      }
      // Later groups say that the first one was once on disk: that is damage, and never cut off.
      if (at < first) {
        ASSERT_EQ(scan.tail, AofTail::kDamaged) << at << " bit " << bit;
      }
      ASSERT_LE(scan.good_bytes, at);
    }
  }
}

TEST(AofReaderTest, ZerosAtTheEndAreATornTail) {
  for (const bool checked : {false, true}) {
    std::string text(checked ? "" : kSetA);
    if (checked) AddGroup(&text, 0, kSetA);
    const size_t good = text.size();
    const AofScan scan = Scan(text + std::string(4096, '\0'));
    EXPECT_EQ(scan.tail, AofTail::kTorn);
    EXPECT_EQ(scan.good_bytes, good);
  }
}

TEST(AofReaderTest, AHoleInFrontOfASoundGroupIsACorruptTail) {
  // The first write never reached the disk, the second did: a power cut under everysec or no.
  std::string text;
  AddGroup(&text, 0, kSetA);
  const size_t first = text.size();
  AddGroup(&text, 0, kSetB);
  for (size_t kept = 0; kept < first; ++kept) {
    std::string broken = text;
    std::fill(broken.begin() + static_cast<ptrdiff_t>(kept),
              broken.begin() + static_cast<ptrdiff_t>(first), '\0');
    Recorder recorder;
    const AofScan scan = Scan(broken, &recorder);
    EXPECT_NE(scan.tail, AofTail::kWhole) << kept;
    EXPECT_NE(scan.tail, AofTail::kDamaged) << kept;
    EXPECT_EQ(scan.good_bytes, 0u) << kept;
    EXPECT_TRUE(recorder.lines.empty()) << kept;
  }
}

TEST(AofReaderTest, AHoleInFrontOfATornGroupIsACorruptTail) {
  std::string group;
  AddGroup(&group, 0, kSetB);
  for (size_t kept = 1; kept < group.size(); ++kept) {
    const AofScan scan = Scan(std::string(57, '\0') + group.substr(0, kept));
    EXPECT_NE(scan.tail, AofTail::kWhole) << kept;
    EXPECT_NE(scan.tail, AofTail::kDamaged) << kept;
    EXPECT_EQ(scan.good_bytes, 0u) << kept;
  }
}

TEST(AofReaderTest, PaddingAtTheEndIsNoDamage) {
  for (const bool checked : {false, true}) {
    std::string text(checked ? "" : kSetA);
    if (checked) AddGroup(&text, 0, kSetA);
    Recorder recorder;
    const AofScan scan = Scan(text + std::string(1000, '#'), &recorder);
    EXPECT_EQ(scan.tail, AofTail::kWhole);
    EXPECT_EQ(scan.good_bytes, text.size());
    EXPECT_EQ(scan.pad_bytes, 1000u);
    EXPECT_EQ(scan.covered, checked);
    EXPECT_EQ(recorder.lines, (std::vector<std::string>{"SET a 1"}));
  }
  EXPECT_EQ(Scan("###").tail, AofTail::kWhole);
}

TEST(AofReaderTest, AGroupTornInsidePaddingIsCut) {
  std::string text;
  AddGroup(&text, 0, kSetA);
  const size_t first = text.size();
  AddGroup(&text, first, Text({kMulti, kSetB, kExec}));
  for (size_t kept = first; kept < text.size(); ++kept) {
    std::string torn = text + std::string(500, '#');
    std::fill(torn.begin() + static_cast<ptrdiff_t>(kept),
              torn.begin() + static_cast<ptrdiff_t>(text.size()), '#');
    Recorder recorder;
    const AofScan scan = Scan(torn, &recorder);
    // The first byte of a check line looks like padding.
    EXPECT_EQ(scan.tail, kept <= first + 1 ? AofTail::kWhole : AofTail::kTorn) << kept;
    EXPECT_EQ(scan.good_bytes, first) << kept;
    EXPECT_EQ(recorder.lines, (std::vector<std::string>{"SET a 1"})) << kept;
  }
}

/// Any one run of a write missing, in front of what reached the disk: never applied, never called
/// damage, and what stands before it stays.
TEST(AofReaderTest, PaddingInsideIsACorruptTail) {
  for (const bool first_in_file : {false, true}) {
    std::string text;
    if (!first_in_file) AddGroup(&text, 0, kSetA);
    const size_t good = text.size();
    AddGroup(&text, good, Text({kSetB, kSetA, kSetB}));
    const size_t second = text.size();
    AddGroup(&text, good, kSetA);
    for (size_t begin = good; begin < second; ++begin) {
      for (size_t end = begin + 2; end <= second; ++end) {
        std::string broken = text + std::string(100, '#');
        std::fill(broken.begin() + static_cast<ptrdiff_t>(begin),
                  broken.begin() + static_cast<ptrdiff_t>(end), '#');
        Recorder recorder;
        const AofScan scan = Scan(broken, &recorder);
        ASSERT_TRUE(scan.tail == AofTail::kCorruptTail || scan.tail == AofTail::kTorn)
            << begin << " " << end;
        ASSERT_EQ(scan.good_bytes, good) << begin << " " << end;
        ASSERT_EQ(recorder.lines.size(), first_in_file ? 0u : 1u) << begin << " " << end;
      }
    }
  }
}

TEST(AofReaderTest, GarbageInAFileWithoutChecksIsDamage) {
  const AofScan scan = Scan(Text({kSetA, "garbage\r\n", kSetB}));
  EXPECT_EQ(scan.tail, AofTail::kDamaged);
  EXPECT_EQ(scan.good_bytes, kSetA.size());
}

TEST(AofReaderTest, AnnotationsAreSkipped) {
  Recorder recorder;
  const AofScan scan = Scan(Text({"#TS:1700000000\r\n", kSetA, "# a remark\r\n"}), &recorder);
  EXPECT_EQ(scan.tail, AofTail::kWhole);
  EXPECT_EQ(recorder.lines, (std::vector<std::string>{"SET a 1"}));
}

// Padding stands only where groups have checks; a hand may write what it likes.
TEST(AofReaderTest, ANoteOfPaddingIsANoteWhereNoLineChecks) {
  for (const std::string_view note : {"#a##b\r\n", "## a comment\r\n", "#######\n"}) {
    for (const bool first : {false, true}) {
      Recorder recorder;
      const AofScan scan = Scan(Text({first ? "" : kSetA, note, kSetB, note, kSetA}), &recorder);
      EXPECT_EQ(scan.tail, AofTail::kWhole) << note;
      EXPECT_EQ(recorder.lines.size(), first ? 2u : 3u) << note;
    }
  }
  // The start of the only group was lost, its end was not.
  std::string text;
  AddGroup(&text, 0, Text({kSetA, kSetB}));
  for (size_t lost = 32; lost < text.size(); ++lost) {
    Recorder recorder;
    const AofScan scan = Scan(std::string(lost, '#') + text.substr(lost) + "####", &recorder);
    EXPECT_EQ(scan.good_bytes, 0u) << lost;
    EXPECT_TRUE(recorder.lines.empty()) << lost;
  }
}

/// What a client may have written as a value before the file was torn: lines that claim to check
/// all that follows. Looking at each of these groups would take minutes.
TEST(AofReaderTest, ATornValueOfCheckLinesIsReadInOnePass) {
  std::string text;
  AddGroup(&text, 0, kSetA);
  const size_t good = text.size();
  constexpr size_t kValueBytes = size_t{16} << 20;
  std::string value;
  while (value.size() < kValueBytes) {
    // Half of what follows, so that it is there.
    const uint64_t claimed = (kValueBytes - value.size()) / 2;
    value += "#CAIRN:" + std::to_string(claimed) + ":0123456789abcdef:" + std::to_string(good + 1) +
             "\r\n";
  }
  AddGroup(&text, good,
           Text({"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$", std::to_string(value.size()), "\r\n", value,
                 "\r\n"}));
  text.pop_back();
  const AofScan scan = Scan(text);
  EXPECT_EQ(scan.tail, AofTail::kTorn);
  EXPECT_EQ(scan.good_bytes, good);
}

TEST(AofReaderTest, ASoundGroupIsFoundWhereverItStands) {
  for (const size_t before : {0, 1, 511, 512, 513, 5000}) {
    for (const size_t size : {0, 1, 30, 511, 512, 2000}) {
      std::string text(before, 'x');
      AddGroup(&text, before / 2, std::string(size, 'y'));
      text += "#CAIRN:1:0123456789abcdef:0\r\nz";
      for (const size_t begin : {size_t{0}, before / 3, before}) {
        EXPECT_TRUE(HasSoundAofGroup(text, begin, before / 2));
        EXPECT_FALSE(HasSoundAofGroup(text, begin, before / 2 + 1));
        EXPECT_FALSE(HasSoundAofGroup("x" + text, begin, 0));
      }
      EXPECT_FALSE(HasSoundAofGroup(text, before + 1, 0));
      if (size == 0) continue;
      text[text.size() - 31] ^= 1;
      EXPECT_FALSE(HasSoundAofGroup(text, 0, 0)) << before << " " << size;
    }
  }
}

TEST(AofReaderTest, TheSnapshotsOfBothServersArePreambles) {
  for (const std::string_view text :
       {"REDIS0011", "VALKEY080", "REDIS", "VALKEY", "VALKE", "REDI", "*1\r\n", ""}) {
    bool has = false;
    ASSERT_TRUE(HasRdbPreamble(text, nullptr, &has).ok());
    EXPECT_EQ(has, text.starts_with("REDIS") || text.starts_with("VALKEY")) << text;
  }
}

class LoadTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(env_.CreateDir("/aof").ok()); }

  void Put(const std::string& name, std::string_view text) {
    auto file = env_.OpenTruncate(location_.PathOf(name));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Append(text).ok());
  }
  Result<AofLoadReport> Load(int increments) {
    AofManifest manifest;
    for (int i = 0; i < increments; ++i) EXPECT_TRUE(manifest.AddIncrement("a").ok());
    return LoadAof(env_, location_, manifest, nullptr, recorder_, options_);
  }
  uint64_t SizeOf(const std::string& name) { return *env_.FileSize(location_.PathOf(name)); }

  FakeEnv env_{1};
  AofLocation location_{"/aof", "a"};
  AofLoadOptions options_;
  Recorder recorder_;
};

TEST_F(LoadTest, ATornLastFileIsReallyShortened) {
  Put("a.1.incr.aof", kSetA);
  Put("a.2.incr.aof", Text({kSetB, "*3\r\n$3"}));
  Result<AofLoadReport> report = Load(2);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->cut_bytes, 6u);
  EXPECT_EQ(SizeOf("a.2.incr.aof"), kSetB.size());
  EXPECT_EQ(recorder_.lines, (std::vector<std::string>{"file a.1.incr.aof", "SET a 1",
                                                       "file a.2.incr.aof", "SET b 2"}));
}

/// CAIRN_CORRUPTION_ROUNDS asks for more.
int Rounds() { return static_cast<int>(AskedNumber("CAIRN_CORRUPTION_ROUNDS", 200)); }

/// A checked file of 20 groups with 120 commands each, some of them in transactions. Each check
/// line says that all but the two groups before it were durable. *proven: below it, later lines say
/// so.
std::string LargeFile(std::string_view name, std::mt19937* random, uint64_t* proven) {
  std::string text;
  std::vector<uint64_t> starts;
  for (int i = 0; i < 20; ++i) {
    std::string group;
    for (int j = 0; j < 40; ++j) {
      const std::string value((*random)() % 60, static_cast<char>('a' + i));
      const std::string key = std::string(name) + std::to_string(100 + i * 40 + j);
      group += j % 4 == 0 ? kMulti : kSetA;
      group += "*3\r\n$3\r\nSET\r\n$" + std::to_string(key.size()) + "\r\n" + key + "\r\n$" +
               std::to_string(value.size()) + "\r\n" + value + "\r\n";
      group += j % 4 == 0 ? kExec : kSetB;
    }
    starts.push_back(text.size());
    *proven = i < 2 ? 0 : starts[static_cast<size_t>(i) - 2];
    AddGroup(&text, *proven, group);
  }
  return text;
}

/// What no reader may do: give back other commands than were written, or fewer without a word. In
/// the first file, and below what a later check line says was durable, nothing may be cut off.
TEST_F(LoadTest, AFlippedBitOfALargeFileIsNeverLoadedInSilence) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  uint64_t proven[2] = {};
  const std::string files[2] = {LargeFile("one", &random, &proven[0]),
                                LargeFile("two", &random, &proven[1])};
  const std::string names[2] = {"a.1.incr.aof", "a.2.incr.aof"};
  for (int i : {0, 1}) Put(names[i], files[i]);
  ASSERT_TRUE(Load(2).ok());
  const std::vector<std::string> whole = recorder_.lines;
  ASSERT_EQ(whole.size(), 2u * (20 * 120 + 1));
  int refused = 0, cut = 0;
  for (int round = 0; round < Rounds(); ++round) {
    const size_t hit = random() % 2;
    std::string bad = files[hit];
    const size_t at = random() % bad.size();
    bad[at] = static_cast<char>(bad[at] ^ 1 << random() % 8);
    SCOPED_TRACE("round " + std::to_string(round) + ", " + names[hit] + " at " +
                 std::to_string(at));
    Put(names[hit], bad);
    recorder_.lines.clear();
    const Result<AofLoadReport> report = Load(2);
    ASSERT_LE(recorder_.lines.size(), whole.size());
    EXPECT_TRUE(std::equal(recorder_.lines.begin(), recorder_.lines.end(), whole.begin()));
    if (!report.ok()) {
      EXPECT_EQ(report.status().code(), StatusCode::kCorruption);
      ++refused;
    } else if (recorder_.lines.size() < whole.size()) {
      EXPECT_EQ(report->cut_path, location_.PathOf(names[1]));
      EXPECT_TRUE(hit == 1 && at >= proven[1]);
      ++cut;
    }
    Put(names[hit], files[hit]);
  }
  if (Rounds() >= 200) {
    EXPECT_GT(refused, 0);
    EXPECT_GT(cut, 0);
  }
}

TEST_F(LoadTest, LoadTruncatedNoRefusesWithFileAndOffset) {
  options_.load_truncated = false;
  Put("a.1.incr.aof", Text({kSetA, "*3\r\n$3"}));
  Result<AofLoadReport> report = Load(1);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), StatusCode::kCorruption);
  EXPECT_NE(report.status().message().find("/aof/a.1.incr.aof at offset"), std::string_view::npos);
  EXPECT_EQ(SizeOf("a.1.incr.aof"), kSetA.size() + 6);
}

TEST_F(LoadTest, ATornFileThatIsNotTheLastIsRefused) {
  Put("a.1.incr.aof", Text({kSetA, "*3\r\n$3"}));
  Put("a.2.incr.aof", kSetB);
  EXPECT_EQ(Load(2).status().code(), StatusCode::kCorruption);
}

TEST_F(LoadTest, ATornFileBeforeEmptyOnesIsTheLast) {
  // A rotation whose manifest reached the disk, though the writer was told that it had not.
  Put("a.1.incr.aof", Text({kSetA, "*3\r\n$3"}));
  Put("a.2.incr.aof", "");
  Put("a.3.incr.aof", "");
  Result<AofLoadReport> report = Load(3);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->cut_path, "/aof/a.1.incr.aof");
  EXPECT_EQ(SizeOf("a.1.incr.aof"), kSetA.size());
}

TEST_F(LoadTest, PaddingIsTakenAway) {
  std::string checked;
  AddGroup(&checked, 0, kSetB);
  Put("a.1.incr.aof", Text({kSetA, "######"}));
  Put("a.2.incr.aof", checked + "######");
  Result<AofLoadReport> report = Load(2);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_TRUE(report->cut_path.empty());
  EXPECT_TRUE(report->last_file_covered);
  EXPECT_EQ(report->commands, 2u);
  EXPECT_EQ(SizeOf("a.1.incr.aof"), kSetA.size());
  EXPECT_EQ(SizeOf("a.2.incr.aof"), checked.size());
}

TEST_F(LoadTest, PaddingStaysWhenFilesMayNotChange) {
  options_.change_files = false;
  Put("a.1.incr.aof", Text({kSetA, "######"}));
  ASSERT_TRUE(Load(1).ok());
  EXPECT_EQ(SizeOf("a.1.incr.aof"), kSetA.size() + 6);
}

TEST_F(LoadTest, WhatTheManifestDoesNotCountIsNeitherReadNorKept) {
  // What stands in the way is what a power cut made of a file whose sync failed.
  Put("a.1.incr.aof", Text({kSetA, kSetB, "*3\r\n$3", std::string(40, '\0')}));
  Put("a.2.incr.aof", kSetB);
  AofManifest manifest;
  ASSERT_TRUE(manifest.AddIncrement("a").ok());
  manifest.EndLastIncrementAt(kSetA.size());
  ASSERT_TRUE(manifest.AddIncrement("a").ok());
  EXPECT_EQ(SizeOfAof(env_, location_, manifest), kSetA.size() + kSetB.size());
  for (const bool change : {false, true}) {
    recorder_.lines.clear();
    options_.change_files = change;
    const uint64_t before = SizeOf("a.1.incr.aof");
    Result<AofLoadReport> report = LoadAof(env_, location_, manifest, nullptr, recorder_, options_);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_TRUE(report->cut_path.empty());
    EXPECT_EQ(recorder_.lines, (std::vector<std::string>{"file a.1.incr.aof", "SET a 1",
                                                         "file a.2.incr.aof", "SET b 2"}));
    EXPECT_EQ(SizeOf("a.1.incr.aof"), change ? kSetA.size() : before);
  }
  Put("a.1.incr.aof", kSetA.substr(1));
  EXPECT_EQ(LoadAof(env_, location_, manifest, nullptr, recorder_, options_).status().code(),
            StatusCode::kCorruption);
}

TEST_F(LoadTest, AMissingFileIsAnError) {
  Put("a.1.incr.aof", kSetA);
  EXPECT_EQ(Load(2).status().code(), StatusCode::kNotFound);
}

TEST_F(LoadTest, ACorruptTailIsCutOnlyWhenAllowed) {
  std::string text;
  AddGroup(&text, 0, kSetA);
  const size_t good = text.size();
  AddGroup(&text, good, kSetB);
  text[text.size() - 3] = '9';
  Put("a.1.incr.aof", text);
  options_.load_corrupt_tail = false;
  EXPECT_EQ(Load(1).status().code(), StatusCode::kCorruption);
  options_.load_corrupt_tail = true;
  ASSERT_TRUE(Load(1).ok());
  EXPECT_EQ(SizeOf("a.1.incr.aof"), good);
}

}  // namespace
}  // namespace cairn
