// The replies of CKPT commands, entry by entry, in both protocols, and what two jobs that use one
// run's name are told.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/ckpt_fixture.h"

namespace cairn {
namespace {

class CkptReplyTest : public CkptTest {
 protected:
  static std::string Quoted(const std::string& text) { return "\"" + text + "\""; }
  /// In RESP3, and back to RESP2.
  RespValue CallInThree(const Lines& args) {
    harness_.Call({"HELLO", "3"});
    RespValue reply = Call(args);
    harness_.Call({"HELLO", "2"});
    return reply;
  }
  std::string SaveF32(uint64_t step, const Lines& names_and_values) {
    Lines args = {"CKPT.SAVE", "run", std::to_string(step),
                  std::to_string(names_and_values.size() / 2)};
    for (size_t i = 0; i < names_and_values.size(); i += 2) {
      const std::string& bytes = names_and_values[i + 1];
      args.insert(args.end(), {names_and_values[i], "F32", "SHAPE", "1",
                               std::to_string(bytes.size() / 4), "BLOB", bytes});
    }
    return Run(args);
  }
};

/// What RESP2 makes of a reply: maps are arrays of their keys and values, doubles bulk strings.
RespValue AsInTwo(RespValue value) {
  using Kind = RespValue::Kind;
  if (value.kind == Kind::kMap) value.kind = Kind::kArray;
  if (value.kind == Kind::kDouble) value.kind = Kind::kBulk;
  for (RespValue& element : value.elements) element = AsInTwo(std::move(element));
  return value;
}

bool HasMap(const RespValue& value) {
  if (value.kind == RespValue::Kind::kMap) return true;
  return std::any_of(value.elements.begin(), value.elements.end(), HasMap);
}

TEST_F(CkptReplyTest, SaveTakesNoNameThatIsTaken) {
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "1", "TX", "open"}), Quoted("open"));
  const auto save = [this](const std::string& step, const std::string& tx) {
    return Run(
        {"CKPT.SAVE", "run", step, "1", "w", "U8", "SHAPE", "1", "1", "BLOB", "v", "TX", tx});
  };
  EXPECT_EQ(save("2", "open"), "-CKPTBUSY a transaction 'open' is there, or was");
  EXPECT_EQ(save("2", "mine"), Quoted("mine"));
  // Of one that is over nothing is in its way, as in logs of before.
  EXPECT_EQ(save("3", "mine"), Quoted("mine"));
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 2u);
}

TEST_F(CkptReplyTest, MapsInThreeAreTheArraysOfTwo) {
  SaveF32(1, {"a", Raw<float>({1, 2}), "gone", Raw<float>({1})});
  SaveF32(2, {"a", Raw<float>({1, 3}), "new", Raw<float>({1})});
  const std::string tx = Begin(3);
  DeclareU8(tx, "w", 10);
  Put(tx, "w", 3, "abc");
  Rank(tx, 0, "STATE", {"s", "KIND", "rng", "BLOB", "seed"});
  const std::string other = Begin(4);
  DeclareU8(other, "w", 1);
  Put(other, "w", 0, "x");
  Rank(other, 0, "STATE", {"s", "KIND", "rng", "BLOB", "seed"});
  const Lines commands[] = {
      {"CKPT.OFFSET", "run", tx, "RANK", "0"},
      {"CKPT.OFFSET", "run", tx, "RANK", "0", "w"},
      {"CKPT.RESUME", "run", "RANK", "0"},
      {"CKPT.STATUS", "run"},
      {"CKPT.STATUS", "run", tx},
      {"CKPT.PREPARE", "run", other, "RANK", "0"},
      {"CKPT.COMMIT", "run", other},
      {"CKPT.STATUS", "run", other},
      {"CKPT.LIST", "run", "LIMIT", "2"},
      {"CKPT.MANIFEST", "run", "4"},
      {"CKPT.LOAD", "run", "1", "a"},
      {"CKPT.MLOAD", "run", "1", "2", "a", "none"},
      {"CKPT.STATEGET", "run", "4", "RANK", "0"},
      {"CKPT.PLAN", "run", "1", "WORLD", "2", "RANK", "0"},
      {"CKPT.WAITFOR", "run", "AFTER", "0"},
      {"CKPT.DIFF", "run", "1", "2"},
      {"CKPT.FETCHDELTA", "run", "1", "2"},
      {"CKPT.VERIFY", "run", "1", "DEEP"},
      {"CKPT.LOGS"},
      {"CKPT.CODECS"},
  };
  for (const Lines& command : commands) {
    const RespValue two = Call(command), three = CallInThree(command);
    SCOPED_TRACE(command[0]);
    EXPECT_FALSE(two.IsError()) << two.ToString();
    EXPECT_FALSE(HasMap(two));
    EXPECT_TRUE(HasMap(three)) << three.ToString();
    EXPECT_EQ(AsInTwo(three).ToString(), two.ToString());
  }
}

