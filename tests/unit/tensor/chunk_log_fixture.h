#pragma once

// The fixture of the chunk log's tests: a log on a fake disk, and chunks made from seeds.

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tensor_module/chunk_log.h"
#include "tests/unit/tensor/fake_log_files.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {

inline constexpr size_t kSize = ChunkLog::kLeastBytes;

inline std::string RandomBytes(uint64_t seed, size_t size = kSize) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

class ChunkLogTest : public testing::Test {
 protected:
  ~ChunkLogTest() override { held_.clear(); }

  std::unique_ptr<ChunkLog> Open(uint64_t segment_bytes = 64 * 1024) {
    ChunkLogOptions options;
    options.segment_bytes = segment_bytes;
    options.records_at_a_time = 16;
    options.random = [this] { return random_(); };
    options.say = [this](std::string_view line) { said_ += std::string(line) + "\n"; };
    auto log = std::make_unique<ChunkLog>(std::make_unique<FakeLogFiles>(disk_), options);
    EXPECT_TRUE(log->Open().ok());
    return log;
  }
  const Chunk* Make(const std::string& bytes) {
    held_.push_back(pool_.InternOne(memory_.Slice(bytes), DType::kU8).value());
    return held_.back().get();
  }
  const Chunk* Make(uint64_t seed) { return Make(RandomBytes(seed)); }
  std::vector<const Chunk*> Several(uint64_t first, size_t count) {
    std::vector<const Chunk*> out;
    for (size_t i = 0; i < count; ++i) out.push_back(Make(first + i));
    return out;
  }
  static std::string Read(ChunkLog& log, const Chunk& chunk) {
    const ChunkLog::Found found = log.Find(chunk.hash(), chunk.size());
    return found.mapping ? std::string(found.bytes) : "";
  }
  static std::vector<bool> All(size_t count) { return std::vector<bool>(count, true); }
  /// Keeps chunks for a save of dump.rdb that ends well.
  void Save(ChunkLog& log, const std::vector<const Chunk*>& chunks, uint64_t number) {
    std::vector<bool> kept;
    ASSERT_TRUE(log.Keep(chunks, number, {"dump.rdb"}, &kept).ok());
    ASSERT_EQ(kept, All(chunks.size()));
    disk_.server_files.insert("dump.rdb");
    log.OnSaved("dump.rdb", number);
    log.OnSaved("", number);
    log.Collect();
  }
  size_t Segments() const {
    size_t count = 0;
    for (const auto& [name, file] : disk_.files) count += name.ends_with(".chunks");
    return count;
  }
  FakeDisk::File& LastSegment() {
    FakeDisk::File* last = nullptr;
    for (auto& [name, file] : disk_.files) {
      if (name.ends_with(".chunks")) last = &file;
    }
    return *last;
  }

  std::mt19937_64 random_{1};
  TestMemory memory_;
  ChunkPool pool_{memory_};
  std::vector<ChunkRef> held_;
  FakeDisk disk_;
  std::string said_;
};

}  // namespace cairn::tensor
