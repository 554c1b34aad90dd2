// CKPT payloads in process: pieces, hashes, lying declarations, any sharding, and what becomes of
// versions.

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/ckpt_fixture.h"

namespace cairn {
namespace {

// --- bytes ---

TEST_F(CkptTest, PiecesOfAnySizeMakeTheSameVersion) {
  const std::string bytes = Fill(3 * kChunk + 12345, 4);
  for (const size_t piece : {size_t{70000}, kChunk, 2 * kChunk + 17, bytes.size()}) {
    const std::string tx = Begin(piece);
    DeclareU8(tx, "w", bytes.size());
    // From the end, so that holes stand in front.
    for (size_t at = (bytes.size() - 1) / piece * piece;; at -= piece) {
      const std::string reply = Put(tx, "w", at, bytes.substr(at, piece));
      EXPECT_EQ(reply, at == 0 ? ":" + std::to_string(bytes.size()) : ":0");
      if (at == 0) break;
    }
    Rank(tx, 0, "PREPARE");
    EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "bytes"), ":" + std::to_string(bytes.size()));
    EXPECT_EQ(Bytes(std::to_string(piece), "w"), bytes);
  }
  // Four versions, one storage.
  EXPECT_LT(Call({"MEMORY", "USAGE", "run"}).integer, static_cast<int64_t>(bytes.size() + 100000));
}

TEST_F(CkptTest, HashesAreChecked) {
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 3);
  EXPECT_EQ(Word(Rank(tx, 0, "PUT", {"w", "AT", "0", "BLOB", "abc", "XXH3", std::string(32, '1')})),
            "-CKPTHASH");
  EXPECT_EQ(
      Rank(tx, 0, "OFFSET", {"w"}),
      "[\"name\", \"w\", \"shard\", :0, \"offset\", :0, \"size\", :3, \"holes\", [[:0, :3]]]");
  const std::string hash = Hash128Hex(HashBytes128("abc"));
  EXPECT_EQ(Rank(tx, 0, "PUT", {"w", "AT", "0", "BLOB", "abc", "XXH3", hash}), ":3");
  const std::string other = Begin(2);
  DeclareU8(other, "w", 3);
  EXPECT_EQ(Word(Rank(other, 0, "REF", {"w", "AT", "0", "1", std::string(32, 'f')})), "-CKPTHASH");
  EXPECT_EQ(Rank(other, 0, "REF", {"w", "AT", "0", "1", hash}), ":3");
  EXPECT_EQ(Word(Rank(other, 0, "REF", {"w", "AT", "1", "1", hash})), "-CKPTOFFSET");
  EXPECT_EQ(Word(Rank(other, 0, "REF", {"w", "AT", "0", "2", hash, hash})), "-CKPTOFFSET");
}

TEST_F(CkptTest, AHashIsOfAllThatArrivedWhereverTheGridCutsIt) {
  const std::string bytes = Fill(3 * kChunk, 11);
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", bytes.size());
  // Parts of cells before and behind two whole ones, parts only, and one whole cell.
  for (const auto& [at, size] :
       {std::pair{size_t{100}, 2 * kChunk + 300}, {size_t{0}, size_t{100}}, {2 * kChunk, kChunk}}) {
    const std::string piece = bytes.substr(at, size), hash = Hash128Hex(HashBytes128(piece));
    const auto put = [&](const std::string& what) {
      return Rank(tx, 0, "PUT", {"w", "AT", std::to_string(at), "BLOB", what, "XXH3", hash});
    };
    for (const size_t flipped : {size_t{0}, size / 2, size - 1}) {
      std::string other = piece;
      other[flipped] = static_cast<char>(other[flipped] ^ 1);
      EXPECT_EQ(Word(put(other)), "-CKPTHASH") << at << " " << flipped;
    }
    EXPECT_EQ(put(piece)[0], ':') << at;
  }
  Rank(tx, 0, "PREPARE");
  Call({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Bytes("1", "w"), bytes);
}

TEST_F(CkptTest, PutsOutsideTheirShardAreRefused) {
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 3);
  EXPECT_EQ(Word(Put(tx, "w", 1, "abc")), "-CKPTOFFSET");
  EXPECT_EQ(Word(Put(tx, "w", 18446744073709551615u, "abc")), "-CKPTOFFSET");
  EXPECT_EQ(Put(tx, "v", 0, "abc"), "-ERR rank 0 has not declared shard 0 of 'v'");
  EXPECT_EQ(Rank(tx, 0, "PUT", {"w", "SHARD", "1", "AT", "0", "BLOB", "a"}),
            "-ERR rank 0 has not declared shard 1 of 'w'");
  EXPECT_EQ(Put(tx, "w", 0, "a", 1), "-ERR rank 1 has declared nothing");
  EXPECT_EQ(Word(Put("0123456789abcdef", "w", 0, "a")), "-CKPTNOTX");
}

