#include "tensor_module/archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cairn::tensor {

namespace {

constexpr size_t kBufferBytes = 1 << 20;
/// Files of one process that are written at once, or were left behind by one of the same number.
constexpr int kMaxTemporaries = 10'000;

Status SystemError(const char* call, const std::string& name) {
  return Status::Client("ERR " + std::string(call) + " of '" + name +
                        "' failed: " + std::strerror(errno));
}

Status NotPlain() {
  return Status::Client("ERR a file is named without a path: it is in the server's directory");
}

}  // namespace

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name[0] != '.' &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i++]);
    if (lead < 0x80) continue;
    const size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - i < more) return false;
    // No longer than it must be, no surrogate, nothing behind U+10FFFF.
    const auto first = static_cast<uint8_t>(text[i]);
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (first < low || first > high) return false;
    for (size_t end = i++ + more; i < end; ++i) {
      if ((static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) return false;
    }
  }
  return true;
}

Result<BlobSlice> ReadWholeFile(BlobSource& source, const std::string& name,
                                const std::function<Status(uint64_t size_bytes)>& may_take) {
  if (!IsPlainFileName(name)) return NotPlain();
  const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return SystemError("open", name);
  const auto read_all = [&]() -> Result<BlobSlice> {
    struct stat about {};
    if (::fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
      return Status::Client("ERR '" + name + "' is no regular file");
    }
    const auto size = static_cast<uint64_t>(about.st_size);
    CAIRN_RETURN_IF_ERROR(may_take(size));
    Blob* blob = source.Allocate(size);
    if (blob == nullptr) {
      return Status::Client("OOM no memory for the file's " + std::to_string(size) + " bytes");
    }
    BlobSlice out{BlobRef::Adopt(blob), 0, 0};
    while (out.size < size) {
      const ssize_t got = ::read(fd, blob->mutable_data() + out.size, size - out.size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return SystemError("read", name);
      if (got == 0) break;  // cut short meanwhile: what is there is judged
      out.size += static_cast<size_t>(got);
    }
    return out;
  };
  Result<BlobSlice> read = read_all();
  ::close(fd);
  return read;
}

FileWriter::FileWriter(std::string name) : name_(std::move(name)) {
  if (!IsPlainFileName(name_)) {
    status_ = NotPlain();
    return;
  }
  // Somebody else may be writing a file of the same name: each has one of its own.
  const std::string prefix = "temp-export-" + std::to_string(::getpid()) + "-";
  for (int i = 0; i < kMaxTemporaries && fd_ < 0 && (i == 0 || errno == EEXIST); ++i) {
    temporary_ = prefix + std::to_string(i);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  }
  if (fd_ < 0) Fail("open");
}

FileWriter::~FileWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void FileWriter::Fail(const char* call) {
  if (status_.ok()) status_ = SystemError(call, name_);
}

void FileWriter::Append(std::string_view bytes) {
  position_ += bytes.size();
  buffer_ += bytes;
  if (buffer_.size() >= kBufferBytes) Flush();
}

void FileWriter::Flush() {
  std::string_view rest = buffer_;
  while (status_.ok() && !rest.empty()) {
    const ssize_t wrote = ::write(fd_, rest.data(), rest.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) Fail("write");
    if (wrote > 0) rest.remove_prefix(static_cast<size_t>(wrote));
  }
  buffer_.clear();
}

Status FileWriter::Publish() {
  Flush();
  if (status_.ok() && ::fdatasync(fd_) != 0) Fail("fdatasync");
  if (status_.ok() && ::rename(temporary_.c_str(), name_.c_str()) != 0) Fail("rename");
  if (!status_.ok()) return status_;
  ::close(fd_);
  fd_ = -1;
  // The name itself is durable once the directory is.
  const int directory = ::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = directory >= 0 && ::fsync(directory) == 0;
  if (!synced) Fail("fsync of the directory");
  if (directory >= 0) ::close(directory);
  return status_;
}

}  // namespace cairn::tensor
