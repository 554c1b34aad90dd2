#include "persistence/aof_manifest.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "server/base/checksum.h"
#include "server/base/strings.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

/// Longest line of a manifest that Redis 7 reads, newline included.
constexpr size_t kMaxLine = 1024;
/// Highest number of a file: Redis counts with 64 bits and a sign.
constexpr uint64_t kMaxSequence = INT64_MAX;
/// Longest name of a directory entry on Linux (NAME_MAX).
constexpr size_t kMaxName = 255;

std::string NumberedName(std::string_view append_name, uint64_t sequence, std::string_view suffix) {
  return std::string(append_name) + "." + std::to_string(sequence) + std::string(suffix);
}

/// Names that a plain word cannot carry are quoted, as Redis does.
bool NeedsQuotes(std::string_view name) {
  if (name.empty()) return true;
  for (unsigned char c : name) {
    if (c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '\\') return true;
  }
  return false;
}

void FormatFile(const AofFile& file, std::string* out) {
  out->append("file ");
  out->append(NeedsQuotes(file.name) ? QuoteRepr(file.name) : file.name);
  out->append(" seq ").append(std::to_string(file.sequence)).append(" type ");
  out->push_back(static_cast<char>(file.type));
  if (file.counted_bytes != kWholeAofFile) {
    out->append(" bytes ").append(std::to_string(file.counted_bytes));
  }
  out->push_back('\n');
}

/// Begins the line that seals a manifest. Redis 7 skips it, as any line with a '#' in front.
constexpr std::string_view kManifestMark = "#CAIRN-MANIFEST:";

/// The last line of a manifest that consists of `lines`.
std::string ManifestCheckLine(std::string_view lines) {
  std::string crc(8, '\0');
  const uint64_t value = Crc64(~uint64_t{0}, lines);
  for (size_t i = 0; i < crc.size(); ++i) crc[i] = static_cast<char>(value >> (56 - 8 * i));
  return std::string(kManifestMark) + HexEncode(crc) + "\n";
}

std::string_view Trim(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t first = line.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(kBlank) - first + 1);
}

Status Invalid(std::string reason) { return Status::Corruption(std::move(reason)); }

/// A manifest with a higher number could not be read back.
Status NoNumberLeft() {
  return Status::Io("no sequence number is left for a new append-only file");
}

/// The fields of a line; keys that are not known are skipped, as Redis does.
Result<AofFile> ParseFields(std::string_view line) {
  Result<std::vector<std::string>> words = SplitArgs(line);
  if (!words.ok() || words->size() < 6 || words->size() % 2 != 0) {
    return Invalid("Invalid AOF manifest file format");
  }
  AofFile file;
  bool typed = false;
  for (size_t i = 0; i < words->size(); i += 2) {
    const std::string& key = (*words)[i];
    const std::string& value = (*words)[i + 1];
    if (EqualsIgnoreCase(key, "file")) {
      if (value.find('/') != std::string::npos || value == "." || value == "..") {
        return Invalid("File can't be a path, just a filename");
      }
      file.name = value;
    } else if (EqualsIgnoreCase(key, "seq")) {
      if (!ParseUint64(value, &file.sequence)) return Invalid("Invalid AOF manifest file format");
    } else if (EqualsIgnoreCase(key, "type")) {
      if (value.size() != 1 || std::string_view("bih").find(value[0]) == std::string_view::npos) {
        return Invalid("Unknown AOF file type");
      }
      file.type = static_cast<AofFileType>(value[0]);
      typed = true;
    } else if (EqualsIgnoreCase(key, "bytes")) {
      if (!ParseUint64(value, &file.counted_bytes)) {
        return Invalid("Invalid AOF manifest file format");
      }
    }
  }
  if (file.name.empty() || file.sequence == 0 || !typed) {
    return Invalid("Invalid AOF manifest file format");
  }
  if (file.sequence > kMaxSequence) return Invalid("The sequence number is too large");
  return file;
}

}  // namespace