TEST_F(CkptTest, LyingDeclarationsAreRefused) {
  const std::string tx = Begin(1, {"RANK", "0", "WORLD", "2"});
  const auto declare = [&](Lines more, int rank = 0) {
    more.insert(more.begin(), "1");
    return Rank(tx, rank, "DECLARE", more);
  };
  EXPECT_EQ(declare({"w", "g", "F64", "SHAPE", "2", "4294967296", "4294967296"}).substr(0, 25),
            "-ERR a tensor of shape [4");
  EXPECT_EQ(declare({"w", "g", "U8", "SHAPE", "1", "4", "SHARD", "OFF", "1", "3", "LEN", "1", "2"}),
            "-ERR shard [3, +2) is not within dimension 0 of [4] of 'w'");
  EXPECT_EQ(declare({"w", "g", "U8", "SHAPE", "1", "4", "SHARD", "OFF", "1", "1", "LEN", "1",
                     "18446744073709551615"})
                .substr(0, 10),
            "-ERR shard");
  EXPECT_EQ(
      declare({"w", "g", "U8", "SHAPE", "1", "4", "SHARD", "OFF", "2", "0", "0", "LEN", "1", "2"}),
      "-ERR off takes one number for each dimension");
  EXPECT_EQ(declare({"w", "g", "U8", "SHAPE", "1", "4", "ALIAS", "w"}),
            "-ERR an alias is another whole tensor's name");
  EXPECT_EQ(Rank(tx, 0, "DECLARE", {"2", "w", "g", "U8", "SHAPE", "0"}), "-ERR syntax error");
  EXPECT_EQ(declare({"w", "g", "U8", "SHAPE", "65"}), "-ERR a tensor has at most 64 dimensions");
  EXPECT_EQ(declare({"w", "g", "U8", "SHAPE", "1", "4"}), ":1");
  EXPECT_EQ(Word(declare({"w", "g", "I8", "SHAPE", "1", "4"}, 1)), "-CKPTDIVERGED");
  EXPECT_EQ(Word(declare({"w", "h", "U8", "SHAPE", "1", "4"}, 1)), "-CKPTDIVERGED");
  EXPECT_EQ(declare({"w", "g", "U8", "SHAPE", "1", "4"}, 1), ":1");
  // An alias of nothing keeps the transaction from committing.
  EXPECT_EQ(declare({"tied", "g", "U8", "SHAPE", "1", "4", "ALIAS", "none"}), ":1");
  Put(tx, "w", 0, "abcd", 0);
  Put(tx, "w", 0, "abcd", 1);
  Rank(tx, 0, "PREPARE");
  Rank(tx, 1, "PREPARE");
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}),
            "-CKPTINCOMPLETE 'tied' not covered by what is prepared");
}

