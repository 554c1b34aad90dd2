// The advisories that Redis published about its Lua, each tried here against Debian's Lua in our
// sandbox, with what was tried around them: refused, stopped or harmless. docs/scripting.md has the
// rules.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "server/base/sanitizers.h"
#include "server/scripting/script_host.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily FunctionCommands();
CommandFamily ScriptCommands();
CommandFamily StringCommands();

namespace {

class ScriptAdvisoriesTest : public testing::Test {
 protected:
  std::string Eval(const std::string& script) { return harness_.Run({"EVAL", script, "0"}); }
  std::string Fault(const std::string& script) {
    const std::string line = Eval(script);
    return line.substr(0, line.find(" script: "));
  }
  void ExpectWhole() {
    EXPECT_EQ(Eval("return {type(redis.call), #('abc'):upper(), tostring(1), next({}) == nil}"),
              "[\"function\", :3, \"1\", :1]");
  }

  CommandHarness harness_{{FunctionCommands(), ScriptCommands(), StringCommands()}};
};

// CVE-2022-0543: Debian's Lua handed out `package`, and with it any library of the system.
TEST_F(ScriptAdvisoriesTest, NoLibraryOfTheSystemIsInReach) {
  for (const std::string& script : std::vector<std::string>{
           "return package.loadlib('liblua5.1.so.0', 'luaopen_io')", "return require('io')",
           "return _G.package", "return rawget(_G, 'package') or package", "return module('x')",
           "return string.package or package", "return io.popen('id')", "return os.execute('id')",
           "return loadfile('/etc/passwd')", "return dofile('/etc/passwd')",
           "return debug.getregistry()", "return getfenv(0)", "return newproxy(true)"}) {
    EXPECT_NE(Fault(script).find("nonexistent global variable"), std::string::npos) << script;
  }
  // What iteration shows of every table, two levels deep, is no more.
  EXPECT_EQ(Eval("local names = {} "
                 "for k,v in pairs(_G) do names[#names+1] = k "
                 "if type(v) == 'table' and v ~= _G then for n in pairs(v) do "
                 "names[#names+1] = k .. '.' .. tostring(n) end end end "
                 "for _,n in ipairs(names) do for _,bad in ipairs({'package','require','loadlib',"
                 "'execute','popen','open','getregistry','sethook','newproxy','setfenv'}) do "
                 "if n == bad or n:sub(-#bad-1) == '.' .. bad then return n end end end "
                 "return 'none'"),
            "\"none\"");
}

// CVE-2022-24735: what one user's script left behind ran with the next user's permissions.
TEST_F(ScriptAdvisoriesTest, NothingOfOneScriptRunsInTheNext) {
  for (const std::string& script : std::vector<std::string>{
           "redis.call = function() return 'mine' end",
           "redis = {call = function() return 'mine' end}",
           "_G.redis = nil",
           "_G = {}",
           "rawset(_G, 'redis', {})",
           "rawset(redis, 'call', function() end)",
           "setmetatable(_G, {__index = function() return 1 end})",
           "getmetatable(_G).__index = function() return 1 end",
           "getmetatable('').__index = {upper = function() return 'mine' end}",
           "string.upper = function() return 'mine' end",
           "table.insert(redis, 1)",
           "cjson.encode = nil",
           "bit.bor = nil",
           "math.random = nil",
           "unpack = nil",
           "for k in pairs(redis) do redis[k] = nil end",
           "table.sort(redis)",
           "table.foreach(redis, function(k) redis[k] = nil end)",
           "loadstring('redis = 1')()",
           "coroutine.wrap(function() redis.call = nil end)()",
           "xpcall(function() error({}) end, function(e) redis.call = nil end)",
           "local t = setmetatable({}, {__newindex = redis}) t.call = 1",
           "local t = setmetatable({}, {__index = _G}) t.redis.call = nil"}) {
    SCOPED_TRACE(script);
    Eval(script);
    ExpectWhole();
  }
  // KEYS and ARGV are the script's own to change; the next one has new ones.
  Eval("KEYS.x = 1 ARGV[1] = 2 setmetatable(KEYS, {__index = function() return 'mine' end})");
  EXPECT_EQ(Eval("return {KEYS.x or 0, ARGV[1] or 0, getmetatable(KEYS) and 1 or 0}"),
            "[:0, :0, :0]");
}

// CVE-2022-24736: a body that ends the function around it left a script without a function.
TEST_F(ScriptAdvisoriesTest, ABodyCannotLeaveItsFunction) {
  for (const std::string& script :
       std::vector<std::string>{"end", "return 1 end", "return 1 end return 2", "end function x()",
                                "end end end", "return 1 end function f_x() return 2",
                                "end) (function()", "--[[", "]]", "return --[=["}) {
    EXPECT_EQ(Eval(script).find("-ERR Error compiling script (new function): "), 0u) << script;
    EXPECT_EQ(harness_.Run({"SCRIPT", "LOAD", script})[0], '-') << script;
  }
  ExpectWhole();
}

// CVE-2024-31449: the count of digits wrapped when its sign was turned.
TEST_F(ScriptAdvisoriesTest, TheDigitsOfTohexAreEightAtMost) {
  for (const std::string count : {"-2147483648", "2147483647", "2147483648", "-2147483647", "9",
                                  "-9", "1e300", "-1e300", "0/0", "1/0"}) {
    const std::string reply = Eval("return #bit.tohex(-1, " + count + ") <= 8");
    EXPECT_EQ(reply, ":1") << count;
  }
}

// CVE-2024-46981: destructors ran on a state that was being closed.
TEST_F(ScriptAdvisoriesTest, AnInterpreterClosesWhateverItsCollectorWasDoing) {
  for (const std::string& script : std::vector<std::string>{
           "local t = {} for i = 1,5000 do t[i] = setmetatable({}, {__gc = function() error('x') "
           "end, __mode = 'kv'}) end collectgarbage('step') collectgarbage('stop')",
           "local t = {} for i = 1,200 do local c = coroutine.create(function() "
           "coroutine.yield(t) end) coroutine.resume(c) t[i] = c end collectgarbage('step', 1)",
           "collectgarbage('setpause', 1000000) collectgarbage('setstepmul', 0) "
           "local t = {} for i = 1,20000 do t = {t} end",
           "for i = 1,100 do cjson.encode({i}) cmsgpack.pack({i}) collectgarbage('step') end"}) {
    Eval(script);
    EXPECT_EQ(harness_.Run({"SCRIPT", "FLUSH"}), "+OK");
    ExpectWhole();
  }
}

// CVE-2025-49844: the parser's chunk name was collected under it.
TEST_F(ScriptAdvisoriesTest, TheCollectorLeavesTheParserAlone) {
  const std::string tables = "local t = {} for i = 1,2000 do t[i] = {tostring(i)} end ";
  for (const std::string& script : std::vector<std::string>{
           tables + "for i = 1,200 do loadstring(string.rep('local a = {\"x\" .. 1} ', 50), "
                    "'n' .. i) collectgarbage() end return 1",
           tables + "for i = 1,50 do load(function() collectgarbage() t = {} return nil end, "
                    "'n' .. i) end return 1",
           tables + "local n = 0 local f f = function() n = n + 1 if n > 100 then return nil end "
                    "load(f, 'inner' .. n) collectgarbage() return ' ' end load(f, 'outer') "
                    "return 1"}) {
    EXPECT_EQ(Eval(script), ":1") << script;
  }
  // Bodies large enough for a collection of their own while they are compiled.
  std::string body = "return 1";
  for (int i = 0; i < 20000; ++i) body += " --" + std::to_string(i) + "\n";
  std::string strings = "local t = {";
  for (int i = 0; i < 20000; ++i) strings += "'text" + std::to_string(i) + "',";
  EXPECT_EQ(Eval(body), ":1");
  EXPECT_EQ(Eval(strings + "} return #t"), ":20000");
}

// CVE-2025-46817: the count of unpack's values wrapped.
TEST_F(ScriptAdvisoriesTest, UnpackCountsInSixtyFourBits) {
  for (const std::string range :
       {"0,2147483647", "-2147483648,2147483647", "-2147483648,-1", "1,2147483647", "-1,2147483646",
        "2147483647,-2147483648", "1e300,1", "1,1e300", "-1e300,1e300", "0/0,0/0"}) {
    const std::string reply = Eval("return {unpack({1,2,3}," + range + ")}");
    EXPECT_TRUE(reply == "[]" || reply.find("too many results to unpack") != std::string::npos)
        << range << ": " << reply;
  }
  EXPECT_EQ(Fault("return {string.byte(string.rep('x', 1000000), 1, -1)}"),
            "-ERR user_script:1: stack overflow (string slice too long)");
  EXPECT_EQ(Fault("return table.concat({}, '', -2147483648, 2147483647)"),
            "-ERR user_script:1: invalid value (nil) at index -2147483648 in table for 'concat'");
  ExpectWhole();
}

// CVE-2025-46818: the metatables of strings and other basic types were everybody's to change.
TEST_F(ScriptAdvisoriesTest, MetatablesOfBasicTypesAreNobodys) {
  for (const std::string value : {"nil", "true", "1", "print_", "function() end",
                                  "coroutine.create(function() end)", "redis.call", "cjson.null"}) {
    const std::string name = value == "print_" ? "tostring" : value;
    EXPECT_EQ(Eval("return tostring(getmetatable(" + name + "))"), "\"nil\"") << name;
    EXPECT_EQ(Eval("return setmetatable(" + name + ", {})")[0], '-') << name;
  }
  for (const std::string& way : std::vector<std::string>{
           "m.__index = {}", "m.__add = function() return 1 end", "rawset(m, '__call', 1)",
           "setmetatable(m, {})", "m.__index.x = 1", "rawset(m.__index, 'upper', 1)",
           "table.insert(m, 1)", "getmetatable('x').__metatable = 1"}) {
    EXPECT_EQ(Fault("local m = getmetatable('') " + way).find("-ERR "), 0u) << way;
  }
  EXPECT_EQ(Fault("return ('x')()"), "-ERR user_script:1: attempt to call a string value");
  ExpectWhole();
}

/// A text that ends where readable memory ends.
class TextBeforeAWall {
 public:
  explicit TextBeforeAWall(std::string_view text) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (text.size() + page - 1) / page * page + page;
    void* const memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CAIRN_CHECK(memory != MAP_FAILED);
    memory_ = static_cast<char*>(memory);
    char* const wall = memory_ + bytes_ - page;
    CAIRN_CHECK(mprotect(wall, page, PROT_NONE) == 0);
    std::memcpy(wall - text.size(), text.data(), text.size());
    text_ = {wall - text.size(), text.size()};
  }
  ~TextBeforeAWall() { munmap(memory_, bytes_); }
  TextBeforeAWall(const TextBeforeAWall&) = delete;
  TextBeforeAWall& operator=(const TextBeforeAWall&) = delete;
  std::string_view text() const { return text_; }