TEST_F(CkptReplyTest, Resume) {
  const std::string tx = Begin(7, {"RANK", "0", "WORLD", "2", "ATTEMPT", "3"});
  const std::string head =
      "[[\"tx\", " + Quoted(tx) + ", \"step\", :7, \"attempt\", :3, \"world\", :2, \"prepared\", ";
  DeclareU8(tx, "a", 10);
  DeclareU8(tx, "b", 4);
  Put(tx, "a", 0, "abc");
  Put(tx, "a", 6, "gh");
  Put(tx, "b", 0, "wxyz");
  const Lines resume = {"CKPT.RESUME", "run", "RANK", "0"};
  EXPECT_EQ(Run(resume), head +
                             ":0, \"shards\", [[\"name\", \"a\", \"shard\", :0, \"missing\", "
                             "[[:3, :3], [:8, :2]]]]]]");
  Put(tx, "a", 3, "def");
  Put(tx, "a", 8, "ij");
  EXPECT_EQ(Run(resume), head + ":0, \"shards\", []]]");
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Run(resume), head + ":1, \"shards\", []]]");
  EXPECT_EQ(Run({"CKPT.RESUME", "run", "RANK", "1", "ATTEMPT", "3"}),
            head + ":0, \"shards\", []]]");
  EXPECT_EQ(Run({"CKPT.RESUME", "run", "RANK", "2"}), "[]") << "of no world";
  EXPECT_EQ(Run({"CKPT.RESUME", "run", "RANK", "0", "ATTEMPT", "2"}),
            "-CKPTFENCED the run is at attempt 3");
  EXPECT_EQ(Run({"CKPT.RESUME", "none", "RANK", "0"}), "-ERR no such run");
  Rank(tx, 1, "PREPARE");
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Run(resume), "[]");
}

TEST_F(CkptReplyTest, TimesOfAReplayAreThoseOfTheFirstRun) {
  const std::string tx = Begin(7);
  harness_.AdvanceMs(300);
  harness_.TakePropagated();
  Rank(tx, 0, "PREPARE");
  const Lines logged = harness_.TakePropagated();
  const std::string at = std::to_string(harness_.now_ms());
  EXPECT_EQ(logged, (Lines{"CKPT.PREPARE run " + tx + " RANK 0 AT " + at}));
  harness_.AdvanceMs(10);
  Run({"CKPT.COMMIT", "run", tx});
  const std::string first = Run({"CKPT.LIST", "run"});
  const int64_t committed_ms = harness_.now_ms(), began_ms = committed_ms - 310;
  Run({"DEL", "run"});
  harness_.AdvanceMs(100000);  // a restart later
  Run({"CKPT.BEGIN", "run", "7", "TX", tx, "AT", std::to_string(began_ms)});
  Rank(tx, 0, "PREPARE", {"AT", at});
  Run({"CKPT.COMMIT", "run", tx, "AT", std::to_string(committed_ms)});
  EXPECT_EQ(Run({"CKPT.LIST", "run"}), first);
  EXPECT_NE(first.find("\"upload_ms\", :300, \"prepare_ms\", :0, \"commit_ms\", :10"),
            std::string::npos)
      << first;
}

