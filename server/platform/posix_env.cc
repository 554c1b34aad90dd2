#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

#include "server/base/mapped_bytes.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

/// Turns errno into a Status. `error` is passed by value because the formatting may change errno.
Status ErrnoStatus(std::string_view call, const std::string& path, int error) {
  StatusCode code = StatusCode::kIo;
  if (error == ENOENT) code = StatusCode::kNotFound;
  if (error == ENOSPC || error == EDQUOT) code = StatusCode::kNoSpace;
  return {code, fmt::format("{} {}: {}", call, path, std::generic_category().message(error))};
}

/// Calls until the call is not interrupted by a signal.
template <typename Call>
auto Uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), size_(size), padded_size_(size) {}
  ~PosixWritableFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  Status Append(std::string_view bytes) override { return Appendv({&bytes, 1}); }

  Status Appendv(std::span<const std::string_view> pieces) override {
    constexpr size_t kBatch = 64;
    std::array<iovec, kBatch> vectors;
    while (!pieces.empty()) {
      const size_t count = std::min(pieces.size(), kBatch);
      for (size_t i = 0; i < count; ++i) {
        vectors[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
      }
      CAIRN_RETURN_IF_ERROR(WriteAll({vectors.data(), count}));
      pieces = pieces.subspan(count);
    }
    return Status::Ok();
  }

  Status Sync() override {
    if (Uninterrupted([&] { return ::fdatasync(fd_); }) < 0) return Failed("fdatasync");
    return Status::Ok();
  }

  Status SyncRange(uint64_t offset, uint64_t size_bytes) override {
    const int result = Uninterrupted([&] {
      return ::sync_file_range(fd_, static_cast<off64_t>(offset), static_cast<off64_t>(size_bytes),
                               SYNC_FILE_RANGE_WRITE);
    });
    // A file system that cannot take the hint is no failure; a write error is.
    if (result < 0 && errno != ENOSYS && errno != EINVAL && errno != ESPIPE) {
      return Failed("sync_file_range");
    }
    return Status::Ok();
  }

  Status Truncate(uint64_t size_bytes) override {
    CAIRN_CHECK(size_bytes <= size_);
    if (Uninterrupted([&] { return ::ftruncate(fd_, static_cast<off_t>(size_bytes)); }) < 0) {
      return Failed("ftruncate");
    }
    size_ = padded_size_ = size_bytes;
    return Status::Ok();
  }

  Status Preallocate(uint64_t size_bytes) override {
    if (size_bytes <= size_) return Status::Ok();
    const int result = Uninterrupted([&] {
      return ::fallocate(fd_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size_),
                         static_cast<off_t>(size_bytes - size_));
    });
    if (result < 0 && errno != EOPNOTSUPP && errno != ENOSYS) return Failed("fallocate");
    return Status::Ok();
  }

  Status Pad(uint64_t end_bytes, char fill) override {
    const std::string block(size_t{64} << 10, fill);
    while (padded_size_ < end_bytes) {
      const size_t wanted = std::min<uint64_t>(block.size(), end_bytes - padded_size_);
      const ssize_t written = Uninterrupted(
          [&] { return ::pwrite(fd_, block.data(), wanted, static_cast<off_t>(padded_size_)); });
      if (written < 0) return Failed("write");
      padded_size_ += static_cast<uint64_t>(written);
    }
    return Status::Ok();
  }
  uint64_t padded_size() const override { return padded_size_; }

  uint64_t size() const override { return size_; }

  Status Close() override {
    if (fd_ < 0) return Status::Ok();
    const int result = ::close(std::exchange(fd_, -1));
    // After EINTR the descriptor is gone on Linux; trying again could close a stranger's.
    return result < 0 && errno != EINTR ? Failed("close") : Status::Ok();
  }

 private:
  Status Failed(std::string_view call) const { return ErrnoStatus(call, path_, errno); }

  /// Writes the vectors at size_; the kernel may take them in several bites.
  Status WriteAll(std::span<iovec> vectors) {
    while (!vectors.empty()) {
      if (vectors.front().iov_len == 0) {
        vectors = vectors.subspan(1);
        continue;
      }
      const ssize_t written = Uninterrupted([&] {
        return ::pwritev(fd_, vectors.data(), static_cast<int>(vectors.size()),
                         static_cast<off_t>(size_));
      });
      if (written < 0) return Failed("write");
      size_ += static_cast<uint64_t>(written);
      padded_size_ = std::max(padded_size_, size_);
      auto left = static_cast<size_t>(written);
      while (!vectors.empty() && left >= vectors.front().iov_len) {
        left -= vectors.front().iov_len;
        vectors = vectors.subspan(1);
      }
      if (left > 0) {
        vectors.front().iov_base = static_cast<char*>(vectors.front().iov_base) + left;
        vectors.front().iov_len -= left;
      }
    }
    return Status::Ok();
  }

  const std::string path_;
  int fd_;
  uint64_t size_;
  uint64_t padded_size_;
};