 private:
  char* memory_ = nullptr;
  size_t bytes_ = 0;
  std::string_view text_;
};

// CVE-2025-46819: the reader of long strings went past the end of the source.
TEST_F(ScriptAdvisoriesTest, SourcesAreReadToTheirEndAndNoFurther) {
  LuaEngine& lua = harness_.engine().scripts->eval_engine();
  for (const size_t signs : {0u, 1u, 2u, 31u, 32u, 33u, 4095u, 4096u, 70000u, 1000000u}) {
    const std::string equals(signs, '=');
    for (const std::string& source : std::vector<std::string>{"return [" + equals,
                                                              "return [" + equals + "[",
                                                              "return [" + equals + "[x]",
                                                              "return [" + equals + "[x]" + equals,
                                                              "return [" + equals + "[\r",
                                                              "--[" + equals,
                                                              "--[" + equals + "[",
                                                              "--[" + equals + "[ ]" + equals,
                                                              "return \"" + equals,
                                                              "return '\\",
                                                              "return '\\1",
                                                              "return '\\25",
                                                              "return 0x",
                                                              "return 1e",
                                                              "return 1" + equals,
                                                              "return " + equals,
                                                              "return a.",
                                                              "return ..",
                                                              "return ~",
                                                              "\x1b",
                                                              "#",
                                                              "#!",
                                                              "\r"}) {
      const TextBeforeAWall walled(source);
      const Result<LuaRef> compiled = lua.Compile(walled.text());
      if (compiled.ok()) lua.Release(*compiled);
      // What compiled is what does so with a line end behind it.
      EXPECT_EQ(compiled.ok(), lua.Compile(source + "\n").ok()) << source.substr(0, 40);
    }
  }
  const TextBeforeAWall whole("return [==[x]==]");
  EXPECT_TRUE(lua.Compile(whole.text()).ok());
}

