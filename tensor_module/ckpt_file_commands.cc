// CKPT.EXPORT and IMPORT: versions to and from safetensors and .pt files of the server's directory.
// Files are read and written by a first half on a worker (module.h, RunLate); an export is seen
// under its name once it is whole and synced.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <tuple>

#include "server/base/strings.h"
#include "tensor_module/ckpt_commands.h"
#include "tensor_module/ckpt_durable.h"
#include "tensor_module/ckpt_edit.h"
#include "tensor_module/ckpt_naming.h"
#include "tensor_module/ckpt_promise.h"
#include "tensor_module/ckpt_spread_import.h"
#include "tensor_module/ckpt_whole_log.h"
#include "tensor_module/pt_archive.h"
#include "tensor_module/safetensors.h"

namespace cairn::tensor {

namespace {

/// What reading or writing a file costs at least, in RunLate's measure: always off the loop.
constexpr uint64_t kFileCost = kLateBytes;

// --- EXPORT ---

ArchiveTensor Describe(const Version& version, const LogicalTensor& tensor) {
  const LogicalTensor& storage = version.Storage(tensor);
  return {tensor.name, storage.dtype, storage.shape, 0, storage.size_bytes(), {}};
}

/// The bytes of a tensor, in C order. Gathered ones are dropped again by the caller.
Result<Chunks> WholeOf(BlobSource& source, const Version& version, const LogicalTensor& tensor) {
  const LogicalTensor& storage = version.Storage(tensor);
  return GatherBox(source, storage, Extent::Whole(storage.shape).AsBox());
}

Status AppendTensor(FileWriter& file, BlobSource& source, const Version& version,
                    const LogicalTensor& tensor) {
  Result<Chunks> bytes = WholeOf(source, version, tensor);
  if (!bytes.ok()) return bytes.status();
  for (const BlobSlice& slice : *bytes) file.Append(slice.view());
  return Status::Ok();
}

Status WriteSafetensors(FileWriter& file, BlobSource& source, const Version& version) {
  std::vector<const LogicalTensor*> order;
  for (const auto& tensor : version.tensors) order.push_back(tensor.get());
  // The widest elements first: so every tensor begins at a multiple of its own.
  std::stable_sort(order.begin(), order.end(), [](const LogicalTensor* a, const LogicalTensor* b) {
    return DTypeSize(a->dtype) > DTypeSize(b->dtype);
  });
  std::vector<ArchiveTensor> described;
  for (const LogicalTensor* tensor : order) described.push_back(Describe(version, *tensor));
  Result<std::string> header = SafetensorsHeader(described);
  if (!header.ok()) return header.status();
  if (header->size() - sizeof(uint64_t) > kMaxSafetensorsHeader) {
    return Status::Client("ERR safetensors: the header would be too long");
  }
  file.Append(*header);
  for (const LogicalTensor* tensor : order) {
    CAIRN_RETURN_IF_ERROR(AppendTensor(file, source, version, *tensor));
  }
  return Status::Ok();
}

Status WritePt(FileWriter& file, BlobSource& source, const Version& version) {
  // Tied tensors share a storage, as they did when they were saved.
  std::map<const LogicalTensor*, uint64_t> keys;
  std::vector<ArchiveTensor> described;
  std::vector<uint64_t> key_of;
  for (const auto& tensor : version.tensors) {
    described.push_back(Describe(version, *tensor));
    key_of.push_back(keys.try_emplace(&version.Storage(*tensor), keys.size()).first->second);
  }
  Result<std::string> pickle = PtPickle(described, key_of);
  if (!pickle.ok()) return pickle.status();
  ZipWriter zip(file);
  zip.Add("archive/data.pkl", *pickle);
  std::vector<const LogicalTensor*> storages(keys.size());
  for (const auto& [storage, key] : keys) storages[key] = storage;
  for (size_t key = 0; key < storages.size(); ++key) {
    Result<Chunks> bytes = WholeOf(source, version, *storages[key]);
    if (!bytes.ok()) return bytes.status();
    uint32_t crc = 0;
    for (const BlobSlice& slice : *bytes) crc = Crc32(crc, slice.view());
    zip.BeginEntry("archive/data/" + std::to_string(key), storages[key]->size_bytes(), crc);
    for (const BlobSlice& slice : *bytes) file.Append(slice.view());
  }
  zip.Add("archive/version", "3\n");
  zip.Finish();
  return Status::Ok();
}

/// Errors: the server has a file of this name, or would read one. Thread: executor.
Status CheckNotServers(const LogHost& host, std::string_view name) {
  if (name.empty()) return Status::Ok();  // as settings that are not made are
  bool taken = name.starts_with("temp-") || name == kLogDirectory;
  for (const char* setting :
       {"dbfilename", "aclfile", "logfile", "appenddirname", "unixsocket", "pidfile"}) {
    const std::string path = host.Setting(setting);
    taken = taken || name == std::string_view(path).substr(path.find_last_of('/') + 1);
  }
  if (!taken) return Status::Ok();
  return Status::Client("ERR '" + std::string(name) + "' is a name of the server's own files");
}

/// How a file of the format begins.
bool IsExport(std::string_view head, uint64_t file_bytes, FileFormat format) {
  if (format == FileFormat::kPt) return head.starts_with(std::string_view("PK\3\4", 4));
  uint64_t header_bytes = 0;
  if (head.size() <= sizeof header_bytes || head[sizeof header_bytes] != '{') return false;
  std::memcpy(&header_bytes, head.data(), sizeof header_bytes);
  return header_bytes <= kMaxSafetensorsHeader && header_bytes <= file_bytes - sizeof header_bytes;
}

/// What is replaced is an older export, and nothing else that the directory may have. Errors: there
/// is something of that name, and it does not begin as a file of the format.
Status CheckReplaceable(const std::string& name, FileFormat format) {
  struct stat about {};
  if (::lstat(name.c_str(), &about) != 0 && errno == ENOENT) return Status::Ok();
  char head[16] = {};
  ssize_t got = -1;
  if (S_ISREG(about.st_mode)) {
    const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0) {
      got = ::pread(fd, head, sizeof head, 0);
      ::close(fd);
    }
  }
  const std::string_view begins(head, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (IsExport(begins, static_cast<uint64_t>(about.st_size), format)) return Status::Ok();
  return Status::Client("ERR '" + name + "' is there and is not replaced: it is no " +
                        (format == FileFormat::kPt ? ".pt" : "safetensors") + " file");
}

Result<uint64_t> Export(BlobSource& source, const Version& version, FileFormat format,
                        const std::string& name) {
  FileWriter file(name);
  CAIRN_RETURN_IF_ERROR(file.status());
  CAIRN_RETURN_IF_ERROR(CheckReplaceable(name, format));
  CAIRN_RETURN_IF_ERROR(format == FileFormat::kPt ? WritePt(file, source, version)
                                                  : WriteSafetensors(file, source, version));
  // It may have come meanwhile.
  CAIRN_RETURN_IF_ERROR(CheckReplaceable(name, format));
  CAIRN_RETURN_IF_ERROR(file.Publish());
  return file.position();
}

Status ExportCommand(CommandRun& run) {
  Result<FileFormat> format = ParseFormat(run.args(), 3, "to");
  if (!format.ok()) return format.status();
  CAIRN_RETURN_IF_ERROR(CheckNotServers(run.logs(), run.args()[6]));
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const CkptRun& state = found.value()->run();
  Result<const Version*> version = ResolveVersion(state, run.args()[2]);
  if (!version.ok()) return version.status();
  return run.RunLate(
      kFileCost,
      [&module = run.module(), version = state.FindStep(version.value()->step)->version,
       format = *format,
       name = std::string(run.args()[6])] { return Export(module.memory, *version, format, name); },
      [](CommandRun& late, Result<uint64_t>& bytes) {
        if (!bytes.ok()) return bytes.status();
        late.Map(1);
        late.Bulk("bytes");
        late.Unsigned(bytes.value());
        return Status::Ok();
      });
}

// --- IMPORT ---

struct Imported {
  WholeTensors tensors;
  uint64_t skipped = 0;
};

/// Bytes of a strided view, in C order. Requires: ReadPt found it within its storage.
void CopyStrided(std::string_view file, const ArchiveTensor& tensor, char* to) {
  const size_t element = DTypeSize(tensor.dtype), dimensions = tensor.shape.size();
  std::vector<uint64_t> at(dimensions, 0);
  uint64_t from = tensor.offset;
  for (uint64_t done = 0; done < tensor.size_bytes; done += element) {
    std::memcpy(to + done, file.data() + from, element);
    for (size_t i = dimensions; i-- > 0;) {
      from += tensor.strides[i] * element;
      if (++at[i] < tensor.shape[i]) break;
      from -= tensor.shape[i] * tensor.strides[i] * element;
      at[i] = 0;
    }
  }
}

Result<std::vector<ChunkRef>> ImportTensor(Module& module, const BlobSlice& file,
                                           const ArchiveTensor& tensor) {
  if (tensor.size_bytes == 0) return std::vector<ChunkRef>();
  // Bytes of the file, which lie unaligned: interning copies them.
  BlobSlice bytes{file.blob, static_cast<size_t>(tensor.offset),
                  static_cast<size_t>(tensor.size_bytes)};
  if (!tensor.strides.empty()) {
    Blob* blob = module.memory.Allocate(tensor.size_bytes);
    if (blob == nullptr) {
      return Status::Client("OOM no memory for " + std::to_string(tensor.size_bytes) +
                            " bytes of checkpoint data");
    }
    CopyStrided(file.view(), tensor, blob->mutable_data());
    bytes = {BlobRef::Adopt(blob), 0, bytes.size};
  }
  Result<std::vector<ChunkRef>> chunks =
      module.pool.Intern(bytes, PieceSizes(bytes.size), tensor.dtype);
  if (!chunks.ok()) return chunks.status();
  for (const ChunkRef& chunk : *chunks) CAIRN_RETURN_IF_ERROR(CheckBoolChunk(tensor.dtype, *chunk));
  return chunks;
}

/// Claims memory for `what`. `room_bytes`: CommandRun::MemoryRoom() of before.
Status ClaimRoom(uint64_t size_bytes, uint64_t room_bytes, const char* what) {
  if (room_bytes == UINT64_MAX || MemoryClaim::Current()->Take(size_bytes, room_bytes)) {
    return Status::Ok();
  }
  return Status::Client("CKPTQUOTA the " + std::to_string(size_bytes) + " bytes of the " + what +
                        " would pass 'tensor-memory-limit'");
}

/// Nothing is interned before there is room for all of it. Aliases have no chunks.
Result<Imported> Import(Module& module, uint64_t room_bytes, FileFormat format,
                        const std::string& name) {
  // For its tensors too, before it is read: that takes long, and DECLARE goes on meanwhile.
  Result<BlobSlice> file = ReadWholeFile(module.memory, name, [room_bytes](uint64_t size_bytes) {
    return ClaimRoom(SaturatingSum(size_bytes, size_bytes), room_bytes, "file and its tensors");
  });
  if (!file.ok()) return file.status();
  Imported out;
  std::vector<ArchiveTensor> tensors;
  if (format == FileFormat::kPt) {
    Result<PtFile> pt = ReadPt(file->view());
    if (!pt.ok()) return pt.status();
    tensors = std::move(pt->tensors);
    out.skipped = pt->skipped;
  } else {
    Result<SafetensorsFile> safe = ReadSafetensors(file->view());
    if (!safe.ok()) return safe.status();
    tensors = std::move(safe->tensors);
    out.skipped = safe->metadata.size();
  }
  uint64_t bytes = 0;
  // Where a tensor of these bytes, dtype and shape was met first.
  std::map<std::tuple<uint64_t, DType, Shape, std::vector<uint64_t>>, std::string> first;
  for (const ArchiveTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes) {
      return Status::Client("ERR a name has 1 to " + std::to_string(kMaxNameBytes) + " bytes");
    }
    ShardSpec spec;
    spec.name = tensor.name;
    spec.group = "weights";
    spec.dtype = tensor.dtype;
    spec.shape = tensor.shape;
    spec.extent = Extent::Whole(spec.shape);
    if (tensor.size_bytes > 0) {
      const auto [met, fresh] = first.try_emplace(
          {tensor.offset, tensor.dtype, tensor.shape, tensor.strides}, tensor.name);
      if (!fresh) spec.alias_of = met->second;
    }
    spec.Settle();
    if (spec.alias_of.empty()) bytes = SaturatingSum(bytes, spec.size_bytes);
    out.tensors.specs.push_back(std::move(spec));
  }
  if (format == FileFormat::kPt) CAIRN_RETURN_IF_ERROR(CheckPtRepeats(bytes, file->size));
  // Tensors that share their bytes in a .pt file are made one by one.
  CAIRN_RETURN_IF_ERROR(ClaimRoom(bytes - std::min<uint64_t>(bytes, file->size), room_bytes,
                                  "file's tensors that share bytes"));
  out.tensors.chunks.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!out.tensors.specs[i].alias_of.empty()) continue;
    Result<std::vector<ChunkRef>> made = ImportTensor(module, *file, tensors[i]);
    if (!made.ok()) return made.status();
    out.tensors.chunks[i] = std::move(*made);
  }
  return out;
}