TEST_F(CkptTest, BoolAndFiniteAreGuarded) {
  const std::string tx = Begin(1);
  Rank(tx, 0, "DECLARE",
       {"2", "m", "weights", "BOOL", "SHAPE", "1", "3", "w", "weights", "F32", "SHAPE", "1", "3"});
  EXPECT_EQ(Put(tx, "m", 0, std::string("\0\1\2", 3)),
            "-ERR a byte of a BOOL tensor is neither 0 nor 1");
  EXPECT_EQ(Put(tx, "m", 0, std::string("\0\1\1", 3)), ":3");
  const uint32_t bits[] = {0x80000000u, 0x7f800001u, 0x3f800000u};
  const std::string raw(reinterpret_cast<const char*>(bits), sizeof bits);
  Put(tx, "w", 0, raw);
  EXPECT_EQ(Rank(tx, 0, "PREPARE", {"GUARD", "FINITE"}),
            "-CKPTNOTFINITE element 1 of shard 0 of 'w' is NaN or infinite");
  EXPECT_EQ(Rank(tx, 0, "PREPARE")[0], '[');
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Bytes("1", "w"), raw) << "-0.0 and NaN payloads stay";
}

TEST_F(CkptTest, TheQuotaIsClearAtDeclare) {
  harness_.SetSetting("tensor-memory-limit", "600000");
  const std::string tx = Begin(1);
  EXPECT_EQ(Word(DeclareU8(tx, "w", 700000)), "-CKPTQUOTA");
  EXPECT_EQ(DeclareU8(tx, "w", 500000), ":1");
  EXPECT_EQ(Put(tx, "w", 0, Fill(500000, 1)), ":500000");
  EXPECT_EQ(Word(DeclareU8(tx, "v", 500000)), "-CKPTQUOTA");
  Rank(tx, 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", tx});
  const std::string next = Begin(2);
  EXPECT_EQ(DeclareU8(next, "w", 500000), ":1") << "may be shared with the latest version";
  EXPECT_EQ(Word(Save(3, Fill(500000, 2))), "-CKPTQUOTA");
}

TEST_F(CkptTest, BulkDataInsideMultiIsRefused) {
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 1);
  Run({"MULTI"});
  EXPECT_EQ(Put(tx, "w", 0, "x"), "-ERR Command not allowed inside a transaction");
  EXPECT_EQ(Run({"EXEC"}).substr(0, 10), "-EXECABORT");
  Run({"MULTI"});
  Rank(tx, 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", tx, "WAIT", "1000"});
  EXPECT_EQ(Call({"EXEC"}).elements.size(), 2u) << "nobody waits inside EXEC";
}

// --- sharding ---

TEST_F(CkptTest, AnyBoxOfAnySharding) {
  // [6, 4] of U16, saved by columns from two ranks and read whole, by rows, and with steps.
  std::string whole(48, '\0');
  for (size_t i = 0; i < 24; ++i) {
    const auto value = static_cast<uint16_t>(i);
    std::memcpy(whole.data() + 2 * i, &value, 2);
  }
  const std::string tx = Begin(1, {"RANK", "0", "WORLD", "2"});
  for (int rank : {0, 1}) {
    const std::string off = rank == 0 ? "0" : "3", len = rank == 0 ? "3" : "1";
    Rank(tx, rank, "DECLARE",
         {"1", "w", "weights", "U16", "SHAPE", "2", "6", "4", "SHARD", "OFF", "2", "0", off, "LEN",
          "2", "6", len});
    std::string part;
    for (size_t row = 0; row < 6; ++row) {
      part += whole.substr(row * 8 + (rank == 0 ? 0 : 6), rank == 0 ? 6 : 2);
    }
    Put(tx, "w", 0, part, rank);
    Rank(tx, rank, "PREPARE");
  }
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Bytes("1", "w"), whole);
  EXPECT_EQ(Call({"CKPT.LOAD", "run", "1", "w", "SLICE", "2", "1", "6", "2", "2", "4", "1"})
                .elements.at(5)
                .text,
            whole.substr(12, 4) + whole.substr(28, 4) + whole.substr(44, 4));
  EXPECT_EQ(Call({"CKPT.LOAD", "run", "1", "w", "RANGE", "7", "9"}).text, whole.substr(7, 9));
  EXPECT_EQ(Call({"CKPT.LOAD", "run", "1", "w", "RANGE", "48", "9"}).text, "");
  EXPECT_TRUE(Call({"CKPT.LOAD", "run", "1", "w", "RANGE", "49", "1"}).IsError());
  const RespValue cast =
      Call({"CKPT.LOAD", "run", "1", "w", "AS", "F32", "SLICE", "1", "0", "1", "1"});
  float row[4];
  std::memcpy(row, cast.elements.at(5).text.data(), sizeof row);
  EXPECT_EQ(row[3], 3.0f);
  EXPECT_EQ(Run({"CKPT.MLOAD", "run", "1", "2", "none", "w"}).substr(0, 8), "[nil, [\"");
  // Three ranks read what two have written.
  std::string read;
  for (int rank = 0; rank < 3; ++rank) {
    const RespValue plan =
        Call({"CKPT.PLAN", "run", "1", "WORLD", "3", "RANK", std::to_string(rank)});
    const RespValue& box = plan.elements.at(0);
    const auto off = box.elements.at(7).elements.at(0).integer;
    const auto len = box.elements.at(9).elements.at(0).integer;
    read += Call({"CKPT.LOAD", "run", "1", "w", "SLICE", "1", std::to_string(off),
                  std::to_string(off + len), "1"})
                .elements.at(5)
                .text;
  }
  EXPECT_EQ(read, whole);
}

