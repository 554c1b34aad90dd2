#pragma once

// The error lines of Redis 7.0 that more than one command sends, once each: CAIRN_RESP_ERRORS makes
// the constants, and the functions below fill in those with a name or a number in them. Lines stand
// without
// '-' and CRLF, as Status::Client wants them. Errors only one command knows stay with that command.

#include <span>
#include <string>
#include <string_view>

#include "server/base/status.h"

namespace cairn {

// clang-format off
#define CAIRN_RESP_ERRORS(X)                                                                           \
  X(kWrongType, "WRONGTYPE Operation against a key holding the wrong kind of value")                   \
  X(kNotInteger, "ERR value is not an integer or out of range")                                        \
  X(kNotFloat, "ERR value is not a valid float")                                                       \
  X(kSyntax, "ERR syntax error")                                                                       \
  X(kNoSuchKey, "ERR no such key")                                                                     \
  X(kIndexOutOfRange, "ERR index out of range")                                                        \
  X(kOffsetOutOfRange, "ERR offset is out of range")                                                   \
  X(kOutOfRange, "ERR value is out of range")                                                          \
  X(kMustBePositive, "ERR value is out of range, must be positive")                                    \
  X(kOverflow, "ERR increment or decrement would overflow")                                            \
  X(kDecrementOverflow, "ERR decrement would overflow")                                                \
  X(kNanOrInfinity, "ERR increment would produce NaN or Infinity")                                     \
  X(kHashNotInteger, "ERR hash value is not an integer")                                               \
  X(kHashNotFloat, "ERR hash value is not a float")                                                    \
  X(kScoreNan, "ERR resulting score is not a number (NaN)")                                            \
  X(kMinMaxNotFloat, "ERR min or max is not a float")                                                  \
  X(kMinMaxNotString, "ERR min or max not valid string range item")                                    \
  X(kBitOffset, "ERR bit offset is not an integer or out of range")                                    \
  X(kBitValue, "ERR bit is not an integer or out of range")                                            \
  X(kStringTooLong, "ERR string exceeds maximum allowed size (proto-max-bulk-len)")                    \
  X(kInvalidCursor, "ERR invalid cursor")                                                              \
  X(kSameObject, "ERR source and destination objects are the same")                                    \
  X(kDbIndexOutOfRange, "ERR DB index is out of range")                                                \
  X(kInvalidFirstDb, "ERR invalid first DB index")                                                     \
  X(kInvalidSecondDb, "ERR invalid second DB index")                                                   \
  X(kTimeoutNotFloat, "ERR timeout is not a float or out of range")                                    \
  X(kTimeoutNotInteger, "ERR timeout is not an integer or out of range")                               \
  X(kTimeoutNegative, "ERR timeout is negative")                                                       \
  X(kNegativeKeys, "ERR Number of keys can't be negative")                                             \
  X(kTooManyKeys, "ERR Number of keys can't be greater than number of args")                           \
  X(kBadPayload, "ERR DUMP payload version or checksum are wrong")                                     \
  X(kBadDataFormat, "ERR Bad data format")                                                             \
  X(kBusyKey, "BUSYKEY Target key name already exists.")                                               \
  X(kNoAuth, "NOAUTH Authentication required.")                                                        \
  X(kNoAuthHello, "NOAUTH HELLO must be called with the client already authenticated, otherwise the "  \
    "HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP "      \
    "protocol version at the same time")                                                               \
  X(kWrongPass, "WRONGPASS invalid username-password pair or user is disabled.")                       \
  X(kNoPasswordSet, "ERR AUTH <password> called without any password configured for the default "      \
    "user. Are you sure your configuration is correct?")                                               \
  X(kNoPermKey, "NOPERM this user has no permissions to access one of the keys used as arguments")     \
  X(kNoPermChannel,                                                                                    \
    "NOPERM this user has no permissions to access one of the channels used as arguments")             \
  X(kNoProto, "NOPROTO unsupported protocol version")                                                  \
  X(kProtocolNotInteger, "ERR Protocol version is not an integer or out of range")                     \
  X(kResp3Only, "ERR RESP2 is not supported by this command")                                          \
  X(kExecAbort, "EXECABORT Transaction discarded because of previous errors.")                         \
  X(kExecWithoutMulti, "ERR EXEC without MULTI")                                                       \
  X(kDiscardWithoutMulti, "ERR DISCARD without MULTI")                                                 \
  X(kNestedMulti, "ERR MULTI calls can not be nested")                                                 \
  X(kWatchInMulti, "ERR WATCH inside MULTI is not allowed")                                            \
  X(kNotInMulti, "ERR Command not allowed inside a transaction")                                       \
  X(kMisconf, "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to "       \
    "persist to disk. Commands that may modify the data set are disabled, because this instance is "   \
    "configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error " \
    "option). Please check the Redis logs for details about the RDB error.")                           \
  X(kLoading, "LOADING Redis is loading the dataset in memory")                                        \
  X(kOom, "OOM command not allowed when used memory > 'maxmemory'.")                                   \
  X(kReadonly, "READONLY You can't write against a read only replica.")                                \
  X(kMasterDown,                                                                                       \
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")                \
  X(kNoReplicas, "NOREPLICAS Not enough good replicas to write.")                                      \
  X(kNoScript, "NOSCRIPT No matching script. Please use EVAL.")                                        \
  X(kNotBusy, "NOTBUSY No scripts in execution right now.")                                            \
  X(kUnkillable, "UNKILLABLE Sorry the script already executed write commands against the dataset. "   \
    "You can either wait the script termination or kill the server in a hard way using the SHUTDOWN "  \
    "NOSAVE command.")                                                                                 \
  X(kBusyScript, "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "     \
    "NOSAVE.")                                                                                         \
  X(kNoSuchClient, "ERR No such client")                                                               \
  X(kNoCluster, "ERR This instance has cluster support disabled")                                      \
  X(kMaxClients, "ERR max number of clients reached")
// clang-format on

namespace resp_errors {
#define CAIRN_RESP_ERROR_CONSTANT(name, line) inline constexpr std::string_view name = line;
CAIRN_RESP_ERRORS(CAIRN_RESP_ERROR_CONSTANT)
#undef CAIRN_RESP_ERROR_CONSTANT
}  // namespace resp_errors

/// What an unknown name or argument shows of itself in an error at most, in bytes.
inline constexpr size_t kErrorArgumentBytes = 128;

/// A constant of resp_errors as a failed Status.
inline Status RespError(std::string_view line) { return Status::Client(std::string(line)); }

/// As Redis's formatted errors: line ends at the end go, others become spaces.
std::string ErrorLine(std::string text);

/// A line that quotes words of the client's. `parts` are by turns our text and such a word, which
/// is shown up to its first NUL. See ErrorLine. Source: addReplyErrorFormat with %s,
/// Redis 7.0.15.
Status QuotingError(std::initializer_list<std::string_view> parts);

/// "ERR unknown command 'x', with args beginning with: 'a' 'b' ": name and list are cut at 128
/// bytes and each argument at its first NUL; CR and LF become spaces. `args` excludes the name.
Status UnknownCommand(std::string_view name, std::span<const std::string_view> args);
/// "ERR unknown subcommand 'x'. Try CONFIG HELP." `container` may be in any case.
Status UnknownSubcommand(std::string_view container, std::string_view subcommand);
/// "ERR unknown subcommand or wrong number of arguments for 'x'. Try DEBUG HELP."
Status UnknownSubcommandOrArity(std::string_view container, std::string_view subcommand);
/// `command` is the table's name, "config|get" for subcommands.
Status WrongArity(std::string_view command);
/// "ERR invalid expire time in 'set' command"
Status InvalidExpire(std::string_view command);
/// "NOPERM this user has no permissions to run the 'x' command"
Status NoPermCommand(std::string_view command);

}  // namespace cairn