void ReplyImported(CommandRun& run, std::string_view tx, size_t tensors, uint64_t skipped) {
  run.Map(3);
  run.Bulk("tx");
  run.Bulk(tx);
  run.Bulk("tensors");
  run.Unsigned(tensors);
  run.Bulk("skipped");
  run.Unsigned(skipped);
}

/// The log gets what the file had, as the commands of a save: the file may be gone at a replay.
void LogImport(CommandRun& run, const WholeSave& save, uint64_t attempt, Durable durable) {
  if (!run.is_propagated()) return;
  LogBegin(run, save, attempt, run.now_ms());
  const size_t count = save.tensors.specs.size();
  for (size_t declared = 0; declared < count;) declared = LogDeclare(run, save, declared);
  for (size_t tensor = 0; tensor < count; ++tensor) LogTensor(run, save, tensor);
  LogVotes(run, save, durable, run.now_ms());
}

Status FinishImport(CommandRun& run, const Imported& imported) {
  WholeSave save;
  CAIRN_CHECK(ParseUint64(run.args()[2], &save.step));
  save.tx = std::string(kImportPrefix) + NewTransactionId(run.module());
  save.tensors = imported.tensors;
  if (MustSpread(run, save.tensors)) {
    const auto reply = [tx = save.tx, count = save.tensors.specs.size(),
                        skipped = imported.skipped](CommandRun& last) {
      ReplyImported(last, tx, count, skipped);
    };
    return ImportSpread(run, std::move(save), reply);
  }
  Result<RunEdit> edit = RunEdit::Open(run, /*create=*/true);
  if (!edit.ok()) return edit.status();
  const uint64_t attempt = edit->run.highest_attempt;
  Result<std::vector<uint64_t>> gone = CommitWhole(run, &edit->run, save, edit->moment());
  if (!gone.ok()) return gone.status();
  run.SetRun(run.key(), new RunValue(edit->run), "ckpt.commit");
  LogImport(run, save, attempt, edit->run.FindStep(save.step)->version->durable);
  edit->TellCommitted(save.step, save.tx, *gone);
  ReplyImported(run, save.tx, save.tensors.specs.size(), imported.skipped);
  return Status::Ok();
}

