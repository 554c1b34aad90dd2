// The settings whose values have a syntax of their own, and the checks of single values.

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "server/base/strings.h"
#include "server/engine/config.h"
#include "server/engine/settings_table.h"

namespace cairn {
namespace {

constexpr size_t kMaxBindAddresses = 16;
constexpr const char* kWrongNumber = "wrong number of arguments";

/// strtoll's idea of a number, which these settings have in Redis: spaces and '+' in front,
/// saturating, an empty word is 0. Returns false on trailing bytes.
bool ParseLoose(const std::string& word, int64_t* value) {
  char* end = nullptr;
  *value = std::strtoll(word.c_str(), &end, 10);
  return *end == '\0';
}

bool IsOneEmptyWord(Words words) { return words.size() == 1 && words[0].empty(); }

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

/// A word that stands in a file without quotes.
bool IsPlainWord(std::string_view word) {
  return !word.empty() && std::ranges::all_of(word, [](char c) {
    return std::isgraph(static_cast<unsigned char>(c)) != 0 && c != '"' && c != '\'';
  });
}

constexpr const char* kClassNames[] = {"normal", "slave", "pubsub"};

int ClassOf(std::string_view word) {
  if (EqualsIgnoreCase(word, "normal")) return kClientNormal;
  if (EqualsIgnoreCase(word, "slave") || EqualsIgnoreCase(word, "replica")) return kClientReplica;
  if (EqualsIgnoreCase(word, "pubsub")) return kClientPubsub;
  return -1;
}

bool ParseLimitBytes(const std::string& word, uint64_t* bytes) {
  *bytes = 0;
  return word.empty() || ParseMemory(word, bytes);
}

/// Letters of notify-keyspace-events in the order in which they are shown.
struct EventLetter {
  char letter;
  int flag;
};
constexpr EventLetter kClassLetters[] = {
    {'g', kNotifyGeneric}, {'$', kNotifyString}, {'l', kNotifyList},    {'s', kNotifySet},
    {'h', kNotifyHash},    {'z', kNotifyZset},   {'x', kNotifyExpired}, {'e', kNotifyEvicted},
    {'t', kNotifyStream},  {'d', kNotifyModule}, {'n', kNotifyNew}};
constexpr EventLetter kOtherLetters[] = {
    {'K', kNotifyKeyspace}, {'E', kNotifyKeyevent}, {'m', kNotifyKeyMiss}};

}  // namespace

std::string FormatPercentile(double value) {
  char text[64];
  std::snprintf(text, sizeof(text), "%f", value);
  std::string result(text);
  while (result.back() == '0') result.pop_back();
  if (result.back() == '.') result.pop_back();
  return result;
}

// -- bind

std::string ParseBind(Settings& settings, Words words) {
  if (words.size() > kMaxBindAddresses) return "Too many bind addresses specified.";
  if (IsOneEmptyWord(words)) words = {};
  settings.bind.clear();
  for (const std::string& word : words) settings.bind.emplace_back(word.c_str());  // as Redis
  return {};
}
std::string FormatBind(const Settings& settings) { return Join(settings.bind); }
std::vector<RewriteLine> RewriteBind(const Settings& now, const Settings& defaults) {
  std::string value;
  for (const std::string& address : now.bind) {
    if (!value.empty()) value += ' ';
    // What is no address at all is written so that it is read back as it was.
    value += IsPlainWord(address) ? address : QuoteRepr(address);
  }
  if (now.bind.empty()) value = "\"\"";
  // As Redis, which takes the line away also where the file has one.
  if (now.bind == defaults.bind) return {};
  return {{"bind " + value, true}};
}

// -- save

std::string ParseSave(Settings& settings, Words words) {
  if (IsOneEmptyWord(words)) words = {};
  if (words.size() % 2 != 0) return "Invalid save parameters";
  std::vector<std::pair<int64_t, int64_t>> rules;
  for (size_t i = 0; i < words.size(); i += 2) {
    int64_t seconds = 0;
    int64_t changes = 0;
    if (!ParseLoose(words[i], &seconds) || !ParseLoose(words[i + 1], &changes) || seconds < 1 ||
        changes < 0) {
      return "Invalid save parameters";
    }
    rules.emplace_back(seconds, changes);
  }
  settings.save = std::move(rules);
  return {};
}
std::string FormatSave(const Settings& settings) {
  std::string text;
  for (const auto& [seconds, changes] : settings.save) {
    if (!text.empty()) text += ' ';
    text += std::to_string(seconds) + ' ' + std::to_string(changes);
  }
  return text;
}
std::vector<RewriteLine> RewriteSave(const Settings& now, const Settings&) {
  if (now.save.empty()) return {{"save \"\"", true}};
  std::vector<RewriteLine> lines;
  for (const auto& [seconds, changes] : now.save) {
    lines.push_back({"save " + std::to_string(seconds) + ' ' + std::to_string(changes), true});
  }
  return lines;
}

// -- dir. Changing to it, and making it absolute, is Config's part.

std::string ParseDir(Settings& settings, Words words) {
  settings.dir = words[0];
  return {};
}
std::string FormatDir(const Settings& settings) { return settings.dir; }
std::vector<RewriteLine> RewriteDir(const Settings& now, const Settings&) {
  return {{"dir " + QuoteRepr(now.dir), true}};
}

// -- replicaof

std::string ParseReplicaof(Settings& settings, Words words) {
  if (words.size() != 2) return kWrongNumber;
  if (EqualsIgnoreCase(words[0], "no") && EqualsIgnoreCase(words[1], "one")) {
    settings.replicaof = {};
    return {};
  }
  int64_t port = 0;
  if (!ParseLoose(words[1], &port) || port < 0 || port > 65535) return "Invalid master port";
  settings.replicaof = {words[0], static_cast<int>(port)};
  return {};
}
std::string FormatReplicaof(const Settings& settings) {
  if (settings.replicaof.host.empty()) return {};
  return settings.replicaof.host + ' ' + std::to_string(settings.replicaof.port);
}
std::vector<RewriteLine> RewriteReplicaof(const Settings& now, const Settings&) {
  if (now.replicaof.host.empty()) return {};
  return {{"replicaof " + FormatReplicaof(now), true}};
}

// -- client-output-buffer-limit

std::string ParseOutputBufferLimit(Settings& settings, Words words) {
  if (words.size() % 4 != 0) return "Wrong number of arguments in buffer limit configuration.";
  auto limits = settings.client_output_buffer_limit;
  for (size_t i = 0; i < words.size(); i += 4) {
    const int client_class = ClassOf(words[i]);
    if (client_class < 0) return "Invalid client class specified in buffer limit configuration.";
    OutputBufferLimit& limit = limits[static_cast<size_t>(client_class)];
    if (!ParseLimitBytes(words[i + 1], &limit.hard_bytes) ||
        !ParseLimitBytes(words[i + 2], &limit.soft_bytes) ||
        !ParseLoose(words[i + 3], &limit.soft_seconds) || limit.soft_seconds < 0) {
      return "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
    }
  }
  settings.client_output_buffer_limit = limits;
  return {};
}
std::string FormatOutputBufferLimit(const Settings& settings) {
  std::string text;
  for (size_t i = 0; i < kClientClassCount; ++i) {
    const OutputBufferLimit& limit = settings.client_output_buffer_limit[i];
    if (i != 0) text += ' ';
    text += std::string(kClassNames[i]) + ' ' + std::to_string(limit.hard_bytes) + ' ' +
            std::to_string(limit.soft_bytes) + ' ' + std::to_string(limit.soft_seconds);
  }
  return text;
}
std::vector<RewriteLine> RewriteOutputBufferLimit(const Settings& now, const Settings& defaults) {
  std::vector<RewriteLine> lines;
  for (size_t i = 0; i < kClientClassCount; ++i) {
    const OutputBufferLimit& limit = now.client_output_buffer_limit[i];
    // The file says "replica" where CONFIG GET, for old clients, says "slave".
    const std::string name = i == kClientReplica ? "replica" : kClassNames[i];
    lines.push_back(
        {"client-output-buffer-limit " + name + ' ' + FormatMemoryExact(limit.hard_bytes) + ' ' +
             FormatMemoryExact(limit.soft_bytes) + ' ' + std::to_string(limit.soft_seconds),
         limit != defaults.client_output_buffer_limit[i]});
  }
  return lines;
}

// -- oom-score-adj-values

std::string ParseOomScoreAdjValues(Settings& settings, Words words) {
  if (words.size() != 3) return kWrongNumber;
  std::array<int, 3> values{};
  for (size_t i = 0; i < 3; ++i) {
    int64_t value = 0;
    if (!ParseLoose(words[i], &value) || value < -2000 || value > 2000) {
      return "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
    }
    values[i] = static_cast<int>(value);
  }
  settings.oom_score_adj_values = values;
  return {};
}
std::string FormatOomScoreAdjValues(const Settings& settings) {
  const auto& values = settings.oom_score_adj_values;
  return std::to_string(values[0]) + ' ' + std::to_string(values[1]) + ' ' +
         std::to_string(values[2]);
}
std::vector<RewriteLine> RewriteOomScoreAdjValues(const Settings& now, const Settings& defaults) {
  return {{"oom-score-adj-values " + FormatOomScoreAdjValues(now),
           now.oom_score_adj_values != defaults.oom_score_adj_values}};
}

// -- latency-tracking-info-percentiles

std::string ParsePercentiles(Settings& settings, Words words) {
  if (IsOneEmptyWord(words)) words = {};
  std::vector<double> values;
  for (const std::string& word : words) {
    double value = 0;
    if (!ParseDouble(word, &value)) return "Invalid latency-tracking-info-percentiles parameters";
    if (value < 0.0 || value > 100.0) {
      return "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
    }
    values.push_back(value);
  }
  settings.latency_tracking_info_percentiles = std::move(values);
  return {};
}
std::string FormatPercentiles(const Settings& settings) {
  std::string text;
  for (const double value : settings.latency_tracking_info_percentiles) {
    if (!text.empty()) text += ' ';
    text += FormatPercentile(value);
  }
  return text;
}
std::vector<RewriteLine> RewritePercentiles(const Settings& now, const Settings&) {
  const std::string value = FormatPercentiles(now);
  return {{"latency-tracking-info-percentiles " + (value.empty() ? "\"\"" : value), true}};
}

// -- snapshot-retained-limit

std::string ParseRetainedLimit(Settings& settings, Words words) {
  constexpr uint64_t kLeastBytes = 1024 * 1024;
  if (words.size() != 1) return kWrongNumber;
  uint64_t bytes = 0;
  if (!EqualsIgnoreCase(words[0], "auto")) {
    if (!ParseMemory(words[0], &bytes)) return "argument must be a memory value or 'auto'";
    if (bytes < kLeastBytes) return "argument must be at least 1mb, or 'auto'";
  }
  settings.snapshot_retained_limit = bytes;
  return {};
}
std::string FormatRetainedLimit(const Settings& settings) {
  const uint64_t bytes = settings.snapshot_retained_limit;
  return bytes == 0 ? "auto" : std::to_string(bytes);
}
std::vector<RewriteLine> RewriteRetainedLimit(const Settings& now, const Settings& defaults) {
  const uint64_t bytes = now.snapshot_retained_limit;
  return {{"snapshot-retained-limit " + (bytes == 0 ? "auto" : FormatMemoryExact(bytes)),
           bytes != defaults.snapshot_retained_limit}};
}

// -- notify-keyspace-events

int ParseKeyspaceEvents(std::string_view letters) {
  int flags = 0;
  for (const char letter : letters) {
    int flag = letter == 'A' ? kNotifyAll : 0;
    for (const EventLetter& entry : kClassLetters) flag |= entry.letter == letter ? entry.flag : 0;
    for (const EventLetter& entry : kOtherLetters) flag |= entry.letter == letter ? entry.flag : 0;
    if (flag == 0) return -1;
    flags |= flag;
  }
  return flags;
}

std::string FormatKeyspaceEvents(int flags) {
  std::string text;
  if ((flags & kNotifyAll) == kNotifyAll) {
    // Redis leaves 'n' out when it says 'A', although 'A' does not mean it.
    text = "A";
  } else {
    for (const EventLetter& entry : kClassLetters) {
      if ((flags & entry.flag) != 0) text += entry.letter;
    }
  }
  for (const EventLetter& entry : kOtherLetters) {
    if ((flags & entry.flag) != 0) text += entry.letter;
  }
  return text;
}

std::string ParseKeyspaceEvents(Settings& settings, Words words) {
  const int flags = ParseKeyspaceEvents(words[0].c_str());  // as Redis
  if (flags < 0) return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
  settings.notify_keyspace_events = flags;
  return {};
}
std::string FormatKeyspaceEvents(const Settings& settings) {
  return FormatKeyspaceEvents(settings.notify_keyspace_events);
}
std::vector<RewriteLine> RewriteKeyspaceEvents(const Settings& now, const Settings&) {
  return {{"notify-keyspace-events " + QuoteRepr(FormatKeyspaceEvents(now)),
           now.notify_keyspace_events != 0}};
}

// -- Checks of single values.

const char* CheckActiveDefrag(bool value) {
  if (!value) return nullptr;
  return "Active defragmentation cannot be enabled: it requires a Redis server compiled with a "
         "modified Jemalloc like the one shipped by default with the Redis source distribution";
}

const char* CheckShutdownBits(int bits) {
  if ((bits & kShutdownSave) != 0 && (bits & kShutdownNoSave) != 0) {
    return "shutdown options SAVE and NOSAVE can't be used simultaneously";
  }
  return nullptr;
}

const char* CheckDbFilename(std::string_view value) {
  if (value.find('/') == std::string_view::npos) return nullptr;
  return "dbfilename can't be a path, just a filename";
}

const char* CheckAppendFilename(std::string_view value) {
  if (value.empty()) return "appendfilename can't be empty";
  if (value.find('/') == std::string_view::npos) return nullptr;
  return "appendfilename can't be a path, just a filename";
}

const char* CheckAppendDirname(std::string_view value) {
  if (value.empty()) return "appenddirname can't be empty";
  if (value.find('/') == std::string_view::npos) return nullptr;
  return "appenddirname can't be a path, just a dirname";
}

const char* CheckAnnouncedHostname(std::string_view value) {
  if (value.size() >= 256) return "Hostnames must be less than 256 characters";
  for (const char c : value) {
    const bool fine = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.';
    if (!fine) return "Hostnames may only contain alphanumeric characters, hyphens or dots";
  }
  return nullptr;
}

const char* CheckProcTitleTemplate(std::string_view value) {
  constexpr std::string_view kKnown[] = {"title",    "listen-addr", "server-mode", "port",
                                         "tls-port", "unixsocket",  "config-file"};
  constexpr const char* kError = "template format is invalid or contains unknown variables";
  // A template that shows nothing is refused, and so is one of the title alone, which Redis judges
  // as empty.
  bool shows_something = false;
  while (true) {
    const size_t open = value.find('{');
    shows_something = shows_something || !value.substr(0, open).empty();
    if (open == std::string_view::npos) return shows_something ? nullptr : kError;
    const size_t close = value.find('}', open);
    if (close == std::string_view::npos) return kError;
    const std::string_view name = value.substr(open + 1, close - open - 1);
    if (std::ranges::find(kKnown, name) == std::end(kKnown)) return kError;
    shows_something = shows_something || name != "title";
    value.remove_prefix(close + 1);
  }
}

}  // namespace cairn