TEST_F(CkptReplyTest, Status) {
  Run({"CKPT.CREATE", "run", "WORLD", "2", "KEEP", "5"});
  const std::string tx = Begin(7, {"ATTEMPT", "3", "TIMEOUT", "60000"});
  const auto expected = [&](const std::string& state, const std::string& received,
                            const std::string& ranks, const std::string& missing,
                            const std::string& times) {
    return "[\"tx\", " + Quoted(tx) +
           ", \"step\", :7, \"attempt\", :3, \"world\", :2, \"mode\", \"allranks\", \"state\", " +
           Quoted(state) + ", \"declared_bytes\", :10, \"received_bytes\", :" + received +
           ", \"ranks_missing\", " + ranks + ", \"missing\", " + Quoted(missing) + ", " + times +
           "]";
  };
  const auto status = [&] { return Run({"CKPT.STATUS", "run", tx}); };
  DeclareU8(tx, "w", 10);
  harness_.AdvanceMs(100);
  Put(tx, "w", 0, "abc");
  harness_.AdvanceMs(200);
  EXPECT_EQ(status(),
            expected("open", "3", "[:0, :1]", "ranks 0,1 not prepared",
                     "\"upload_ms\", :300, \"prepare_ms\", :0, \"expires_in_ms\", :59800"));
  Put(tx, "w", 3, "defghij");
  Rank(tx, 0, "PREPARE");
  harness_.AdvanceMs(30);
  const std::string preparing =
      expected("preparing", "10", "[:1]", "rank 1 not prepared",
               "\"upload_ms\", :300, \"prepare_ms\", :0, \"expires_in_ms\", :59970");
  EXPECT_EQ(status(), preparing);
  EXPECT_EQ(Run({"CKPT.STATUS", "run"}),
            "[\"versions\", :0, \"latest\", nil, \"attempt\", :3, \"world\", :2, \"keep\", :5, "
            "\"open\", [" +
                preparing + "]]");
  Rank(tx, 1, "PREPARE");
  EXPECT_EQ(status(),
            expected("preparing", "10", "[]", "",
                     "\"upload_ms\", :300, \"prepare_ms\", :30, \"expires_in_ms\", :60000"));
  harness_.AdvanceMs(4);
  const std::string committed = Run({"CKPT.COMMIT", "run", tx});
  EXPECT_TRUE(committed.ends_with("\"upload_ms\", :300, \"prepare_ms\", :30, \"commit_ms\", :4]"))
      << committed;
  EXPECT_EQ(status(), committed) << "then as LIST has it";
  harness_.AdvanceMs(1000);
  EXPECT_EQ(status(), committed) << "for good";
  EXPECT_EQ(Run({"CKPT.STATUS", "run"}),
            "[\"versions\", :1, \"latest\", :7, \"attempt\", :3, \"world\", :2, \"keep\", :5, "
            "\"open\", []]");
  EXPECT_EQ(Run({"CKPT.STATUS", "run", "none"}),
            "-CKPTNOTX this run has no transaction of that name");
  EXPECT_EQ(Run({"CKPT.STATUS", "run", tx, "more"}), "-ERR syntax error");
}

TEST_F(CkptReplyTest, RetainWithin) {
  for (uint64_t step : {1, 2, 3}) {
    Save(step, "v");
    harness_.AdvanceMs(5000);
  }
  harness_.TakePropagated();
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "10", "DRYRUN"}), "[:1]")
      << "of the second the time is over now, and not before";
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "9", "DRYRUN"}), "[:1, :2]");
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "0", "DRYRUN"}), "[:1, :2]") << "never LATEST";
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "9", "KEEP", "2", "DRYRUN"}), "[:1]")
      << "what one of the rules keeps";
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "9", "EVERY", "2", "DRYRUN"}), "[:1]");
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "15"}), "[]");
  EXPECT_EQ(harness_.TakePropagated(), Lines{});
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "WITHIN", "9"}), "[:1, :2]");
  EXPECT_EQ(harness_.TakePropagated(),
            (Lines{"MULTI", "CKPT.DEL run 1" + AtNow(), "CKPT.DEL run 2" + AtNow(), "EXEC"}))
      << "a replica has no say in it";
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 1u);
}

