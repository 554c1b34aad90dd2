// Every command that writes or reads strings, on a string in chunks (server/data/chunked_string.h).
// What a save writes that began before a writing command is compared, to the byte, with one that
// ended before it; replies are compared with those for the same bytes in one block.

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "persistence/rdb_writer.h"
#include "server/keyspace/view.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily BitCommands();
CommandFamily DatabaseCommands();
CommandFamily DebugCommands();
CommandFamily HyperLogLogCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily ListCommands();
CommandFamily MemoryCommands();
CommandFamily SortCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily StringLcsCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr size_t kSize = (size_t{3} << 19) + 77;  // big, and no whole number of chunks

std::string Noise(uint64_t seed, size_t size) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (size_t at = 0; at < size; at += 8) {
    const uint64_t word = random();
    bytes.replace(at, std::min<size_t>(8, size - at), reinterpret_cast<const char*>(&word),
                  std::min<size_t>(8, size - at));
  }
  return bytes;
}

class BigStringCommandTest : public ::testing::Test {
 protected:
  std::string Run(const Lines& args) { return harness_.Run(args); }
  std::string Get(const std::string& key) { return harness_.Call({"GET", key}).text; }
  Keyspace& keyspace() { return harness_.engine().keyspace; }
  ValueForm FormOf(const std::string& key) {
    Database& db = keyspace().db(0);
    return db.Peek(db.MakeKey(key))->form();
  }
  /// Walks the rest of a view into an RDB file.
  std::string Save(View* view) {
    std::string file;
    StringByteSink bytes(&file);
    RdbWriter writer(&bytes, {});
    EXPECT_TRUE(writer.Start().ok());
    for (;;) {
      Result<bool> more = view->Step(writer, 1);
      EXPECT_TRUE(more.ok());
      if (!more.ok() || !*more) break;
    }
    EXPECT_TRUE(writer.Finish().ok());
    keyspace().EndView(view);
    return file;
  }
  /// The same bytes twice: `c` in chunks, `p` in one block.
  std::string PutPair(const std::string& bytes, size_t grow = 0) {
    Run({"SET", "c", bytes});
    {
      Database& db = keyspace().db(0);
      const BlobRef reply = db.Peek(db.MakeKey("c"))->BlobValue();  // makes the writes copy
      Run({"SETRANGE", "c", "0", "first"});
      Run({"SETRANGE", "c", std::to_string(bytes.size() / 2), "middle"});
    }
    if (grow != 0) Run({"APPEND", "c", std::string(grow, '\1')});
    const std::string all = Get("c");
    Run({"SET", "p", all});
    EXPECT_EQ(FormOf("c"), ValueForm::kObject);
    EXPECT_EQ(FormOf("p"), ValueForm::kBlob);
    return all;
  }

  CommandHarness harness_{BitCommands(),         DatabaseCommands(), DebugCommands(),
                          HyperLogLogCommands(), KeyCommands(),      KeyDumpCommands(),
                          KeyExpireCommands(),   ListCommands(),     MemoryCommands(),
                          SortCommands(),        StringCommands(),   StringEditCommands(),
                          StringLcsCommands()};
};