TEST_F(CkptTest, OtherShardingsShareTheirChunks) {
  const size_t size = 8 * kChunk;
  const std::string whole = Fill(size, 9);
  Save(1, whole);
  const int64_t before = Call({"MEMORY", "USAGE", "run"}).integer;
  const std::string tx = Begin(2, {"RANK", "0", "WORLD", "2"});
  const size_t cut = 3 * kChunk + 1000;
  for (int rank : {0, 1}) {
    const size_t off = rank == 0 ? 0 : cut, len = rank == 0 ? cut : size - cut;
    Rank(tx, rank, "DECLARE",
         {"1", "w", "weights", "U8", "SHAPE", "1", std::to_string(size), "SHARD", "OFF", "1",
          std::to_string(off), "LEN", "1", std::to_string(len)});
    EXPECT_EQ(Put(tx, "w", 0, whole.substr(off, len), rank), ":" + std::to_string(len));
    Rank(tx, rank, "PREPARE");
  }
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Bytes("2", "w"), whole);
  // Only the chunk that the cut goes through is there again, in two parts.
  EXPECT_LT(Call({"MEMORY", "USAGE", "run"}).integer - before,
            static_cast<int64_t>(kChunk + 20000));
}

// Chunks are shared, tensors with their names and shapes are not.
TEST_F(CkptTest, EachVersionCountsItsTensors) {
  constexpr int kTensors = 200;
  std::vector<std::string> save = {"CKPT.SAVE", "run", "1", std::to_string(kTensors)};
  for (int i = 0; i < kTensors; ++i) {
    for (const std::string& word :
         {"model.layers.weight." + std::to_string(i), std::string("U8"), std::string("SHAPE"),
          std::string("1"), std::string("3"), std::string("BLOB"), std::string("abc")}) {
      save.push_back(word);
    }
  }
  Run(save);
  const int64_t before = Call({"MEMORY", "USAGE", "run"}).integer;
  save[2] = "2";
  Run(save);
  const int64_t more = Call({"MEMORY", "USAGE", "run"}).integer - before;
  EXPECT_GT(more, kTensors * 300);
  EXPECT_LT(more, kTensors * 500);
}

// --- versions ---