// Around them: everything that nests or grows.
TEST_F(ScriptAdvisoriesTest, SourcesThatNestAreRefused) {
  const auto nested = [](const std::string& open, const std::string& middle,
                         const std::string& close, int depth) {
    std::string source = "local value = ";
    for (int i = 0; i < depth; ++i) source += open;
    source += middle;
    for (int i = 0; i < depth; ++i) source += close;
    return source;
  };
  for (const int depth : {150, 250, 10000, 1000000}) {
    for (const auto& [open, middle, close] :
         std::vector<std::array<std::string, 3>>{{"(", "1", ")"},
                                                 {"{", "", "}"},
                                                 {"function() return ", "1", " end"},
                                                 {"not ", "true", ""},
                                                 {"- ", "1", ""},
                                                 {"'a'..", "'a'", ""},
                                                 {"2^", "1", ""},
                                                 {"tostring(", "1", ")"}}) {
      const std::string reply = Eval(nested(open, middle, close, depth));
      if (depth >= 250) {
        EXPECT_EQ(reply[0], '-') << open << depth;
      }
    }
  }
  std::string blocks;
  for (int i = 0; i < 100000; ++i) blocks += "do ";
  EXPECT_EQ(Eval(blocks)[0], '-');
  ExpectWhole();
}

TEST_F(ScriptAdvisoriesTest, RunsThatNestEndWithAnError) {
  for (const std::string& script : std::vector<std::string>{
           "local function f() return coroutine.wrap(f)() end return f()",
           "local function f() return pcall(f) end local r = {f()} error('end')",
           "local function f(e) return error(e) end return xpcall(f, f) and 1 or error('end')",
           "local function f() return (('x'):gsub('x', f)) end return f()",
           "local function f(a, b) table.sort({1,2,3}, f) return true end return f()",
           "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
           "local m = {} m.__concat = function(a, b) return a .. b end "
           "return setmetatable({}, m) .. 'x'",
           "local m = {} m.__tostring = function(t) return tostring(t) end "
           "return tostring(setmetatable({}, m))",
           "local m = {} m.__eq = function(a, b) return a == b end "
           "return setmetatable({}, m) == setmetatable({}, m)",
           "local f f = function() return load(f) end error(f() or 'end')",
           "local t = {} for i = 1,100000 do t = {t} end cjson.encode_max_depth(2^30) "
           "return cjson.encode(t)",
           "local t = {} t[1] = t return cmsgpack.pack(t) and error('end')",
           "table.sort({3,1,2,5,4,9,8,7}, function() return true end) error('end')"}) {
    EXPECT_EQ(Eval(script)[0], '-') << script;
  }
  ExpectWhole();
}

