// What of a run's versions is encoded, against what, and what happens to it meanwhile (E1 to E3).

#include "tensor_module/ckpt_encoder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

std::string Noise(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

/// The same but for a few bytes of each chunk.
std::string Next(std::string bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t at = 0; at < bytes.size(); at += 2000) {
    bytes[at + random() % std::min<size_t>(2000, bytes.size() - at)] ^= 0x55;
  }
  return bytes;
}

class CkptEncoderTest : public testing::Test {
 protected:
  /// A tensor "w" of bytes in shards of so many bytes each.
  Kept<LogicalTensor> TensorOf(const std::string& bytes, std::vector<size_t> cuts = {}) {
    LogicalTensor tensor;
    tensor.name = "w";
    tensor.dtype = DType::kU8;
    tensor.shape = {bytes.size()};
    cuts.push_back(bytes.size());
    uint64_t at = 0;
    for (const size_t end : cuts) {
      ShardSpec spec;
      spec.dtype = DType::kU8;
      spec.shape = tensor.shape;
      spec.extent = {{at}, {end - at}};
      spec.Settle();
      StoredShard shard{spec.extent, spec.phase, {}};
      for (size_t cell = 0; cell < spec.cell_count(); ++cell) {
        const ByteRange range = spec.CellRange(cell);
        shard.chunks.push_back(
            pool_
                .InternOne(memory_.Slice(bytes.substr(at + range.begin, range.end - range.begin)),
                           DType::kU8)
                .value());
      }
      tensor.shards.push_back(std::move(shard));
      at = end;
    }
    return Kept<LogicalTensor>::Make(std::move(tensor));
  }
  VersionRow Row(uint64_t step, const std::string& bytes, std::vector<size_t> cuts = {}) {
    Version version;
    version.step = step;
    version.tensors.push_back(TensorOf(bytes, std::move(cuts)));
    return {Kept<Version>::Make(std::move(version)), false};
  }
  static const Chunk& At(const VersionRow& row, size_t cell, size_t shard = 0) {
    return *row.version->tensors[0]->shards[shard].chunks[cell];
  }
  static std::string BytesOfRow(const VersionRow& row) {
    std::string out;
    for (const StoredShard& shard : row.version->tensors[0]->shards) {
      for (const ChunkRef& chunk : shard.chunks) out += chunk->bytes().view();
    }
    return out;
  }
  void Do(const std::vector<VersionRow>& rows) {
    for (const EncodeStep& step : PlanEncoding(rows)) {
      if (step.restore) {
        pool_.Restore(*step.chunk);
      } else {
        pool_.Encode(*step.chunk, step.base, 1);
      }
    }
  }
  static int64_t NowUs() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  static void Settle(const CkptEncoder& encoder) {
    const int64_t deadline = NowUs() + 60'000'000;
    while (encoder.figures().pending > 0 && NowUs() < deadline) std::this_thread::yield();
    EXPECT_EQ(encoder.figures().pending, 0u);
  }

  TestMemory memory_;
  ChunkPool pool_{memory_};
};

TEST_F(CkptEncoderTest, TheOlderDecodesAgainstTheNewer) {
  const std::string first = Noise(3 * kChunkBytes, 1);
  std::string second = Next(first, 2);
  second.replace(kChunkBytes, kChunkBytes, first, kChunkBytes, kChunkBytes);  // the middle is kept
  const std::vector<VersionRow> rows = {Row(1, first), Row(2, second)};
  ASSERT_EQ(PlanEncoding(rows).size(), 2u);
  Do(rows);
  EXPECT_EQ(At(rows[0], 0).encoded().base.get(), &At(rows[1], 0));
  EXPECT_FALSE(At(rows[0], 1).encoded()) << "E2: LATEST has it";
  EXPECT_EQ(At(rows[0], 2).encoded().base.get(), &At(rows[1], 2));
  for (size_t cell = 0; cell < 3; ++cell) EXPECT_FALSE(At(rows[1], cell).encoded());
  EXPECT_TRUE(BytesOfRow(rows[0]) == first);
  EXPECT_TRUE(PlanEncoding(rows).empty()) << "nothing is left";
}

