// Files that are shortened under their mappings stand for a disk that refuses a page: the kernel
// answers both with SIGBUS.

#include "server/base/mapped_bytes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tensor_module/log_files.h"
#include "tests/unit/tensor/chunk_log_fixture.h"

namespace cairn::tensor {
namespace {

/// A blob of bytes that are somewhere already, and stay.
BlobSlice InPlace(std::string_view bytes) {
  void* room = std::malloc(sizeof(Blob));
  auto* blob = new (room) Blob(const_cast<char*>(bytes.data()), bytes.size(), sizeof(Blob),
                               [](Blob* self) { std::free(self); });
  return {BlobRef::Adopt(blob), 0, bytes.size()};
}

class MappedBytesTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory_ / "logs"); }
  ~MappedBytesTest() override {
    held_.clear();
    std::filesystem::remove_all(directory_);
  }
  std::filesystem::path File(const std::string& name) const { return directory_ / "logs" / name; }
  void Shorten(const std::string& name, size_t pages) {
    std::filesystem::resize_file(File(name), pages * kPageBytes);
  }
  std::unique_ptr<LogFiles> Files() const { return NewPosixLogFiles(directory_, "logs"); }
  std::unique_ptr<ChunkLog> Open() {
    ChunkLogOptions options;
    options.random = [] { return uint64_t{5}; };
    options.say = [this](std::string_view line) { said_ += std::string(line) + "\n"; };
    auto log = std::make_unique<ChunkLog>(Files(), options);
    EXPECT_TRUE(log->Open().ok());
    return log;
  }
  /// Logs chunks of a page each, and makes them durable.
  std::string Write(size_t count) {
    auto log = Open();
    std::vector<const Chunk*> chunks;
    for (size_t i = 0; i < count; ++i) {
      held_.push_back(pool_.InternOne(memory_.Slice(RandomBytes(i)), DType::kU8).value());
      chunks.push_back(held_.back().get());
    }
    std::vector<bool> kept;
    EXPECT_TRUE(log->Keep(chunks, 1, {"dump.rdb"}, &kept).ok());
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "logs")) {
      if (entry.path().extension() == ".chunks") return entry.path().filename();
    }
    return "";
  }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("mapped_bytes_" + std::to_string(::getpid()));
  TestMemory memory_;
  ChunkPool pool_{memory_};
  std::vector<ChunkRef> held_;
  std::string said_;
};

TEST_F(MappedBytesTest, PagesThatAreNotThereAnyMoreCannotBeRead) {
  std::ofstream(File("file")) << std::string(4 * kPageBytes, 'x');
  const MappingRef mapping = *Files()->Map("file");
  ASSERT_TRUE(mapping.has_value());
  const std::string_view view = (*mapping)->view();
  EXPECT_TRUE(CanRead(view));
  Shorten("file", 2);
  EXPECT_TRUE(CanRead(view.substr(0, 2 * kPageBytes)));
  EXPECT_TRUE(CanRead(view.substr(2 * kPageBytes - 1, 1)));
  EXPECT_FALSE(CanRead(view.substr(2 * kPageBytes - 1, 2)));
  EXPECT_FALSE(CanRead(view.substr(3 * kPageBytes)));
  EXPECT_FALSE(CanRead(view));
}

TEST_F(MappedBytesTest, OtherMemoryCan) {
  EXPECT_TRUE(CanRead(""));
  EXPECT_TRUE(CanRead("literal"));
  const std::string heap(100'000, 'x');
  EXPECT_TRUE(CanRead(std::string_view(heap).substr(1)));
}

TEST_F(MappedBytesTest, AScanGoesAroundPagesThatCannotBeRead) {
  const std::string name = Write(8);
  const MappingRef mapping = *Files()->Map(name);
  ASSERT_TRUE(mapping.has_value());
  ASSERT_EQ(ScanSegment((*mapping)->view()).chunks.size(), 8u);
  Shorten(name, 4);
  const SegmentScan scan = ScanSegment((*mapping)->view());
  EXPECT_TRUE(scan.valid && scan.unreadable);
  // The head of the fourth lies in front of the cut, whatever of its bytes does not.
  EXPECT_EQ(scan.chunks.size(), 4u);
  Shorten(name, 0);
  const SegmentScan nothing = ScanSegment((*mapping)->view());
  EXPECT_TRUE(!nothing.valid && nothing.unreadable);
}

TEST_F(MappedBytesTest, AChunkWhoseBytesCannotBeReadIsDamagedAndWrittenAgain) {
  const std::string name = Write(8);
  auto log = Open();
  const Chunk& last = *held_[7];
  const ChunkLog::Found found = log->Find(last.hash(), last.size());
  ASSERT_TRUE(found.mapping);
  ChunkPool other(memory_);
  const ChunkRef read_before =
      other.Map(InPlace(found.bytes), last.hash(), DType::kU8, {}, found.number);
  EXPECT_TRUE(read_before->IsIntact());
  Shorten(name, 4);
  {
    ChunkPool third(memory_);
    const ChunkRef mapped =
        third.Map(InPlace(found.bytes), last.hash(), DType::kU8, {}, found.number);
    EXPECT_FALSE(mapped->IsIntact());
  }
  EXPECT_TRUE(read_before->WasIntact());
  EXPECT_FALSE(HasBytes(*read_before, last.bytes().view())) << "nobody touches what is gone";
  EXPECT_FALSE(read_before->IsIntact());
  EXPECT_FALSE(read_before->WasIntact());
  EXPECT_FALSE(other.Find(last.hash())) << "so that its bytes, when they come again, are kept";
  EXPECT_FALSE(log->Find(last.hash(), last.size()).mapping) << "its head is gone, too";
  std::vector<bool> kept;
  EXPECT_TRUE(log->Keep({&last}, 2, {"dump.rdb"}, &kept).ok());
  EXPECT_TRUE(kept[0]);
  const ChunkLog::Found again = log->Find(last.hash(), last.size());
  ASSERT_TRUE(again.mapping);
  EXPECT_EQ(again.bytes, last.bytes().view());
}

}  // namespace
}  // namespace cairn::tensor
