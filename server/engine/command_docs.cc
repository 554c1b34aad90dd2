#include "server/engine/command_docs.h"

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {

namespace {

bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsTokenByte(char c) { return IsUpper(c) || IsDigit(c) || c == '-' || c == '_'; }
bool IsNameByte(char c) { return (c >= 'a' && c <= 'z') || IsDigit(c) || c == '-' || c == '_'; }
bool IsVersionByte(char c) { return IsDigit(c) || c == '.'; }

/// Recursive descent over the grammar of the header; one function per rule.
class SynopsisParser {
 public:
  explicit SynopsisParser(std::string_view text) : text_(text) {}

  std::vector<DocArgument> Elements(char close) {
    std::vector<DocArgument> elements;
    for (SkipSpaces(); !At(close); SkipSpaces()) elements.push_back(Element());
    return elements;
  }
  bool Done() const { return at_ == text_.size(); }

 private:
  DocArgument Element() {
    if (Take('[')) {
      DocArgument inner = Element();
      CAIRN_CHECK(Take(']'));
      inner.optional = true;
      return inner;
    }
    DocArgument argument;
    if (std::optional<std::string> token = Token()) {
      argument.token = std::move(token);
      if (!Take('=')) {
        argument.name = ToLower(*argument.token);
        argument.type = "pure-token";
        Suffixes(argument);
        return argument;
      }
    }
    Body(argument);
    Suffixes(argument);
    return argument;
  }

  void Body(DocArgument& argument) {
    argument.name = Take('"') ? Quoted('"') : While(IsNameByte);
    CAIRN_CHECK(!argument.name.empty());
    argument.type = "string";
    if (Take(':')) {
      argument.type = While(IsNameByte);
      CAIRN_CHECK(!argument.type.empty());
    } else if (Take('(')) {
      argument.type = "oneof";
      do {
        argument.arguments.push_back(Element());
      } while (Take('|'));
      CAIRN_CHECK(Take(')'));
    } else if (Take('{')) {
      argument.type = "block";
      argument.arguments = Elements('}');
      CAIRN_CHECK(Take('}'));
    }
  }

  void Suffixes(DocArgument& argument) {
    for (;;) {
      if (Take('#')) {
        int64_t index = 0;
        CAIRN_CHECK(ParseInt64(While(IsDigit), &index));
        argument.type = "key";
        argument.key_spec_index = static_cast<int>(index);
      } else if (Take('@')) {
        argument.since = Version();
      } else if (Take('~')) {
        argument.deprecated_since = Version();
      } else if (TakeWord("+...")) {
        argument.multiple = argument.multiple_token = true;
      } else if (TakeWord("...")) {
        argument.multiple = true;
      } else {
        return;
      }
    }
  }

  /// A version ends before a dot that begins "...", so that "@6.2.0..." reads as intended.
  std::string Version() {
    std::string version;
    while (!Done() && IsVersionByte(text_[at_]) && !text_.substr(at_).starts_with("..."))
      version += text_[at_++];
    CAIRN_CHECK(!version.empty());
    return version;
  }

  std::optional<std::string> Token() {
    if (Take('\'')) return Quoted('\'');
    if (Done() || !IsUpper(text_[at_])) return std::nullopt;
    return While(IsTokenByte);
  }

  std::string Quoted(char quote) {
    const size_t end = text_.find(quote, at_);
    CAIRN_CHECK(end != std::string_view::npos);
    std::string inside(text_.substr(at_, end - at_));
    at_ = end + 1;
    return inside;
  }

  template <typename Predicate>
  std::string While(Predicate predicate) {
    const size_t start = at_;
    while (!Done() && predicate(text_[at_])) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }

  void SkipSpaces() {
    while (!Done() && text_[at_] == ' ') ++at_;
  }
  /// `close` 0 is the end of the text.
  bool At(char close) const { return Done() || (close != 0 && text_[at_] == close); }
  bool Take(char c) {
    if (Done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool TakeWord(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::vector<DocArgument> ParseSynopsis(std::string_view synopsis) {
  SynopsisParser parser(synopsis);
  std::vector<DocArgument> arguments = parser.Elements('\0');
  CAIRN_CHECK(parser.Done());
  return arguments;
}

}  // namespace cairn