TEST_F(CkptEncoderTest, ThePlaceIsThatOfTheLogicalTensor) {
  const std::string first = Noise(4 * kChunkBytes, 1), second = Next(first, 2);
  // Two ranks, then three; the cuts lie on the grid here and there.
  const std::vector<VersionRow> rows = {Row(1, first, {2 * kChunkBytes}),
                                        Row(2, second, {kChunkBytes, 2 * kChunkBytes + 100})};
  Do(rows);
  EXPECT_EQ(At(rows[0], 0, 0).encoded().base.get(), &At(rows[1], 0, 0));
  EXPECT_EQ(At(rows[0], 1, 0).encoded().base.get(), &At(rows[1], 0, 1));
  EXPECT_FALSE(At(rows[0], 0, 1).encoded()) << "another cell begins there, and noise has no planes";
  EXPECT_EQ(At(rows[0], 1, 1).encoded().base.get(), &At(rows[1], 1, 2));
  EXPECT_TRUE(BytesOfRow(rows[0]) == first);
  EXPECT_TRUE(BytesOfRow(rows[1]) == second);
}

TEST_F(CkptEncoderTest, StatesGoByRankKindAndName) {
  const std::string first = Noise(kChunkBytes, 1), second = Next(first, 2);
  std::vector<VersionRow> rows;
  uint64_t step = 0;
  for (const std::string& bytes : {first, second}) {
    Version version;
    version.step = ++step;
    for (const char* name : {"tree", "other"}) {
      if (step == 2 && std::string_view(name) == "other") continue;
      StateBlob blob;
      blob.name = name;
      blob.size_bytes = bytes.size();
      const std::string own = name[0] == 't' ? bytes : Noise(kChunkBytes, 5);
      blob.chunks.push_back(pool_.InternOne(memory_.Slice(own), DType::kU8).value());
      version.states.push_back({0, Kept<StateBlob>::Make(std::move(blob))});
    }
    rows.push_back({Kept<Version>::Make(std::move(version)), false});
  }
  Do(rows);
  const Chunk& tree = *rows[0].version->states[0].blob->chunks[0];
  EXPECT_EQ(tree.encoded().base.get(), rows[1].version->states[0].blob->chunks[0].get());
  EXPECT_FALSE(rows[0].version->states[1].blob->chunks[0]->encoded());
}

TEST_F(CkptEncoderTest, WhatAnybodyElseHasStaysPlain) {
  const std::string first = Noise(kChunkBytes, 1), second = Next(first, 2);
  const std::vector<VersionRow> rows = {Row(1, first), Row(2, second)};
  {
    const VersionRow elsewhere = Row(7, first);
    EXPECT_TRUE(PlanEncoding(rows).empty());
  }
  EXPECT_EQ(PlanEncoding(rows).size(), 1u);
}

TEST_F(CkptEncoderTest, WhatIsMappedIsLeftAloneAlsoWhenItIsDamaged) {
  const std::string first = Noise(kChunkBytes, 1), second = Next(first, 2);
  const auto mapped = [&](uint64_t step, const std::string& bytes, const std::string& as) {
    LogicalTensor tensor{"w", "", DType::kU8, {bytes.size()}, "", {}};
    tensor.shards.push_back(
        {Extent::Whole(tensor.shape),
         0,
         {pool_.Map(memory_.Slice(bytes), HashBytes128(as), DType::kU8, {}, step)}});
    Version version;
    version.step = step;
    version.tensors.push_back(Kept<LogicalTensor>::Make(std::move(tensor)));
    return VersionRow{Kept<Version>::Make(std::move(version)), false};
  };
  // A good one, one that is damaged, and what has them at its place in the next version.
  const std::vector<VersionRow> rows = {Row(1, first), mapped(2, first, second),
                                        mapped(3, Next(first, 3), Next(first, 3)),
                                        Row(4, Next(first, 4)), mapped(5, second, Next(first, 5))};
  for (const EncodeStep& step : PlanEncoding(rows)) EXPECT_EQ(step.base, nullptr) << step.row;
  EXPECT_FALSE(At(rows[1], 0).IsIntact());
  CkptEncoder encoder(pool_, NowUs);
  encoder.Enable(1);
  encoder.Offer(rows);
  Settle(encoder);
  EXPECT_FALSE(At(rows[0], 0).encoded()) << "noise, and no base";
  EXPECT_FALSE(At(rows[2], 0).encoded());
  EXPECT_TRUE(At(rows[2], 0).IsUnread());
  EXPECT_FALSE(At(rows[3], 0).encoded());
  EXPECT_TRUE(At(rows[0], 0).bytes().view() == first);
}

