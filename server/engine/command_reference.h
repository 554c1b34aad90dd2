#pragma once

// Texts made from the command table: usage lines, the HELP subcommand of every container,
// docs/commands.md. They say what the specs say, so there is nothing here to keep up to date.
// Thread: executor.

#include <string>
#include <vector>

#include "server/engine/command_context.h"
#include "server/engine/command_table.h"

namespace cairn {

/// "CLIENT KILL <...>": the words of a command and its arguments as a usage line.
std::string UsageLine(const CommandSpec& spec);

/// Handler of every HELP subcommand: one entry for each sibling, its usage and, indented, its
/// summary.
Status ReplyContainerHelp(CommandContext& ctx);

/// The text of docs/commands.md: every command by group, with usage, summary, complexity and
/// categories.
std::string GenerateCommandReference(const CommandTable& table);

/// "write", "readonly" ...: the names of the flags that COMMAND INFO shows, in its order.
std::vector<std::string_view> CommandFlagNames(uint64_t flags);
/// "@keyspace", "@read" ...: likewise for ACL categories.
std::vector<std::string_view> AclCategoryNames(uint64_t acl);
/// The bit of an ACL category given without '@'; 0 when there is none of that name.
uint64_t AclCategoryByName(std::string_view name);
/// "RO", "access" ...: likewise for the flags of a key spec.
std::vector<std::string_view> KeyFlagNames(uint32_t flags);

}  // namespace cairn