TEST_F(CkptTest, TagsPinsRollbackAndRetention) {
  for (uint64_t step : {1, 2, 3, 4, 5}) Save(step, "v" + std::to_string(step));
  EXPECT_EQ(Run({"CKPT.TAG", "run", "best", "2", "PIN"}), ":1");
  EXPECT_EQ(Run({"CKPT.TAG", "run", "best", "3", "PIN", "IF", "4"}), ":0");
  EXPECT_EQ(Run({"CKPT.TAG", "run", "old", "1"}), ":1");
  EXPECT_EQ(Run({"CKPT.DEL", "run", "@best"}), "-ERR this version is pinned by a tag");
  EXPECT_EQ(Run({"CKPT.ROLLBACK", "run", "4"}), ":4");
  EXPECT_EQ(Bytes("LATEST", "w"), "v4");
  EXPECT_EQ(Bytes("5", "w"), "v5") << "still there, but passed over";
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "KEEP", "1", "DRYRUN"}), "[:1, :3, :5]");
  harness_.TakePropagated();
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "KEEP", "1", "EVERY", "3"}), "[:1, :5]");
  EXPECT_EQ(harness_.TakePropagated(),
            (Lines{"MULTI", "CKPT.DEL run 1" + AtNow(), "CKPT.DEL run 5" + AtNow(), "EXEC"}));
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "KEEP", "0"}), "[:3]");
  EXPECT_EQ(Bytes("@old", "w"), "-ERR no such tag") << "it went with its version";
  EXPECT_EQ(Bytes("@best", "w"), "v2");
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "2", "ATTEMPT", "1"}).size(), 18u);
  EXPECT_EQ(Run({"CKPT.UNTAG", "run", "best"}), ":1");
  EXPECT_EQ(Run({"CKPT.UNTAG", "run", "best"}), ":0");
  EXPECT_EQ(Run({"CKPT.DEL", "run", "2"}), ":1");
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "DRYRUN"}), "-ERR RETAIN needs KEEP, EVERY or WITHIN");
}

TEST_F(CkptTest, TheParentOfAnOpenTransactionStays) {  // C8
  for (uint64_t step : {1, 2, 3}) Save(step, "v");
  const std::string tx = Begin(7, {"PARENT", "1", "TIMEOUT", "1000"});
  const std::string other = Begin(8, {"PARENT", "2", "TIMEOUT", "3000"});
  EXPECT_EQ(Run({"CKPT.DEL", "run", "1"}),
            "-ERR this version is the parent of transaction " + tx + ", which is open");
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "KEEP", "1"}), "[]");
  EXPECT_EQ(Run({"CKPT.CREATE", "run", "KEEP", "1"}), "+OK");
  EXPECT_EQ(Save(4, "v")[0], '"') << "takes 3 away";
  EXPECT_EQ(Bytes("1", "w"), "v");
  EXPECT_EQ(Bytes("2", "w"), "v");
  EXPECT_EQ(Word(Bytes("3", "w")), "-ERR");
  EXPECT_EQ(Run({"CKPT.ABORT", "run", other}), "+OK");
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "KEEP", "1"}), "[:2]");
  harness_.AdvanceMs(1001);
  EXPECT_EQ(Run({"CKPT.DEL", "run", "1"}), ":1") << "expired: nobody's parent any more";
  // What it was made from goes when it is committed itself.
  const std::string last = Begin(9);
  DeclareU8(last, "w", 1);
  Put(last, "w", 0, "x");
  Rank(last, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", last}), "parent"), ":4");
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 1u);
}

TEST_F(CkptTest, AStepBelowWhatIsKeptIsCommittedAndGoesWithTheNext) {
  Run({"CKPT.CREATE", "run", "KEEP", "1"});
  Save(10, "a");
  const std::string tx = Begin(5);
  DeclareU8(tx, "w", 1);
  Put(tx, "w", 0, "b");
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "step"), ":5");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "step"), ":5") << "again";
  EXPECT_EQ(Bytes("5", "w"), "b");
  EXPECT_EQ(Bytes("LATEST", "w"), "a");
  Save(11, "c");
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 1u);
}