TEST_F(CkptEncoderTest, WhatBecomesLatestIsMadePlain) {
  const std::string first = Noise(kChunkBytes, 1), second = Next(first, 2);
  std::vector<VersionRow> rows = {Row(1, first), Row(2, second)};
  Do(rows);
  ASSERT_TRUE(At(rows[0], 0).encoded());
  rows[1].rolled_back = true;
  Do(rows);
  EXPECT_FALSE(At(rows[0], 0).encoded());
  EXPECT_EQ(At(rows[1], 0).encoded().base.get(), &At(rows[0], 0)) << "and the other way round";
  EXPECT_TRUE(BytesOfRow(rows[0]) == first);
  EXPECT_TRUE(BytesOfRow(rows[1]) == second);
}

TEST_F(CkptEncoderTest, ManyVersionsKeepTheirBytes) {
  std::vector<VersionRow> rows;
  std::vector<std::string> model;
  std::mt19937_64 random(3);
  std::string bytes = Noise(2 * kChunkBytes + 5000, 4);
  for (uint64_t step = 1; step <= 30; ++step) {
    rows.push_back(Row(step, bytes));
    model.push_back(bytes);
    Do(rows);
    if (step % 7 == 0) {
      const size_t gone = random() % rows.size();
      rows.erase(rows.begin() + static_cast<ptrdiff_t>(gone));
      model.erase(model.begin() + static_cast<ptrdiff_t>(gone));
    }
    for (size_t i = 0; i < rows.size(); ++i) ASSERT_TRUE(BytesOfRow(rows[i]) == model[i]);
    bytes = Next(bytes, step);
  }
  EXPECT_LT(pool_.figures().stored_bytes, pool_.figures().bytes / 4)
      << "one in nine is the end of a chain";
  // Whatever goes first, the others stay readable.
  while (!rows.empty()) {
    const size_t gone = random() % rows.size();
    rows.erase(rows.begin() + static_cast<ptrdiff_t>(gone));
    model.erase(model.begin() + static_cast<ptrdiff_t>(gone));
    for (size_t i = 0; i < rows.size(); ++i) ASSERT_TRUE(BytesOfRow(rows[i]) == model[i]);
  }
  EXPECT_EQ(pool_.chunk_count(), 0u);
}

TEST_F(CkptEncoderTest, TheThreadDoesWhatIsOffered) {
  CkptEncoder encoder(pool_, NowUs);
  std::vector<VersionRow> rows;
  std::string bytes = Noise(5 * kChunkBytes, 1);
  const std::string first = bytes;
  rows.push_back(Row(1, bytes));
  rows.push_back(Row(2, bytes = Next(bytes, 2)));
  encoder.Offer(rows);
  EXPECT_EQ(encoder.figures().pending, 0u) << "it is off";
  encoder.Enable(1);
  encoder.Offer({rows[0]});
  EXPECT_EQ(encoder.figures().pending, 0u) << "LATEST alone";
  encoder.Offer(rows);
  Settle(encoder);
  EXPECT_EQ(pool_.figures().delta_chunks, 5u);
  EXPECT_EQ(encoder.figures().looked_at, 5u);
  // Newer offers of the same run, while it works.
  for (uint64_t step = 3; step <= 6; ++step) {
    rows.push_back(Row(step, bytes = Next(bytes, step)));
    encoder.Offer(rows);
  }
  Settle(encoder);
  EXPECT_EQ(pool_.figures().delta_chunks, 25u);
  EXPECT_TRUE(BytesOfRow(rows[0]) == first);
  // A run that is deleted while it waits leaves nothing.
  encoder.Offer(rows);
  rows.clear();
  Settle(encoder);
  EXPECT_EQ(pool_.chunk_count(), 0u);
}

