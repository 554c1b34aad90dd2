#include "persistence/aof_reader.h"

#include <algorithm>
#include <memory>

#include "persistence/aof_text.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

/// One replay: what is passed from file to file.
struct Replay {
  Env& env;
  const RdbLoadFunction& load_rdb;
  CommandSink& sink;
  const AofLoadOptions& options;
  AofLoadReport report;
  uint64_t bytes_before = 0;  // of the files already replayed

  void Log(const std::string& line) const {
    if (options.on_log) options.on_log(line);
  }
};

Status Refuse(const std::string& path, const AofScan& scan) {
  const bool torn = scan.tail == AofTail::kTorn;
  return Status::Corruption(std::string(torn ? "Unexpected end of file" : "Bad file format") +
                            " reading the append only file " + path + " at offset " +
                            std::to_string(scan.error_offset) + " (sound up to " +
                            std::to_string(scan.good_bytes) + "): " + scan.reason +
                            ". Make a backup, then see what `cairn-check aof` says about it");
}

/// What the disk says of `path`, in redis-server's words.
Status Unreadable(const std::string& path, const Status& status) {
  std::string_view why = status.message();
  if (const std::string call = "read " + path + ": "; why.starts_with(call))
    why.remove_prefix(call.size());
  return {status.code(),
          "Unrecoverable error reading the append only file " + path + ": " + std::string(why)};
}

Status CutFile(Replay* replay, const std::string& path, uint64_t size, const AofScan& scan) {
  AofLoadReport& report = replay->report;
  report.cut_path = path;
  report.cut_offset = scan.good_bytes;
  report.cut_bytes = size - scan.pad_bytes - scan.good_bytes;
  report.cut_reason = scan.reason;
  if (!replay->options.change_files) return Status::Ok();
  replay->Log("!!! Warning: short read while loading the AOF file " + path + "!!! (" + scan.reason +
              " at offset " + std::to_string(scan.error_offset) + ")");
  replay->Log("Truncating the AOF " + path + " at offset " + std::to_string(scan.good_bytes) +
              ", cutting " + std::to_string(report.cut_bytes) + " bytes");
  Result<std::unique_ptr<WritableFile>> file = replay->env.OpenAppend(path);
  if (!file.ok()) return file.status();
  CAIRN_RETURN_IF_ERROR((*file)->Truncate(scan.good_bytes));
  CAIRN_RETURN_IF_ERROR((*file)->Sync());
  return (*file)->Close();
}

/// Takes away what a writer that did not end in order had filled the file with, or had written anew
/// to the next one: a server that reads files to their ends would replay that twice.
Status RemoveRest(Replay* replay, const std::string& path, uint64_t good_bytes) {
  if (!replay->options.change_files) return Status::Ok();
  Result<std::unique_ptr<WritableFile>> file = replay->env.OpenAppend(path);
  if (!file.ok()) return file.status();
  CAIRN_RETURN_IF_ERROR((*file)->Truncate(good_bytes));
  return (*file)->Close();
}

bool MayCut(const AofScan& scan, const AofLoadOptions& options) {
  if (scan.tail == AofTail::kTorn) return options.load_truncated;
  return scan.tail == AofTail::kCorruptTail && options.load_corrupt_tail;
}

Status ReplayFile(Replay* replay, const std::string& path, const AofFile& listed, bool last) {
  Result<std::unique_ptr<RandomAccessFile>> file = replay->env.OpenRead(path);
  if (!file.ok()) return file.status();
  const uint64_t whole_size = (*file)->size();
  CAIRN_RETURN_IF_ERROR(CheckCountedBytes(path, whole_size, listed));
  const uint64_t size = std::min(whole_size, listed.counted_bytes);
  AofScanOptions scanning;
  scanning.make_readable = [&file, &path](uint64_t offset, uint64_t bytes) {
    const Status status = (*file)->MakeReadable(offset, bytes);
    return status.ok() ? Status::Ok() : Unreadable(path, status);
  };
  Result<std::string_view> mapped = std::string_view();
  if (size > 0) mapped = (*file)->Map();
  if (!mapped.ok()) return mapped.status();
  mapped = mapped->substr(0, size);
  CAIRN_RETURN_IF_ERROR(replay->sink.BeginFile(listed.name));
  uint64_t start = 0;
  bool has_preamble = false;
  CAIRN_RETURN_IF_ERROR(HasRdbPreamble(*mapped, scanning.make_readable, &has_preamble));
  if (has_preamble) {
    Result<uint64_t> end = replay->load_rdb(path);
    if (!end.ok()) return end.status();
    start = *end;
    if (start > size) return Status::Corruption(path + ": the RDB part ends behind the file");
  }
  AofScan scan;
  scanning.window_bytes = replay->options.window_bytes;
  scanning.progress_interval_bytes = replay->options.progress_interval_bytes;
  scanning.on_progress = [replay](uint64_t offset) {
    return replay->options.on_progress ? replay->options.on_progress(replay->bytes_before + offset)
                                       : Status::Ok();
  };
  CAIRN_RETURN_IF_ERROR(ScanAofText(*mapped, start, replay->sink, &scan, scanning));
  replay->report.commands += scan.commands;
  replay->report.checked_bytes += scan.checked_bytes;
  replay->report.last_file_covered = scan.covered;
  replay->bytes_before += size;
  if (scan.tail == AofTail::kWhole) {
    const bool longer = scan.pad_bytes > 0 || size < whole_size;
    return longer ? RemoveRest(replay, path, scan.good_bytes) : Status::Ok();
  }
  if (!last || !MayCut(scan, replay->options)) return Refuse(path, scan);
  return CutFile(replay, path, size, scan);
}

}  // namespace

Status CheckCountedBytes(const std::string& path, uint64_t size, const AofFile& listed) {
  if (listed.counted_bytes == kWholeAofFile || listed.counted_bytes <= size) return Status::Ok();
  return Status::Corruption("the append only file " + path + " has " + std::to_string(size) +
                            " bytes, and the manifest says that " +
                            std::to_string(listed.counted_bytes) + " count");
}

uint64_t SizeOfAof(Env& env, const AofLocation& location, const AofManifest& manifest) {
  uint64_t bytes = 0;
  const auto add = [&](const AofFile& file) {
    const Result<uint64_t> size = env.FileSize(location.PathOf(file.name));
    if (size.ok()) bytes += std::min(*size, file.counted_bytes);
  };
  if (manifest.base()) add(*manifest.base());
  for (const AofFile& file : manifest.increments()) add(file);
  return bytes;
}

Result<AofLoadReport> LoadAof(Env& env, const AofLocation& location, const AofManifest& manifest,
                              const RdbLoadFunction& load_rdb, CommandSink& sink,
                              const AofLoadOptions& options) {
  Replay replay{env, load_rdb, sink, options, {}, 0};
  std::vector<const AofFile*> files;
  if (manifest.base()) files.push_back(&*manifest.base());
  for (const AofFile& file : manifest.increments()) files.push_back(&file);
  // The stream ends in the last file that has bytes: a rotation may have left an empty one behind
  // it. The empty ones are looked for, so that a missing file is an error all the same.
  size_t last = files.size();
  while (last > 1) {
    Result<uint64_t> size = env.FileSize(location.PathOf(files[last - 1]->name));
    if (!size.ok()) return size.status();
    if (*size > 0) break;
    --last;
  }
  for (size_t i = 0; i < files.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(
        ReplayFile(&replay, location.PathOf(files[i]->name), *files[i], i + 1 >= last));
  }
  return std::move(replay.report);
}

}  // namespace cairn