Result<AofManifest> AofManifest::Parse(std::string_view text, std::string_view where) {
  AofManifest manifest;
  if (text.empty()) return Invalid(std::string(where) + ": Found an empty AOF manifest");
  uint64_t number = 0;
  for (const std::string_view whole = text; !text.empty();) {
    ++number;
    const size_t end = text.find('\n');
    if (end == std::string_view::npos || end + 1 >= kMaxLine) {
      return Invalid(std::string(where) + ": at line " + std::to_string(number) +
                     ": The AOF manifest file contains too long line");
    }
    const std::string_view line = text.substr(0, end);
    if (line.starts_with(kManifestMark) &&
        text != ManifestCheckLine(whole.substr(0, whole.size() - text.size()))) {
      return Invalid(
          std::string(where) + ": at line " + std::to_string(number) +
          ": The AOF manifest does not match its check (whoever edits a manifest by hand "
          "takes that line out)");
    }
    text.remove_prefix(end + 1);
    if (!line.empty() && line[0] == '#') continue;
    if (Status status = manifest.AddLine(Trim(line)); !status.ok()) {
      return Invalid(std::string(where) + ": at line " + std::to_string(number) + " '" +
                     std::string(Trim(line)) + "': " + std::string(status.message()));
    }
  }
  // What is in force is never deleted, whatever else the file calls it.
  std::erase_if(manifest.history_,
                [&manifest](const AofFile& file) { return manifest.IsInForce(file.name); });
  return manifest;
}

bool AofManifest::IsInForce(std::string_view name) const {
  const auto same = [name](const AofFile& file) { return file.name == name; };
  return (base_ && same(*base_)) || std::any_of(increments_.begin(), increments_.end(), same);
}

bool AofManifest::IsHistory(std::string_view name) const {
  return std::any_of(history_.begin(), history_.end(),
                     [name](const AofFile& file) { return file.name == name; });
}

Status AofManifest::AddLine(std::string_view line) {
  Result<AofFile> parsed = ParseFields(line);
  if (!parsed.ok()) return parsed.status();
  AofFile& file = *parsed;
  if (file.type != AofFileType::kHistory && IsInForce(file.name)) {
    return Invalid("Found a file that is named twice");
  }
  switch (file.type) {
    case AofFileType::kBase:
      if (base_) return Invalid("Found duplicate base file information");
      base_sequence_ = file.sequence;
      base_ = std::move(file);
      break;
    case AofFileType::kIncrement:
      if (file.sequence <= increment_sequence_) {
        return Invalid("Found a non-monotonic sequence number");
      }
      increment_sequence_ = file.sequence;
      increments_.push_back(std::move(file));
      break;
    case AofFileType::kHistory:
      history_.push_back(std::move(file));
      break;
  }
  return Status::Ok();
}

std::string AofManifest::Format() const {
  std::string out;
  if (base_) FormatFile(*base_, &out);
  for (const AofFile& file : history_) FormatFile(file, &out);
  for (const AofFile& file : increments_) FormatFile(file, &out);
  return out.empty() ? out : out + ManifestCheckLine(out);
}

Result<AofFile> AofManifest::AddIncrement(std::string_view append_name) {
  std::string name;
  do {
    if (increment_sequence_ >= kMaxSequence) return NoNumberLeft();
    name = NumberedName(append_name, ++increment_sequence_, ".incr.aof");
  } while (IsHistory(name));
  increments_.push_back({std::move(name), increment_sequence_, AofFileType::kIncrement});
  return increments_.back();
}

Result<AofFile> AofManifest::ReplaceBase(std::string_view append_name, bool is_rdb) {
  if (base_) {
    base_->type = AofFileType::kHistory;
    history_.push_back(*base_);
  }
  // After a restart the history may hold a base of a higher number, whose publication failed.
  std::string name;
  do {
    if (base_sequence_ >= kMaxSequence) return NoNumberLeft();
    name = NumberedName(append_name, ++base_sequence_, is_rdb ? ".base.rdb" : ".base.aof");
  } while (IsHistory(name));
  base_ = AofFile{std::move(name), base_sequence_, AofFileType::kBase};
  return *base_;
}

void AofManifest::AdoptOldFile(std::string_view name) {
  CAIRN_CHECK(empty());
  base_ = AofFile{std::string(name), 1, AofFileType::kBase};
  base_sequence_ = std::max(base_sequence_, uint64_t{1});
}

void AofManifest::RetireIncrementsBelow(uint64_t sequence) {
  std::vector<AofFile> kept;
  for (AofFile& file : increments_) {
    if (file.sequence >= sequence) {
      kept.push_back(std::move(file));
    } else {
      file.type = AofFileType::kHistory;
      history_.push_back(std::move(file));
    }
  }
  increments_ = std::move(kept);
}

void AofManifest::RetireAll() {
  if (base_) {
    base_->type = AofFileType::kHistory;
    history_.push_back(std::move(*base_));
    base_.reset();
  }
  RetireIncrementsBelow(UINT64_MAX);
}

