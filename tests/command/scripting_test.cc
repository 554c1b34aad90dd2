// EVAL and SCRIPT: conversions, effects, gates, and the rules L1 to L6 of the sandbox.

#include <gtest/gtest.h>

#include <thread>

#include "server/scripting/lua_engine.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily AclCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily ListCommands();
CommandFamily ScriptCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();
CommandFamily HashCommands();
CommandFamily HashReadCommands();
CommandFamily ListMoveCommands();
CommandFamily StringEditCommands();

namespace {

class ScriptingTest : public testing::Test {
 protected:
  std::string Eval(const std::string& script, const std::vector<std::string>& keys = {},
                   const std::vector<std::string>& args = {}) {
    std::vector<std::string> words = {"EVAL", script, std::to_string(keys.size())};
    words.insert(words.end(), keys.begin(), keys.end());
    words.insert(words.end(), args.begin(), args.end());
    return harness_.Run(words);
  }
  /// The error line without the script's name and place.
  std::string Fault(const std::string& script) {
    std::string line = Eval(script);
    return line.substr(0, line.find(" script: "));
  }

  CommandHarness harness_{{AclCommands(), KeyCommands(), KeyExpireCommands(), ListCommands(),
                           ScriptCommands(), SessionCommands(), StringCommands(), HashCommands(),
                           HashReadCommands(), ListMoveCommands(), StringEditCommands()}};
};

TEST_F(ScriptingTest, ValuesBecomeReplies) {
  EXPECT_EQ(Eval("return 3.99"), ":3");
  EXPECT_EQ(Eval("return {1,{2,'x'},true,false,nil,9}"), "[:1, [:2, \"x\"], :1, nil]");
  EXPECT_EQ(Eval("return {ok='fine'}"), "+fine");
  EXPECT_EQ(Eval("return {err='MY error'}"), "-MY error");
  EXPECT_EQ(Eval("return {KEYS[1],ARGV[1],#ARGV}", {"k"}, {"a", "b"}), "[\"k\", \"a\", :2]");
  EXPECT_EQ(Eval("return {double=1.5}"), "\"1.5\"");
}

TEST_F(ScriptingTest, RepliesBecomeValues) {
  EXPECT_EQ(Eval("return redis.call('set','a','1').ok"), "\"OK\"");
  EXPECT_EQ(Eval("return redis.call('incr','a') + 1"), ":3");
  EXPECT_EQ(Eval("return tostring(redis.call('get','nosuch'))"), "\"false\"");
  EXPECT_EQ(Eval("return redis.pcall('lpush','a','x').err"),
            "\"WRONGTYPE Operation against a key holding the wrong kind of value\"");
  EXPECT_EQ(Eval("redis.call('hset','h','f','v') redis.setresp(3) "
                 "return redis.call('hgetall','h').map.f"),
            "\"v\"");
}

// What redis-server 7.0.15 counts as failed_calls of EVAL: each error reply that a command had
// made, or an error of its own; not what the script kept to itself.
TEST_F(ScriptingTest, CountsFailedCallsOfTheCaller) {
  harness_.Run({"SET", "a", "1"});
  const Command& eval = *harness_.engine().commands.Find("eval");
  const std::pair<const char*, uint64_t> expected[] = {
      {"redis.pcall('lpush','a','1')", 0},
      {"redis.pcall('nosuch')", 0},
      {"redis.pcall('lpush','a','1') redis.pcall('get')", 0},
      {"return redis.call('lpush','a','1')", 1},
      {"return redis.pcall('lpush','a','1')", 1},
      {"return redis.call('nosuch')", 1},
      {"return {redis.pcall('lpush','a','1'),redis.pcall('nosuch')}", 2},
      {"redis.pcall('lpush','a','1') error('x')", 1},
      {"return {err='X y'}", 1},
      {"x x", 1},
  };
  for (const auto& [script, failed] : expected) {
    const uint64_t before = eval.counters.failed;
    Eval(script);
    EXPECT_EQ(eval.counters.failed - before, failed) << script;
  }
}

TEST_F(ScriptingTest, NumbersOfArgumentsKeepSeventeenDigits) {
  EXPECT_EQ(Eval("redis.call('set','n',0.1) return redis.call('get','n')"),
            "\"0.10000000000000001\"");
  EXPECT_EQ(Eval("redis.call('set','n',1e15) return redis.call('get','n')"),
            "\"1000000000000000\"");
  EXPECT_EQ(Eval("redis.call('set','n',-0) return redis.call('get','n')"), "\"-0\"");
}

TEST_F(ScriptingTest, ErrorsNameScriptAndLine) {
  EXPECT_EQ(Fault("\n\nerror('x')"), "-ERR user_script:3: x");
  EXPECT_NE(Eval("\n\nerror('x')").find(", on @user_script:3."), std::string::npos);
  EXPECT_EQ(Fault("return redis.call('nosuch')"), "-ERR Unknown Redis command called from script");
  EXPECT_EQ(Fault("return redis.call('get')"),
            "-ERR Wrong number of args calling Redis command from script");
  EXPECT_EQ(Fault("return redis.call('multi')"),
            "-ERR This Redis command is not allowed from script");
  EXPECT_EQ(Eval("x x"),
            "-ERR Error compiling script (new function): user_script:1: '=' expected near 'x'");
}

TEST_F(ScriptingTest, EffectsGoOutAsOneTransaction) {
  harness_.TakePropagated();
  Eval("redis.call('set','a','1') redis.call('incr','a') return redis.call('get','a')");
  EXPECT_EQ(harness_.TakePropagated(),
            (std::vector<std::string>{"SELECT 0", "MULTI", "set a 1", "incr a", "EXEC"}));
  Eval("return redis.call('set','b','1')");
  EXPECT_EQ(harness_.TakePropagated(), (std::vector<std::string>{"set b 1"}));
  Eval("return redis.call('get','b')");
  EXPECT_EQ(harness_.TakePropagated(), std::vector<std::string>{});
  Eval("redis.call('set','c','1') error('after the write')");
  EXPECT_EQ(harness_.TakePropagated(), (std::vector<std::string>{"set c 1"}));
  Eval(
      "redis.set_repl(redis.REPL_NONE) redis.call('set','d','1') "
      "redis.set_repl(redis.REPL_ALL) redis.call('set','e','1')");
  EXPECT_EQ(harness_.TakePropagated(), (std::vector<std::string>{"set e 1"}));
}

TEST_F(ScriptingTest, InsideExecEffectsStayInItsTransaction) {
  harness_.Run({"SELECT", "0"});
  harness_.TakePropagated();
  harness_.Run({"MULTI"});
  harness_.Run({"SET", "a", "1"});
  harness_.Run({"EVAL", "redis.call('incr','a') return redis.call('incr','a')", "0"});
  EXPECT_EQ(harness_.Run({"EXEC"}), "[+OK, :3]");
  EXPECT_EQ(harness_.TakePropagated(),
            (std::vector<std::string>{"SELECT 0", "MULTI", "SET a 1", "incr a", "incr a", "EXEC"}));
}

TEST_F(ScriptingTest, ShutdownInsideAScriptKeepsWhatWasBeforeIt) {
  Propagation& stream = harness_.engine().propagation;
  harness_.TakePropagated();
  harness_.Run({"SET", "before", "1"});
  stream.BeginGroup();
  harness_.Run({"SET", "half", "1"});
  harness_.Run({"SET", "half", "2"});
  EXPECT_FALSE(stream.CanTake());
  stream.AbandonGroup();
  EXPECT_TRUE(stream.CanTake());
  harness_.Run({"SET", "after", "1"});
  stream.EndGroup();
  const std::vector<std::string> left = harness_.TakePropagated();
  EXPECT_EQ(left.back(), "SET before 1");
}

TEST_F(ScriptingTest, TheClockStandsStillInsideAScript) {
  harness_.Run({"SET", "k", "v", "PX", "100"});
  EXPECT_EQ(Eval("local before = redis.call('pttl','k') for i=1,1000 do end "
                 "return before - redis.call('pttl','k')"),
            ":0");
  harness_.AdvanceMs(101);
  EXPECT_EQ(Eval("return redis.call('exists','k')"), ":0");
}

TEST_F(ScriptingTest, WaitersAreServedAfterTheScript) {
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"BLPOP", "list", "0"});
  EXPECT_EQ(Eval("redis.call('rpush','list','a') return redis.call('llen','list')"), ":1");
  EXPECT_EQ(harness_.Received(waiter), "[\"list\", \"a\"]");
}