TEST_F(CkptReplyTest, PlanWithADimension) {
  Run({"CKPT.SAVE", "run", "1", "2", "m", "U8", "SHAPE", "2", "3", "5", "BLOB", Fill(15, 1), "v",
       "F32", "SHAPE", "1", "4", "BLOB", Fill(16, 1)});
  const auto plan = [&](const Lines& more) {
    Lines args = {"CKPT.PLAN", "run", "1"};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  };
  const auto row = [](const std::string& m_box, const std::string& v_box) {
    return "[[\"name\", \"m\", \"dtype\", \"U8\", \"shape\", [:3, :5], " + m_box +
           "], [\"name\", \"v\", \"dtype\", \"F32\", \"shape\", [:4], " + v_box + "]]";
  };
  const std::string whole_v = "\"off\", [:0], \"len\", [:4], \"nbytes\", :16";
  EXPECT_EQ(plan({"WORLD", "2", "RANK", "0", "DIM", "1"}),
            row("\"off\", [:0, :0], \"len\", [:3, :2], \"nbytes\", :6", whole_v));
  EXPECT_EQ(plan({"WORLD", "2", "RANK", "1", "DIM", "1"}),
            row("\"off\", [:0, :2], \"len\", [:3, :3], \"nbytes\", :9", whole_v));
  const std::string first = row("\"off\", [:0, :0], \"len\", [:1, :5], \"nbytes\", :5",
                                "\"off\", [:0], \"len\", [:2], \"nbytes\", :8");
  EXPECT_EQ(plan({"WORLD", "2", "RANK", "0", "DIM", "0"}), first);
  EXPECT_EQ(plan({"WORLD", "2", "RANK", "0"}), first) << "the first, when none is named";
  EXPECT_EQ(plan({"WORLD", "2", "RANK", "1", "DIM", "2"}),
            row("\"off\", [:0, :0], \"len\", [:3, :5], \"nbytes\", :15", whole_v))
      << "what has no such dimension is read whole";
  EXPECT_EQ(plan({"WORLD", "2", "RANK", "2", "DIM", "1"}), "-CKPTWORLD rank 2 of a world of 2");
  EXPECT_TRUE(Call({"CKPT.PLAN", "run", "1", "WORLD", "2", "RANK", "0", "DIM", "64"}).IsError());
  EXPECT_TRUE(Call({"CKPT.PLAN", "run", "1", "WORLD", "2", "RANK", "0", "DIM", "-1"}).IsError());
}

TEST_F(CkptReplyTest, DiffMatch) {
  const std::string one = Raw<float>({1}), two = Raw<float>({1, 1});
  SaveF32(1, {"a.w", Raw<float>({0, 3}), "a.same", one, "b.w", one, "b.gone", one, "b.shape", one});
  SaveF32(2, {"a.w", Raw<float>({0, 4}), "a.same", one, "b.w", Raw<float>({2}), "b.new", one,
              "b.shape", two});
  const std::string a =
      "[\"name\", \"a.w\", \"changed_percent\", \"50\", \"l2\", \"1\", \"max\", \"1\", \"cosine\", "
      "\"1\"]";
  const std::string b =
      "[\"name\", \"b.w\", \"changed_percent\", \"100\", \"l2\", \"1\", \"max\", \"1\", "
      "\"cosine\", \"1\"]";
  const std::string others_of_b =
      "], \"new\", [\"b.new\"], \"removed\", [\"b.gone\"], \"reshaped\", [\"b.shape\"]]";
  const std::string no_others = "], \"new\", [], \"removed\", [], \"reshaped\", []]";
  const auto diff = [&](const Lines& more) {
    Lines args = {"CKPT.DIFF", "run", "1", "2"};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  };
  EXPECT_EQ(diff({}), "[\"same\", :1, \"changed\", [" + a + ", " + b + others_of_b);
  EXPECT_EQ(diff({"MATCH", "a.*"}), "[\"same\", :1, \"changed\", [" + a + no_others);
  EXPECT_EQ(diff({"match", "b.*"}), "[\"same\", :0, \"changed\", [" + b + others_of_b);
  EXPECT_EQ(diff({"MATCH", "?.same"}), "[\"same\", :1, \"changed\", [" + no_others);
  EXPECT_EQ(diff({"MATCH", "none"}), "[\"same\", :0, \"changed\", [" + no_others);
  EXPECT_TRUE(Call({"CKPT.DIFF", "run", "1", "2", "MATCH"}).IsError());
}

TEST_F(CkptReplyTest, MLoadAs) {
  SaveF32(1, {"a", Raw<float>({1.5f}), "b", Raw<float>({-2, 3})});
  const RespValue reply = Call({"CKPT.MLOAD", "run", "1", "3", "b", "none", "a", "AS", "F64"});
  ASSERT_EQ(reply.elements.size(), 3u);
  EXPECT_TRUE(reply.elements[1].IsNull());
  const auto check = [&](const RespValue& loaded, const std::string& count,
                         const std::string& bytes) {
    ASSERT_EQ(loaded.elements.size(), 6u);
    EXPECT_EQ(Field(loaded, "dtype"), "\"F64\"");
    EXPECT_EQ(Field(loaded, "shape"), "[:" + count + "]");
    EXPECT_EQ(loaded.elements[5].text, bytes);
  };
  check(reply.elements[0], "2", Raw<double>({-2, 3}));
  check(reply.elements[2], "1", Raw<double>({1.5}));
  EXPECT_TRUE(Call({"CKPT.MLOAD", "run", "1", "1", "a", "AS", "F65"}).IsError());
}

