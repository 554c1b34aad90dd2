#include "server/platform/env.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/support/both_envs.h"

// The contract of Env, held against both implementations.

namespace cairn {
namespace {

class EnvTest : public OnBothEnvs {
 protected:
  std::string Path(std::string_view name) const { return directory_ + "/" + std::string(name); }
  void Write(const std::string& path, std::string_view bytes) {
    auto file = env_->OpenTruncate(path);
    ASSERT_TRUE(file.ok()) << file.status().message();
    ASSERT_TRUE((*file)->Append(bytes).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
};

TEST_P(EnvTest, AppendContinuesAndTruncateStartsOver) {
  Write(Path("a"), "one");
  {
    auto file = env_->OpenAppend(Path("a"));
    ASSERT_TRUE(file.ok());
    EXPECT_EQ((*file)->size(), 3u);
    EXPECT_TRUE((*file)->Append("two").ok());
    EXPECT_EQ((*file)->size(), 6u);
  }
  EXPECT_EQ(*env_->ReadFileToString(Path("a")), "onetwo");
  Write(Path("a"), "x");
  EXPECT_EQ(*env_->ReadFileToString(Path("a")), "x");
}

TEST_P(EnvTest, AppendvWritesAllPiecesInOrder) {
  std::vector<std::string> pieces;
  std::string expected;
  for (int i = 0; i < 300; ++i) {
    pieces.push_back(i % 7 ? std::string(static_cast<size_t>(i), static_cast<char>('a' + i % 26))
                           : "");
    expected += pieces.back();
  }
  const std::vector<std::string_view> views(pieces.begin(), pieces.end());
  auto file = env_->OpenTruncate(Path("v"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Appendv(views).ok());
  EXPECT_TRUE((*file)->Appendv({}).ok());
  EXPECT_EQ((*file)->size(), expected.size());
  EXPECT_EQ(*env_->ReadFileToString(Path("v")), expected);
}

TEST_P(EnvTest, TruncateMovesTheEnd) {
  auto file = env_->OpenTruncate(Path("t"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Append("0123456789").ok());
  EXPECT_TRUE((*file)->Truncate(4).ok());
  EXPECT_TRUE((*file)->Append("x").ok());
  EXPECT_EQ(*env_->ReadFileToString(Path("t")), "0123x");
}

TEST_P(EnvTest, PaddingStandsBehindTheEndAndIsWrittenOver) {
  auto file = env_->OpenTruncate(Path("p"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Append("ab").ok());
  EXPECT_TRUE((*file)->Pad(6, '#').ok());
  EXPECT_TRUE((*file)->Pad(5, '#').ok());  // is there already
  EXPECT_EQ((*file)->size(), 2u);
  EXPECT_EQ((*file)->padded_size(), 6u);
  EXPECT_TRUE((*file)->Append("cd").ok());
  EXPECT_EQ(*env_->ReadFileToString(Path("p")), "abcd##");
  EXPECT_TRUE((*file)->Append("efgh").ok());
  EXPECT_EQ((*file)->padded_size(), 8u);
  EXPECT_TRUE((*file)->Pad(10, '#').ok());
  EXPECT_TRUE((*file)->Truncate(8).ok());
  EXPECT_EQ((*file)->padded_size(), 8u);
  EXPECT_EQ(*env_->ReadFileToString(Path("p")), "abcdefgh");
}

TEST_P(EnvTest, HintsLeaveTheContentAlone) {
  auto file = env_->OpenTruncate(Path("h"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Preallocate(1 << 20).ok());
  EXPECT_TRUE((*file)->Append("abc").ok());
  EXPECT_TRUE((*file)->SyncRange(0, 3).ok());
  EXPECT_TRUE((*file)->Sync().ok());
  EXPECT_EQ((*file)->size(), 3u);
  EXPECT_EQ(*env_->FileSize(Path("h")), 3u);
}

TEST_P(EnvTest, ClosedHandlesFail) {
  auto file = env_->OpenTruncate(Path("c"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Close().ok());
  EXPECT_TRUE((*file)->Close().ok());
  EXPECT_EQ((*file)->Append("x").code(), StatusCode::kIo);
  EXPECT_EQ((*file)->Sync().code(), StatusCode::kIo);
}

TEST_P(EnvTest, ReadStopsAtTheEnd) {
  Write(Path("r"), "0123456789");
  auto file = env_->OpenRead(Path("r"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->size(), 10u);
  char out[16] = {};
  EXPECT_EQ(*(*file)->Read(2, 4, out), 4u);
  EXPECT_EQ(std::string_view(out, 4), "2345");
  EXPECT_EQ(*(*file)->Read(8, 16, out), 2u);
  EXPECT_EQ(*(*file)->Read(100, 1, out), 0u);
  EXPECT_EQ(*(*file)->Map(), "0123456789");
  Write(Path("empty"), "");
  EXPECT_EQ(*(*env_->OpenRead(Path("empty")))->Map(), "");
  EXPECT_EQ(*env_->ReadFileToString(Path("empty")), "");
}

TEST_P(EnvTest, WhatIsCutOffUnderAMapCannotBeMadeReadable) {
  constexpr uint64_t kPage = 4096;
  Write(Path("m"), std::string(3 * kPage, 'm'));
  auto file = env_->OpenRead(Path("m"));
  ASSERT_TRUE(file.ok());
  const std::string_view map = *(*file)->Map();
  EXPECT_TRUE((*file)->MakeReadable(0, map.size()).ok());
  EXPECT_TRUE((*file)->MakeReadable(map.size(), 0).ok());
  {
    auto writer = env_->OpenAppend(Path("m"));
    ASSERT_TRUE(writer.ok() && (*writer)->Truncate(kPage).ok());
  }
  EXPECT_TRUE((*file)->MakeReadable(0, kPage).ok());
  EXPECT_EQ(map.substr(0, kPage), std::string(kPage, 'm'));
  for (const auto& [offset, size] : {std::pair{kPage, kPage}, {uint64_t{0}, map.size()}}) {
    const Status cut = (*file)->MakeReadable(offset, size);
    EXPECT_EQ(cut.code(), StatusCode::kIo);
    EXPECT_EQ(cut.message(), "read " + Path("m") + ": the file got shorter");
  }
}

TEST_P(EnvTest, MissingThingsAreNotFoundByName) {
  const auto file = env_->OpenRead(Path("no"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(file.status().message(), "open " + Path("no") + ": No such file or directory");
  EXPECT_EQ(env_->Rename(Path("no"), Path("x")).code(), StatusCode::kNotFound);
  EXPECT_EQ(env_->Remove(Path("no")).code(), StatusCode::kNotFound);
  EXPECT_EQ(env_->FileSize(Path("no")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(env_->ModificationTime(Path("no")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(env_->ListDir(Path("no")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(env_->OpenAppend(Path("no/file")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(env_->CreateDir(Path("no/dir")).code(), StatusCode::kNotFound);
  EXPECT_FALSE(*env_->FileExists(Path("no")));
  EXPECT_EQ(*env_->KindOf(Path("no/file")), FileKind::kAbsent);
  EXPECT_TRUE(env_->RemoveIfThere(Path("no")).ok());
}

TEST_P(EnvTest, DirectoriesAreNotFiles) {
  EXPECT_TRUE(env_->CreateDir(Path("d")).ok());
  EXPECT_TRUE(env_->CreateDir(Path("d")).ok());
  EXPECT_TRUE(*env_->FileExists(Path("d")));
  EXPECT_EQ(*env_->KindOf(Path("d")), FileKind::kDirectory);
  EXPECT_EQ(env_->OpenRead(Path("d")).status().code(), StatusCode::kIo);
  EXPECT_EQ(env_->OpenTruncate(Path("d")).status().code(), StatusCode::kIo);
  Write(Path("d/f"), "x");
  EXPECT_EQ(*env_->KindOf(Path("d/f")), FileKind::kFile);
  EXPECT_EQ(env_->RemoveIfThere(Path("d")).code(), StatusCode::kIo);
  EXPECT_EQ(env_->Remove(Path("d")).code(), StatusCode::kIo);
  EXPECT_EQ(env_->CreateDir(Path("d/f")).code(), StatusCode::kIo);
  EXPECT_TRUE(env_->SyncDir(Path("d")).ok());
}

TEST_P(EnvTest, RenameReplaces) {
  Write(Path("a"), "A");
  Write(Path("b"), "B");
  EXPECT_TRUE(env_->Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(*env_->ReadFileToString(Path("b")), "A");
  EXPECT_EQ(*env_->ListDir(directory_), std::vector<std::string>{"b"});
}

TEST_P(EnvTest, RenamedDirectoriesTakeTheirFilesAlong) {
  ASSERT_TRUE(env_->CreateDir(Path("old")).ok());
  Write(Path("old/f"), "x");
  EXPECT_TRUE(env_->Rename(Path("old"), Path("new")).ok());
  EXPECT_EQ(*env_->ReadFileToString(Path("new/f")), "x");
  EXPECT_FALSE(*env_->FileExists(Path("old/f")));
}

TEST_P(EnvTest, WriteFileAtomicallyLeavesOneFile) {
  EXPECT_TRUE(env_->WriteFileAtomically(Path("m"), "first").ok());
  EXPECT_TRUE(env_->WriteFileAtomically(Path("m"), "second").ok());
  EXPECT_EQ(*env_->ReadFileToString(Path("m")), "second");
  EXPECT_EQ(*env_->ListDir(directory_), std::vector<std::string>{"m"});
  EXPECT_FALSE(env_->WriteFileAtomically(Path("no/m"), "x").ok());
}

TEST_P(EnvTest, ReadFileToStringTakesBigFiles) {
  const std::string big(300000, 'b');
  Write(Path("big"), big);
  EXPECT_EQ(*env_->ReadFileToString(Path("big")), big);
}

TEST_P(EnvTest, ClocksAndChance) {
  EXPECT_GT(env_->WallMicros(), 1700000000'000000);
  const int64_t before = env_->MonotonicMicros();
  EXPECT_GE(env_->MonotonicMicros(), before);
  EXPECT_NE(env_->RandomU64(), env_->RandomU64());
  Write(Path("f"), "x");
  EXPECT_NEAR(static_cast<double>(*env_->ModificationTime(Path("f"))),
              static_cast<double>(env_->WallMicros()), 60e6);
  EXPECT_GT(*env_->FreeSpace(directory_), 0u);
}

INSTANTIATE_TEST_SUITE_P(Both, EnvTest, testing::Bool(), OnBothEnvs::NameOf);

TEST(PosixEnvTest, ReadsFilesThatClaimNoSize) {
  const auto text = NewPosixEnv()->ReadFileToString("/proc/self/status");
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("VmRSS"), std::string::npos);
}

TEST(PosixEnvTest, FullDeviceIsNoSpace) {
  auto file = NewPosixEnv()->OpenAppend("/dev/full");
  ASSERT_TRUE(file.ok());
  const Status status = (*file)->Append("x");
  EXPECT_EQ(status.code(), StatusCode::kNoSpace);
  EXPECT_EQ(status.message(), "write /dev/full: No space left on device");
  EXPECT_EQ((*file)->size(), 0u);
}

TEST(DirNameTest, TakesTheDirectoryPart) {
  EXPECT_EQ(DirName("dump.rdb"), ".");
  EXPECT_EQ(DirName("/dump.rdb"), "/");
  EXPECT_EQ(DirName("a/b/c"), "a/b");
}

}  // namespace
}  // namespace cairn