TEST_F(ScriptingTest, SelectChangesTheDatabaseOfTheScriptOnly) {
  EXPECT_EQ(Eval("redis.call('select',3) redis.call('set','three','x') return 1"), ":1");
  EXPECT_EQ(harness_.Run({"GET", "three"}), "nil");
  EXPECT_EQ(Eval("return redis.call('get','three')"), "nil");
}

TEST_F(ScriptingTest, ReadOnlyScriptsDoNotWrite) {
  EXPECT_EQ(harness_.Run({"EVAL_RO", "return redis.pcall('set','a','1').err", "0"}),
            "\"ERR Write commands are not allowed from read-only scripts.\"");
  EXPECT_EQ(Eval("#!lua flags=no-writes\nreturn redis.pcall('set','a','1').err"),
            "\"ERR Write commands are not allowed from read-only scripts.\"");
  EXPECT_EQ(harness_.Run({"EVAL_RO", "#!lua\nreturn 1", "0"}),
            "-ERR Can not execute a script with write flag using *_ro command.");
}

TEST_F(ScriptingTest, APauseOfWritesHoldsWhatTheScriptDeclares) {
  const std::vector<std::string> reads = {"EVAL", "#!lua flags=no-writes\nreturn 1", "0"};
  const auto answer = [&](const std::vector<std::vector<std::string>>& commands) {
    Session& client = harness_.AddSession();
    for (size_t i = 0; i < commands.size(); ++i) {
      if (i + 1 == commands.size()) {
        harness_.engine().Pause(PauseReason::kCommand, PauseMode::kWrites,
                                harness_.now_ms() + 1000);
      }
      harness_.Received(client);
      harness_.Send(client, commands[i]);
    }
    const std::string received = harness_.Received(client);
    harness_.engine().EndPause(PauseReason::kCommand);
    return received;
  };
  EXPECT_EQ(answer({{"EVAL", "return 1", "0"}}), "");
  EXPECT_EQ(answer({{"EVAL", "#!lua\nreturn 1", "0"}}), "");
  EXPECT_EQ(answer({{"EVAL_RO", "return 1", "0"}}), ":1");
  EXPECT_EQ(answer({reads}), ":1");
  EXPECT_EQ(answer({{"MULTI"}, reads, {"EXEC"}}), "[:1]");
  EXPECT_EQ(answer({{"MULTI"}, {"EVAL", "return 1", "0"}, {"EXEC"}}), "");
  EXPECT_EQ(answer({{"MULTI"}, {"SET", "a", "1"}, {"EXEC"}}), "");
}

