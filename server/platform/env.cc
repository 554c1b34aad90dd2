#include "server/platform/env.h"

namespace cairn {

std::string DirName(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<bool> Env::FileExists(const std::string& path) {
  const Result<FileKind> kind = KindOf(path);
  if (!kind.ok()) return kind.status();
  return *kind != FileKind::kAbsent;
}

Status Env::RemoveIfThere(const std::string& path) {
  Status removed = Remove(path);
  return removed.code() == StatusCode::kNotFound ? Status::Ok() : removed;
}

uint64_t Env::RandomU64() {
  uint64_t value = 0;
  FillRandom({reinterpret_cast<char*>(&value), sizeof(value)});
  return value;
}

Result<std::string> Env::ReadFileToString(const std::string& path) {
  auto file = OpenRead(path);
  if (!file.ok()) return file.status();
  // Files of /proc claim no size, and others may grow: read until nothing comes, not until size().
  constexpr size_t kStep = 64 * 1024;
  std::string bytes;
  while (true) {
    const size_t before = bytes.size();
    const uint64_t known = (*file)->size();
    bytes.resize(before < known ? known : before + kStep);
    auto read = (*file)->Read(before, bytes.size() - before, bytes.data() + before);
    if (!read.ok()) return read.status();
    bytes.resize(before + *read);
    if (*read == 0) return bytes;
  }
}

Status Env::WriteFileAtomically(const std::string& path, std::string_view bytes) {
  const std::string directory = DirName(path);
  const std::string name = path.substr(path.rfind('/') + 1);
  const std::string temporary = directory + (directory == "/" ? "temp-" : "/temp-") + name;
  const auto write = [&]() -> Status {
    auto file = OpenTruncate(temporary);
    if (!file.ok()) return file.status();
    CAIRN_RETURN_IF_ERROR((*file)->Append(bytes));
    CAIRN_RETURN_IF_ERROR((*file)->Sync());
    CAIRN_RETURN_IF_ERROR((*file)->Close());
    return Rename(temporary, path);
  };
  if (Status status = write(); !status.ok()) {
    // The first failure is the one to report; a left-over file is harmless, the next attempt
    // empties it.
    [[maybe_unused]] const Status removed = Remove(temporary);
    return status;
  }
  return SyncDir(directory);
}

}  // namespace cairn
