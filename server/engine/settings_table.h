#pragma once

// The table of settings: one row says how a setting is spelled, which field of Settings it is, what
// it accepts, when it may change and what it is for. The parser of the configuration file, CONFIG
// GET / SET / REWRITE, conf/cairn.conf and the list in docs/differences.md are all read off these
// rows; the rows stand in settings_rows_*.cc by section. Constant data and pure functions; any
// thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "server/engine/settings.h"

namespace cairn {

enum class Section : uint8_t {
  kNetwork,
  kTls,
  kGeneral,
  kSnapshots,
  kReplication,
  kSecurity,
  kClients,
  kMemory,
  kLazyFree,
  kThreads,
  kAppendOnly,
  kScripts,
  kCluster,
  kObservation,
  kEncodings,
  kBackground,
};
/// "Network", "Append-only file", ...
std::string_view SectionTitle(Section section);

enum SettingFlag : uint16_t {
  kSettingImmutable = 1 << 0,    ///< fixed at start-up
  kSettingSensitive = 1 << 1,    ///< the value is a secret
  kSettingHidden = 1 << 2,       ///< globs do not find it
  kSettingMultiArg = 1 << 3,     ///< the value is several words
  kSettingProtected = 1 << 4,    ///< CONFIG SET asks enable-protected-configs
  kSettingDenyLoading = 1 << 5,  ///< not while a data set is being loaded
};

struct BoolField {
  bool Settings::*member;
  const char* (*check)(bool) = nullptr;  ///< error text, or null when fine
};
enum class NumberForm : uint8_t { kPlain, kMemory, kMemoryOrPercent, kOctal };
struct NumberField {
  std::variant<int Settings::*, int64_t Settings::*, uint64_t Settings::*> member;
  int64_t min;
  uint64_t max;
  NumberForm form = NumberForm::kPlain;
};
struct EnumName {
  const char* name;
  int value;
};
struct EnumField {
  int (*get)(const Settings&);
  void (*set)(Settings&, int);
  std::span<const EnumName> names;
  bool is_bits = false;                 ///< the value is the union of several names
  const char* (*check)(int) = nullptr;  ///< error text, or null when fine
};
struct StringField {
  std::string Settings::*member;
  bool keeps_empty = false;                          ///< "" is a value that CONFIG REWRITE writes
  const char* (*check)(std::string_view) = nullptr;  ///< error text, or null when fine
};
/// A line for CONFIG REWRITE; `forced` lines are added when the file has none to replace.
struct RewriteLine {
  std::string text;
  bool forced;
};
using Words = std::span<const std::string>;
struct SpecialField {
  /// Error text, or empty. Nothing is changed on error.
  std::string (*parse)(Settings&, Words);
  std::string (*format)(const Settings&);
  std::vector<RewriteLine> (*rewrite)(const Settings& now, const Settings& defaults);
};

struct SettingSpec {
  const char* name;
  const char* alias = nullptr;
  Section section;
  std::variant<BoolField, NumberField, EnumField, StringField, SpecialField> value;
  uint16_t flags = 0;
  const char* unit = nullptr;      ///< "seconds", ...; null when the type says it
  const char* help = "";           ///< a paragraph for conf/cairn.conf
  const char* later = nullptr;     ///< which work gives it its effect; null: it has one
  const char* needless = nullptr;  ///< why it needs none here
};

/// A word that may begin a line of the file without being a setting.
struct DirectiveSpec {
  const char* name;
  Section section;
  size_t min_words;  ///< words after the name
  size_t max_words;
  const char* example;
  const char* help;
  const char* later = nullptr;
};

/// All rows, by section. Cost: O(1) after the first call.
std::span<const SettingSpec* const> AllSettings();
std::span<const DirectiveSpec> AllDirectives();
/// By name or alias, case ignored; null when there is none. *is_alias tells which it was.
const SettingSpec* FindSetting(std::string_view name, bool* is_alias = nullptr);

/// Sets one field from words. Returns an error text in Redis's words, empty when fine; nothing is
/// changed then.
std::string ParseSetting(const SettingSpec& spec, Settings& settings, Words words);
/// The value as CONFIG GET shows it.
std::string FormatSetting(const SettingSpec& spec, const Settings& settings);
/// The lines that CONFIG REWRITE writes for it; none drops the lines the file has.
std::vector<RewriteLine> RewriteSetting(const SettingSpec& spec, const Settings& now,
                                        const Settings& defaults);

/// The rows of each file, for AllSettings.
std::span<const SettingSpec> NetworkSettings();
std::span<const SettingSpec> DurabilitySettings();
std::span<const SettingSpec> ReplicationSettings();
std::span<const SettingSpec> MemorySettings();
std::span<const SettingSpec> ObservationSettings();

// -- What rows are made of.

constexpr BoolField Bool(bool Settings::*member, const char* (*check)(bool) = nullptr) {
  return {member, check};
}
template <typename T>
constexpr NumberField Number(T Settings::*member, int64_t min, uint64_t max) {
  return {member, min, max, NumberForm::kPlain};
}
template <typename T>
constexpr NumberField Memory(T Settings::*member, int64_t min, uint64_t max) {
  return {member, min, max, NumberForm::kMemory};
}
constexpr StringField Text(std::string Settings::*member) { return {member}; }
constexpr StringField TextOrEmpty(std::string Settings::*member,
                                  const char* (*check)(std::string_view) = nullptr) {
  return {member, true, check};
}
template <auto member>
constexpr EnumField OneOf(std::span<const EnumName> names) {
  using Value = std::remove_reference_t<decltype(std::declval<Settings&>().*member)>;
  return {[](const Settings& s) { return static_cast<int>(s.*member); },
          [](Settings& s, int v) { s.*member = static_cast<Value>(v); }, names};
}

inline constexpr uint64_t kMaxInt = 2147483647;
inline constexpr uint64_t kMaxUint = 4294967295;
inline constexpr uint64_t kMaxInt64 = 9223372036854775807ULL;
inline constexpr uint64_t kMaxUint64 = 18446744073709551615ULL;

// -- The values that have a syntax of their own (settings_special.cc).

std::string ParseBind(Settings& settings, Words words);
std::string FormatBind(const Settings& settings);
std::vector<RewriteLine> RewriteBind(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kBindField = {&ParseBind, &FormatBind, &RewriteBind};
std::string ParseSave(Settings& settings, Words words);
std::string FormatSave(const Settings& settings);
std::vector<RewriteLine> RewriteSave(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kSaveField = {&ParseSave, &FormatSave, &RewriteSave};
std::string ParseDir(Settings& settings, Words words);
std::string FormatDir(const Settings& settings);
std::vector<RewriteLine> RewriteDir(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kDirField = {&ParseDir, &FormatDir, &RewriteDir};
std::string ParseRetainedLimit(Settings& settings, Words words);
std::string FormatRetainedLimit(const Settings& settings);
std::vector<RewriteLine> RewriteRetainedLimit(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kRetainedLimitField = {&ParseRetainedLimit, &FormatRetainedLimit,
                                                     &RewriteRetainedLimit};
std::string ParseReplicaof(Settings& settings, Words words);
std::string FormatReplicaof(const Settings& settings);
std::vector<RewriteLine> RewriteReplicaof(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kReplicaofField = {&ParseReplicaof, &FormatReplicaof,
                                                 &RewriteReplicaof};
std::string ParseOutputBufferLimit(Settings& settings, Words words);
std::string FormatOutputBufferLimit(const Settings& settings);
std::vector<RewriteLine> RewriteOutputBufferLimit(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kOutputBufferLimitField = {
    &ParseOutputBufferLimit, &FormatOutputBufferLimit, &RewriteOutputBufferLimit};
std::string ParseOomScoreAdjValues(Settings& settings, Words words);
std::string FormatOomScoreAdjValues(const Settings& settings);
std::vector<RewriteLine> RewriteOomScoreAdjValues(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kOomScoreAdjValuesField = {
    &ParseOomScoreAdjValues, &FormatOomScoreAdjValues, &RewriteOomScoreAdjValues};
std::string ParsePercentiles(Settings& settings, Words words);
/// As in CONFIG GET and in the fields of INFO latencystats: "99.9".
std::string FormatPercentile(double value);
std::string FormatPercentiles(const Settings& settings);
std::vector<RewriteLine> RewritePercentiles(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kPercentilesField = {&ParsePercentiles, &FormatPercentiles,
                                                   &RewritePercentiles};
std::string ParseKeyspaceEvents(Settings& settings, Words words);
std::string FormatKeyspaceEvents(const Settings& settings);
std::vector<RewriteLine> RewriteKeyspaceEvents(const Settings& now, const Settings& defaults);
inline constexpr SpecialField kKeyspaceEventsField = {&ParseKeyspaceEvents, &FormatKeyspaceEvents,
                                                      &RewriteKeyspaceEvents};

const char* CheckActiveDefrag(bool value);
const char* CheckShutdownBits(int bits);
const char* CheckDbFilename(std::string_view value);
const char* CheckAppendFilename(std::string_view value);
const char* CheckAppendDirname(std::string_view value);
const char* CheckAnnouncedHostname(std::string_view value);
const char* CheckProcTitleTemplate(std::string_view value);

/// 1073741824 as "1gb", 1536 as "1536": exact, the largest unit that divides.
std::string FormatMemoryExact(uint64_t bytes);

}  // namespace cairn