void AofManifest::AddHistory(AofFile file) {
  file.type = AofFileType::kHistory;
  history_.push_back(std::move(file));
}

void AofManifest::SkipBaseSequence() { ++base_sequence_; }

bool AofManifest::PassOver(std::string_view append_name, std::string_view name) {
  if (!name.starts_with(append_name) || name.substr(append_name.size(), 1) != ".") return false;
  const std::string_view rest = name.substr(append_name.size() + 1);
  const size_t dot = rest.find('.');
  uint64_t number = 0;
  if (dot == std::string_view::npos || !ParseUint64(rest.substr(0, dot), &number)) return false;
  if (number == 0 || number > kMaxSequence) return false;
  const std::string_view suffix = rest.substr(dot);
  if (suffix == ".incr.aof") {
    increment_sequence_ = std::max(increment_sequence_, number);
  } else if (suffix == ".base.rdb" || suffix == ".base.aof") {
    base_sequence_ = std::max(base_sequence_, number);
  } else {
    return false;
  }
  return true;
}

Status CheckAofName(const AofLocation& location) {
  // The longest of all names, and the longest of all lines, are those of the largest number.
  const AofFile longest{NumberedName(location.append_name, UINT64_MAX, ".incr.aof"), UINT64_MAX,
                        AofFileType::kIncrement, kWholeAofFile - 1};
  std::string line;
  FormatFile(longest, &line);
  const size_t manifest_name = location.append_name.size() + std::string("temp-.manifest").size();
  if (std::max(longest.name.size(), manifest_name) <= kMaxName && line.size() < kMaxLine) {
    return Status::Ok();
  }
  return Status::Client(
      "appendfilename is too long: the names of the append-only files made of it "
      "would not fit into a directory or a manifest");
}

Status CreateAofDirectory(Env& env, const AofLocation& location) {
  CAIRN_RETURN_IF_ERROR(env.CreateDir(location.directory));
  // An earlier process may have created all this and ended before it was durable.
  CAIRN_RETURN_IF_ERROR(env.SyncDir(location.directory));
  return env.SyncDir(DirName(location.directory));
}

Result<AofManifest> LoadAofManifest(Env& env, const AofLocation& location) {
  const std::string path = location.ManifestPath();
  if (Result<uint64_t> there = env.FileSize(path); !there.ok()) {
    if (there.status().code() == StatusCode::kNotFound) return AofManifest();
    return there.status();
  }
  Result<std::string> text = env.ReadFileToString(path);
  if (!text.ok()) return text.status();
  return AofManifest::Parse(*text, path);
}

Status PersistAofManifest(Env& env, const AofLocation& location, const AofManifest& manifest) {
  return env.WriteFileAtomically(location.ManifestPath(), manifest.Format());
}

namespace {

Status SweepLeftovers(Env& env, const AofLocation& location, const AofManifest& manifest) {
  Result<std::vector<std::string>> names = env.ListDir(location.directory);
  if (!names.ok()) return names.status();
  // appendfilename itself may begin with "temp-".
  std::set<std::string_view> kept;
  const std::string manifest_name = location.append_name + ".manifest";
  kept.insert(manifest_name);
  if (manifest.base()) kept.insert(manifest.base()->name);
  for (const AofFile& file : manifest.increments()) kept.insert(file.name);
  for (const AofFile& file : manifest.history()) kept.insert(file.name);
  for (const std::string& name : *names) {
    if (!name.starts_with("temp-") || kept.contains(name)) continue;
    CAIRN_RETURN_IF_ERROR(env.RemoveIfThere(location.PathOf(name)));
  }
  return Status::Ok();
}

Status PassOverStrays(Env& env, const AofLocation& location, AofManifest* manifest,
                      std::vector<std::string>* stray) {
  Result<std::vector<std::string>> names = env.ListDir(location.directory);
  if (!names.ok()) return names.status();
  for (std::string& name : *names) {
    if (manifest->PassOver(location.append_name, name) && stray != nullptr)
      stray->push_back(std::move(name));
  }
  return Status::Ok();
}

/// The manifest is written before the file moves: a crash between the two leaves a manifest whose
/// only file is still outside, and the next start completes the move.
Status MoveOldFile(Env& env, const std::string& server_dir, const AofLocation& location) {
  CAIRN_RETURN_IF_ERROR(
      env.Rename(server_dir + "/" + location.append_name, location.PathOf(location.append_name)));
  CAIRN_RETURN_IF_ERROR(env.SyncDir(location.directory));
  return env.SyncDir(server_dir);
}

/// The manifest in force, and no leftovers.
Result<AofManifest> TidyUp(Env& env, const AofLocation& location, std::vector<std::string>* stray) {
  Result<AofManifest> manifest = LoadAofManifest(env, location);
  if (!manifest.ok()) return manifest;
  CAIRN_RETURN_IF_ERROR(SweepLeftovers(env, location, *manifest));
  if (manifest->empty()) {
    CAIRN_RETURN_IF_ERROR(PassOverStrays(env, location, &*manifest, stray));
  }
  return manifest;
}

}  // namespace