// With a sixteenth of the limit, which all that they grow is measured by.
TEST_F(ScriptAdvisoriesTest, BombsOfMemoryAreStopped) {
  LuaEngine& lua = harness_.engine().scripts->eval_engine();
  lua.LimitMemory(kLuaMemoryBytes / 16);
  const auto nothing_stays = [&] {  // once it was collected; Lua halves its buffer each time
    Eval("for i = 1,20 do collectgarbage() end");
    return lua.memory_bytes() < size_t{16} << 20;
  };
  for (const std::string& script : std::vector<std::string>{
           "return string.rep('x', 2^31 - 1)", "return ('x'):rep(2^30):rep(2^10)",
           "local t = {} for i = 1,2^30 do t[i] = i end",
           "local s = string.rep('x', 2^20) return (s:gsub('x', string.rep('y', 2^12)))",
           "local t = {} for i = 1,4096 do t[i] = string.rep('x', 2^18) end "
           "return #table.concat(t, string.rep('y', 2^18))",
           "local s = string.rep('x', 2^24) return #cjson.encode({s,s,s,s,s,s,s,s})",
           "local s = string.rep('x', 2^24) return #cmsgpack.pack({s,s,s,s,s,s,s,s})",
           "local s, t = string.rep('x', 2^20), {} for i = 1,100000 do t[i] = s end "
           "return #cjson.encode(t)",
           "local s, t = string.rep('x', 2^22), {} for i = 1,20 do t[i] = s end "
           "return #struct.pack(string.rep('s', 20), unpack(t))",
           "return #cjson.encode(string.rep('\\1', 2^24))",
           "local s, t = string.rep('x', 2^20), {} for i = 1,128 do t[i] = s end "
           "return #string.format(string.rep('%s', 128), unpack(t))",
           "local c = {} for i = 1,2^30 do c[i] = coroutine.create(function() end) end"}) {
    const std::string reply = Eval(script);
    EXPECT_NE(reply.find("not enough memory"), std::string::npos) << script << reply.substr(0, 200);
    EXPECT_TRUE(nothing_stays()) << script << lua.memory_bytes();
  }
  EXPECT_EQ(Eval("return #string.format(string.rep('%99d', 2^20), 1)")[0], '-');
  EXPECT_TRUE(nothing_stays());
  ExpectWhole();
}

