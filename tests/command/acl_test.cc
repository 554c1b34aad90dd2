// ACL: the language of rules, what they let through, the log, and the users' file. Expected texts
// were taken from redis-server 7.0.15.

#include "server/engine/acl.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily AclCommands();
CommandFamily ClientCommands();
CommandFamily ConfigCommands();
CommandFamily KeyCommands();
CommandFamily PubsubCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

using Lines = std::vector<std::string>;

class AclTest : public ::testing::Test {
 protected:
  std::string Run(const Lines& args) { return harness_.Run(args); }
  std::string On(Session& session, const Lines& args) {
    harness_.Send(session, args);
    return harness_.Received(session);
  }
  /// ACL SETUSER u; the reply without the head that names the rule.
  std::string Set(const Lines& rules) {
    Lines args = {"ACL", "SETUSER", "u"};
    args.insert(args.end(), rules.begin(), rules.end());
    return Run(args);
  }
  std::string Why(const std::string& rule) {
    const std::string head = "-ERR Error in ACL SETUSER modifier '" + rule + "': ";
    const std::string reply = Set({rule});
    return reply.starts_with(head) ? reply.substr(head.size()) : "no error: " + reply;
  }
  /// The line of ACL LIST without "user u ".
  std::string Rules() {
    return harness_.engine().acl.Find("u")->Describe(harness_.engine().commands).substr(7);
  }
  Session& LoggedIn() {
    Session& session = harness_.AddSession();
    EXPECT_EQ(On(session, {"AUTH", "u", "p"}), "+OK");
    return session;
  }

  CommandHarness harness_{{AclCommands(), ClientCommands(), ConfigCommands(), KeyCommands(),
                           ServerCommands(), PubsubCommands(), SessionCommands(),
                           StringCommands()}};
};

TEST_F(AclTest, ANewUserMayDoNothing) {
  EXPECT_EQ(Run({"ACL", "LIST"}), "[\"user default on nopass ~* &* +@all\"]");
  EXPECT_EQ(Set({}), "+OK");
  EXPECT_EQ(Rules(), "off resetchannels -@all");
  EXPECT_EQ(Run({"ACL", "USERS"}), "[\"default\", \"u\"]");
  EXPECT_EQ(Run({"ACL", "WHOAMI"}), "\"default\"");
}

TEST_F(AclTest, PasswordsAreKeptAsHashes) {
  Set({">pw"});
  EXPECT_EQ(Rules(),
            "off #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4 resetchannels "
            "-@all");
  EXPECT_EQ(Why("<other"), "The password you are trying to remove from the user does not exist");
  EXPECT_EQ(Why("#zz"),
            "The password hash must be exactly 64 characters and contain only lowercase "
            "hexadecimal characters");
  Set({"<pw", "nopass", "on"});
  EXPECT_EQ(Rules(), "on nopass resetchannels -@all");
  Set({">pw"});
  EXPECT_EQ(Rules().substr(0, 4), "on #");
  Set({"reset"});
  EXPECT_EQ(Rules(), "off sanitize-payload resetchannels -@all");
}

TEST_F(AclTest, KeyAndChannelPatterns) {
  Set({"~foo*", "%R~r*", "%W~w*", "%RW~x", "%W~r*", "&ch", "&ch"});
  EXPECT_EQ(Rules(), "off ~foo* ~r* %W~w* ~x resetchannels &ch -@all");
  Set({"allkeys", "allchannels"});
  EXPECT_EQ(Rules(), "off ~* &* -@all");
  EXPECT_TRUE(Why("~x").starts_with("Adding a pattern after the * pattern (or the 'allkeys'"));
  EXPECT_TRUE(Why("&x").starts_with("Adding a pattern after the * pattern (or the 'allchannels'"));
  Set({"resetkeys"});
  for (const char* rule : {"%X~a", "%~a", "%RR~a", "~a b", "bad"})
    EXPECT_EQ(Why(rule), "Syntax error") << rule;
}