class PosixRandomAccessFile final : public RandomAccessFile {
 public:
  PosixRandomAccessFile(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}
  ~PosixRandomAccessFile() override {
    if (map_ != nullptr) ::munmap(map_, size_);
    ::close(fd_);
  }

  Result<size_t> Read(uint64_t offset, size_t size, char* out) const override {
    size_t done = 0;
    while (done < size) {
      const ssize_t bytes = Uninterrupted(
          [&] { return ::pread(fd_, out + done, size - done, static_cast<off_t>(offset + done)); });
      if (bytes < 0) return ErrnoStatus("read", path_, errno);
      if (bytes == 0) break;
      done += static_cast<size_t>(bytes);
    }
    return done;
  }

  uint64_t size() const override { return size_; }

  Result<std::string_view> Map() override {
    if (size_ == 0) return std::string_view();
    if (map_ == nullptr) {
      void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
      if (map == MAP_FAILED) return ErrnoStatus("mmap", path_, errno);
      map_ = map;
    }
    return view();
  }

  Status MakeReadable(uint64_t offset, uint64_t size) override {
    CAIRN_CHECK(offset <= size_ && size <= size_ - offset && (map_ != nullptr || size == 0));
    if (CanRead(view().substr(offset, size))) {
      WillRead(view().substr(offset + size, size));
      return Status::Ok();
    }
    struct stat status {};
    const bool cut = ::fstat(fd_, &status) == 0 && status.st_size >= 0 &&
                     static_cast<uint64_t>(status.st_size) < offset + size;
    return cut ? Status::Io("read " + path_ + ": the file got shorter")
               : ErrnoStatus("read", path_, EIO);
  }

 private:
  std::string_view view() const { return {static_cast<const char*>(map_), map_ ? size_ : 0}; }

  const std::string path_;
  const int fd_;
  const uint64_t size_;
  void* map_ = nullptr;
};

class PosixEnv final : public Env {
 public:
  Result<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override {
    return OpenWriter(path, 0);
  }
  Result<std::unique_ptr<WritableFile>> OpenTruncate(const std::string& path) override {
    return OpenWriter(path, O_TRUNC);
  }