TEST_F(CkptTest, KeepPrunesAtCommitAndThePinnedStay) {
  Run({"CKPT.CREATE", "run", "KEEP", "2"});
  Save(1, "a");
  Run({"CKPT.TAG", "run", "first", "1", "PIN"});
  EXPECT_EQ(Word(Save(1, "other")), "-CKPTBUSY") << "a pinned version is not replaced";
  for (uint64_t step : {2, 3, 4}) Save(step, "b");
  const RespValue list = Call({"CKPT.LIST", "run"});
  ASSERT_EQ(list.elements.size(), 3u);
  EXPECT_EQ(Field(list.elements[0], "step"), ":4");
  EXPECT_EQ(Field(list.elements[1], "step"), ":3");
  EXPECT_EQ(Field(list.elements[2], "tags"), "[\"first\"]");
  EXPECT_EQ(Call({"CKPT.LIST", "run", "LIMIT", "1"}).elements.size(), 1u);
}

TEST_F(CkptTest, AStepSavedAgainIsReplacedAsAWhole) {
  Save(1, "old");
  Save(1, "new!");
  EXPECT_EQ(Bytes("1", "w"), "new!");
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 1u);
}

TEST_F(CkptTest, DiffDeltaAndVerify) {
  const std::string a = Fill(3 * kChunk, 1);
  std::string b = a;
  b[kChunk + 5] = static_cast<char>(b[kChunk + 5] + 1);
  Save(1, a);
  Save(2, b);
  Save(3, b);
  const RespValue diff = Call({"CKPT.DIFF", "run", "1", "2"});
  EXPECT_EQ(Field(diff, "same"), ":0");
  const RespValue& row = diff.elements.at(3).elements.at(0);
  EXPECT_EQ(Field(row, "name"), "\"w\"");
  EXPECT_NEAR(std::stod(row.elements.at(3).text), 100.0 / (3.0 * kChunk), 1e-9);
  EXPECT_EQ(Field(Call({"CKPT.DIFF", "run", "2", "3"}), "same"), ":1");
  const RespValue delta = Call({"CKPT.FETCHDELTA", "run", "1", "2"});
  ASSERT_EQ(delta.elements.size(), 1u);
  const RespValue& pieces = delta.elements[0].elements.at(7);
  ASSERT_EQ(pieces.elements.size(), 1u);
  EXPECT_EQ(pieces.elements[0].elements.at(0).integer, static_cast<int64_t>(kChunk));
  EXPECT_EQ(pieces.elements[0].elements.at(1).text, b.substr(kChunk, kChunk));
  EXPECT_EQ(Run({"CKPT.FETCHDELTA", "run", "2", "3", "w"}), "[]");
  EXPECT_TRUE(Call({"CKPT.FETCHDELTA", "run", "2", "3", "none"}).IsError());
  const RespValue verdict = Call({"CKPT.VERIFY", "run", "LATEST", "DEEP"});
  EXPECT_EQ(Field(verdict, "ok"), ":1");
  EXPECT_EQ(Field(verdict, "chunks"), ":3");
  EXPECT_EQ(Field(Call({"CKPT.MANIFEST", "run", "1", "MATCH", "x*"}), "tensors"), "[]");
  EXPECT_EQ(Field(Call({"CKPT.MANIFEST", "run", "1"}).elements.at(13).elements.at(0), "chunks"),
            ":3");
}