TEST_F(AclTest, CommandRulesAreComputedBack) {
  Set({"+get", "-get", "+get"});
  EXPECT_EQ(Rules(), "off resetchannels -@all +get");
  Set({"nocommands", "+config", "-config|set"});
  EXPECT_EQ(Rules(), "off resetchannels -@all +config -config|set");
  Set({"+config|set"});
  EXPECT_EQ(Rules(), "off resetchannels -@all +config");
  Set({"nocommands", "+client|id", "+select|0", "+select|1"});
  EXPECT_EQ(Rules(), "off resetchannels -@all +client|id +select|0 +select|1");
  Set({"+@all", "-@admin"});
  EXPECT_EQ(Rules(), "off resetchannels +@all -@admin");
  Set({"allcommands"});
  EXPECT_EQ(Rules(), "off resetchannels +@all");
  for (const char* rule : {"+nosuch", "+@nosuch", "+config|nosuch", "-get|x", "+|x", "+"})
    EXPECT_EQ(Why(rule), "Unknown command or category name in ACL") << rule;
  EXPECT_EQ(Why("+get|"), "Syntax error");
  EXPECT_EQ(Why("+config|get|x"), "Allowing first-arg of a subcommand is not supported");
}

TEST_F(AclTest, SelectorsAreJoinedFromTheirWords) {
  Set({"(+get", "~a*)", "(&c -@all)"});
  EXPECT_EQ(Rules(),
            "off resetchannels -@all (~a* resetchannels -@all +get) (resetchannels &c -@all)");
  EXPECT_EQ(Set({"(+get", "~a"}),
            "-ERR Unmatched parenthesis in acl selector starting at '(+get'.");
  EXPECT_EQ(Why("(on)"), "Syntax error");
  Set({"clearselectors"});
  EXPECT_EQ(Rules(), "off resetchannels -@all");
  // Each word behind the first ends at its NUL.
  using namespace std::string_literals;
  Set({"(+@all", "~a\0b"s, "-@dangerous)"});
  EXPECT_EQ(Rules(), "off resetchannels -@all (~a resetchannels +@all -@dangerous)");
  Set({"clearselectors"});
  // A parenthesis that opens inside one begins anew.
  Set({"(+get", "(~x", "+set)"});
  EXPECT_EQ(Rules(), "off resetchannels -@all (~x resetchannels -@all +set)");
  EXPECT_EQ(Set({"(+get", "(~x", "+set"}),
            "-ERR Unmatched parenthesis in acl selector starting at '(~x'.");
}

TEST_F(AclTest, AllRulesOrNone) {
  Set({"on"});
  EXPECT_TRUE(Set({"off", "+get", "bad"}).starts_with("-ERR Error in ACL SETUSER modifier 'bad'"));
  EXPECT_EQ(Rules(), "on resetchannels -@all");
}

TEST_F(AclTest, AuthenticatesAgainstTheUser) {
  Set({">p", "+@all"});
  Session& session = harness_.AddSession();
  const std::string refused = "-WRONGPASS invalid username-password pair or user is disabled.";
  EXPECT_EQ(On(session, {"AUTH", "u", "p"}), refused);  // off
  Set({"on"});
  EXPECT_EQ(On(session, {"AUTH", "u", "q"}), refused);
  EXPECT_EQ(On(session, {"AUTH", "nobody", "p"}), refused);
  EXPECT_EQ(On(session, {"AUTH", "u", "p"}), "+OK");
  EXPECT_EQ(On(session, {"ACL", "WHOAMI"}), "\"u\"");
  EXPECT_EQ(On(session, {"RESET"}), "+RESET");
  EXPECT_EQ(On(session, {"ACL", "WHOAMI"}), "\"default\"");
}

TEST_F(AclTest, RefusesByCommandKeyAndChannel) {
  Set({"on", ">p", "+@all", "-del", "~a*", "%R~r*", "%W~w*", "&c*"});
  Session& session = LoggedIn();
  const std::string key =
      "-NOPERM this user has no permissions to access one of the keys used as arguments";
  const std::string channel =
      "-NOPERM this user has no permissions to access one of the channels used as arguments";
  EXPECT_EQ(On(session, {"DEL", "a"}),
            "-NOPERM this user has no permissions to run the 'del' command");
  EXPECT_EQ(On(session, {"GET", "a"}), "nil");
  EXPECT_EQ(On(session, {"GET", "b"}), key);
  EXPECT_EQ(On(session, {"GET", "r"}), "nil");
  EXPECT_EQ(On(session, {"SET", "r", "v"}), key);
  EXPECT_EQ(On(session, {"SET", "w", "v"}), "+OK");
  EXPECT_EQ(On(session, {"SET", "w", "v", "GET"}), key);
  EXPECT_EQ(On(session, {"COPY", "r", "w"}), ":0");
  EXPECT_EQ(On(session, {"COPY", "w", "r"}), key);
  EXPECT_EQ(On(session, {"MGET", "a", "b"}), key);
  EXPECT_EQ(On(session, {"EXISTS", "w"}), ":1");
  EXPECT_EQ(On(session, {"PUBLISH", "c1", "m"}), ":0");
  EXPECT_EQ(On(session, {"PUBLISH", "d", "m"}), channel);
  EXPECT_EQ(On(session, {"PSUBSCRIBE", "c?"}), channel);
  EXPECT_EQ(On(session, {"PSUBSCRIBE", "c*"}), "[\"psubscribe\", \"c*\", :1]");
}