/// Runs that come and go, none of which has anything to encode.
TEST_F(CkptEncoderTest, WhatIsDeletedWhileItWaitsIsLetGoWithoutATurn) {
  CkptEncoder encoder(pool_, NowUs);
  encoder.Enable(1);
  for (int run = 0; run < 3000; ++run) {
    encoder.Offer({Row(1, "a" + std::to_string(run)), Row(2, "b" + std::to_string(run))});
  }
  // A turn of a twentieth of a second for each would be more time than Settle has.
  Settle(encoder);
  EXPECT_EQ(pool_.chunk_count(), 0u);
}

TEST_F(CkptEncoderTest, AtMostOneEntryForEachRunWaits) {
  constexpr size_t kRuns = 20;
  CkptEncoder encoder(pool_, NowUs);
  encoder.Enable(1);
  std::vector<std::vector<VersionRow>> runs(kRuns);
  std::vector<std::string> bytes(kRuns);
  for (uint64_t step = 1; step <= 8; ++step) {
    for (size_t run = 0; run < kRuns; ++run) {
      bytes[run] = step == 1 ? Noise(kChunkBytes, run) : Next(bytes[run], run * 100 + step);
      runs[run].push_back(Row(step, bytes[run]));
      if (step > 5) runs[run].erase(runs[run].begin());
      encoder.Offer(runs[run]);
      ASSERT_LE(encoder.figures().pending, kRuns + 1) << "and what it works on";
    }
  }
  Settle(encoder);
  EXPECT_EQ(pool_.figures().delta_chunks, kRuns * 4);
  for (size_t run = 0; run < kRuns; ++run) {
    EXPECT_EQ(BytesOfRow(runs[run].back()), bytes[run]);
    EXPECT_FALSE(At(runs[run].back(), 0).encoded());
  }
}

TEST_F(CkptEncoderTest, ItEndsInTheMiddle) {
  std::vector<VersionRow> rows;
  std::string bytes = Noise(200 * kChunkBytes, 1);
  rows.push_back(Row(1, bytes));
  rows.push_back(Row(2, Next(bytes, 2)));
  {
    CkptEncoder encoder(pool_, NowUs);
    encoder.Enable(1);
    encoder.Offer(rows);
    while (encoder.figures().looked_at == 0) std::this_thread::yield();
  }
  EXPECT_TRUE(BytesOfRow(rows[0]) == bytes);
}

TEST_F(CkptEncoderTest, WhatDoesNotGainDoesNotKeepTheMemoryOfWhatDid) {
  // One piece of memory: the first chunk is noise in the next version too, the others change
  // little.
  const std::string first = Noise(4 * kChunkBytes, 1);
  const BlobSlice piece = memory_.Slice(first);
  const Blob* const memory = piece.blob.get();
  LogicalTensor tensor{"w", "", DType::kU8, {first.size()}, "", {}};
  tensor.shards.push_back(
      {Extent::Whole(tensor.shape), 0,
       pool_.Intern(piece, std::vector<size_t>(4, kChunkBytes), DType::kU8).value()});
  Version version;
  version.step = 1;
  version.tensors.push_back(Kept<LogicalTensor>::Make(std::move(tensor)));
  std::vector<VersionRow> rows = {{Kept<Version>::Make(std::move(version)), false}};
  ASSERT_EQ(At(rows[0], 0).bytes().blob.get(), memory);
  rows.push_back(Row(2, Noise(kChunkBytes, 9) + Next(first, 2).substr(kChunkBytes)));
  CkptEncoder encoder(pool_, NowUs);
  encoder.Enable(1);
  encoder.Offer(rows);
  Settle(encoder);
  EXPECT_EQ(pool_.figures().delta_chunks, 3u);
  EXPECT_FALSE(At(rows[0], 0).encoded());
  EXPECT_NE(At(rows[0], 0).bytes().blob.get(), memory);
  EXPECT_TRUE(BytesOfRow(rows[0]) == first);
}

}  // namespace
}  // namespace cairn::tensor
