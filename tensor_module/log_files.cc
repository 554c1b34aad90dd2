#include "tensor_module/log_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "server/base/mapped_bytes.h"

namespace cairn::tensor {

namespace {

constexpr mode_t kFileMode = 0644, kDirectoryMode = 0755;
constexpr size_t kMaxParts = 16;

Status Failed(const char* call, const std::string& path) {
  const int error = errno;
  const std::string message = std::string(call) + " " + path + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) return {StatusCode::kNoSpace, message};
  return {error == ENOENT ? StatusCode::kNotFound : StatusCode::kIo, message};
}

class FileHandle {
 public:
  explicit FileHandle(int number) : number_(number) {}
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  ~FileHandle() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }
  bool ok() const { return number_ >= 0; }

 private:
  const int number_;
};

Status SyncDirectory(const std::string& path) {
  const FileHandle directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.ok()) return Failed("open", path);
  if (::fsync(directory.get()) != 0) return Failed("fsync", path);
  return Status::Ok();
}

Status WriteAll(int file, std::vector<iovec> parts, const std::string& path) {
  size_t at = 0;
  while (at < parts.size()) {
    const auto count = static_cast<int>(std::min(parts.size() - at, kMaxParts));
    const ssize_t written = ::writev(file, &parts[at], count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("write", path);
    auto left = static_cast<size_t>(written);
    while (at < parts.size() && left >= parts[at].iov_len) left -= parts[at++].iov_len;
    if (at == parts.size()) break;
    parts[at].iov_base = static_cast<char*>(parts[at].iov_base) + left;
    parts[at].iov_len -= left;
  }
  return Status::Ok();
}

std::vector<iovec> Vectors(const std::vector<std::string_view>& parts) {
  std::vector<iovec> out;
  for (std::string_view part : parts) {
    if (!part.empty()) out.push_back({const_cast<char*>(part.data()), part.size()});
  }
  return out;
}

class PosixLogFile final : public LogFile {
 public:
  PosixLogFile(int number, std::string path) : file_(number), path_(std::move(path)) {}
  Status Append(const std::vector<std::string_view>& parts) override {
    Status written = WriteAll(file_.get(), Vectors(parts), path_);
    if (!written.ok()) return written;
    off_t bytes = 0;
    for (std::string_view part : parts) bytes += static_cast<off_t>(part.size());
    written_.fetch_add(bytes, std::memory_order_release);
    return written;
  }
  Status Sync() override {
    const off_t written = written_.load(std::memory_order_acquire);
    if (::fdatasync(file_.get()) != 0) return Failed("fdatasync", path_);
    // Its chunks are in memory already: the kernel's copies would take as much again, of pages that
    // cost more than the write where a hypervisor has to find them first.
    (void)::posix_fadvise(file_.get(), dropped_, written - dropped_, POSIX_FADV_DONTNEED);
    dropped_ = std::max<off_t>(0, written - kKeptTail);
    return Status::Ok();
  }

 private:
  /// The last page may not have been whole; it goes the next time.
  static constexpr off_t kKeptTail = 1 << 16;
  const FileHandle file_;
  std::atomic<off_t> written_{0};
  off_t dropped_ = 0;  // of Sync(), which comes one at a time
  const std::string path_;
};

class PosixMapping final : public LogMapping {
 public:
  PosixMapping(void* data, size_t size) {
    view_ = {static_cast<const char*>(data), size};
    if (size > 0) ::madvise(data, size, MADV_RANDOM);
  }
  void ExpectLongReads() const override {
    if (!view_.empty()) ::madvise(const_cast<char*>(view_.data()), view_.size(), MADV_NORMAL);
  }
  ~PosixMapping() override {
    if (!view_.empty()) ::munmap(const_cast<char*>(view_.data()), view_.size());
  }
};

class PosixLogFiles final : public LogFiles {
 public:
  PosixLogFiles(std::string server_directory, const std::string& name)
      : server_directory_(std::move(server_directory)), path_(server_directory_ + "/" + name) {}
  ~PosixLogFiles() override {
    if (lock_ >= 0) ::close(lock_);
  }

  Status CreateDirectory() override {
    if (::mkdir(path_.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
      return Failed("mkdir", path_);
    }
    return SyncDirectory(server_directory_);
  }
  bool Lock() override {
    if (lock_ >= 0) return true;
    const std::string path = PathOf("lock");
    lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kFileMode);
    if (lock_ < 0) return false;
    if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return true;
    ::close(lock_);
    lock_ = -1;
    return false;
  }
  Result<std::vector<std::string>> List() override {
    std::vector<std::string> names;
    DIR* directory = ::opendir(path_.c_str());
    if (directory == nullptr) {
      if (errno == ENOENT) return names;
      return Failed("opendir", path_);
    }
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      names.emplace_back(entry->d_name);
      errno = 0;
    }
    const Status status = errno == 0 ? Status::Ok() : Failed("readdir", path_);
    ::closedir(directory);
    if (!status.ok()) return status;
    return names;
  }
  Result<std::unique_ptr<LogFile>> Create(const std::string& name) override {
    const std::string path = PathOf(name);
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode);
    if (file < 0) return Failed("open", path);
    std::unique_ptr<LogFile> out = std::make_unique<PosixLogFile>(file, path);
    if (Status synced = SyncDirectory(path_); !synced.ok()) return synced;
    return out;
  }
  Result<MappingRef> Map(const std::string& name) override {
    const std::string path = PathOf(name);
    const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.ok()) return Failed("open", path);
    struct stat facts {};
    if (::fstat(file.get(), &facts) != 0) return Failed("fstat", path);
    const auto size = static_cast<size_t>(facts.st_size);
    void* data = nullptr;
    if (size > 0) {
      data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
      if (data == MAP_FAILED) return Failed("mmap", path);
    }
    auto* mapping = new PosixMapping(data, size);
    MappingRef out{Ref<LogMapping>(*mapping)};
    mapping->DropReference();
    return out;
  }
  bool HasFile(const std::string& name, uint64_t size) override {
    struct stat facts {};
    if (::lstat(PathOf(name).c_str(), &facts) != 0) return errno != ENOENT && errno != ENOTDIR;
    return S_ISREG(facts.st_mode) && static_cast<uint64_t>(facts.st_size) >= size;
  }
  Status Remove(const std::string& name) override {
    const std::string path = PathOf(name);
    return ::unlink(path.c_str()) == 0 ? Status::Ok() : Failed("unlink", path);
  }
  Status Replace(const std::string& name, std::string_view text) override {
    const std::string path = PathOf(name), temp = path + ".new";
    {
      const FileHandle file(
          ::open(temp.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
      if (!file.ok()) return Failed("open", temp);
      CAIRN_RETURN_IF_ERROR(WriteAll(file.get(), Vectors({text}), temp));
      if (::fdatasync(file.get()) != 0) return Failed("fdatasync", temp);
    }
    if (::rename(temp.c_str(), path.c_str()) != 0) return Failed("rename", temp);
    return SyncDirectory(path_);
  }
  Result<std::string> Read(const std::string& name) override {
    Result<MappingRef> mapped = Map(name);
    if (!mapped.ok()) {
      if (mapped.status().code() == StatusCode::kNotFound) return std::string();
      return mapped.status();
    }
    const std::string_view text = (*mapped.value())->view();
    if (!CanRead(text)) return Status::Io("cannot read " + PathOf(name));
    return std::string(text);
  }
  uint64_t FreeBytes() override {
    struct statvfs facts {};
    if (::statvfs(server_directory_.c_str(), &facts) != 0) return UINT64_MAX;
    return static_cast<uint64_t>(facts.f_bavail) * facts.f_frsize;
  }
  bool MayExist(const std::string& server_file) override {
    struct stat facts {};
    const std::string path = server_directory_ + "/" + server_file;
    return ::lstat(path.c_str(), &facts) == 0 || (errno != ENOENT && errno != ENOTDIR);
  }

 private:
  std::string PathOf(const std::string& name) const { return path_ + "/" + name; }

  const std::string server_directory_;
  const std::string path_;
  int lock_ = -1;
};

}  // namespace

std::unique_ptr<LogFiles> NewPosixLogFiles(const std::string& server_directory,
                                           const std::string& name) {
  return std::make_unique<PosixLogFiles>(server_directory, name);
}

}  // namespace cairn::tensor