TEST_F(AclTest, FirstArgumentsOpenABlockedCommand) {
  Set({"on", ">p", "+select|0"});
  Session& session = LoggedIn();
  EXPECT_EQ(On(session, {"SELECT", "0"}), "+OK");
  EXPECT_EQ(On(session, {"SELECT", "1"}),
            "-NOPERM this user has no permissions to run the 'select' command");
}

TEST_F(AclTest, AnySelectorWillDo) {
  Set({"on", ">p", "+get", "~a", "(+set ~b)"});
  Session& session = LoggedIn();
  EXPECT_EQ(On(session, {"GET", "a"}), "nil");
  EXPECT_EQ(On(session, {"SET", "b", "v"}), "+OK");
  EXPECT_EQ(On(session, {"GET", "b"}).substr(0, 7), "-NOPERM");
  EXPECT_EQ(On(session, {"SET", "a", "v"}).substr(0, 7), "-NOPERM");
}

TEST_F(AclTest, ExecAsksAgain) {
  Set({"on", ">p", "+@all", "~*"});
  Session& session = LoggedIn();
  On(session, {"MULTI"});
  On(session, {"GET", "a"});
  On(session, {"SET", "a", "1"});
  Set({"-set"});
  EXPECT_EQ(On(session, {"EXEC"}),
            "[nil, -NOPERM ACLs rules changed between the moment the transaction was accumulated "
            "and the EXEC call. This command is no longer allowed for the following reason: no "
            "permission to execute the command or subcommand]");
  On(session, {"MULTI"});
  EXPECT_EQ(On(session, {"SET", "a", "1"}).substr(0, 7), "-NOPERM");
  EXPECT_EQ(On(session, {"EXEC"}).substr(0, 10), "-EXECABORT");
}

TEST_F(AclTest, DeletingAUserEndsItsSessions) {
  Set({"on", ">p", "+@all"});
  Session& session = LoggedIn();
  EXPECT_EQ(Run({"ACL", "DELUSER", "u", "nobody"}), ":1");
  EXPECT_TRUE(session.close_after_reply);
  EXPECT_FALSE(session.authenticated);
  EXPECT_EQ(Run({"ACL", "DELUSER", "default"}), "-ERR The 'default' user cannot be removed");
}

TEST_F(AclTest, ListenersCutOffAreClosed) {
  Set({"on", ">p", "+@all", "&c1", "&c2"});
  Session& session = LoggedIn();
  On(session, {"SUBSCRIBE", "c1"});
  Set({"&c3"});
  EXPECT_FALSE(session.close_after_reply);
  Set({"resetchannels", "&c2"});
  EXPECT_TRUE(session.close_after_reply);
}

TEST_F(AclTest, RulesThatStayTheSameCutOffWhoListenedBefore) {
  Set({"on", ">p", "+@all", "&c1"});
  Session& session = harness_.AddSession();
  On(session, {"HELLO", "3"});
  On(session, {"SUBSCRIBE", "other"});
  On(session, {"AUTH", "u", "p"});
  Set({"resetchannels"});
  EXPECT_TRUE(session.close_after_reply);
  Session& later = harness_.AddSession();
  On(later, {"HELLO", "3"});
  On(later, {"SUBSCRIBE", "other"});
  On(later, {"AUTH", "u", "p"});
  Set({"nocommands"});
  EXPECT_FALSE(later.close_after_reply);
  Set({"&c1"});
  EXPECT_FALSE(later.close_after_reply);
  Set({"+ping"});
  EXPECT_TRUE(later.close_after_reply);
}