// --- two jobs on one run's name ---

TEST_F(CkptReplyTest, ASecondJobOfTheSameAttemptJoinsOrIsTold) {
  const std::string first = Begin(5, {"RANK", "0", "WORLD", "2", "ATTEMPT", "1"});
  DeclareU8(first, "w", 2);
  Put(first, "w", 0, "ab");
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "5", "RANK", "0", "WORLD", "4", "ATTEMPT", "1"}),
            "-CKPTWORLD step 5 is being saved by a world of 2");
  EXPECT_EQ(Begin(5, {"RANK", "0", "WORLD", "2", "ATTEMPT", "1"}), first)
      << "nothing tells it from a rank that asks again";
  EXPECT_EQ(Put(first, "w", 0, "AB"),
            "-CKPTDIVERGED other bytes of 'w' are there already, at byte 0");
  EXPECT_EQ(DeclareU8(first, "w", 3),
            "-CKPTDIVERGED 'w' was declared by rank 0 as U8 [2] of group 'weights'");
  for (int rank : {0, 1}) EXPECT_EQ(Rank(first, rank, "PREPARE")[0], '[') << "the first goes on";
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", first}), "step"), ":5");
  EXPECT_EQ(Bytes("LATEST", "w"), "ab");
  EXPECT_EQ(Begin(5, {"RANK", "0", "WORLD", "2", "ATTEMPT", "1"}), first);
  EXPECT_EQ(Put(first, "w", 0, "AB"),
            "-CKPTNOTX transaction " + first + " is committed, as step 5");
}

TEST_F(CkptReplyTest, ASecondJobOfTheSameAttemptAtAnotherStepIsBesideTheFirst) {
  const std::string first = Begin(5, {"ATTEMPT", "1"}), second = Begin(6, {"ATTEMPT", "1"});
  for (const auto& [tx, bytes] : {std::pair(second, "cd"), std::pair(first, "ab")}) {
    DeclareU8(tx, "w", 2);
    EXPECT_EQ(Put(tx, "w", 0, bytes), ":2");
    Rank(tx, 0, "PREPARE");
    EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "tx"), Quoted(tx));
  }
  EXPECT_EQ(Bytes("5", "w"), "ab");
  EXPECT_EQ(Bytes("LATEST", "w"), "cd") << "C8: the highest step, in whatever order they came";
}

TEST_F(CkptReplyTest, ASecondJobOfAHigherAttemptFencesTheFirst) {
  const std::string first = Begin(5, {"ATTEMPT", "1"});
  DeclareU8(first, "w", 2);
  Put(first, "w", 0, "ab");
  Rank(first, 0, "PREPARE");
  const std::string second = Begin(5, {"ATTEMPT", "2"});
  EXPECT_NE(second, first);
  const std::string fenced =
      "-CKPTFENCED transaction " + first + " is of an older attempt than the run's";
  EXPECT_EQ(DeclareU8(first, "v", 2), fenced);
  EXPECT_EQ(Put(first, "w", 0, "ab"), fenced);
  EXPECT_EQ(Rank(first, 0, "STATE", {"s", "KIND", "rng", "BLOB", "x"}), fenced);
  EXPECT_EQ(Rank(first, 0, "PREPARE"), fenced);
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", first}), fenced);
  EXPECT_EQ(Run({"CKPT.ABORT", "run", first}), fenced);
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "6", "ATTEMPT", "1"}),
            "-CKPTFENCED attempt 1 is over: the run is at attempt 2");
  EXPECT_EQ(Run({"CKPT.LIST", "run"}), "[]");
  DeclareU8(second, "w", 2);
  Put(second, "w", 0, "cd");
  Rank(second, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", second}), "attempt"), ":2");
  EXPECT_EQ(Bytes("LATEST", "w"), "cd");
}

TEST_F(CkptReplyTest, ASecondJobOfALowerAttemptLeavesTheFirstAlone) {
  const std::string first = Begin(5, {"ATTEMPT", "2"});
  DeclareU8(first, "w", 2);
  Put(first, "w", 0, "ab");
  for (const char* step : {"5", "6"}) {
    EXPECT_EQ(Run({"CKPT.BEGIN", "run", step, "ATTEMPT", "1"}),
              "-CKPTFENCED attempt 1 is over: the run is at attempt 2");
  }
  Rank(first, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", first}), "attempt"), ":2");
  EXPECT_EQ(Bytes("LATEST", "w"), "ab");
}

}  // namespace
}  // namespace cairn