#if !CAIRN_ASAN  // takes minutes there
TEST_F(ScriptAdvisoriesTest, AScriptMayHoldAGigabyteAndNoMore) {
  const auto hold = [&](const std::string& pieces) {  // of 64 MiB each
    return Eval("local s, t = string.rep('x', 2^26), {} for i = 1," + pieces +
                " do t[i] = s .. i end return #t");
  };
  EXPECT_EQ(hold("11"), ":11");
  EXPECT_NE(hold("16").find("not enough memory"), std::string::npos);
  ExpectWhole();
}
#endif

// DEBUG SET-DISABLE-DENY-SCRIPTS lets a script take away what runs it.
TEST_F(ScriptAdvisoriesTest, AScriptOutlivesWhatItFlushes) {
  harness_.engine().debug.deny_scripts_disabled = true;
  const std::string busy = " local t = {} for i = 1,3000 do t[i] = 'text' .. i end return #t";
  EXPECT_EQ(Eval("redis.call('script','flush') redis.call('script','flush')" + busy), ":3000");
  EXPECT_EQ(
      Eval("redis.call('script','load','return 7') redis.call('script','flush','async')" + busy),
      ":3000");
  EXPECT_EQ(Eval("redis.call('script','flush') error('named')").find("-ERR user_script:1: named"),
            0u);
  EXPECT_EQ(Fault("return redis.call('eval','return 1',0)"),
            "-ERR A script cannot run another one");
  const std::string library =
      "#!lua name=L\n"
      "local function busy() local t = {} for i = 1,3000 do t[i] = 'text' .. i end return #t end\n"
      "local function f(name, ...) local words = {...} redis.register_function(name, function(k, "
      "a) "
      "for i = 1,#a do words[#words+1] = a[i] end redis.call(unpack(words)) return busy() end) "
      "end\n"
      "f('flush', 'function', 'flush') f('del', 'function', 'delete', 'L') "
      "f('load', 'function', 'load', 'replace') f('scripts', 'script', 'flush') "
      "f('restore', 'function', 'restore') f('nested', 'fcall', 'del', 0) f('eval', 'eval', "
      "'return 1', 0)";
  const auto load = [&] { harness_.Run({"FUNCTION", "LOAD", "REPLACE", library}); };
  for (const std::string name : {"flush", "del", "scripts"}) {
    load();
    EXPECT_EQ(harness_.Run({"FCALL", name, "0"}), ":3000") << name;
  }
  load();
  EXPECT_EQ(harness_.Run({"FCALL", "load", "0",
                          "#!lua name=L\nredis.register_function('x', function() return 5 end)"}),
            ":3000");
  EXPECT_EQ(harness_.Run({"FCALL", "x", "0"}), ":5");
  EXPECT_EQ(harness_.Run({"FCALL", "load", "0"}), "-ERR Function not found");
  load();
  EXPECT_EQ(harness_.Run({"FCALL", "load", "0", "#!lua name=L\nerror('no')"})[0], '-');
  EXPECT_EQ(harness_.Run({"FCALL", "nested", "0"})[0], '-');
  EXPECT_EQ(harness_.Run({"FCALL", "eval", "0"})[0], '-');
  EXPECT_EQ(harness_.Run({"FCALL", "scripts", "0"}), ":3000");
  // From a coroutine, the interpreter's main thread being in the middle of resuming it.
  harness_.Run({"FUNCTION", "LOAD", "REPLACE",
                "#!lua name=L\nredis.register_function('co', function(k, a) return coroutine.wrap("
                "function() redis.call('function','load','replace',a[1]) return 7 end)() end)"});
  const std::string next = "#!lua name=L\nredis.register_function('x', function() return 6 end)";
  EXPECT_EQ(harness_.Run({"FCALL", "co", "0", next}), ":7");
  EXPECT_EQ(harness_.Run({"FCALL", "x", "0"}), ":6");
  ExpectWhole();
}

}  // namespace

}  // namespace cairn
