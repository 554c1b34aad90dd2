// FUNCTION and FCALL: what is kept, propagated, dumped and restored. Expected texts were taken from
// redis-server 7.0.15.

#include <gtest/gtest.h>

#include "server/scripting/script_host.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily FunctionCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily SessionCommands();
CommandFamily DatabaseCommands();

namespace {

using Lines = std::vector<std::string>;

std::string Library(const std::string& name, const std::string& function,
                    const std::string& body = "return 1") {
  return "#!lua name=" + name + "\nredis.register_function('" + function +
         "', function(keys, args) " + body + " end)";
}

class FunctionTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
  std::string Load(const std::string& source) { return Run({"FUNCTION", "LOAD", source}); }
  std::string Dump() { return harness_.Call({"FUNCTION", "DUMP"}).text; }
  Lines Propagated(const std::vector<std::string>& args) {
    harness_.TakePropagated();
    Run(args);
    Lines lines = harness_.TakePropagated();
    if (!lines.empty() && lines.front() == "SELECT 0") lines.erase(lines.begin());
    return lines;
  }

  CommandHarness harness_{FunctionCommands(), StringCommands(), KeyCommands(), SessionCommands(),
                          DatabaseCommands()};
};

TEST_F(FunctionTest, FunctionsAreFoundInAnyLetterCaseAndBelongToOneLibrary) {
  EXPECT_EQ(Load(Library("L", "Foo")), "\"L\"");
  EXPECT_EQ(Run({"FCALL", "fOO", "0"}), ":1");
  EXPECT_EQ(Load(Library("M", "foo")), "-ERR Function foo already exists");
  EXPECT_EQ(Load(Library("L", "bar")), "-ERR Library 'L' already exists");
  EXPECT_EQ(Run({"FUNCTION", "LOAD", "REPLACE", Library("L", "bar")}), "\"L\"");
  EXPECT_EQ(Run({"FCALL", "foo", "0"}), "-ERR Function not found");
}

TEST_F(FunctionTest, AFailedReplacementLeavesTheOldLibrary) {
  Load(Library("L", "f", "return 'old'"));
  Load(Library("M", "g"));
  for (const std::string& source :
       {std::string("#!lua name=L\n(("), std::string("#!lua name=L\nreturn 1"), Library("L", "g"),
        std::string("#!lua name=L\nerror('x')")}) {
    EXPECT_EQ(Run({"FUNCTION", "LOAD", "REPLACE", source})[0], '-') << source;
    EXPECT_EQ(Run({"FCALL", "f", "0"}), "\"old\"");
    EXPECT_EQ(Run({"FCALL", "g", "0"}), ":1");
  }
}

TEST_F(FunctionTest, ChangesOfLibrariesGoOutAsSentAndCallsByTheirEffects) {
  const std::string source = Library("L", "f", "return redis.call('set', keys[1], args[1])");
  EXPECT_EQ(Propagated({"FUNCTION", "LOAD", source}).size(), 1u);
  EXPECT_EQ(Propagated({"FCALL", "f", "1", "k", "v"}), Lines{"set k v"});
  EXPECT_EQ(Propagated({"FUNCTION", "DELETE", "none"}), Lines{});
  EXPECT_EQ(Propagated({"FUNCTION", "DELETE", "L"}), Lines{"FUNCTION DELETE L"});
  EXPECT_EQ(Propagated({"FUNCTION", "FLUSH"}), Lines{"FUNCTION FLUSH"});
}

