#include "server/protocol/resp_errors.h"

namespace cairn {
namespace {

// What Redis prints with "%.128s": up to a NUL, at most `limit` bytes.
std::string_view Shown(std::string_view text, size_t limit) {
  text = text.substr(0, limit);
  return text.substr(0, text.find('\0'));
}

Status OneLine(std::string line) { return Status::Client(ErrorLine(std::move(line))); }

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return upper;
}

std::string Framed(std::string_view before, std::string_view middle, std::string_view after) {
  std::string line;
  line.reserve(before.size() + middle.size() + after.size());
  return line.append(before).append(middle).append(after);
}

}  // namespace

std::string ErrorLine(std::string text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.pop_back();
  for (char& c : text) {
    if (c == '\r' || c == '\n') c = ' ';
  }
  return text;
}

Status QuotingError(std::initializer_list<std::string_view> parts) {
  std::string line;
  bool quoted = false;
  for (std::string_view part : parts) {
    line += quoted ? Shown(part, part.size()) : part;
    quoted = !quoted;
  }
  return OneLine(std::move(line));
}

Status UnknownCommand(std::string_view name, std::span<const std::string_view> args) {
  std::string list;
  for (std::string_view arg : args) {
    if (list.size() >= kErrorArgumentBytes) break;
    list += '\'';
    list += Shown(arg, kErrorArgumentBytes - (list.size() - 1));
    list += "' ";
  }
  return OneLine(Framed("ERR unknown command '", Shown(name, kErrorArgumentBytes),
                        "', with args beginning with: " + list));
}

Status UnknownSubcommand(std::string_view container, std::string_view subcommand) {
  return OneLine(Framed("ERR unknown subcommand '", Shown(subcommand, kErrorArgumentBytes),
                        "'. Try " + Upper(container) + " HELP."));
}

Status UnknownSubcommandOrArity(std::string_view container, std::string_view subcommand) {
  return OneLine(Framed("ERR unknown subcommand or wrong number of arguments for '",
                        Shown(subcommand, kErrorArgumentBytes),
                        "'. Try " + Upper(container) + " HELP."));
}

Status WrongArity(std::string_view command) {
  return OneLine(Framed("ERR wrong number of arguments for '", command, "' command"));
}

Status InvalidExpire(std::string_view command) {
  return OneLine(Framed("ERR invalid expire time in '", command, "' command"));
}

Status NoPermCommand(std::string_view command) {
  return OneLine(Framed("NOPERM this user has no permissions to run the '", command, "' command"));
}

}  // namespace cairn
