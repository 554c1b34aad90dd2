#pragma once

// AofManifest: the list of files that, replayed in order, are the dataset: at most one BASE, then
// INCRs by rising sequence number, plus HISTORY files that only wait to be deleted. Text form and
// names are those of Redis 7 (`file NAME seq N type b|i|h`), so either server reads the other's
// directory. A value type: it never touches the disk except in the three functions at the end.
// Thread-compatible; at run time the log thread of AofWriter owns the one that counts.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"

namespace cairn {

class Env;

enum class AofFileType : char { kBase = 'b', kIncrement = 'i', kHistory = 'h' };

/// AofFile::counted_bytes of a file that counts to its end.
inline constexpr uint64_t kWholeAofFile = UINT64_MAX;

struct AofFile {
  std::string name;  ///< bare file name, never a path
  uint64_t sequence = 0;
  AofFileType type = AofFileType::kIncrement;
  /// What counts of the file, from its start; the rest stands in the next one. Not of the last
  /// INCR.
  uint64_t counted_bytes = kWholeAofFile;
};

class AofManifest {
 public:
  /// Parses a manifest. `where` (a path) opens every error message. Errors: kCorruption with line
  /// number, the line and the reason in Redis's words.
  static Result<AofManifest> Parse(std::string_view text, std::string_view where);
  /// The text form; HISTORY files stand after BASE, as Redis writes them. The last line is a
  /// comment with a check of those before it; Parse refuses a text that does not match its own.
  std::string Format() const;

  bool empty() const { return !base_ && increments_.empty() && history_.empty(); }
  const std::optional<AofFile>& base() const { return base_; }
  const std::vector<AofFile>& increments() const { return increments_; }
  const std::vector<AofFile>& history() const { return history_; }
  uint64_t base_sequence() const { return base_sequence_; }
  uint64_t increment_sequence() const { return increment_sequence_; }

  /// Only the first `bytes` of the last INCR count any more. Requires: there is one, and
  /// AddIncrement follows.
  void EndLastIncrementAt(uint64_t bytes) { increments_.back().counted_bytes = bytes; }
  // New files get names that no file of the history has: those are about to be deleted. Errors of
  // both: kIo when the numbers are used up; the manifest must not be used then.
  /// Registers a new last INCR named after `append_name` and returns it.
  Result<AofFile> AddIncrement(std::string_view append_name);
  /// Replaces the BASE by a new one (the old becomes HISTORY) and returns it.
  Result<AofFile> ReplaceBase(std::string_view append_name, bool is_rdb);
  /// Takes an existing single-file AOF over as BASE 1. Requires: empty().
  void AdoptOldFile(std::string_view name);
  /// Turns every INCR with a sequence below `sequence` into HISTORY.
  void RetireIncrementsBelow(uint64_t sequence);
  /// Turns every file into HISTORY; numbering goes on (append-only turned on anew at run time).
  void RetireAll();
  void ClearHistory() { history_.clear(); }
  /// Marks a file that no manifest in force may need any more for deletion.
  void AddHistory(AofFile file);
  /// Never uses the next BASE number: a manifest whose fate is unknown may name it.
  void SkipBaseSequence();
  /// When `name` is one that this class would give a file of `append_name`: new files get higher
  /// numbers. Returns whether it is.
  bool PassOver(std::string_view append_name, std::string_view name);

 private:
  Status AddLine(std::string_view line);
  bool IsHistory(std::string_view name) const;
  bool IsInForce(std::string_view name) const;

  std::optional<AofFile> base_;
  std::vector<AofFile> increments_;
  std::vector<AofFile> history_;
  uint64_t base_sequence_ = 0;
  uint64_t increment_sequence_ = 0;
};

/// Where the append-only files live. `append_name` is the setting appendfilename, `directory` is
/// `<dir>/<appenddirname>`.
struct AofLocation {
  std::string directory;
  std::string append_name = "appendonly.aof";
  std::string PathOf(std::string_view name) const { return directory + "/" + std::string(name); }
  std::string ManifestPath() const { return directory + "/" + append_name + ".manifest"; }
  /// Held for the day the disk is full.
  std::string ReservePath() const { return directory + "/" + append_name + ".reserve"; }
};

/// Whether the names made of `location.append_name` fit into a directory entry (255 bytes) and, in
/// their written form, into a line of a manifest (1,023 bytes) for every sequence number. Errors:
/// kClient with a line that names the setting.
Status CheckAofName(const AofLocation& location);

/// Creates the directory if need be and makes it, and every name that is in it, durable.
Status CreateAofDirectory(Env& env, const AofLocation& location);

/// Reads the manifest of `location`. A missing directory or file is an empty manifest, not an
/// error; one that is there but cannot be looked at is an error, not an empty manifest.
Result<AofManifest> LoadAofManifest(Env& env, const AofLocation& location);

/// Replaces the manifest on disk: temporary file, write, sync, rename, sync of the directory. On an
/// error the old manifest stands, unless the error is the directory's sync: then either may stand
/// after a power loss.
Status PersistAofManifest(Env& env, const AofLocation& location, const AofManifest& manifest);

/// What the server does once before loading: checks the name, creates the directory, deletes the
/// leftovers `temp-*` of interrupted rewrites (never a file that the manifest names), and, when
/// there is no manifest but `<server_dir>/<append_name>` exists (a single-file AOF of Redis < 7),
/// registers it as BASE and moves it into the directory, under the same name, as Redis 7 does.
/// Append-only files that lie there when the manifest names none are left alone, and new ones get
/// other names: with a lost manifest they may be all there is. `stray`: gets their names.
/// Returns the manifest in force.
Result<AofManifest> PrepareAofDirectory(Env& env, const std::string& server_dir,
                                        const AofLocation& location,
                                        std::vector<std::string>* stray = nullptr);

/// The same for a log that is begun while the server runs: nothing is synced, for no manifest names
/// the new files before AofWriter has done that, and a single-file AOF stays where it is, as with
/// Redis 7.
Result<AofManifest> EnterAofDirectory(Env& env, const AofLocation& location,
                                      std::vector<std::string>* stray = nullptr);

/// Deletes what dead processes left in the server's directory: `temp-<pid>.rdb` and
/// `temp-rewriteaof[-bg]-<pid>.aof`, this server's and redis-server's names, unless a process of
/// that number lives. Returns how many. Files that cannot be removed stay.
uint64_t SweepServerDirectory(Env& env, const std::string& server_dir, int64_t own_pid);

}  // namespace cairn
