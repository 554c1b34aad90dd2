// CKPT.MERGE in process: what it makes of whole versions in any layout, what it refuses, what a
// replay makes of it, and versions that change while they are merged.

#include <gtest/gtest.h>

#include <cstring>

#include "server/engine/loader.h"
#include "tests/support/ckpt_fixture.h"
#include "tests/support/fake_client.h"

namespace cairn {
namespace {

std::string Floats(size_t count, float value) {
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return out;
}

class CkptMergeTest : public CkptTest {
 protected:
  /// A version of one F32 tensor "w" and one I64 tensor "n".
  std::string SaveTwo(uint64_t step, const std::string& floats, char count = 1) {
    return Run({"CKPT.SAVE", "run", std::to_string(step), "2", "w", "F32", "SHAPE", "1",
                std::to_string(floats.size() / 4), "BLOB", floats, "n", "I64", "SHAPE", "1", "1",
                "BLOB", std::string(8, count)});
  }
  std::string Merge(const Lines& more) {
    Lines args = {"CKPT.MERGE", "run"};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  }
};

TEST_F(CkptMergeTest, MakesAWholeVersionByEachMethod) {
  SaveTwo(1, Floats(2, 1), 1);
  SaveTwo(2, Floats(2, 5), 9);
  SaveTwo(3, Floats(2, 9), 4);
  EXPECT_EQ(Merge({"10", "2", "1", "1", "2", "3"}).size(), 18u) << "the transaction's name";
  EXPECT_EQ(Bytes("10", "w"), Floats(2, 4));
  EXPECT_EQ(Bytes("10", "n"), std::string(8, 9)) << "counts are the newest's";
  Merge({"11", "2", "2", "0.75", "1", "0.25", "METHOD", "lerp"});
  EXPECT_EQ(Bytes("11", "w"), Floats(2, 4));
  EXPECT_EQ(Bytes("11", "n"), std::string(8, 9)) << "newest by step, wherever it is named";
  Merge({"12", "3", "1", "1", "2", "0.5", "3", "0.5", "METHOD", "EMA"});
  EXPECT_EQ(Bytes("12", "w"), Floats(2, 6));
  Run({"CKPT.TAG", "run", "t", "1"});
  Merge({"13", "2", "@t", "1", "LATEST", "1", "METHOD", "avg"});
  EXPECT_EQ(Bytes("13", "w"), Floats(2, 3.5)) << "of 1 and 12";
  const RespValue latest = Call({"CKPT.LIST", "run", "LIMIT", "1"}).elements[0];
  EXPECT_EQ(Field(latest, "step"), ":13");
  EXPECT_EQ(Field(latest, "parent"), ":12");
  EXPECT_EQ(Field(latest, "state"), "\"latest\"");
  EXPECT_EQ(Field(Call({"CKPT.VERIFY", "run", "13", "DEEP"}), "ok"), ":1");
}

TEST_F(CkptMergeTest, IsAnEventLikeACommit) {
  SaveTwo(1, Floats(2, 1));
  Session& listener = harness_.AddSession();
  harness_.Send(listener, {"SUBSCRIBE", "__ckpt__:run"});
  harness_.TakeReplies(listener);
  harness_.TakeEvents();
  FakeClient waiting(harness_);
  waiting.Send({{"CKPT.WAITFOR", "run", "AFTER", "1"}});
  const std::string tx = Call({"CKPT.MERGE", "run", "2", "1", "1", "1"}).text;
  EXPECT_EQ(harness_.TakeEvents(), (Lines{"0 ckpt.commit run"}));
  EXPECT_EQ(harness_.Received(listener),
            "[\"message\", \"__ckpt__:run\", \"committed 2 " + tx + "\"]");
  EXPECT_NE(Wait(waiting).find(tx), std::string::npos);
  EXPECT_NE(Run({"CKPT.LOG", "run"}).find("\"committed\", :2, \"" + tx + "\""), std::string::npos);
}

TEST_F(CkptMergeTest, StatesGroupsAndAliasesComeAlong) {
  for (const std::string step : {"1", "2"}) {
    const std::string tx = Begin(std::stoull(step), {"RANK", "0", "WORLD", "2"});
    Rank(tx, 0, "DECLARE",
         {"3",     "w", "weights", "F32",     "SHAPE", "1",     "1", "m", "optim", "F32",
          "SHAPE", "0", "tied",    "weights", "F32",   "SHAPE", "1", "1", "ALIAS", "w"});
    Put(tx, "w", 0, Floats(1, std::stof(step)));
    Put(tx, "m", 0, Floats(1, std::stof(step) * 10));
    Rank(tx, 1, "STATE", {"s", "KIND", "rng", "BLOB", "seed" + step});
    Rank(tx, 0, "PREPARE");
    Rank(tx, 1, "PREPARE");
    Run({"CKPT.COMMIT", "run", tx});
  }
  Run({"CKPT.CREATE", "run", "REQUIRE", "2", "optim", "rng"});
  Merge({"3", "2", "1", "1", "2", "1"});
  EXPECT_EQ(Bytes("3", "w"), Floats(1, 1.5));
  EXPECT_EQ(Bytes("3", "tied"), Floats(1, 1.5));
  EXPECT_EQ(Bytes("3", "m"), Floats(1, 15));
  EXPECT_EQ(Run({"CKPT.STATEGET", "run", "3", "RANK", "1"}),
            "[[\"kind\", \"rng\", \"name\", \"s\", \"blob\", \"seed2\"]]");
  const RespValue manifest = Call({"CKPT.MANIFEST", "run", "3"});
  EXPECT_EQ(Field(manifest, "world"), ":2");
  EXPECT_EQ(Field(manifest, "ranks"), Field(Call({"CKPT.MANIFEST", "run", "2"}), "ranks"));
  Run({"CKPT.CREATE", "run", "REQUIRE", "1", "loader"});
  EXPECT_EQ(Merge({"4", "2", "1", "1", "2", "1"}), "-CKPTINCOMPLETE group loader missing");
}

/// The rows of a matrix by two ranks, its columns by three: merged cells straddle the pieces.
TEST_F(CkptMergeTest, LayoutsMayDiffer) {
  constexpr size_t kRows = 300, kColumns = 600;
  std::string a(kRows * kColumns * 4, '\0'), b = a, middle = a;
  for (size_t i = 0; i < kRows * kColumns; ++i) {
    const float x = static_cast<float>(i % 1000), y = static_cast<float>(i % 77),
                mean = (x + y) / 2;
    std::memcpy(a.data() + i * 4, &x, 4);
    std::memcpy(b.data() + i * 4, &y, 4);
    std::memcpy(middle.data() + i * 4, &mean, 4);
  }
  const std::string rows = std::to_string(kRows), columns = std::to_string(kColumns);
  const auto save = [&](uint64_t step, const std::string& bytes, size_t dim, size_t world) {
    const std::string tx = Begin(step, {"RANK", "0", "WORLD", std::to_string(world)});
    const size_t side = dim == 0 ? kRows : kColumns;
    for (size_t rank = 0; rank < world; ++rank) {
      const size_t from = side * rank / world, to = side * (rank + 1) / world;
      Lines off = {"0", "0"}, len = {rows, columns};
      off[dim] = std::to_string(from);
      len[dim] = std::to_string(to - from);
      Rank(tx, static_cast<int>(rank), "DECLARE",
           {"1", "w", "weights", "F32", "SHAPE", "2", rows, columns, "SHARD", "OFF", "2", off[0],
            off[1], "LEN", "2", len[0], len[1]});
      std::string part;
      for (size_t row = dim == 0 ? from : 0; row < (dim == 0 ? to : kRows); ++row) {
        const size_t first = dim == 0 ? 0 : from, last = dim == 0 ? kColumns : to;
        part += bytes.substr((row * kColumns + first) * 4, (last - first) * 4);
      }
      Put(tx, "w", 0, part, static_cast<int>(rank));
      Rank(tx, static_cast<int>(rank), "PREPARE");
    }
    Run({"CKPT.COMMIT", "run", tx});
    ASSERT_EQ(Bytes(std::to_string(step), "w"), bytes);
  };
  save(1, a, 0, 2);
  save(2, b, 1, 3);
  save(3, a, 0, 1);
  Merge({"10", "2", "1", "1", "2", "1"});
  EXPECT_TRUE(Bytes("10", "w") == middle);
  Merge({"11", "2", "2", "1", "3", "1"});
  EXPECT_TRUE(Bytes("11", "w") == middle);
  Merge({"12", "2", "1", "2", "3", "5"});
  EXPECT_TRUE(Bytes("12", "w") == a);
  EXPECT_EQ(Field(Call({"CKPT.DIFF", "run", "10", "11"}), "same"), ":1");
}

TEST_F(CkptMergeTest, WhatIsTheSameIsShared) {
  std::string a = Floats(4 * kChunk / 4, 1), b = a;
  b.replace(kChunk, 4, Floats(1, 3));
  Run({"CKPT.SAVE", "run", "1", "1", "w", "F32", "SHAPE", "1", std::to_string(kChunk), "BLOB", a});
  Run({"CKPT.SAVE", "run", "2", "1", "w", "F32", "SHAPE", "1", std::to_string(kChunk), "BLOB", b});
  const int64_t before = Call({"MEMORY", "USAGE", "run"}).integer;
  Merge({"3", "2", "1", "1", "2", "1"});
  const int64_t more = Call({"MEMORY", "USAGE", "run"}).integer - before;
  EXPECT_LT(more, static_cast<int64_t>(kChunk + 10000));
  b.replace(kChunk, 4, Floats(1, 2));
  EXPECT_TRUE(Bytes("3", "w") == b);
}

TEST_F(CkptMergeTest, WhatDoesNotFitIsNamedAndChangesNothing) {
  SaveTwo(1, Floats(2, 1));
  SaveTwo(2, Floats(3, 1));
  EXPECT_EQ(Merge({"9", "2", "1", "1", "2", "1"}),
            "-ERR tensor 'w' is F32 [3] in step 2, but F32 [2] in step 1");
  Run({"CKPT.SAVE", "run", "3", "1", "w", "F32", "SHAPE", "1", "2", "BLOB", Floats(2, 1)});
  EXPECT_EQ(Merge({"9", "2", "1", "1", "3", "1"}), "-ERR tensor 'n' is not in step 3");
  SaveTwo(4, Floats(2, 1));
  EXPECT_EQ(Merge({"9", "2", "3", "1", "4", "1"}), "-ERR tensor 'n' is not in step 3");
  Run({"CKPT.SAVE", "run", "5", "1", "w", "F8_E4M3", "SHAPE", "1", "1", "BLOB", "a"});
  EXPECT_EQ(Merge({"9", "1", "5", "1"}),
            "-ERR there is no arithmetic of F8_E4M3, which tensor 'w' is");
  EXPECT_EQ(Merge({"9", "1", "7", "1"}), "-ERR no version of step 7");
  EXPECT_EQ(Merge({"9", "1", "@none", "1"}), "-ERR no such tag");
  EXPECT_EQ(Merge({"9", "2", "1", "1", "4"}), "-ERR syntax error");
  EXPECT_EQ(Merge({"9", "0", "1", "1"}), "-ERR value is out of range, must be 1 to 256");
  EXPECT_EQ(Merge({"x", "1", "1", "1"}), "-ERR value is not an integer or out of range");
  EXPECT_EQ(Merge({"9", "1", "1", "x"}), "-ERR value is not a valid float");
  EXPECT_EQ(Merge({"9", "2", "1", "1", "4", "-1"}),
            "-ERR the weights of an average add up to nothing");
  EXPECT_EQ(Merge({"9", "1", "1", "1", "METHOD", "lerp"}), "-ERR METHOD lerp takes two versions");
  EXPECT_EQ(Merge({"9", "2", "1", "0.5", "4", "0.5", "METHOD", "ema"}),
            "-ERR METHOD ema begins with its first version whole: its weight is 1");
  EXPECT_EQ(Merge({"9", "1", "1", "1", "METHOD", "mean"}), "-ERR syntax error");
  EXPECT_EQ(Run({"CKPT.MERGE", "none", "9", "1", "1", "1"}), "-ERR no such run");
  Run({"SET", "s", "x"});
  EXPECT_EQ(Word(Run({"CKPT.MERGE", "s", "9", "1", "1", "1"})), "-WRONGTYPE");
  Run({"CKPT.TAG", "run", "keep", "1", "PIN"});
  EXPECT_EQ(Merge({"1", "1", "4", "1"}), "-CKPTBUSY the version of step 1 is pinned by a tag");
  harness_.SetSetting("tensor-memory-limit", "1");
  EXPECT_EQ(Word(Merge({"9", "1", "1", "1"})), "-CKPTQUOTA");
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 5u);
}

TEST_F(CkptMergeTest, TheLogNamesStepsAndMakesTheSame) {
  SaveTwo(1, Floats(100000, 0.1f));
  SaveTwo(2, Floats(100000, 0.7f));
  Run({"CKPT.TAG", "run", "t", "1"});
  harness_.engine().propagation.Take();
  const std::string before = Call({"DUMP", "run"}).text;
  const std::string tx = Call({"CKPT.MERGE", "run", "2", "2", "@t", "0.3", "LATEST", "0.6"}).text;
  const std::string after = Call({"DUMP", "run"}).text;
  const std::string log = harness_.engine().propagation.Take().log;
  EXPECT_LT(log.size(), 300u) << "no bytes";
  RespValue command;
  size_t consumed = 0;
  ASSERT_EQ(ParseReply(log, &consumed, &command), ReplyParse::kValue);
  ASSERT_EQ(command.elements.size(), 12u) << command.ToString();
  EXPECT_EQ(command.elements[4].text + command.elements[6].text, "12");
  EXPECT_EQ(command.elements[9].text, tx);

  harness_.AdvanceMs(5000);
  ASSERT_EQ(Run({"RESTORE", "run", "0", before, "REPLACE"}), "+OK");
  std::vector<std::string_view> words;
  for (const RespValue& word : command.elements) words.push_back(word.text);
  CommandLoader loader(harness_.engine());
  ASSERT_TRUE(loader.Command(words).ok());
  EXPECT_TRUE(Call({"DUMP", "run"}).text == after);
}

// --- long work ---

TEST_F(CkptMergeTest, OthersAreServedAndAChangedVersionIsMergedAsItIsNow) {
  SaveTwo(1, Floats(100000, 1));
  SaveTwo(2, Floats(100000, 2));
  FakeClient client(harness_);
  client.Send({{"CKPT.MERGE", "run", "3", "2", "1", "1", "2", "1"}});
  ASSERT_TRUE(client.session().suspended);
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 2u);
  SaveTwo(2, Floats(100000, 4));
  EXPECT_EQ(Wait(client).substr(0, 3), "$16");
  EXPECT_EQ(Bytes("3", "w"), Floats(100000, 2.5));
  client.Send({{"CKPT.MERGE", "run", "4", "2", "1", "1", "2", "1"}});
  Run({"CKPT.DEL", "run", "1"});
  EXPECT_EQ(Wait(client), "-ERR no version of step 1\r\n");
  client.Send({{"CKPT.MERGE", "run", "4", "2", "2", "1", "3", "1"}});
  Run({"DEL", "run"});
  EXPECT_EQ(Wait(client), "-ERR no such run\r\n");
  EXPECT_EQ(Run({"EXISTS", "run"}), ":0");
}