TEST_F(FunctionTest, DumpAndRestoreByEachPolicy) {
  Load(Library("a", "f", "return 'a'"));
  Load(Library("b", "g", "return 'b'"));
  const std::string payload = Dump();
  EXPECT_EQ(Run({"FUNCTION", "RESTORE", payload}), "-ERR Library a already exists");
  Run({"FUNCTION", "DELETE", "a"});
  EXPECT_EQ(Run({"FUNCTION", "RESTORE", payload}), "-ERR Library b already exists");
  EXPECT_EQ(Run({"FCALL", "f", "0"}), "-ERR Function not found");  // all or nothing
  EXPECT_EQ(Run({"FUNCTION", "RESTORE", payload, "REPLACE"}), "+OK");
  EXPECT_EQ(Run({"FCALL", "f", "0"}), "\"a\"");

  Run({"FUNCTION", "FLUSH"});
  Load(Library("c", "g", "return 'c'"));
  EXPECT_EQ(Run({"FUNCTION", "RESTORE", payload, "REPLACE"}), "-ERR Function g already exists");
  EXPECT_EQ(Run({"FCALL", "g", "0"}), "\"c\"");
  EXPECT_EQ(Run({"FUNCTION", "RESTORE", payload, "FLUSH"}), "+OK");
  EXPECT_EQ(Run({"FCALL", "g", "0"}), "\"b\"");
  EXPECT_EQ(Dump(), payload);
}

TEST_F(FunctionTest, ForgedPayloadsAreRefusedAndChangeNothing) {
  Load(Library("a", "f"));
  const std::string payload = Dump();
  for (size_t at = 0; at < payload.size(); ++at) {
    std::string forged = payload;
    forged[at] ^= 0x55;
    EXPECT_EQ(Run({"FUNCTION", "RESTORE", forged, "FLUSH"}),
              "-ERR DUMP payload version or checksum are wrong")
        << at;
    EXPECT_EQ(Run({"FUNCTION", "RESTORE", payload.substr(0, at), "FLUSH"}),
              "-ERR DUMP payload version or checksum are wrong")
        << at;
  }
  EXPECT_EQ(Run({"FCALL", "f", "0"}), ":1");
}

TEST_F(FunctionTest, FlushAllSparesThem) {
  Load(Library("L", "f"));
  Run({"FLUSHALL"});
  EXPECT_EQ(Run({"FCALL", "f", "0"}), ":1");
  Run({"FUNCTION", "FLUSH"});
  EXPECT_EQ(Run({"FCALL", "f", "0"}), "-ERR Function not found");
  EXPECT_EQ(Run({"FUNCTION", "LIST"}), "[]");
}

TEST_F(FunctionTest, AFlushLeavesABigInterpreterToTheReaper) {
  Keyspace& keyspace = harness_.engine().keyspace;
  const auto flushed = [&](const std::vector<std::string>& words, const std::string& pieces) {
    Load("#!lua name=L\nlocal t = {} for i = 1," + pieces +
         " do t[i] = {i} end redis.register_function('f', function() return #t end) "
         "redis.register_function('g', function() return 0 end)");
    EXPECT_EQ(Run({"FCALL", "f", "0"}), ":" + pieces);
    const uint64_t before = keyspace.figures().lazyfreed_objects;
    EXPECT_EQ(Run(words), "+OK");
    EXPECT_LT(harness_.engine().script_figures().functions_vm_bytes, kLazyInterpreterBytes);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.figures().lazyfree_pending_objects, 0u);
    return keyspace.figures().lazyfreed_objects - before;
  };
  const std::string many = "20000";
  EXPECT_EQ(flushed({"FUNCTION", "FLUSH", "ASYNC"}, many), 2u);
  EXPECT_EQ(flushed({"FUNCTION", "FLUSH", "ASYNC"}, "10"), 0u);
  EXPECT_EQ(flushed({"FUNCTION", "FLUSH", "SYNC"}, many), 0u);
  EXPECT_EQ(flushed({"FUNCTION", "FLUSH"}, many), 0u);
  harness_.SetSetting("lazyfree-lazy-user-flush", "yes");
  EXPECT_EQ(flushed({"FUNCTION", "FLUSH"}, many), 2u);
}

TEST_F(FunctionTest, LocalsOfALibraryLiveAsLongAsIt) {
  const std::string source =
      "#!lua name=L\nlocal n = 0\nredis.register_function('n', function() n = n + 1 return n end)";
  Load(source);
  EXPECT_EQ(Run({"FCALL", "n", "0"}), ":1");
  EXPECT_EQ(Run({"FCALL", "n", "0"}), ":2");
  Run({"FUNCTION", "LOAD", "REPLACE", source});
  EXPECT_EQ(Run({"FCALL", "n", "0"}), ":1");
}

}  // namespace
}  // namespace cairn