  Result<std::unique_ptr<RandomAccessFile>> OpenRead(const std::string& path) override {
    const int fd = Uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
    if (fd < 0) return ErrnoStatus("open", path, errno);
    struct stat status {};
    int error = ::fstat(fd, &status) < 0 ? errno : 0;
    if (error == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
    if (error != 0) {
      ::close(fd);
      return ErrnoStatus("open", path, error);
    }
    return std::unique_ptr<RandomAccessFile>(
        new PosixRandomAccessFile(path, fd, static_cast<uint64_t>(status.st_size)));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    return Check(::rename(from.c_str(), to.c_str()), "rename", from);
  }
  Status Remove(const std::string& path) override {
    return Check(::remove(path.c_str()), "remove", path);
  }

  Status CreateDir(const std::string& path) override {
    if (::mkdir(path.c_str(), 0755) == 0) return Status::Ok();
    const int error = errno;
    struct stat status {};
    if (error == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
      return Status::Ok();
    }
    return ErrnoStatus("mkdir", path, error);
  }

  Result<std::vector<std::string>> ListDir(const std::string& path) override {
    DIR* directory = ::opendir(path.c_str());
    if (directory == nullptr) return ErrnoStatus("opendir", path, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    const int error = errno;
    ::closedir(directory);
    if (error != 0) return ErrnoStatus("readdir", path, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<FileKind> KindOf(const std::string& path) override {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0)
      return S_ISDIR(status.st_mode) ? FileKind::kDirectory : FileKind::kFile;
    if (errno == ENOENT) return FileKind::kAbsent;
    return ErrnoStatus("stat", path, errno);
  }

  Result<uint64_t> FileSize(const std::string& path) override {
    struct stat status {};
    if (::stat(path.c_str(), &status) < 0) return ErrnoStatus("stat", path, errno);
    return static_cast<uint64_t>(status.st_size);
  }

  Result<int64_t> ModificationTime(const std::string& path) override {
    struct stat status {};
    if (::stat(path.c_str(), &status) < 0) return ErrnoStatus("stat", path, errno);
    return ToMicros(status.st_mtim);
  }

  Status SyncDir(const std::string& path) override {
    const int fd =
        Uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd < 0) return ErrnoStatus("open", path, errno);
    const int error = Uninterrupted([&] { return ::fsync(fd); }) < 0 ? errno : 0;
    ::close(fd);
    // Some network file systems refuse to sync a directory; there is nothing better to do on them.
    return error == 0 || error == EINVAL ? Status::Ok() : ErrnoStatus("fsync", path, error);
  }

  Result<uint64_t> FreeSpace(const std::string& path) override {
    struct statvfs status {};
    if (::statvfs(path.c_str(), &status) < 0) return ErrnoStatus("statvfs", path, errno);
    return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
  }

  int64_t WallMicros() override { return Clock(CLOCK_REALTIME); }
  int64_t MonotonicMicros() override { return Clock(CLOCK_MONOTONIC); }

  void FillRandom(std::span<char> out) override {
    while (!out.empty()) {
      const ssize_t bytes = Uninterrupted([&] { return ::getrandom(out.data(), out.size(), 0); });
      CAIRN_CHECK(bytes > 0);
      out = out.subspan(static_cast<size_t>(bytes));
    }
  }

 private:
  static int64_t ToMicros(const timespec& time) {
    return int64_t{time.tv_sec} * 1000000 + time.tv_nsec / 1000;
  }
  static int64_t Clock(clockid_t clock) {
    timespec now{};
    CAIRN_CHECK(::clock_gettime(clock, &now) == 0);
    return ToMicros(now);
  }
  static Status Check(int result, std::string_view call, const std::string& path) {
    return result < 0 ? ErrnoStatus(call, path, errno) : Status::Ok();
  }

  static Result<std::unique_ptr<WritableFile>> OpenWriter(const std::string& path, int flags) {
    const int fd = Uninterrupted(
        [&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644); });
    if (fd < 0) return ErrnoStatus("open", path, errno);
    struct stat status {};
    if (::fstat(fd, &status) < 0) {
      const int error = errno;
      ::close(fd);
      return ErrnoStatus("fstat", path, error);
    }
    return std::unique_ptr<WritableFile>(
        new PosixWritableFile(path, fd, static_cast<uint64_t>(status.st_size)));
  }
};

}  // namespace

std::unique_ptr<Env> NewPosixEnv() { return std::make_unique<PosixEnv>(); }

}  // namespace cairn