/// A version of a U8 tensor "w" of shape [rows, columns], by `world` ranks with equal shares of
/// dimension `dim`; reversed: rank 0 has the last share.
class DeltaTest : public CkptTest {
 protected:
  void SaveShared(uint64_t step, const std::string& bytes, size_t rows, size_t columns, int world,
                  size_t dim, bool reversed = false) {
    const auto ranks = static_cast<size_t>(world);
    std::string tx;
    for (int rank = 0; rank < world; ++rank) {
      tx = Begin(step, {"RANK", std::to_string(rank), "WORLD", std::to_string(world)});
      const auto share = static_cast<size_t>(reversed ? world - 1 - rank : rank);
      const size_t height = dim == 0 ? rows / ranks : rows;
      const size_t width = dim == 1 ? columns / ranks : columns;
      const size_t top = dim == 0 ? share * height : 0, left = dim == 1 ? share * width : 0;
      std::string part;
      for (size_t row = top; row < top + height; ++row) {
        part += bytes.substr(row * columns + left, width);
      }
      Rank(tx, rank, "DECLARE",
           {"1", "w", "weights", "U8", "SHAPE", "2", std::to_string(rows), std::to_string(columns),
            "SHARD", "OFF", "2", std::to_string(top), std::to_string(left), "LEN", "2",
            std::to_string(height), std::to_string(width)});
      Put(tx, "w", 0, part, rank);
      Rank(tx, rank, "PREPARE");
    }
    ASSERT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "step"), ":" + std::to_string(step));
  }
  /// What travels for "w", and `old` with it written over.
  size_t Fetch(uint64_t from, uint64_t to, std::string* old) {
    const RespValue delta =
        Call({"CKPT.FETCHDELTA", "run", std::to_string(from), std::to_string(to)});
    size_t sent = 0;
    for (const RespValue& row : delta.elements) {
      for (const RespValue& piece : row.elements.at(7).elements) {
        const std::string& bytes = piece.elements.at(1).text;
        old->replace(static_cast<size_t>(piece.elements.at(0).integer), bytes.size(), bytes);
        sent += bytes.size();
      }
    }
    return sent;
  }
};

TEST_F(DeltaTest, OfFourRanksOnlyTheOneThatChangedIsSent) {
  // A share is a chunk and a half: neither end of it lies on the grid everywhere.
  constexpr size_t kRows = 12, kColumns = kChunk / 2, kShare = kRows / 4 * kColumns;
  const std::string a = Fill(kRows * kColumns, 1);
  std::string b = a;
  for (size_t i = kShare; i < 2 * kShare; ++i) b[i] = static_cast<char>(b[i] + 1);
  SaveShared(1, a, kRows, kColumns, 4, 0);
  SaveShared(2, b, kRows, kColumns, 4, 0);
  SaveShared(3, b, kRows, kColumns, 4, 0);
  std::string got = a;
  EXPECT_EQ(Fetch(1, 2, &got), kShare);
  EXPECT_EQ(got, b);
  EXPECT_EQ(Run({"CKPT.FETCHDELTA", "run", "2", "3"}), "[]");
  b[3 * kShare + 7] ^= 1;
  SaveShared(4, b, kRows, kColumns, 4, 0);
  EXPECT_LE(Fetch(3, 4, &got), kChunk) << "a chunk of one rank's";
  EXPECT_EQ(got, b);
}

TEST_F(DeltaTest, OtherBoxesGoWhole) {
  const std::string a = Fill(12 * kChunk, 2);
  SaveShared(1, a, 12, kChunk, 4, 0);
  SaveShared(2, a, 12, kChunk, 3, 0);
  SaveShared(3, a, 12, kChunk, 3, 0, true);
  std::string got(a.size(), '\0');
  EXPECT_EQ(Fetch(1, 2, &got), a.size());
  EXPECT_EQ(got, a);
  EXPECT_EQ(Fetch(2, 3, &got), a.size()) << "the same boxes in another order";
}

TEST_F(DeltaTest, AShareOfColumnsThatChangedGivesTheRowsOfItsChunks) {
  constexpr size_t kRows = 64, kColumns = kChunk / 4, kWidth = kColumns / 4;  // 16 rows a chunk
  const std::string a = Fill(kRows * kColumns, 3);
  std::string b = a;
  b[20 * kColumns + kWidth + 5] ^= 1;      // of rank 1, in its second chunk
  b[60 * kColumns + 3 * kWidth + 9] ^= 1;  // of rank 3, in its last
  SaveShared(1, a, kRows, kColumns, 4, 1);
  SaveShared(2, b, kRows, kColumns, 4, 1);
  SaveShared(3, b, kRows, kColumns, 4, 1);
  std::string got = a;
  EXPECT_LE(Fetch(1, 2, &got), 2 * 16 * kColumns);
  EXPECT_EQ(got, b);
  EXPECT_EQ(Run({"CKPT.FETCHDELTA", "run", "2", "3"}), "[]");
}