TEST_F(AclTest, TheDefaultUserGuardsNewConnections) {
  EXPECT_EQ(Run({"CONFIG", "SET", "requirepass", "foo"}), "+OK");
  EXPECT_EQ(Run({"GET", "k"}), "nil");  // was in before
  Session& later = harness_.AddSession();
  EXPECT_EQ(On(later, {"GET", "k"}), "-NOAUTH Authentication required.");
  EXPECT_EQ(On(later, {"AUTH", "foo"}), "+OK");
  EXPECT_EQ(On(later, {"GET", "k"}), "nil");
  Run({"CONFIG", "SET", "requirepass", ""});
  Run({"ACL", "SETUSER", "default", "off"});
  Session& shut_out = harness_.AddSession();
  EXPECT_EQ(On(shut_out, {"GET", "k"}), "-NOAUTH Authentication required.");
  Run({"ACL", "SETUSER", "default", "on"});
  EXPECT_EQ(On(shut_out, {"GET", "k"}), "nil");
}

TEST_F(AclTest, LogGroupsAlikeRefusals) {
  Set({"on", ">p", "+get", "~a"});
  Session& session = LoggedIn();
  On(session, {"GET", "b"});
  On(session, {"GET", "b"});
  On(session, {"SET", "a", "v"});
  On(session, {"AUTH", "u", "wrong"});
  RespValue log = harness_.Call({"ACL", "LOG"});
  ASSERT_EQ(log.elements.size(), 3u);
  EXPECT_EQ(log.elements[0].elements[3].text, "auth");
  EXPECT_EQ(log.elements[0].elements[7].text, "AUTH");
  EXPECT_EQ(log.elements[1].elements[7].text, "set");
  EXPECT_EQ(log.elements[2].elements[1].integer, 2);
  EXPECT_EQ(log.elements[2].elements[7].text, "b");
  harness_.AdvanceMs(kAclLogGroupingMs + 1);
  On(session, {"GET", "b"});
  EXPECT_EQ(harness_.Call({"ACL", "LOG"}).elements.size(), 4u);
  harness_.SetSetting("acllog-max-len", "2");
  On(session, {"GET", "c"});
  EXPECT_EQ(harness_.Call({"ACL", "LOG", "10"}).elements.size(), 2u);
  EXPECT_EQ(Run({"ACL", "LOG", "RESET"}), "+OK");
  EXPECT_EQ(Run({"ACL", "LOG"}), "[]");
}

TEST_F(AclTest, DryRunTellsWhatWouldBe) {
  Set({"+get", "~a"});
  EXPECT_EQ(Run({"ACL", "DRYRUN", "u", "GET", "a"}), "+OK");
  EXPECT_EQ(Run({"ACL", "DRYRUN", "u", "GET", "b"}),
            "\"This user has no permissions to access the 'b' key\"");
  EXPECT_EQ(Run({"ACL", "DRYRUN", "u", "DEL", "a"}),
            "\"This user has no permissions to run the 'del' command\"");
  EXPECT_EQ(Run({"ACL", "DRYRUN", "u", "NOSUCH"}), "-ERR Command 'NOSUCH' not found");
  EXPECT_EQ(Run({"ACL", "DRYRUN", "nobody", "GET", "a"}), "-ERR User 'nobody' not found");
}

TEST_F(AclTest, TheFileIsWrittenAndRead) {
  EXPECT_TRUE(Run({"ACL", "SAVE"}).starts_with("-ERR This Redis instance is not configured"));
  harness_.engine().config.MutableSettings().aclfile = "users.acl";
  Set({"on", ">p", "~a*", "+get", "(~b +set)"});
  const std::string before = Run({"ACL", "LIST"});
  EXPECT_EQ(Run({"ACL", "SAVE"}), "+OK");
  Session& session = LoggedIn();
  Set({"reset"});
  EXPECT_EQ(Run({"ACL", "LOAD"}), "+OK");
  EXPECT_EQ(Run({"ACL", "LIST"}), before);
  EXPECT_TRUE(session.close_after_reply);
}

TEST_F(AclTest, TheExampleOfConfIsAccepted) {
  std::ifstream file(CAIRN_SOURCE_DIR "/conf/users.acl");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_FALSE(text.empty());
  ASSERT_TRUE(harness_.env().WriteFileAtomically("users.acl", text).ok());
  harness_.engine().config.MutableSettings().aclfile = "users.acl";
  EXPECT_TRUE(harness_.engine().acl.LoadAtStart().ok());
  EXPECT_EQ(Run({"PING"}), "+PONG");
  EXPECT_EQ(Run({"ACL", "LIST"}).substr(0, 7), "-NOPERM");
  EXPECT_TRUE(harness_.engine().acl.Find("trainer")->enabled());
}

