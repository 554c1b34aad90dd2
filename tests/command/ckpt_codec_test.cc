// Commands over chunks that are held encoded: nobody sees a difference but in what they take. And
// payloads that carry encoded chunks.

#include <gtest/gtest.h>

#include "persistence/rdb_writer.h"
#include "server/engine/module_value.h"
#include "tensor_module/chunk_codec.h"
#include "tests/support/ckpt_fixture.h"

namespace cairn {
namespace {

using tensor::ChunkPool;
using tensor::ChunkRef;

/// One byte in each 1000 is another.
std::string Next(std::string bytes) {
  for (size_t at = 0; at < bytes.size(); at += 1000) bytes[at] = static_cast<char>(bytes[at] ^ 9);
  return bytes;
}

class CkptCodecTest : public CkptTest {
 protected:
  ChunkPool& pool() { return LinkedInModule()->pool; }
  ChunkRef ChunkOf(const std::string& bytes, size_t index) {
    return pool().Find(HashBytes128(bytes.substr(index * kChunk, kChunk)));
  }
  /// Versions 1 and 2 of three chunks; the first is held encoded against the second.
  void SaveTwo() {
    ASSERT_EQ(Word(Save(1, first_)).size(), 18u);
    Save(2, second_);
    Encode();
  }
  void Encode() {
    for (size_t i = 0; i < 2; ++i) {
      const ChunkRef base = ChunkOf(second_, i);
      ASSERT_TRUE(pool().Encode(*ChunkOf(first_, i), base.get(), 1));
    }
  }
  bool IsEncoded(const std::string& bytes, size_t index) {
    return static_cast<bool>(ChunkOf(bytes, index)->encoded());
  }

  const std::string first_ = Fill(2 * kChunk + 5000, 1);
  const std::string second_ = Next(first_);
};

TEST_F(CkptCodecTest, ReadersSeePlainBytes) {
  Save(1, first_);
  Save(2, second_);
  const Lines reads[] = {{"CKPT.LOAD", "run", "1", "w"},
                         {"CKPT.LOAD", "run", "1", "w", "RANGE", "100", "300000"},
                         {"CKPT.LOAD", "run", "1", "w", "SLICE", "1", "7", "500000", "3"},
                         {"CKPT.MLOAD", "run", "1", "2", "w", "none"},
                         {"CKPT.DIFF", "run", "1", "2"},
                         {"CKPT.DIFF", "run", "2", "1"},
                         {"CKPT.FETCHDELTA", "run", "2", "1"},
                         {"CKPT.VERIFY", "run", "1", "DEEP"},
                         {"DUMP", "run"}};
  std::vector<std::string> before;
  for (const Lines& read : reads) before.push_back(Call(read).ToString());
  Encode();
  for (size_t i = 0; i < std::size(reads); ++i) {
    EXPECT_TRUE(Call(reads[i]).ToString() == before[i]) << reads[i][0] << " " << i;
  }
  // Again, from the copies that the first readers left, and inside a transaction.
  EXPECT_EQ(Run({"MULTI"}), "+OK");
  for (const Lines& read : reads) Call(read);
  const RespValue all = Call({"EXEC"});
  for (size_t i = 0; i < std::size(reads); ++i) {
    EXPECT_TRUE(all.elements[i].ToString() == before[i]) << reads[i][0] << " " << i;
  }
  EXPECT_TRUE(IsEncoded(first_, 0) && IsEncoded(first_, 1));
}

TEST_F(CkptCodecTest, WhatIsHeldIsCounted) {
  Save(1, first_);
  Save(2, second_);
  const int64_t usage = Call({"MEMORY", "USAGE", "run"}).integer;
  EXPECT_EQ(Field(Call({"CKPT.MANIFEST", "run", "1"}), "stored_bytes"),
            ":" + std::to_string(first_.size()));
  Encode();
  EXPECT_LT(Call({"MEMORY", "USAGE", "run"}).integer,
            usage - 2 * static_cast<int64_t>(kChunk) * 9 / 10);
  const RespValue manifest = Call({"CKPT.MANIFEST", "run", "1"});
  const uint64_t stored =
      5000 + ChunkOf(first_, 0)->stored_bytes() + ChunkOf(first_, 1)->stored_bytes();
  EXPECT_EQ(Field(manifest, "stored_bytes"), ":" + std::to_string(stored));
  EXPECT_EQ(Field(manifest, "bytes"), ":" + std::to_string(first_.size()));
  const RespValue codecs = Call({"CKPT.CODECS"});
  EXPECT_EQ(Field(codecs, "state"), "\"off\"") << "in the background";
  EXPECT_EQ(Field(codecs, "encoded_chunks"), ":2");
  EXPECT_EQ(Field(codecs, "delta_chunks"), ":2");
  EXPECT_EQ(Field(codecs, "bytes"), ":" + std::to_string(2 * first_.size()));
  EXPECT_EQ(Field(codecs, "stored_bytes"), ":" + std::to_string(second_.size() + stored));
  // The base is held for what decodes against it, and counted.
  EXPECT_EQ(Run({"CKPT.DEL", "run", "2"}), ":1");
  EXPECT_GT(Call({"MEMORY", "USAGE", "run"}).integer, 2 * static_cast<int64_t>(kChunk));
  EXPECT_EQ(Bytes("1", "w"), first_);
  EXPECT_EQ(Run({"DEL", "run"}), ":1");
  EXPECT_EQ(pool().chunk_count(), 0u);
}

TEST_F(CkptCodecTest, UploadsMeetEncodedChunks) {
  SaveTwo();
  // The same bytes as version 1 has.
  const std::string tx = Begin(3);
  DeclareU8(tx, "w", first_.size());
  EXPECT_EQ(Run({"CKPT.REF", "run", tx, "RANK", "0", "w", "AT", "0", "1",
                 Hash128Hex(ChunkOf(first_, 0)->hash())}),
            ":" + std::to_string(kChunk));
  EXPECT_EQ(Put(tx, "w", 0, first_.substr(0, 100)), ":" + std::to_string(kChunk));
  EXPECT_EQ(Word(Put(tx, "w", 0, "other")), "-CKPTDIVERGED");
  EXPECT_EQ(Put(tx, "w", kChunk, first_.substr(kChunk)), ":" + std::to_string(first_.size()));
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "step"), ":3");
  EXPECT_EQ(Bytes("3", "w"), first_);
  EXPECT_EQ(pool().chunk_count(), 6u) << "nothing twice";
}