TEST_F(CkptTest, WhereBoxesOverlapTheHighestRankCountsAndOfItsOwnTheHighestShard) {
  // A is [0, 4) of 6 elements, all 1; B is [2, 6), all 2.
  const auto upload = [&](const std::string& tx, int rank, const std::string& boxes) {
    Lines declare = {std::to_string(boxes.size())};
    for (char box : boxes) {
      for (const char* word : {"w", "weights", "F32", "SHAPE", "1", "6", "SHARD", "OFF", "1"}) {
        declare.emplace_back(word);
      }
      declare.insert(declare.end(), {box == 'A' ? "0" : "2", "LEN", "1", "4"});
    }
    EXPECT_EQ(Rank(tx, rank, "DECLARE", declare), ":" + std::to_string(boxes.size()));
    for (size_t i = 0; i < boxes.size(); ++i) {
      const float value = boxes[i] == 'A' ? 1 : 2;
      EXPECT_EQ(Rank(tx, rank, "PUT",
                     {"w", "SHARD", std::to_string(i), "AT", "0", "BLOB",
                      Raw({value, value, value, value})}),
                ":16");
    }
    Rank(tx, rank, "PREPARE");
  };
  const std::string a = Raw({1.f, 1.f, 1.f, 1.f, 2.f, 2.f}),
                    b = Raw({1.f, 1.f, 2.f, 2.f, 2.f, 2.f});
  const struct {
    std::vector<std::string> ranks;
    std::string whole;
  } kVersions[] = {{{"A", "B"}, b}, {{"A", "B", "A"}, a}, {{"B", "A", "B"}, b},
                   {{"BA"}, a},     {{"AB"}, b},          {{"AB", "A"}, a}};
  uint64_t step = 0;
  const auto check = [&](const std::string& version, const std::string& whole) {
    EXPECT_EQ(Bytes(version, "w"), whole);
    for (size_t begin = 0; begin < 24; ++begin) {
      const std::string range = Call({"CKPT.LOAD", "run", version, "w", "RANGE",
                                      std::to_string(begin), std::to_string(24 - begin)})
                                    .text;
      EXPECT_EQ(range, whole.substr(begin)) << begin;
    }
    EXPECT_EQ(
        Call({"CKPT.LOAD", "run", version, "w", "SLICE", "1", "3", "5", "1"}).elements[5].text,
        whole.substr(12, 8));
    EXPECT_EQ(
        Call({"CKPT.LOAD", "run", version, "w", "SLICE", "1", "1", "6", "2"}).elements[5].text,
        whole.substr(4, 4) + whole.substr(12, 4) + whole.substr(20, 4));
  };
  for (const auto& [ranks, whole] : kVersions) {
    SCOPED_TRACE(step);
    const std::string tx = Begin(++step, {"RANK", "0", "WORLD", std::to_string(ranks.size())});
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      upload(tx, static_cast<int>(rank), ranks[rank]);
    }
    Run({"CKPT.COMMIT", "run", tx});
    check(std::to_string(step), whole);
  }
  EXPECT_EQ(Call({"CKPT.DIFF", "run", "1", "5"}).elements[1].ToString(), ":1") << "the same";
  EXPECT_NE(Call({"CKPT.DIFF", "run", "1", "2"}).elements[1].ToString(), ":1");
  // By other boxes than the newest has, and by the same.
  Run({"CKPT.MERGE", "run", "8", "2", "1", "1", "2", "1"});
  check("8", Raw({1.f, 1.f, 1.5f, 1.5f, 2.f, 2.f}));
  Run({"CKPT.MERGE", "run", "9", "2", "2", "1", "6", "1"});
  check("9", a);
  const std::string dump = Call({"DUMP", "run"}).text;
  Run({"DEL", "run"});
  EXPECT_EQ(Run({"RESTORE", "run", "0", dump}), "+OK");
  for (size_t i = 0; i < std::size(kVersions); ++i)
    check(std::to_string(i + 1), kVersions[i].whole);
}

}  // namespace
}  // namespace cairn
