#pragma once

// AofReader: replays an append-only log: BASE, then the INCRs of a manifest, each as commands into
// a CommandSink. It decides what a damaged end means: a torn or zero-filled tail of the last file
// is cut off (and the file really shortened), damage anywhere else is refused with file and offset.
// Loads nothing by itself: commands go to the sink, an RDB goes to the caller's function. Runs on
// the loading thread. Files are mapped; no argument is copied, so memory is the page cache's.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "persistence/aof_manifest.h"
#include "server/base/status.h"

namespace cairn {

class Env;

/// Commands that are parsed at a time, the one that runs among them.
inline constexpr size_t kAofAhead = 16;

/// Receives what the log says. MULTI and EXEC come as commands like any other: apply a transaction
/// only when its EXEC arrives, and forget an open one at BeginFile and at the end of the load.
class CommandSink {
 public:
  virtual ~CommandSink() = default;
  /// A file begins: database 0 is selected.
  virtual Status BeginFile(std::string_view name) = 0;
  /// This command comes after fewer than kAofAhead others that were announced before it: time to
  /// fetch what it will look at. It may not come at all when one of those ends the load.
  virtual void Announce(std::span<const std::string_view> args) {}
  /// `args` (at least one) and their bytes are valid during the call. An error ends the load.
  virtual Status Command(std::span<const std::string_view> args) = 0;
};

/// How far ahead of what it parses a load asks for bytes of a mapped file: the disk is not waited
/// for at each page, and pages that were asked for are not dropped before their turn.
inline constexpr uint64_t kAofWindowBytes = uint64_t{4} << 20;

struct AofLoadOptions {
  bool load_truncated = true;     ///< `aof-load-truncated`: cut a torn tail instead of refusing
  bool load_corrupt_tail = true;  ///< `aof-load-corrupt-tail`: cut a tail whose check fails
  bool change_files = true;       ///< false: report the cut, leave the disk alone (the checker)
  uint64_t progress_interval_bytes = 2u << 20;
  uint64_t window_bytes = kAofWindowBytes;
  /// Bytes of all files replayed so far; an error ends the load.
  std::function<Status(uint64_t loaded_bytes)> on_progress;
  /// A line for the server's log.
  std::function<void(std::string_view line)> on_log;
};

/// Loads the RDB at the start of `path` and returns the offset behind it.
using RdbLoadFunction = std::function<Result<uint64_t>(const std::string& path)>;

struct AofLoadReport {
  uint64_t commands = 0;
  uint64_t checked_bytes = 0;  ///< that lay in groups whose check was verified
  std::string cut_path;        ///< empty: nothing was cut
  uint64_t cut_offset = 0;
  uint64_t cut_bytes = 0;
  std::string cut_reason;
  /// Every byte of the last INCR lies in a checked group (or it is empty): pass it to
  /// AofWriter::Open.
  bool last_file_covered = true;
};

/// Bytes of all files that LoadAof will read; those that cannot be looked at count as empty.
uint64_t SizeOfAof(Env& env, const AofLocation& location, const AofManifest& manifest);

/// Errors: kCorruption when the file at `path` has fewer bytes than `listed` says that count.
Status CheckCountedBytes(const std::string& path, uint64_t size, const AofFile& listed);

/// Replays all files of `manifest`. Errors: kNotFound (a named file is absent), kCorruption with
/// path and offset, kIo when the disk refuses to be read (no file is changed then), the sink's own.
/// The sink has received part of the data then. Cost: 3 million small SETs a second and more, plus
/// what the sink does.
Result<AofLoadReport> LoadAof(Env& env, const AofLocation& location, const AofManifest& manifest,
                              const RdbLoadFunction& load_rdb, CommandSink& sink,
                              const AofLoadOptions& options);

/// The byte that the writer fills a file with ahead of its groups (AofWriterOptions::pad_bytes).
/// From any place on, a run of it reads as notes: redis-server skips it too.
inline constexpr char kAofPadding = '#';

/// How the text of one file ends.
enum class AofTail : uint8_t {
  kWhole,
  kTorn,         ///< the end of a command, transaction or group is missing or zero-filled
  kCorruptTail,  ///< a check fails, and nothing behind it proves that it was once on disk
  kDamaged,      ///< anything else: not the mark of a crash
};

struct AofScan {
  AofTail tail = AofTail::kWhole;
  uint64_t good_bytes = 0;    ///< everything before is sound: where to cut
  uint64_t pad_bytes = 0;     ///< of padding at the end of the file; no damage
  uint64_t error_offset = 0;  ///< where reading failed
  std::string reason;
  uint64_t commands = 0;
  uint64_t checked_bytes = 0;
  bool covered = true;  ///< every byte lies in a checked group
};

struct AofScanOptions {
  uint64_t progress_interval_bytes = 0;
  std::function<Status(uint64_t offset)> on_progress = {};
  /// Asked before bytes of the text are touched (RandomAccessFile::MakeReadable); none: it is
  /// memory like any other.
  std::function<Status(uint64_t offset, uint64_t size)> make_readable = {};
  uint64_t window_bytes = kAofWindowBytes;  ///< asked for at a time, at least
};

/// Whether `text` begins as an RDB file does. Errors: those of `make_readable`.
Status HasRdbPreamble(std::string_view text,
                      const std::function<Status(uint64_t offset, uint64_t size)>& make_readable,
                      bool* has);

/// Reads `text` from `start` (behind an RDB preamble, else 0) into `sink`. Returns the sink's error
/// or that of a function of `options`; what is wrong with the text is in *scan.
Status ScanAofText(std::string_view text, uint64_t start, CommandSink& sink, AofScan* scan,
                   const AofScanOptions& options = {});

/// The check line in front of a group: `#CAIRN:<bytes>:<crc64>:<synced>\r\n`. The group's bytes
/// follow it; the check covers them, the line's numbers and the line's own place in the file.
/// `synced` is the size of the file that was durable when the line was written, so damage below any
/// later `synced` cannot be a crash.
std::string FormatAofCheckLine(uint64_t file_offset, uint64_t synced_bytes,
                               std::span<const std::string_view> group);

}  // namespace cairn