TEST_F(AclTest, ABrokenFileChangesNothing) {
  harness_.engine().config.MutableSettings().aclfile = "users.acl";
  Set({"on"});
  const std::string text = "user x on +nosuch bad\nnonsense\nuser y\nuser y\n\n";
  ASSERT_TRUE(harness_.env().WriteFileAtomically("users.acl", text).ok());
  EXPECT_EQ(Run({"ACL", "LOAD"}),
            "-ERR users.acl:1: Error in applying operation '+nosuch': Unknown command or category "
            "name in ACL. users.acl:1: Syntax error. users.acl:2 should start with user keyword "
            "followed by the username. WARNING: Duplicate user 'y' found on line 4. WARNING: ACL "
            "errors detected, no change to the previously active ACL rules was performed");
  ASSERT_TRUE(harness_.env().WriteFileAtomically("users.acl", "# no comments\n").ok());
  EXPECT_TRUE(Run({"ACL", "LOAD"}).starts_with("-ERR users.acl:1 should start with user keyword"));
  EXPECT_EQ(Run({"ACL", "USERS"}), "[\"default\", \"u\"]");
}

TEST_F(AclTest, ConfiguredUsersAreThereAtStart) {
  Settings& settings = harness_.engine().config.MutableSettings();
  settings.user = {{"u", "on", ">p", "+get", "~a"}, {"default", "on", "nopass", "+@all"}};
  EXPECT_TRUE(harness_.engine().acl.LoadAtStart().ok());
  EXPECT_EQ(Rules().substr(0, 4), "on #");
  EXPECT_EQ(harness_.engine().acl.default_user().Describe(harness_.engine().commands),
            "user default on nopass sanitize-payload resetchannels +@all");
  settings.aclfile = "users.acl";
  EXPECT_FALSE(harness_.engine().acl.LoadAtStart().ok());
  settings.aclfile.clear();
  settings.user = {{"v", "+bad"}};
  EXPECT_FALSE(harness_.engine().acl.LoadAtStart().ok());
  settings.user = {{"v w", "on"}};
  EXPECT_FALSE(harness_.engine().acl.LoadAtStart().ok());
}

TEST_F(AclTest, UserLinesAreJudgedWhileTheyAreRead) {
  const auto check = [this](const std::vector<std::string>& words) {
    return Acl::CheckUserLine(harness_.engine().commands, words);
  };
  EXPECT_EQ(check({"a", "on", "+get", "~x", "(+set ~y)"}), "");
  EXPECT_EQ(check({"a"}), "");
  // A module may bring it.
  EXPECT_EQ(check({"a", "+bogus", "+@bogus", "+config|bogus"}), "");
  // The word named is the one two places ahead of the fault, as redis-server 7.0.15 has it.
  EXPECT_EQ(check({"a", "foo"}), "Error in user declaration 'user': Syntax error");
  EXPECT_EQ(check({"a", "+bogus", "foo"}), "Error in user declaration 'a': Syntax error");
  EXPECT_EQ(check({"a", "on", "+get", "bar", "foo"}),
            "Error in user declaration 'on': Syntax error");
  EXPECT_EQ(check({"a", "on", "(~x"}),
            "Error in user declaration 'a': Unknown command or category name in ACL");
  EXPECT_EQ(check({"a", "on", "+get", "(~x", "+set)", "(~y"}),
            "Error in user declaration '(~x': Unknown command or category name in ACL");
}

TEST_F(AclTest, RulesDoNotFollowRenames) {
  ASSERT_TRUE(harness_.engine().commands.Rename("get", "g").ok());
  EXPECT_EQ(Run({"ACL", "SETUSER", "u", "+get"}), "+OK");
  EXPECT_TRUE(Run({"ACL", "SETUSER", "u", "+g"}).starts_with("-ERR Error in ACL SETUSER"));
}

TEST_F(AclTest, GenPassHasAsManyDigitsAsAskedFor) {
  EXPECT_EQ(harness_.Call({"ACL", "GENPASS"}).text.size(), 64u);
  EXPECT_EQ(harness_.Call({"ACL", "GENPASS", "5"}).text.size(), 2u);
  EXPECT_EQ(harness_.Call({"ACL", "GENPASS", "4096"}).text.size(), 1024u);
  EXPECT_TRUE(Run({"ACL", "GENPASS", "4097"}).starts_with("-ERR ACL GENPASS argument must be"));
  EXPECT_NE(Run({"ACL", "GENPASS"}), Run({"ACL", "GENPASS"}));
}

}  // namespace
}  // namespace cairn
