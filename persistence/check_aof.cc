#include "persistence/check_aof.h"

#include <cinttypes>

#include "persistence/aof_manifest.h"
#include "persistence/aof_reader.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

constexpr std::string_view kManifestSuffix = ".manifest";

class DropCommands final : public CommandSink {
 public:
  Status BeginFile(std::string_view) override { return Status::Ok(); }
  Status Command(std::span<const std::string_view>) override { return Status::Ok(); }
};

class Checker {
 public:
  Checker(Env& env, const CheckAofOptions& options, std::FILE* out)
      : env_(env), options_(options), out_(out) {}

  int Manifest(const std::string& path) {
    Result<std::string> text = env_.ReadFileToString(path);
    if (!text.ok()) return Report(text.status());
    Result<AofManifest> manifest = AofManifest::Parse(*text, path);
    if (!manifest.ok()) return Report(manifest.status());
    AofLocation location;
    location.directory = DirName(path);
    std::vector<const AofFile*> files;
    if (manifest->base()) files.push_back(&*manifest->base());
    for (const AofFile& file : manifest->increments()) files.push_back(&file);
    int result = 0;
    size_t last = files.size();  // as LoadAof sees it: empty files may follow
    for (; last > 1; --last) {
      const Result<uint64_t> size = env_.FileSize(location.PathOf(files[last - 1]->name));
      if (!size.ok() || *size > 0) break;
    }
    for (size_t i = 0; i < files.size(); ++i) {
      result |= File(location.PathOf(files[i]->name), *files[i], i + 1 >= last);
    }
    std::fprintf(out_, "%s: %zu files, %s\n", path.c_str(), files.size(),
                 result == 0 ? "all sound" : "damaged");
    return result;
  }

  /// `listed`: as the manifest has it; a file that was named by itself counts to its end.
  int File(const std::string& path, const AofFile& listed, bool last) {
    Result<std::unique_ptr<RandomAccessFile>> file = env_.OpenRead(path);
    if (!file.ok()) return Report(file.status());
    if (Status status = CheckCountedBytes(path, (*file)->size(), listed); !status.ok())
      return Report(status);
    Result<std::string_view> text = std::string_view();
    if ((*file)->size() > 0) text = (*file)->Map();
    if (!text.ok()) return Report(text.status());
    text = text->substr(0, listed.counted_bytes);
    AofScanOptions scanning;
    scanning.make_readable = [&file](uint64_t offset, uint64_t bytes) {
      return (*file)->MakeReadable(offset, bytes);
    };
    uint64_t start = 0;
    bool has_preamble = false;
    if (Status status = HasRdbPreamble(*text, scanning.make_readable, &has_preamble); !status.ok())
      return Report(status);
    if (has_preamble) {
      Result<uint64_t> end =
          options_.check_rdb ? options_.check_rdb(path)
                             : Status(StatusCode::kUnsupported, path + ": no RDB checker given");
      if (!end.ok()) return Report(end.status());
      start = *end;
    }
    DropCommands sink;
    AofScan scan;
    if (Status status = ScanAofText(*text, start, sink, &scan, scanning); !status.ok())
      return Report(status);
    Describe(path, text->size(), start, scan);
    if (scan.tail == AofTail::kWhole) return 0;
    if (!options_.fix) return 1;
    if (!last || scan.tail == AofTail::kDamaged) {
      std::fprintf(out_, "%s: not mended: only the torn end of the last file can be cut\n",
                   path.c_str());
      return 1;
    }
    return Cut(path, text->size(), scan.good_bytes);
  }

  int Report(const Status& status) {
    std::fprintf(out_, "%.*s\n", static_cast<int>(status.message().size()),
                 status.message().data());
    return 1;
  }

 private:
  void Describe(const std::string& path, uint64_t size, uint64_t start, const AofScan& scan) {
    std::fprintf(out_,
                 "%s: size %" PRIu64 ", RDB part %" PRIu64 ", commands %" PRIu64
                 ", bytes under a verified check %" PRIu64 ": ",
                 path.c_str(), size, start, scan.commands, scan.checked_bytes);
    if (scan.pad_bytes > 0) std::fprintf(out_, "padding %" PRIu64 ": ", scan.pad_bytes);
    if (scan.tail == AofTail::kWhole) {
      std::fprintf(out_, "sound\n");
      return;
    }
    const char* verdict = scan.tail == AofTail::kTorn          ? "torn tail"
                          : scan.tail == AofTail::kCorruptTail ? "corrupt tail"
                                                               : "damaged";
    std::fprintf(out_,
                 "%s: sound up to offset %" PRIu64 ", error at offset %" PRIu64 ": %s; %" PRIu64
                 " bytes behind\n",
                 verdict, scan.good_bytes, scan.error_offset, scan.reason.c_str(),
                 size - scan.good_bytes);
  }

  int Cut(const std::string& path, uint64_t size, uint64_t good_bytes) {
    Result<std::unique_ptr<WritableFile>> file = env_.OpenAppend(path);
    if (!file.ok()) return Report(file.status());
    Status status = (*file)->Truncate(good_bytes);
    if (status.ok()) status = (*file)->Sync();
    if (!status.ok()) return Report(status);
    std::fprintf(out_, "%s: cut to %" PRIu64 " bytes, %" PRIu64 " removed\n", path.c_str(),
                 good_bytes, size - good_bytes);
    return 0;
  }

  Env& env_;
  const CheckAofOptions& options_;
  std::FILE* const out_;
};

}  // namespace

int CheckAof(Env& env, const std::string& path, const CheckAofOptions& options, std::FILE* out) {
  Checker checker(env, options, out);
  const Result<FileKind> kind = env.KindOf(path);
  if (!kind.ok()) return checker.Report(kind.status());
  if (*kind == FileKind::kDirectory) {
    const Result<std::vector<std::string>> names = env.ListDir(path);
    if (!names.ok()) return checker.Report(names.status());
    for (const std::string& name : *names) {
      if (name.ends_with(kManifestSuffix) && !name.starts_with("temp-")) {
        return checker.Manifest(path + "/" + name);
      }
    }
    std::fprintf(out, "%s: no manifest in this directory\n", path.c_str());
    return 1;
  }
  if (path.ends_with(kManifestSuffix)) return checker.Manifest(path);
  return checker.File(path, AofFile{}, true);
}

}  // namespace cairn