TEST_F(CkptMergeTest, VersionsThatNeverRestAreAnErrorNotAStall) {
  SaveTwo(1, Floats(100000, 1));
  FakeClient client(harness_);
  client.Send({{"CKPT.MERGE", "run", "2", "1", "1", "1"}});
  std::string replies;
  for (int round = 0; replies.empty(); ++round) {
    ASSERT_LT(round, 10);
    SaveTwo(1, Floats(100000, static_cast<float>(round)));
    ASSERT_TRUE(harness_.RunPosted());
    client.RunTurn();
    replies = client.TakeReplies();
  }
  EXPECT_EQ(replies,
            "-CKPTBUSY the versions or the run were replaced while they were merged, 3 times\r\n");
}

TEST_F(CkptMergeTest, RunsInPlaceInATransaction) {
  SaveTwo(1, Floats(100000, 1));
  SaveTwo(2, Floats(100000, 3));
  FakeClient client(harness_);
  client.Send({{"MULTI"}, {"CKPT.MERGE", "run", "3", "2", "1", "1", "2", "1"}, {"EXEC"}});
  EXPECT_EQ(client.TakeReplies().substr(0, 23), "+OK\r\n+QUEUED\r\n*1\r\n$16\r\n");
  EXPECT_EQ(Bytes("3", "w"), Floats(100000, 2));
}

}  // namespace
}  // namespace cairn