TEST_F(ScriptingTest, TheCacheKnowsScriptsByShaInEitherCase) {
  const std::string sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
  EXPECT_EQ(harness_.Run({"EVALSHA", sha, "0"}), "-NOSCRIPT No matching script. Please use EVAL.");
  EXPECT_EQ(harness_.Run({"SCRIPT", "LOAD", "return 1"}), "\"" + sha + "\"");
  EXPECT_EQ(harness_.Run({"EVALSHA", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", "0"}), ":1");
  EXPECT_EQ(harness_.Run({"SCRIPT", "EXISTS", sha, "x"}), "[:1, :0]");
  EXPECT_EQ(harness_.engine().script_figures().cached_scripts, 1u);
  EXPECT_EQ(harness_.Run({"SCRIPT", "FLUSH"}), "+OK");
  EXPECT_EQ(harness_.Run({"SCRIPT", "EXISTS", sha}), "[:0]");
  EXPECT_EQ(harness_.engine().script_figures().cached_scripts, 0u);
}

TEST_F(ScriptingTest, AFlushLeavesABigCacheToTheReaper) {
  Keyspace& keyspace = harness_.engine().keyspace;
  const auto flushed = [&](const std::vector<std::string>& words) {
    const std::string text(20000, 'x');
    for (int i = 0; i < 100; ++i)
      harness_.Run({"SCRIPT", "LOAD", "return '" + text + std::to_string(i) + "'"});
    const uint64_t before = keyspace.figures().lazyfreed_objects;
    EXPECT_EQ(harness_.Run(words), "+OK");
    EXPECT_EQ(harness_.engine().script_figures().cached_scripts, 0u);
    keyspace.DrainReaper();
    return keyspace.figures().lazyfreed_objects - before;
  };
  EXPECT_EQ(flushed({"SCRIPT", "FLUSH", "ASYNC"}), 100u);
  EXPECT_EQ(flushed({"SCRIPT", "FLUSH", "SYNC"}), 0u);
  EXPECT_EQ(flushed({"SCRIPT", "FLUSH"}), 0u);
  EXPECT_EQ(Eval("return 1"), ":1");
}

TEST_F(ScriptingTest, NothingIsLeftOfAScriptInTheNext) {
  Eval("string.added = 1");
  Eval("pcall(function() leak = 1 end)");
  EXPECT_EQ(Eval("return rawget(_G,'leak')"), "nil");
  EXPECT_EQ(Eval("return string.added"), "nil");
}

// --- L1: tables reachable from _G cannot be changed in any way ---

TEST_F(ScriptingTest, EveryWayOfWritingToALibraryIsRefused) {
  const std::string refused = "Attempt to modify a readonly table";
  for (const std::string target :
       {"_G", "redis", "string", "math", "cjson", "bit", "table", "struct", "cmsgpack", "coroutine",
        "getmetatable(_G)", "getmetatable('')"}) {
    for (const std::string way :
         {".x = 1", ".pcall = nil", "[1] = 1", "['__index'] = nil", "['__gc'] = 1"}) {
      EXPECT_EQ(Fault("local t = " + target + " t" + way), "-ERR user_script:1: " + refused)
          << target << way;
    }
    for (const std::string way :
         {"rawset(t,'x',1)", "setmetatable(t,{})", "table.insert(t,1)", "table.insert(t,1,1)"}) {
      EXPECT_EQ(Fault("local t = " + target + " " + way), "-ERR " + refused) << target << way;
    }
  }
}

TEST_F(ScriptingTest, TheRealTablesDoNotLeak) {
  // What iteration and lookups hand out is the stand-in or a function, never the table behind.
  EXPECT_EQ(Eval("local n,t = pairs(string) return rawequal(t,string) and 1 or 0"), ":1");
  EXPECT_EQ(Eval("for k,v in pairs(_G) do if type(v) == 'table' and k ~= 'KEYS' and k ~= 'ARGV' "
                 "then if pcall(rawset,v,'x',1) then return k end end end return 'none'"),
            "\"none\"");
  EXPECT_EQ(Eval("for k,v in next,_G do if k == 'string' then return rawequal(v,string) and 1 "
                 "end end"),
            ":1");
  EXPECT_EQ(Eval("return rawequal(getmetatable('').__index, string) and 1 or 0"), ":1");
  EXPECT_EQ(Eval("return getmetatable(string) == nil and 1 or 0"), ":1");
  EXPECT_EQ(Eval("return table.foreach(string, function(k,v) if type(v) == 'table' then return k "
                 "end end)"),
            "nil");
  EXPECT_EQ(Eval("return #('abc') + ('abc'):len()"), ":6");
}

TEST_F(ScriptingTest, WhatIsNotInTheSandboxIsNotThere) {
  for (const std::string name : {"os", "io", "debug", "package", "require", "module", "dofile",
                                 "loadfile", "print", "newproxy", "getfenv", "setfenv"}) {
    EXPECT_EQ(Fault("return " + name),
              "-ERR user_script:1: Script attempted to access nonexistent global variable '" +
                  name + "'");
  }
}

// --- L2 and L5: source only ---

TEST_F(ScriptingTest, BytecodeIsRefused) {
  EXPECT_EQ(Eval("return tostring(loadstring(string.dump(function() return 1 end)))"), "\"nil\"");
  EXPECT_EQ(Eval("local s = string.dump(function() return 1 end) "
                 "return tostring(load(function() local r = s s = nil return r end))"),
            "\"nil\"");
  EXPECT_EQ(Eval("local _,e = loadstring('\\27Lua','=x') return e"),
            "\"x:1: unexpected symbol near 'char(27)'\"");
  EXPECT_EQ(Eval(std::string("\x1bLuaQ")),
            "-ERR Error compiling script (new function): user_script:1: unexpected symbol near "
            "'char(27)'");
}

TEST_F(ScriptingTest, TheCollectorMayRunInAReaderOfLoad) {
  // CVE-2025-49844: the chunk's name was freed while the parser held it.
  EXPECT_EQ(Eval("local n = 0 local f = load(function() n = n + 1 collectgarbage() "
                 "if n > 300 then return nil end return ' local a' .. n .. ' = ' .. n end, "
                 "'chunk' .. string.rep('x', 100)) for i = 1,10 do collectgarbage() end "
                 "return tostring(f ~= nil)"),
            "\"false\"");  // too many local variables
  EXPECT_EQ(
      Eval("for i = 1,300 do local f,e = loadstring('x x', 'n' .. i) collectgarbage('step') "
           "if e ~= '[string \"n' .. i .. '\"]:1: \\'=\\' expected near \\'x\\'' then return e "
           "end end return 'ok'"),
      "\"ok\"");
}

TEST_F(ScriptingTest, StoppingTheCollectorHasNoEffect) {
  EXPECT_EQ(Eval("return collectgarbage('stop')"), ":0");
  const size_t before = harness_.engine().script_figures().eval_vm_bytes;
  for (int i = 0; i < 200; ++i) Eval("local s = '' for i = 1,100 do s = s .. 'xxxxxxxxxx' end");
  EXPECT_LT(harness_.engine().script_figures().eval_vm_bytes, before + (8u << 20));
}

// --- L3: memory ---

TEST_F(ScriptingTest, MemoryBombsFailAndTheNextScriptRuns) {
  EXPECT_NE(Eval("return #string.rep('x', 2^31 - 1)").find("not enough memory"), std::string::npos);
  EXPECT_NE(Eval("local s = 'x' while true do s = s .. s end").find("not enough memory"),
            std::string::npos);
  EXPECT_EQ(Eval("return 1"), ":1");
  EXPECT_LT(harness_.engine().script_figures().eval_vm_bytes, size_t{16} << 20);
}

TEST_F(ScriptingTest, GarbageBesideMuchThatIsHeldGoesInTime) {
  harness_.engine().scripts->eval_engine().LimitMemory(size_t{16} << 20);
  for (const char* threshold : {"5000", "0"}) {
    harness_.SetSetting("busy-reply-threshold", threshold);
    EXPECT_EQ(Eval("local held, made = {}, 0 for i = 1,90000 do held[i] = {i} end "
                   "for i = 1,1000000 do local garbage = {i, i} made = made + #garbage end "
                   "return made"),
              ":2000000");
  }
}

TEST_F(ScriptingTest, WhatIsHeldIsNotLookedThroughBehindEachRun) {
  LuaEngine& lua = harness_.engine().scripts->eval_engine();
  const size_t limit = size_t{16} << 20;
  lua.LimitMemory(limit);
  const std::string text(10000, 'x');
  for (int i = 0; lua.memory_bytes() < limit / 8 * 5; ++i) {
    ASSERT_EQ(harness_.Run({"SCRIPT", "LOAD", "return '" + text + std::to_string(i) + "'"})[0],
              '"');
  }
  int grew = 0;
  for (int i = 0; i < 40; ++i) {
    const size_t before = lua.memory_bytes();
    EXPECT_EQ(Eval("return 1", {}, {text + text + std::to_string(i)}), ":1");
    grew += lua.memory_bytes() > before + text.size();
    EXPECT_LT(lua.memory_bytes(), limit);
  }
  EXPECT_GT(grew, 20);
}

// --- L4: a script that is to end, ends ---

/// Moves the harness's clock, which stands still, while a script runs.
class MovingClock {
 public:
  explicit MovingClock(FakeEnv& env)
      : thread_([&env](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            env.AdvanceMicros(1000);
            std::this_thread::yield();
          }
        }) {}

 private:
  std::jthread thread_;
};

TEST_F(ScriptingTest, AKilledScriptCannotCatchIt) {
  harness_.SetSetting("busy-reply-threshold", "1");
  const MovingClock clock(harness_.env());
  int looks = 0;
  harness_.engine().serve_while_busy = [&] {
    if (++looks == 3) {
      EXPECT_TRUE(harness_.engine().script->busy);
      EXPECT_TRUE(harness_.engine().scripts->Kill(true).ok());
    }
  };
  const std::string loop = "function() while true do end end";
  for (const std::string& script : {"while true do pcall(" + loop + ") end",
                                    "while true do xpcall(" + loop + ", " + loop + ") end",
                                    "error(setmetatable({}, {__index = " + loop + "}))"}) {
    looks = 0;
    const std::string line = Eval(script);
    EXPECT_NE(line.find("Script killed by user with SCRIPT KILL..."), std::string::npos)
        << script << line;
    EXPECT_EQ(looks, 3);
  }
  EXPECT_EQ(Eval("return 1"), ":1");
}

TEST_F(ScriptingTest, AScriptThatWroteIsNotKilled) {
  harness_.SetSetting("busy-reply-threshold", "1");
  const MovingClock clock(harness_.env());
  Status refused;
  harness_.engine().serve_while_busy = [&] {
    refused = harness_.engine().scripts->Kill(true);
    harness_.engine().script->killed = true;  // as SHUTDOWN NOSAVE does
  };
  Eval("redis.call('set','a','1') while true do end");
  EXPECT_EQ(refused.message().substr(0, 10), "UNKILLABLE");
  EXPECT_EQ(harness_.Run({"SCRIPT", "KILL"}), "-NOTBUSY No scripts in execution right now.");
}

// --- L6: recursion of C functions ---

TEST_F(ScriptingTest, DeepRecursionIsAnError) {
  EXPECT_EQ(Fault("local function f() return f() + 1 end return f()"),
            "-ERR user_script:1: stack overflow");
  // Deeper than a client here reads replies: only its end is looked at.
  harness_.Send(harness_.session(),
                {"EVAL", "local t = {} for i = 1,100000 do t = {t} end return t", "0"});
  EXPECT_NE(harness_.session().output.Flatten().find("reached lua stack limit"), std::string::npos);
  harness_.session().output.Clear();
  EXPECT_NE(Eval("local t = {} t[1] = t return cjson.encode(t)").find("excessive nesting"),
            std::string::npos);
  EXPECT_NE(Eval("cjson.decode_max_depth(2^30) return cjson.decode(string.rep('[', 1000000))")
                .find("too many nested data structures"),
            std::string::npos);
  EXPECT_NE(Eval("return cmsgpack.unpack(string.rep('\\145', 1000000))").find("stack overflow"),
            std::string::npos);
  EXPECT_EQ(Fault("return string.find(string.rep('a', 20000), string.rep('a?', 10000))"),
            "-ERR user_script:1: pattern too complex");
  EXPECT_EQ(Eval("local s = string.rep('a', 8192) return string.find(s, string.rep('a?', 8192))"),
            ":1");
}

TEST_F(ScriptingTest, CountsThatWrapAreRefused) {
  for (const std::string call : {"unpack({},0,2147483647)", "unpack({},-2147483648,2147483647)",
                                 "unpack({},1,8001)", "unpack({},-2147483648,0)"}) {
    EXPECT_EQ(Fault("return " + call), "-ERR user_script:1: too many results to unpack") << call;
  }
  EXPECT_EQ(Eval("return bit.tohex(65535, -2147483648)"), "\"0000FFFF\"");
  EXPECT_EQ(Fault("return struct.pack('i2147483648', 1)"),
            "-ERR user_script:1: integral size overflow");
  EXPECT_NE(Eval("return struct.unpack('Lc0', struct.pack('L', 2^63) .. 'a')").find("too short"),
            std::string::npos);
}

TEST_F(ScriptingTest, ArgumentsFillTheStackAndRepliesStillFit) {
  EXPECT_EQ(Eval("local t = {} for i = 1,7990 do t[i] = i end "
                 "return redis.call('rpush','long',unpack(t))"),
            ":7990");
  EXPECT_EQ(Eval("return #redis.call('lrange','long',0,-1)"), ":7990");
}

TEST_F(ScriptingTest, OddErrorObjectsAreErrors) {
  EXPECT_EQ(Fault("error({})"), "-ERR unknown error");
  EXPECT_EQ(Fault("error(string)"), "-ERR unknown error");
  EXPECT_EQ(Fault("error(setmetatable({},{__index=function() error('x') end}))"),
            "-ERR unknown error");
  EXPECT_EQ(Fault("error(nil)"), "-ERR nil");
}

}  // namespace

}  // namespace cairn
