// The texts that are generated from the table: conf/cairn.conf and the list in docs/differences.md.

#include "server/base/strings.h"
#include "server/engine/config.h"
#include "server/engine/settings_table.h"

namespace cairn {
namespace {

constexpr size_t kTextWidth = 92;

/// Breaks text at spaces so that each line, with "# " in front, stays within kTextWidth.
std::string Comment(std::string_view text) {
  std::string result;
  size_t column = 0;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (column != 0 && column + 1 + word.size() > kTextWidth) {
      result += '\n';
      column = 0;
    }
    result += column == 0 ? "# " : " ";
    column += (column == 0 ? 2 : 1) + word.size();
    result += word;
  }
  return result + '\n';
}

std::string MemoryBound(uint64_t value) {
  return value == kMaxUint64 || value == kMaxInt64 ? "the machine's limit"
                                                   : FormatMemoryExact(value);
}

std::string NumberNote(const NumberField& field, const char* unit) {
  switch (field.form) {
    case NumberForm::kOctal:
      return "An octal number, 0 to 777.";
    case NumberForm::kMemoryOrPercent:
      return "Memory (1k is 1000 bytes, 1kb is 1024), or a percentage.";
    case NumberForm::kMemory:
      return "Memory (1k is 1000 bytes, 1kb is 1024), " +
             FormatMemoryExact(static_cast<uint64_t>(field.min)) + " to " + MemoryBound(field.max) +
             ".";
    case NumberForm::kPlain:
      break;
  }
  std::string note = "A number";
  if (unit != nullptr) note += std::string(" (") + unit + ")";
  if (field.max >= kMaxInt && field.min < -1) return note + ".";
  if (field.max >= kMaxInt && field.max != kMaxUint) {
    return note + ", at least " + std::to_string(field.min) + ".";
  }
  return note + ", " + std::to_string(field.min) + " to " + std::to_string(field.max) + ".";
}

std::string ValueNote(const SettingSpec& spec) {
  if (const auto* field = std::get_if<NumberField>(&spec.value)) {
    return NumberNote(*field, spec.unit);
  }
  if (const auto* field = std::get_if<EnumField>(&spec.value)) {
    std::string note = field->is_bits ? "Any of " : "One of ";
    for (const EnumName& entry : field->names) {
      if (&entry != field->names.data()) note += ", ";
      note += entry.name;
    }
    return note + ".";
  }
  return {};
}

std::string DefaultLines(const SettingSpec& spec, const Settings& defaults) {
  std::string text;
  std::vector<RewriteLine> lines;
  if (std::string_view(spec.name) == "dir") {
    lines = {{"dir ./", true}};  // the default is wherever the server is started
  } else {
    lines = RewriteSetting(spec, defaults, defaults);
  }
  if (lines.empty()) {  // CONFIG REWRITE says nothing of its default
    const std::string value = FormatSetting(spec, defaults);
    lines = {{std::string(spec.name) + " " + (value.empty() ? "\"\"" : value), true}};
  }
  if (std::string_view(spec.name) == "replicaof") lines = {{"replicaof no one", true}};
  for (const RewriteLine& line : lines) text += "# " + line.text + '\n';
  return text;
}

std::string SettingText(const SettingSpec& spec, const Settings& defaults) {
  std::string help = spec.help;
  if (const std::string note = ValueNote(spec); !note.empty()) help += " " + note;
  if ((spec.flags & kSettingImmutable) != 0) help += " Fixed at start.";
  if (spec.alias != nullptr) help += std::string(" Old name: ") + spec.alias + ".";
  std::string text = Comment(help);
  if (spec.later != nullptr)
    text += Comment(std::string("No effect yet: comes with ") + spec.later + ".");
  if (spec.needless != nullptr)
    text += Comment(std::string("No effect here: ") + spec.needless + ".");
  return text + "#\n" + DefaultLines(spec, defaults) + '\n';
}

}  // namespace

std::string GenerateDefaultConfig() {
  std::string text =
      Comment(
          "Every setting of CairnKV at its default, generated from the table in server/engine "
          "(cairn-server --generate-conf). Nothing here is switched on: take a line, remove its "
          "'#' and change the value. The syntax is that of redis.conf: a name, then words; "
          "words with spaces stand in quotes; a line that begins with '#' is a comment.") +
      "#\n" + Comment("    cairn-server cairn.conf                    reads this file") +
      Comment("    cairn-server cairn.conf --port 7000        and then the options") +
      Comment(
          "    CONFIG SET name value, CONFIG REWRITE      changes a running server and the file") +
      '\n';
  const Settings defaults;
  for (int i = 0; i <= static_cast<int>(Section::kBackground); ++i) {
    const Section section = static_cast<Section>(i);
    text += "# ---- " + std::string(SectionTitle(section)) + "\n\n";
    for (const DirectiveSpec& directive : AllDirectives()) {
      if (directive.section != section) continue;
      text += Comment(directive.help);
      if (directive.later != nullptr) {
        text += Comment(std::string("No effect yet: comes with ") + directive.later + ".");
      }
      text += "#\n# " + std::string(directive.example) + "\n\n";
    }
    for (const SettingSpec* spec : AllSettings()) {
      if (spec->section != section || (spec->flags & kSettingHidden) != 0) continue;
      text += SettingText(*spec, defaults);
    }
  }
  text.pop_back();
  return text;
}

std::string GenerateSettingsDifferences() {
  std::string text =
      "# Settings without effect\n\n"
      "Generated from the settings table by `cairn-server --generate-differences`; edit "
      "`later` and `needless` of the\n"
      "rows in `server/engine`, not this file. Every other setting of `conf/cairn.conf` does what "
      "it says.\n\n";
  const auto list = [&](std::string_view title, const char* SettingSpec::*reason) {
    text += "## " + std::string(title) + "\n\n| setting | |\n|---|---|\n";
    for (const SettingSpec* spec : AllSettings()) {
      if (spec->*reason == nullptr) continue;
      text += "| `" + std::string(spec->name) + "`";
      if (spec->alias != nullptr) text += ", `" + std::string(spec->alias) + "`";
      text += " | " + std::string(spec->*reason) + " |\n";
    }
    for (const DirectiveSpec& directive : AllDirectives()) {
      if (reason != &SettingSpec::later || directive.later == nullptr) continue;
      text += "| `" + std::string(directive.name) + "` | " + directive.later + " |\n";
    }
    text += '\n';
  };
  list("Settings whose feature comes later", &SettingSpec::later);
  list("Settings that have nothing to do here", &SettingSpec::needless);
  text.pop_back();
  return text;
}

}  // namespace cairn