Status ImportCommand(CommandRun& run) {
  Result<FileFormat> format = ParseFormat(run.args(), 3, "from");
  if (!format.ok()) return format.status();
  uint64_t step = 0;
  if (!ParseUint64(run.args()[2], &step)) {
    return Status::Client("ERR value is not an integer or out of range");
  }
  Result<const RunValue*> found = run.FindRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  return run.RunLate(
      kFileCost,
      [&module = run.module(), room = run.MemoryRoom(), format = *format,
       log = LogOfNewVersion(run), names = run.names(),
       name = std::string(run.args()[6])]() -> Result<Imported> {
        Result<Imported> made = Import(module, room, format, name);
        if (!made.ok()) return made;
        CAIRN_RETURN_IF_ERROR(StageChunks(names, made->tensors.chunks));
        CAIRN_RETURN_IF_ERROR(LogMade(log, made->tensors.chunks));
        return made;
      },
      [](CommandRun& late, Result<Imported>& imported) {
        if (!imported.ok()) return imported.status();
        ToLog left = FindUnlogged(late, imported->tensors.chunks);
        return AfterLogging(late, std::move(left), [made = std::move(*imported)](CommandRun& last) {
          return FinishImport(last, made);
        });
      });
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.export",
        .arity = 7,
        .flags = CAIRN_CMD_READONLY | CAIRN_CMD_ADMIN,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes, on a worker thread.",
        .summary = "Writes a version to a file in the server's directory.",
        .synopsis = "key#0 version FORMAT=format(SAFETENSORS|PT) TO=file",
        .run = Run<ExportCommand>,
    },
    {
        .name = "ckpt.import",
        .arity = 7,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_ADMIN | CAIRN_CMD_NO_MULTI,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes, on a worker thread.",
        .summary = "Saves the tensors of a file in the server's directory as a version.",
        .synopsis = "key#0 step:integer FORMAT=format(SAFETENSORS|PT) FROM=file",
        .run = Run<ImportCommand>,
    },
};

}  // namespace

int RegisterCkptFileCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
