#include "server/engine/settings_table.h"

#include <unordered_map>

#include "server/base/strings.h"

namespace cairn {
namespace {

struct FoundSetting {
  const SettingSpec* spec;
  bool is_alias;
};

const std::unordered_map<std::string, FoundSetting>& Index() {
  static const std::unordered_map<std::string, FoundSetting> index = [] {
    std::unordered_map<std::string, FoundSetting> result;
    for (const SettingSpec* spec : AllSettings()) {
      result.emplace(spec->name, FoundSetting{spec, false});
      if (spec->alias != nullptr) result.emplace(spec->alias, FoundSetting{spec, true});
    }
    return result;
  }();
  return index;
}

// Redis reads all but plain numbers and passwords as C strings: what follows a NUL is not there.
std::string_view UpToNul(std::string_view word) { return word.substr(0, word.find('\0')); }

std::string ParseBool(const BoolField& field, Settings& settings, std::string_view word) {
  const bool yes = EqualsIgnoreCase(word, "yes");
  if (!yes && !EqualsIgnoreCase(word, "no")) return "argument must be 'yes' or 'no'";
  if (field.check != nullptr) {
    if (const char* error = field.check(yes)) return error;
  }
  settings.*field.member = yes;
  return {};
}

std::string RangeError(const NumberField& field) {
  if (field.form == NumberForm::kOctal) {
    char text[96];
    std::snprintf(text, sizeof(text), "argument must be between %llo and %llo inclusive",
                  static_cast<unsigned long long>(field.min),
                  static_cast<unsigned long long>(field.max));
    return text;
  }
  // A percentage is stored as its negative, so the lower bound of such a field is no number of
  // bytes.
  return "argument must be between " + std::to_string(field.min) + " and " +
         std::to_string(field.max) + " inclusive";
}

bool ParseOctal(std::string_view word, int64_t* value) {
  int64_t result = 0;
  for (const char digit : word) {
    if (digit < '0' || digit > '7' || result > (INT64_MAX >> 3)) return false;
    result = result * 8 + (digit - '0');
  }
  *value = result;
  return true;
}

void StoreNumber(const NumberField& field, Settings& settings, uint64_t bits) {
  std::visit(
      [&](auto member) {
        using Value = std::remove_reference_t<decltype(settings.*member)>;
        settings.*member = static_cast<Value>(bits);
      },
      field.member);
}

std::string ParseSigned(const NumberField& field, Settings& settings, int64_t value) {
  if (value < field.min || (value > 0 && static_cast<uint64_t>(value) > field.max)) {
    return RangeError(field);
  }
  StoreNumber(field, settings, static_cast<uint64_t>(value));
  return {};
}

std::string ParseBytes(const NumberField& field, Settings& settings, std::string_view word) {
  uint64_t bytes = 0;
  // Redis reads the empty word as no bytes.
  if (const auto amount = UpToNul(word); amount.empty() || ParseMemory(amount, &bytes)) {
    // Stored in 64 bits with a sign, where negative means a percentage: as in Redis the largest
    // amounts are small percentages.
    if (field.form == NumberForm::kMemoryOrPercent && bytes > kMaxInt64) {
      if (static_cast<int64_t>(bytes) < field.min)
        return "percentage argument must be less or equal to " + std::to_string(-field.min);
      StoreNumber(field, settings, bytes);
      return {};
    }
    const uint64_t min = field.min > 0 ? static_cast<uint64_t>(field.min) : 0;
    if (bytes > field.max || bytes < min) return RangeError(field);
    StoreNumber(field, settings, bytes);
    return {};
  }
  if (field.form == NumberForm::kMemory) return "argument must be a memory value";
  int64_t percent = 0;
  if (word.size() < 2 || word.back() != '%' ||
      !ParseInt64(word.substr(0, word.size() - 1), &percent) || percent < 0) {
    return "argument must be a memory or percent value";
  }
  if (-percent < field.min) {
    return "percentage argument must be less or equal to " + std::to_string(-field.min);
  }
  StoreNumber(field, settings, static_cast<uint64_t>(-percent));
  return {};
}

std::string ParseNumber(const NumberField& field, Settings& settings, const std::string& word) {
  int64_t value = 0;
  switch (field.form) {
    case NumberForm::kMemory:
    case NumberForm::kMemoryOrPercent:
      return ParseBytes(field, settings, word);
    case NumberForm::kOctal:
      if (!ParseOctal(word, &value)) return "argument couldn't be parsed as an octal number";
      break;
    case NumberForm::kPlain:
      if (!ParseInt64(word, &value)) return "argument couldn't be parsed into an integer";
      break;
  }
  return ParseSigned(field, settings, value);
}

std::string ParseEnum(const EnumField& field, Settings& settings, Words words) {
  std::string error = "argument(s) must be one of the following: ";
  for (const EnumName& entry : field.names) {
    if (&entry != field.names.data()) error += ", ";
    error += entry.name;
  }
  if (words.empty() || (!field.is_bits && words.size() != 1)) return error;
  int value = 0;
  for (const std::string& word : words) {
    const EnumName* match = nullptr;
    for (const EnumName& entry : field.names) {
      if (match == nullptr && EqualsIgnoreCase(UpToNul(word), entry.name)) match = &entry;
    }
    if (match == nullptr) return error;
    value |= match->value;
  }
  if (field.check != nullptr) {
    if (const char* refusal = field.check(value)) return refusal;
  }
  field.set(settings, value);
  return {};
}

std::string FormatEnum(const EnumField& field, const Settings& settings) {
  const int value = field.get(settings);
  std::string text;
  for (const EnumName& entry : field.names) {
    if (entry.value == value) return entry.name;
    if (field.is_bits && entry.value != 0 && (value & entry.value) != 0) {
      if (!text.empty()) text += ' ';
      text += entry.name;
    }
  }
  return text;
}

std::string ParseText(const StringField& field, Settings& settings, std::string_view word) {
  const bool is_password =
      field.member == &Settings::requirepass || field.member == &Settings::masterauth;
  if (!is_password) word = UpToNul(word);
  if (field.check != nullptr) {
    if (const char* error = field.check(word)) return error;
  }
  settings.*field.member = word;
  return {};
}

/// The bits of the field, sign-extended.
uint64_t LoadNumber(const NumberField& field, const Settings& settings) {
  return std::visit([&](auto member) { return static_cast<uint64_t>(settings.*member); },
                    field.member);
}

bool IsUnsigned(const NumberField& field) {
  return std::holds_alternative<uint64_t Settings::*>(field.member);
}

std::string FormatNumber(const NumberField& field, const Settings& settings, bool exact_units) {
  const uint64_t bits = LoadNumber(field, settings);
  const int64_t value = static_cast<int64_t>(bits);
  if (field.form == NumberForm::kOctal) {
    char text[32];
    std::snprintf(text, sizeof(text), "%llo", static_cast<unsigned long long>(bits));
    return text;
  }
  if (field.form == NumberForm::kMemoryOrPercent && value < 0) return std::to_string(-value) + "%";
  const bool is_memory = field.form != NumberForm::kPlain;
  if (is_memory && exact_units) return FormatMemoryExact(bits);
  return IsUnsigned(field) ? std::to_string(bits) : std::to_string(value);
}

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

constexpr DirectiveSpec kDirectives[] = {
    {.name = "include",
     .section = Section::kGeneral,
     .min_words = 1,
     .max_words = 1,
     .example = "include ./local.conf",
     .help = "Read another file here. Later lines win, so put it first to override what it says or "
             "last to let it override. A pattern with * may match no file."},
    {.name = "loadmodule",
     .section = Section::kGeneral,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .example = "loadmodule ./tensor.so",
     .help = "Load a module at start, with the arguments that follow; the start ends if it fails."},
    {.name = "user",
     .section = Section::kSecurity,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .example = "user worker +@read ~batch:* on >secret",
     .help = "A user and what it may do."},
    {.name = "rename-command",
     .section = Section::kSecurity,
     .min_words = 2,
     .max_words = 2,
     .example = "rename-command FLUSHALL \"\"",
     .help = "Give a command another name, or none at all."},
};

}  // namespace

std::string_view SectionTitle(Section section) {
  switch (section) {
    case Section::kNetwork:
      return "Network";
    case Section::kTls:
      return "Encryption (TLS)";
    case Section::kGeneral:
      return "General";
    case Section::kSnapshots:
      return "Snapshots";
    case Section::kReplication:
      return "Replication";
    case Section::kSecurity:
      return "Security";
    case Section::kClients:
      return "Clients";
    case Section::kMemory:
      return "Memory";
    case Section::kLazyFree:
      return "Lazy freeing";
    case Section::kThreads:
      return "Threads and the kernel";
    case Section::kAppendOnly:
      return "Append-only file";
    case Section::kScripts:
      return "Scripts";
    case Section::kCluster:
      return "Cluster";
    case Section::kObservation:
      return "Observation";
    case Section::kEncodings:
      return "Encodings";
    case Section::kBackground:
      return "Background work";
  }
  return {};
}

std::span<const SettingSpec* const> AllSettings() {
  static const std::vector<const SettingSpec*> all = [] {
    std::vector<const SettingSpec*> result;
    for (auto rows : {NetworkSettings(), DurabilitySettings(), ReplicationSettings(),
                      MemorySettings(), ObservationSettings()}) {
      for (const SettingSpec& spec : rows) result.push_back(&spec);
    }
    return result;
  }();
  return all;
}

std::span<const DirectiveSpec> AllDirectives() { return kDirectives; }

const SettingSpec* FindSetting(std::string_view name, bool* is_alias) {
  const auto found = Index().find(ToLower(name));
  if (found == Index().end()) return nullptr;
  if (is_alias != nullptr) *is_alias = found->second.is_alias;
  return found->second.spec;
}

std::string ParseSetting(const SettingSpec& spec, Settings& settings, Words words) {
  const bool is_multi = (spec.flags & kSettingMultiArg) != 0;
  if (!is_multi && words.size() != 1) return "wrong number of arguments";
  return std::visit(
      Overloaded{
          [&](const BoolField& field) { return ParseBool(field, settings, UpToNul(words[0])); },
          [&](const NumberField& field) { return ParseNumber(field, settings, words[0]); },
          [&](const EnumField& field) { return ParseEnum(field, settings, words); },
          [&](const StringField& field) { return ParseText(field, settings, words[0]); },
          [&](const SpecialField& field) { return field.parse(settings, words); },
      },
      spec.value);
}

std::string FormatSetting(const SettingSpec& spec, const Settings& settings) {
  return std::visit(
      Overloaded{
          [&](const BoolField& field) {
            return std::string(settings.*field.member ? "yes" : "no");
          },
          [&](const NumberField& field) { return FormatNumber(field, settings, false); },
          [&](const EnumField& field) { return FormatEnum(field, settings); },
          [&](const StringField& field) { return settings.*field.member; },
          [&](const SpecialField& field) { return field.format(settings); },
      },
      spec.value);
}

std::vector<RewriteLine> RewriteSetting(const SettingSpec& spec, const Settings& now,
                                        const Settings& defaults) {
  if (const auto* field = std::get_if<SpecialField>(&spec.value)) {
    return field->rewrite(now, defaults);
  }
  const std::string value = FormatSetting(spec, now);
  const bool forced = value != FormatSetting(spec, defaults);
  std::string text = std::string(spec.name) + " ";
  if (const auto* field = std::get_if<StringField>(&spec.value)) {
    if (value.empty() && !field->keeps_empty) return {};
    text += QuoteRepr(value);
  } else if (const auto* number = std::get_if<NumberField>(&spec.value)) {
    text += FormatNumber(*number, now, true);
  } else {
    text += value;
  }
  return {{std::move(text), forced}};
}

std::string FormatMemoryExact(uint64_t bytes) {
  constexpr std::pair<int, const char*> kUnits[] = {{30, "gb"}, {20, "mb"}, {10, "kb"}};
  for (const auto& [shift, unit] : kUnits) {
    if (bytes != 0 && (bytes & ((1ULL << shift) - 1)) == 0) {
      return std::to_string(bytes >> shift) + unit;
    }
  }
  return std::to_string(bytes);
}

}  // namespace cairn