// --- payloads ---

/// A chunk list as a payload of a run without versions.
class Payload {
 public:
  explicit Payload(uint64_t chunks, int version = 3) {
    CAIRN_CHECK(sink_.BeginModule(ModuleTypeId("cairnckpt", version)).ok());
    Add({0, 0, 600000, 4, 0, 0, 0, 0, 0, chunks});
  }
  Payload& Plain(const std::string& bytes) {
    Head(bytes);
    Add({0});
    return Text(bytes);
  }
  Payload& Encoded(const std::string& bytes, const std::string& encoded, uint64_t base) {
    Head(bytes);
    Add({2, bytes.size(), base});
    return Text(encoded);
  }
  std::string Take() {
    Add({0, 0, 0, 0, 0});
    CAIRN_CHECK(sink_.End().ok());
    return writer_.Finish().value();
  }

 private:
  void Head(const std::string& bytes) {
    const Hash128 hash = HashBytes128(bytes);
    Add({static_cast<uint64_t>(tensor::DType::kU8), hash.low, hash.high});
  }
  Payload& Text(const std::string& bytes) {
    CAIRN_CHECK(sink_.ModuleString(bytes).ok());
    return *this;
  }
  void Add(std::initializer_list<uint64_t> numbers) {
    for (uint64_t number : numbers) CAIRN_CHECK(sink_.ModuleUnsigned(number).ok());
  }
  DumpWriter writer_;
  ValueSink& sink_ = writer_.sink();
};

TEST_F(CkptCodecTest, PayloadsMayCarryEncodedChunks) {
  const std::string a = Fill(kChunk, 1), b = Next(a), c = std::string(kChunk, 'c');
  const std::string delta = tensor::EncodeChunk(b, 1, a), packed = tensor::EncodeChunk(c, 1, "");
  const auto restore = [&](std::string payload) {
    return Run({"RESTORE", "r", "0", payload, "REPLACE"});
  };
  EXPECT_EQ(restore(Payload(3).Plain(a).Encoded(b, delta, 1).Encoded(c, packed, 0).Take()), "+OK");
  // What no version refers to is let go.
  EXPECT_EQ(pool().chunk_count(), 0u);
  const std::string bad = "-ERR Bad data format";
  EXPECT_EQ(restore(Payload(2).Plain(a).Encoded(b, delta, 0).Take()), bad) << "no base";
  EXPECT_EQ(restore(Payload(2).Plain(a).Encoded(b, delta, 2).Take()), bad) << "itself";
  EXPECT_EQ(restore(Payload(2).Encoded(b, delta, 2).Plain(a).Take()), bad) << "behind it";
  EXPECT_EQ(restore(Payload(2).Plain(c).Encoded(b, delta, 1).Take()), bad) << "another";
  EXPECT_EQ(restore(Payload(2).Plain(a).Encoded(a, delta, 1).Take()), bad) << "another hash";
  EXPECT_EQ(restore(Payload(2).Plain(a).Encoded(b, delta + "x", 1).Take()), bad);
  EXPECT_EQ(restore(Payload(2).Plain(a).Encoded(b, "", 1).Take()), bad);
  EXPECT_EQ(restore(Payload(2, 2).Plain(a).Encoded(b, delta, 1).Take()), bad) << "of version 3";
  EXPECT_EQ(restore(Payload(2, 2).Plain(a).Plain(b).Take()), "+OK");
  const std::string large(kChunk + 1, 'x');
  EXPECT_EQ(restore(Payload(1).Encoded(large, tensor::EncodeChunk(large, 1, ""), 0).Take()), bad);
  EXPECT_EQ(restore(Payload(1).Encoded("", packed, 0).Take()), bad);
  EXPECT_EQ(pool().chunk_count(), 0u);
}

TEST_F(CkptCodecTest, PayloadsWithTooLongAChainAreRefused) {
  for (const unsigned links : {ChunkPool::kMaxChain, ChunkPool::kMaxChain + 1}) {
    std::string bytes = Fill(kChunk, 1);
    Payload payload(links + 1);
    payload.Plain(bytes);
    for (unsigned i = 1; i <= links; ++i) {
      std::string next = bytes;
      next[i * 100] = static_cast<char>(next[i * 100] ^ 1);
      payload.Encoded(next, tensor::EncodeChunk(next, 1, bytes), i);
      bytes = next;
    }
    EXPECT_EQ(Run({"RESTORE", "r", "0", payload.Take(), "REPLACE"}),
              links == ChunkPool::kMaxChain ? "+OK" : "-ERR Bad data format");
  }
}

}  // namespace
}  // namespace cairn