TEST_F(BigStringCommandTest, ASaveHasTheStateOfItsCutWhateverIsWrittenMeanwhile) {
  const std::string size = std::to_string(kSize), bits = std::to_string(kSize * 8);
  const std::vector<std::vector<Lines>> scripts = {
      {{"APPEND", "k", "tail"}, {"APPEND", "k", std::string(400'000, 't')}},
      {{"SETRANGE", "k", "1000", "patch"}, {"SETRANGE", "k", "131070", "over the edge"}},
      {{"SETRANGE", "k", std::to_string(kSize + 300'000), "far behind the end"}},
      {{"SETBIT", "k", "77", "1"}, {"SETBIT", "k", "77", "0"}, {"SETBIT", "k", bits, "1"}},
      {{"BITFIELD", "k", "SET", "u8", "0", "255", "INCRBY", "i64", "1048573", "7", "GET", "u8",
        "0"}},
      {{"BITFIELD", "k", "SET", "u63", bits, "1"}},
      {{"BITOP", "NOT", "k", "k"}, {"SETBIT", "k", "1", "1"}},
      {{"BITOP", "XOR", "k", "k", "other"}},
      {{"SET", "k", "short"}, {"APPEND", "k", "er"}},
      {{"SET", "k", Noise(9, kSize)}, {"SETRANGE", "k", "5", "x"}},
      {{"GETSET", "k", Noise(9, kSize)}, {"APPEND", "k", "x"}},
      {{"GETDEL", "k"}},
      {{"DEL", "k"}},
      {{"UNLINK", "k"}},
      {{"SETRANGE", "k", "3", "x"}, {"DEL", "k"}, {"SETRANGE", "k", "3", "x"}},
      {{"RENAME", "k", "k2"}, {"SETRANGE", "k2", "3", "x"}, {"APPEND", "k2", "y"}},
      {{"SETRANGE", "k", "3", "x"}, {"RENAME", "k", "other"}, {"SETRANGE", "other", "3", "z"}},
      {{"COPY", "k", "k2"}, {"SETRANGE", "k2", "3", "x"}, {"SETRANGE", "k", "4", "y"}},
      {{"SETRANGE", "k", "0", "x"},
       {"COPY", "k", "k2"},
       {"APPEND", "k", "1"},
       {"APPEND", "k2", "2"}},
      {{"MOVE", "k", "1"}},
      {{"SETRANGE", "k", "0", "x"}, {"MOVE", "k", "1"}},
      {{"EXPIRE", "k", "1000"},
       {"SETRANGE", "k", "9", "x"},
       {"PERSIST", "k"},
       {"APPEND", "k", "y"}},
      {{"GETEX", "k", "EX", "100"}, {"SETBIT", "k", "9", "1"}},
      {{"SETRANGE", "k", "9", "x"}, {"SWAPDB", "0", "1"}},
      {{"SETRANGE", "k", "9", "x"}, {"FLUSHALL"}},
      {{"FLUSHDB", "ASYNC"}},
      {{"INCR", "k"}, {"INCRBYFLOAT", "k", "1"}, {"PFADD", "k", "a"}},
  };
  for (size_t i = 0; i < scripts.size(); ++i) {
    for (const bool in_chunks : {false, true}) {
      SCOPED_TRACE(scripts[i][0][0] + " " + std::to_string(i) + (in_chunks ? " in chunks" : ""));
      Run({"FLUSHALL"});
      Run({"SET", "k", Noise(1, kSize), "PX", "10000000"});
      Run({"SET", "other", Noise(2, kSize / 2)});
      if (in_chunks) Run({"APPEND", "k", "a little"});
      const std::string before = Save(keyspace().BeginView());
      View* view = keyspace().BeginView();
      for (const Lines& command : scripts[i]) Run(command);
      const std::string meanwhile = Save(view);
      EXPECT_TRUE(before == meanwhile);
      EXPECT_EQ(keyspace().retained_bytes(), 0u);
    }
  }
}

// The same commands without any view and under one leave the same data.
TEST_F(BigStringCommandTest, WritesUnderAViewLeaveWhatTheyWouldWithoutOne) {
  std::mt19937_64 random(3);
  std::vector<Lines> commands;
  const auto number = [&random](uint64_t bound) { return std::to_string(random() % bound); };
  for (int i = 0; i < 60; ++i) {
    switch (random() % 5) {
      case 0:
        commands.push_back({"APPEND", "k", Noise(random(), random() % 3000)});
        break;
      case 1:
        commands.push_back({"SETRANGE", "k", number(kSize), Noise(random(), random() % 300'000)});
        break;
      case 2:
        commands.push_back({"SETBIT", "k", number(kSize * 8), number(2)});
        break;
      case 3:
        commands.push_back({"BITFIELD", "k", "OVERFLOW", "SAT", "INCRBY", "i61", number(kSize * 8),
                            number(1'000'000), "GET", "u33", number(kSize * 8)});
        break;
      default:
        commands.push_back({"SETRANGE", "k", number(16) + "00000", "z"});
        break;
    }
  }
  std::vector<std::string> replies[2];
  std::string bytes[2];
  for (const int viewed : {0, 1}) {
    Run({"SET", "k", Noise(1, kSize)});
    View* view = nullptr;
    for (size_t i = 0; i < commands.size(); ++i) {
      if (viewed == 1 && i % 10 == 0) view = keyspace().BeginView();
      replies[viewed].push_back(Run(commands[i]));
      if (view != nullptr && i % 10 == 7) keyspace().EndView(std::exchange(view, nullptr));
    }
    bytes[viewed] = Get("k");
  }
  EXPECT_EQ(replies[0], replies[1]);
  EXPECT_TRUE(bytes[0] == bytes[1]);
}

TEST_F(BigStringCommandTest, ReadsAreThoseOfTheSameBytesInOneBlock) {
  const std::string all = PutPair(Noise(4, kSize), 200'000);
  std::mt19937_64 random(8);
  const auto both = [this](Lines command) {
    const size_t at =
        static_cast<size_t>(std::find(command.begin(), command.end(), "?") - command.begin());
    command[at] = "c";
    const std::string chunks = Run(command);
    command[at] = "p";
    EXPECT_TRUE(chunks == Run(command)) << command[0];
  };
  both({"GET", "?"});
  both({"STRLEN", "?"});
  both({"BITCOUNT", "?"});
  both({"OBJECT", "ENCODING", "?"});
  both({"TYPE", "?"});
  both({"DUMP", "?"});
  both({"DEBUG", "DIGEST-VALUE", "?"});
  both({"INCR", "?"});
  both({"INCRBYFLOAT", "?", "1"});
  both({"PFCOUNT", "?"});
  both({"LCS", "?", "absent", "LEN"});
  both({"SUBSTR", "?", "0", "-1"});
  both({"GETRANGE", "?", "-10", "-1"});
  both({"MGET", "absent", "?"});
  both({"BITPOS", "?", "1"});
  both({"LPUSH", "?", "x"});
  const auto number = [&random, &all](size_t unit) {
    return std::to_string(static_cast<int64_t>(random() % (all.size() * unit)) -
                          (random() % 4 == 0 ? static_cast<int64_t>(all.size() * unit) : 0));
  };
  for (int i = 0; i < 150; ++i) {
    both({"GETRANGE", "?", number(1), number(1)});
    both({"GETBIT", "?", std::to_string(random() % (all.size() * 8 + 100))});
    both({"BITCOUNT", "?", number(1), number(1)});
    both({"BITCOUNT", "?", number(8), number(8), "BIT"});
    both({"BITPOS", "?", std::to_string(random() % 2), number(1), number(1)});
    both({"BITPOS", "?", std::to_string(random() % 2), number(8), number(8), "BIT"});
    both({"BITFIELD_RO", "?", "GET", "i" + std::to_string(1 + random() % 64),
          std::to_string(random() % (all.size() * 8))});
    both({"BITFIELD", "?", "GET", "u63",
          std::to_string((1 + random() % 13) * (kStringChunkBytes * 8) - 5)});
  }
  for (const char* operation : {"AND", "OR", "XOR"}) {
    Run({"SET", "m", Noise(6, 1000)});
    Run({"BITOP", operation, "r1", "m", "c"});
    Run({"BITOP", operation, "r2", "m", "p"});
    EXPECT_TRUE(Get("r1") == Get("r2"));
  }
  Run({"BITOP", "NOT", "r1", "c"});
  Run({"BITOP", "NOT", "r2", "p"});
  EXPECT_TRUE(Get("r1") == Get("r2"));
  EXPECT_EQ(FormOf("c"), ValueForm::kObject);
  // A long row of equal bits over several chunks.
  PutPair(std::string(kSize, '\xff'));
  Run({"SETRANGE", "c", std::to_string(kSize - 5), std::string(1, '\xfe')});
  Run({"SETRANGE", "p", std::to_string(kSize - 5), std::string(1, '\xfe')});
  both({"BITPOS", "?", "0", "400000"});
  both({"BITPOS", "?", "0", "900000", "-10"});
  both({"BITPOS", "?", "0", "900000"});
}

TEST_F(BigStringCommandTest, SortReadsItAndLcsToo) {
  PutPair(std::string(kSize, 'a'));
  Run({"RPUSH", "l", "c", "p"});
  const RespValue sorted = harness_.Call({"SORT", "l", "BY", "nosort", "GET", "*"});
  ASSERT_EQ(sorted.elements.size(), 2u);
  EXPECT_TRUE(sorted.elements[0].text == sorted.elements[1].text);
  Run({"SET", "s", "firstmiddle"});
  EXPECT_EQ(Run({"LCS", "c", "s"}), "\"firstmiddle\"");
}

TEST_F(BigStringCommandTest, AHyperLogLogOfThatLengthIsABrokenOne) {
  PutPair("HYLL\1" + std::string(kSize, '\0'));
  Run({"SETRANGE", "c", "0", std::string("HYLL\1\0\0\0", 8)});
  EXPECT_EQ(Run({"PFCOUNT", "c"}), "-INVALIDOBJ Corrupted HLL object detected");
  EXPECT_EQ(Run({"PFADD", "c", "x"}), "-INVALIDOBJ Corrupted HLL object detected");
}

TEST_F(BigStringCommandTest, RepliesInFlightKeepTheirBytes) {
  Session& slow = harness_.AddSession();
  const std::string all = PutPair(Noise(4, kSize), 10);
  harness_.Send(slow, {"GET", "c"});
  harness_.Send(slow, {"GETRANGE", "c", "100", "700000"});
  for (size_t at = 0; at < kSize; at += 100'000)
    Run({"SETRANGE", "c", std::to_string(at), "changed"});
  Run({"APPEND", "c", "x"});
  Run({"DEL", "c"});
  const std::vector<RespValue> replies = harness_.TakeReplies(slow);
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_TRUE(replies[0].text == all);
  EXPECT_TRUE(replies[1].text == all.substr(100, 699'901));
}

TEST_F(BigStringCommandTest, MemoryComesBack) {
  const auto round = [this] {
    Run({"SET", "k", Noise(1, 4 * kSize)});
    View* view = keyspace().BeginView();
    for (size_t at = 0; at < 4 * kSize; at += 50'000)
      Run({"SETRANGE", "k", std::to_string(at), "x"});
    Run({"COPY", "k", "k2"});
    Run({"APPEND", "k", std::string(300'000, 'x')});
    Save(view);
    Run({"APPEND", "k2", std::string(300'000, 'x')});
    Run({"DEL", "k", "k2"});
    keyspace().DrainReaper();
    harness_.TakePropagated();
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
    return harness_.engine().UsedMemory();
  };
  // The first round leaves behind the buffers that the words passed through.
  const uint64_t before = round();
  for (int i = 0; i < 5; ++i) EXPECT_LT(round(), before + kSize);
}

}  // namespace
}  // namespace cairn
