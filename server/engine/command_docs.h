#pragma once

// The mini-language of CommandSpec::synopsis and its parser: one line per command that reads like a
// usage line and yields the whole "arguments" tree of COMMAND DOCS. Nothing here executes commands
// or checks what clients send. Pure functions; any thread.
//
//   synopsis := element*                        separated by spaces
//   element  := '[' element ']'                 flag optional
//             | [token '='] body suffix*
//   body     := TOKEN                           pure-token; its name is the token in lower case
//             | name [':' type]                 type string when not given
//             | name '(' element ('|' element)* ')'        oneof
//             | name '{' element* '}'                      block
//   suffix   := '#' digits                      type key, with this key_spec_index
//             | '@' version                     since
//             | '~' version                     deprecated_since
//             | '...'                           flag multiple
//             | '+...'                          flags multiple and multiple_token
//   TOKEN    := an upper-case letter, then upper-case letters, digits, '-' and '_'
//   token    := TOKEN | '\'' any bytes '\''     quoted: "=", "~", or an empty token
//   name     := lower-case letters, digits, '-' and '_' | '"' any bytes '"'
//   type     := integer | double | string | pattern | unix-time | key | pure-token
//
// Worked example: the synopsis of GETEX,
//
//   key#0 [expiration(EX=seconds:integer|PERSIST@6.2.0)]
//
// is two arguments: {key, type key, key_spec_index 0}, and {expiration, type oneof, flags optional,
// arguments: {seconds, type integer, token EX} and {persist, type pure-token, token PERSIST,
// since 6.2.0}}.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// One entry of COMMAND DOCS "arguments". Fields left out of the reply are empty, -1 or false.
struct DocArgument {
  std::string name;
  std::string type;
  int key_spec_index = -1;
  std::optional<std::string> token;  ///< an empty token is a token
  std::string since;
  std::string deprecated_since;
  bool optional = false;
  bool multiple = false;
  bool multiple_token = false;
  std::vector<DocArgument> arguments;  ///< of oneof and block
};

/// The argument tree of a synopsis. Requires: `synopsis` is well-formed; a spec that is not is a
/// programmer's error and stops the process. Cost: O(length) allocations, so not for hot paths.
std::vector<DocArgument> ParseSynopsis(std::string_view synopsis);

}  // namespace cairn