Result<AofManifest> EnterAofDirectory(Env& env, const AofLocation& location,
                                      std::vector<std::string>* stray) {
  CAIRN_RETURN_IF_ERROR(CheckAofName(location));
  CAIRN_RETURN_IF_ERROR(env.CreateDir(location.directory));
  return TidyUp(env, location, stray);
}

Result<AofManifest> PrepareAofDirectory(Env& env, const std::string& server_dir,
                                        const AofLocation& location,
                                        std::vector<std::string>* stray) {
  CAIRN_RETURN_IF_ERROR(CheckAofName(location));
  CAIRN_RETURN_IF_ERROR(CreateAofDirectory(env, location));
  Result<AofManifest> manifest = TidyUp(env, location, stray);
  if (!manifest.ok()) return manifest;
  const std::string old_path = server_dir + "/" + location.append_name;
  // Not being able to look is an error here: to go on as if nothing were there is to begin empty,
  // and once there is a manifest nobody looks again.
  const Result<FileKind> old = env.KindOf(old_path);
  if (!old.ok()) return old.status();
  if (*old != FileKind::kFile) return manifest;  // a directory is none of ours
  const bool adopt = manifest->empty();
  const bool adopted = manifest->base() && manifest->base()->name == location.append_name;
  if (!adopt && !adopted) return manifest;
  // In the way of the one stands a manifest that lists nothing, of the other the file itself.
  const Result<bool> in_the_way =
      env.FileExists(adopt ? location.ManifestPath() : location.PathOf(location.append_name));
  if (!in_the_way.ok()) return in_the_way.status();
  if (*in_the_way) return manifest;
  if (adopt) {
    manifest->AdoptOldFile(location.append_name);
    CAIRN_RETURN_IF_ERROR(PersistAofManifest(env, location, *manifest));
  }
  CAIRN_RETURN_IF_ERROR(MoveOldFile(env, server_dir, location));
  return manifest;
}

namespace {

/// The number in "<prefix><digits><suffix>", or -1.
int64_t NumberBetween(std::string_view name, std::string_view prefix, std::string_view suffix) {
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return -1;
  name.remove_prefix(prefix.size());
  if (name.size() <= suffix.size()) return -1;
  name.remove_suffix(suffix.size());
  uint64_t number = 0;
  return ParseUint64(name, &number) && number <= INT32_MAX ? static_cast<int64_t>(number) : -1;
}

/// "temp-sync-<n>-" of a copy for replicas, whose name ends with the process as the others do.
std::string_view SyncPrefixOf(std::string_view name) {
  constexpr std::string_view kPrefix = "temp-sync-";
  return name.starts_with(kPrefix) ? name.substr(0, name.rfind('-') + 1) : kPrefix;
}

}  // namespace

uint64_t SweepServerDirectory(Env& env, const std::string& server_dir, int64_t own_pid) {
  Result<std::vector<std::string>> names = env.ListDir(server_dir);
  if (!names.ok()) return 0;
  uint64_t removed = 0;
  for (const std::string& name : *names) {
    const int64_t pid = std::max({NumberBetween(name, "temp-", ".rdb"),
                                  NumberBetween(name, "temp-primary-", ".rdb"),
                                  NumberBetween(name, SyncPrefixOf(name), ".rdb"),
                                  NumberBetween(name, "temp-rewriteaof-", ".aof"),
                                  NumberBetween(name, "temp-rewriteaof-bg-", ".aof")});
    if (pid < 0) continue;
    const Result<bool> runs = env.FileExists("/proc/" + std::to_string(pid));
    if (pid != own_pid && (!runs.ok() || *runs)) continue;  // it may be writing it
    if (env.Remove(server_dir + "/" + name).ok()) ++removed;
  }
  return removed;
}

}  // namespace cairn
