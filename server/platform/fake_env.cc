#include "server/platform/fake_env.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace cairn {
namespace {

constexpr int64_t kStartWallMicros = 1767225600'000000;  // 2026-01-01 00:00:00 UTC

/// "a//b/./c/" and "a/b/c" are one name; ".." is not understood.
std::string Normalize(std::string_view path) {
  const bool absolute = path.substr(0, 1) == "/";
  std::string out;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (!out.empty() || absolute) out.push_back('/');
    out.append(part);
  }
  if (out.empty()) return absolute ? "/" : ".";
  return out;
}

Status Error(StatusCode code, std::string_view call, const std::string& path,
             std::string_view reason) {
  return {code, fmt::format("{} {}: {}", call, path, reason)};
}

Status NotFound(std::string_view call, const std::string& path) {
  return Error(StatusCode::kNotFound, call, path, "No such file or directory");
}

/// Bytes written over and past the end of `content`; a gap reads as zeros.
void WriteAt(std::string_view bytes, uint64_t offset, std::string* content) {
  if (content->size() < offset + bytes.size()) content->resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), content->begin() + static_cast<ptrdiff_t>(offset));
}

/// Which of `count` unsynced changes survive a crash, by rule D3: a prefix or any subset.
std::vector<bool> ChooseSurvivors(size_t count, std::mt19937_64* random) {
  std::vector<bool> kept(count);
  const bool prefix = (*random)() % 2 == 0;
  const size_t length = (*random)() % (count + 1);
  for (size_t i = 0; i < count; ++i) kept[i] = prefix ? i < length : (*random)() % 2 == 0;
  return kept;
}

}  // namespace

struct FakeEnv::Inode {
  /// A write (bytes at offset) or, with `truncate`, a new length (offset).
  struct Step {
    bool truncate;
    uint64_t offset;
    std::string bytes;
    void ApplyTo(std::string* content) const {
      if (truncate) {
        content->resize(std::min<uint64_t>(content->size(), offset));
      } else {
        WriteAt(bytes, offset, content);
      }
    }
    /// Some of the sectors keep what `content` has there. Small ones: histories of tests are short.
    void LoseSectors(std::string_view content, std::mt19937_64* random) {
      constexpr uint64_t kSectorBytes = 32;
      const uint64_t end = offset + bytes.size();
      for (uint64_t at = offset; at < end;) {
        const uint64_t next = std::min(end, (at / kSectorBytes + 1) * kSectorBytes);
        const size_t size = next - at;
        if ((*random)() % 2 == 0) bytes.replace(at - offset, size, content.substr(at, size));
        at = next;
      }
    }
  };

  void Do(Step step) {
    step.ApplyTo(&current);
    unsynced.push_back(std::move(step));
  }
  void Sync() {
    for (const Step& step : unsynced) step.ApplyTo(&synced);
    unsynced.clear();
  }

  /// Room on the disk: what the file holds, and what was preallocated for it.
  uint64_t room() const { return std::max<uint64_t>(current.size(), preallocated); }

  bool directory = false;
  int64_t modified_us = 0;
  uint64_t preallocated = 0;
  std::string current;
  std::string synced;
  std::vector<Step> unsynced;
};

class FakeEnv::Writer final : public WritableFile {
 public:
  Writer(FakeEnv* env, std::string path, InodeRef inode)
      : env_(env),
        path_(std::move(path)),
        inode_(std::move(inode)),
        generation_(env->generation_),
        size_(inode_->current.size()),
        padded_size_(size_) {}

  Status Append(std::string_view bytes) override { return Appendv({&bytes, 1}); }
  Status Appendv(std::span<const std::string_view> pieces) override {
    std::unique_lock lock(env_->mutex_);
    ++env_->held_appends_;
    env_->let_go_.wait(lock, [this] { return env_->appends_allowed_ > 0; });
    --env_->held_appends_;
    if (env_->appends_allowed_ != UINT64_MAX) --env_->appends_allowed_;
    env_->TakeWriteTime();
    std::string bytes;
    for (const std::string_view piece : pieces) bytes.append(piece);
    const Status status = Write(std::move(bytes), &size_);
    padded_size_ = std::max(padded_size_, size_);
    return status;
  }

  Status Sync() override {
    std::unique_lock lock(env_->mutex_);
    ++env_->held_syncs_;
    env_->let_go_.wait(lock, [this] { return !env_->syncs_held_; });
    --env_->held_syncs_;
    if (Status fault = Begin("fdatasync"); !fault.ok()) {
      if (env_->failed_syncs_forget_ && Usable()) inode_->unsynced.clear();
      return fault;
    }
    inode_->Sync();
    return Status::Ok();
  }

  Status SyncRange(uint64_t, uint64_t) override { return Hint("sync_file_range"); }
  Status Preallocate(uint64_t size_bytes) override {
    std::lock_guard lock(env_->mutex_);
    CAIRN_RETURN_IF_ERROR(Begin("fallocate"));
    const uint64_t more = size_bytes > inode_->room() ? size_bytes - inode_->room() : 0;
    if (more > env_->FreeLocked()) return NoSpace("fallocate");
    inode_->preallocated = std::max(inode_->preallocated, size_bytes);
    return Status::Ok();
  }
  Status Pad(uint64_t end_bytes, char fill) override {
    std::lock_guard lock(env_->mutex_);
    const uint64_t missing = end_bytes > padded_size_ ? end_bytes - padded_size_ : 0;
    return Write(std::string(missing, fill), &padded_size_);
  }
  uint64_t padded_size() const override { return padded_size_; }

  Status Truncate(uint64_t size_bytes) override {
    std::lock_guard lock(env_->mutex_);
    CAIRN_CHECK(size_bytes <= size_);
    CAIRN_RETURN_IF_ERROR(Begin("ftruncate"));
    inode_->Do({true, size_bytes, {}});
    inode_->preallocated = 0;
    inode_->modified_us = env_->wall_us_;
    size_ = padded_size_ = size_bytes;
    return Status::Ok();
  }

  uint64_t size() const override {
    std::unique_lock lock(env_->mutex_);
    ++env_->held_sizes_;
    env_->let_go_.wait(lock, [this] { return !env_->sizes_held_; });
    --env_->held_sizes_;
    return size_;
  }
  Status Close() override {
    std::lock_guard lock(env_->mutex_);
    if (closed_) return Status::Ok();
    const Status status = Begin("close");
    closed_ = true;
    return status;
  }

 private:
  bool Usable() const { return !closed_ && generation_ == env_->generation_; }

  Status Begin(std::string_view call) {
    CAIRN_RETURN_IF_ERROR(env_->CountCall(call, path_));
    if (Usable()) return Status::Ok();
    return Error(StatusCode::kIo, call, path_, closed_ ? "closed" : "lost in a crash");
  }

  Status Hint(std::string_view call) {
    std::lock_guard lock(env_->mutex_);
    return Begin(call);
  }

  Status NoSpace(std::string_view call) const {
    return Error(StatusCode::kNoSpace, call, path_, "No space left on device");
  }

  /// A write at *end, which a planted fault may hit.
  Status Write(std::string bytes, uint64_t* end) {
    const Status fault = Begin("write");
    if (fault.ok()) return WriteAt(bytes, end);
    if (env_->short_writes_ && Usable() && !bytes.empty()) {
      bytes.resize(env_->random_() % bytes.size());
      [[maybe_unused]] const Status partial = WriteAt(bytes, end);
    }
    return fault;
  }

  /// Writes at *end, and moves it, as far as the disk has room. Padding is room already taken, and
  /// so is what was preallocated.
  Status WriteAt(std::string_view bytes, uint64_t* end) {
    const uint64_t held = inode_->room();
    const uint64_t own = held > *end ? held - *end : 0;
    const uint64_t free_bytes = env_->FreeLocked();
    const uint64_t room = free_bytes > UINT64_MAX - own ? UINT64_MAX : free_bytes + own;
    const bool fits = bytes.size() <= room;
    bytes = bytes.substr(0, room);
    if (!bytes.empty()) inode_->Do({false, *end, std::string(bytes)});
    inode_->modified_us = env_->wall_us_;
    *end += bytes.size();
    return fits ? Status::Ok() : NoSpace("write");
  }

  FakeEnv* const env_;
  const std::string path_;
  const InodeRef inode_;
  const uint64_t generation_;
  uint64_t size_;
  uint64_t padded_size_;
  bool closed_ = false;
};

class FakeEnv::Reader final : public RandomAccessFile {
 public:
  Reader(FakeEnv* env, std::string path, InodeRef inode)
      : env_(env),
        path_(std::move(path)),
        inode_(std::move(inode)),
        generation_(env->generation_),
        size_(inode_->current.size()) {}

  Result<size_t> Read(uint64_t offset, size_t size, char* out) const override {
    std::lock_guard lock(env_->mutex_);
    CAIRN_RETURN_IF_ERROR(Begin("read"));
    const std::string& content = inode_->current;
    if (offset >= content.size()) return size_t{0};
    return content.copy(out, size, offset);
  }

  uint64_t size() const override { return size_; }

  Result<std::string_view> Map() override {
    std::lock_guard lock(env_->mutex_);
    CAIRN_RETURN_IF_ERROR(Begin("mmap"));
    if (map_.empty()) map_ = inode_->current.substr(0, size_);
    return std::string_view(map_);
  }

  Status MakeReadable(uint64_t offset, uint64_t size) override {
    std::lock_guard lock(env_->mutex_);
    CAIRN_CHECK(offset <= map_.size() && size <= map_.size() - offset);
    CAIRN_RETURN_IF_ERROR(Begin("read"));
    if (offset + size <= inode_->current.size()) return Status::Ok();
    return Error(StatusCode::kIo, "read", path_, "the file got shorter");
  }

 private:
  Status Begin(std::string_view call) const {
    CAIRN_RETURN_IF_ERROR(env_->CountCall(call, path_));
    if (generation_ == env_->generation_) return Status::Ok();
    return Error(StatusCode::kIo, call, path_, "lost in a crash");
  }

  FakeEnv* const env_;
  const std::string path_;
  const InodeRef inode_;
  const uint64_t generation_;
  const uint64_t size_;
  std::string map_;
};

FakeEnv::FakeEnv(uint64_t seed) : random_(seed), wall_us_(kStartWallMicros) {
  for (const char* root : {"/", "."}) {
    auto inode = std::make_shared<Inode>();
    inode->directory = true;
    names_[root] = durable_names_[root] = inode;
  }
}

FakeEnv::~FakeEnv() = default;

void FakeEnv::Crash(uint64_t seed) {
  std::lock_guard lock(mutex_);
  std::mt19937_64 random(seed);
  const std::vector<bool> kept = ChooseSurvivors(unsynced_names_.size(), &random);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i]) Apply(unsynced_names_[i], &durable_names_);
  }
  unsynced_names_.clear();
  // What lies in a directory that did not survive is lost with it. Parents sort before their
  // children.
  for (auto it = durable_names_.begin(); it != durable_names_.end();) {
    const auto parent = durable_names_.find(DirName(it->first));
    const bool alive = parent != durable_names_.end() && parent->second->directory;
    it = alive ? std::next(it) : durable_names_.erase(it);
  }
  std::set<Inode*> done;  // Hard links lead to one file.
  for (auto& [name, inode] : durable_names_) {
    if (done.insert(inode.get()).second) CrashFile(inode.get(), &random);
  }
  names_ = durable_names_;
  ++generation_;
  fail_at_ = fail_again_at_ = fail_all_from_ = 0;
}

void FakeEnv::CrashFile(Inode* inode, std::mt19937_64* random) {
  const std::vector<bool> kept = ChooseSurvivors(inode->unsynced.size(), random);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (!kept[i]) continue;
    Inode::Step& step = inode->unsynced[i];
    const bool last =
        std::find(kept.begin() + static_cast<ptrdiff_t>(i) + 1, kept.end(), true) == kept.end();
    const bool torn = last && !step.truncate && (*random)() % 2 == 0;
    const bool overwrites = step.offset + step.bytes.size() <= inode->synced.size();
    if (torn && overwrites && (*random)() % 2 == 0) {
      step.LoseSectors(inode->synced, random);
    } else if (torn) {
      step.bytes.resize((*random)() % step.bytes.size());
    }
    step.ApplyTo(&inode->synced);
  }
  inode->unsynced.clear();
  inode->current = inode->synced;
  inode->preallocated = 0;
}

Status FakeEnv::FlipBits(const std::string& path, uint64_t offset, unsigned char mask) {
  std::lock_guard lock(mutex_);
  auto found = FindFile("flip", Normalize(path));
  if (!found.ok()) return found.status();
  Inode& inode = **found;
  if (offset >= inode.current.size()) {
    return Error(StatusCode::kIo, "flip", path, fmt::format("no byte at {}", offset));
  }
  inode.Sync();
  inode.synced[offset] = static_cast<char>(static_cast<unsigned char>(inode.synced[offset]) ^ mask);
  inode.current = inode.synced;
  return Status::Ok();
}

uint64_t FakeEnv::UsedLocked() const {
  std::set<const Inode*> seen;
  uint64_t bytes = 0;
  for (const auto& [name, inode] : names_) {
    if (seen.insert(inode.get()).second) bytes += inode->room();
  }
  return bytes;
}

uint64_t FakeEnv::FreeLocked() const {
  if (capacity_ == UINT64_MAX) return UINT64_MAX;
  return capacity_ - std::min(UsedLocked(), capacity_);
}

Status FakeEnv::CountCall(std::string_view call, const std::string& path) {
  ++io_calls_;
  if (fail_at_ == 0 || io_calls_ < fail_at_) return Status::Ok();
  const bool all = fail_sticky_ || (fail_all_from_ != 0 && io_calls_ >= fail_all_from_);
  if (io_calls_ > fail_at_ && io_calls_ != fail_again_at_ && !all) return Status::Ok();
  if (fault_us_ < 0) fault_us_ = monotonic_us_;
  return Error(fault_.code(), call, path, fault_.message());
}

Result<FakeEnv::InodeRef> FakeEnv::FindFile(std::string_view call, const std::string& path) const {
  const auto found = names_.find(path);
  if (found == names_.end()) return NotFound(call, path);
  if (found->second->directory) return Error(StatusCode::kIo, call, path, "Is a directory");
  return found->second;
}

Status FakeEnv::CheckParent(std::string_view call, const std::string& path) const {
  const auto parent = names_.find(DirName(path));
  if (parent == names_.end()) return NotFound(call, path);
  if (!parent->second->directory) return Error(StatusCode::kIo, call, path, "Not a directory");
  return Status::Ok();
}

void FakeEnv::Apply(const DirChange& change, Names* names) {
  for (const auto& [name, inode] : change.names) {
    if (inode == nullptr) {
      names->erase(name);
    } else {
      (*names)[name] = inode;
    }
  }
}

void FakeEnv::Change(DirChange change) {
  Apply(change, &names_);
  unsynced_names_.push_back(std::move(change));
}

Result<std::unique_ptr<WritableFile>> FakeEnv::OpenWriter(const std::string& raw_path,
                                                          bool truncate) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("open", path));
  CAIRN_RETURN_IF_ERROR(CheckParent("open", path));
  auto found = FindFile("open", path);
  if (!found.ok() && found.status().code() != StatusCode::kNotFound) return found.status();
  InodeRef inode = found.ok() ? *found : std::make_shared<Inode>();
  if (!found.ok()) {
    inode->modified_us = wall_us_;
    Change({{{path, inode}}});
  } else if (truncate && !inode->current.empty()) {
    inode->Do({true, 0, {}});
    inode->modified_us = wall_us_;
  }
  return std::unique_ptr<WritableFile>(new Writer(this, path, std::move(inode)));
}

Result<std::unique_ptr<WritableFile>> FakeEnv::OpenAppend(const std::string& path) {
  return OpenWriter(path, false);
}

Result<std::unique_ptr<WritableFile>> FakeEnv::OpenTruncate(const std::string& path) {
  return OpenWriter(path, true);
}

Result<std::unique_ptr<RandomAccessFile>> FakeEnv::OpenRead(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("open", path));
  auto found = FindFile("open", path);
  if (!found.ok()) return found.status();
  return std::unique_ptr<RandomAccessFile>(new Reader(this, path, std::move(*found)));
}

Status FakeEnv::Rename(const std::string& raw_from, const std::string& raw_to) {
  std::lock_guard lock(mutex_);
  const std::string from = Normalize(raw_from);
  const std::string to = Normalize(raw_to);
  CAIRN_RETURN_IF_ERROR(CountCall("rename", from));
  const auto source = names_.find(from);
  if (source == names_.end()) return NotFound("rename", from);
  CAIRN_RETURN_IF_ERROR(CheckParent("rename", to));
  const auto target = names_.find(to);
  if (target != names_.end()) {
    if (target->second == source->second) return Status::Ok();
    if (target->second->directory || source->second->directory) {
      return Error(StatusCode::kIo, "rename", from, "File exists");
    }
  }
  DirChange change{{{from, nullptr}, {to, source->second}}};
  const std::string below = from + "/";
  for (auto it = names_.lower_bound(below); it != names_.end() && it->first.starts_with(below);
       ++it) {
    change.names.emplace_back(it->first, nullptr);
    change.names.emplace_back(to + "/" + it->first.substr(below.size()), it->second);
  }
  Change(std::move(change));
  return Status::Ok();
}

Status FakeEnv::Remove(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("remove", path));
  const auto found = names_.find(path);
  if (found == names_.end()) return NotFound("remove", path);
  if (found->second->directory) {
    const bool root = path == DirName(path);
    const auto child = std::find_if(names_.begin(), names_.end(), [&](const auto& entry) {
      return entry.first != path && DirName(entry.first) == path;
    });
    if (root || child != names_.end()) {
      return Error(StatusCode::kIo, "remove", path, "Directory not empty");
    }
  }
  Change({{{path, nullptr}}});
  return Status::Ok();
}

Status FakeEnv::CreateDir(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("mkdir", path));
  const auto found = names_.find(path);
  if (found != names_.end()) {
    if (found->second->directory) return Status::Ok();
    return Error(StatusCode::kIo, "mkdir", path, "File exists");
  }
  CAIRN_RETURN_IF_ERROR(CheckParent("mkdir", path));
  auto inode = std::make_shared<Inode>();
  inode->directory = true;
  inode->modified_us = wall_us_;
  Change({{{path, std::move(inode)}}});
  return Status::Ok();
}

Result<std::vector<std::string>> FakeEnv::ListDir(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("opendir", path));
  const auto found = names_.find(path);
  if (found == names_.end()) return NotFound("opendir", path);
  if (!found->second->directory) {
    return Error(StatusCode::kIo, "opendir", path, "Not a directory");
  }
  std::vector<std::string> names;
  for (const auto& [name, inode] : names_) {
    if (name != path && DirName(name) == path && name != "/" && name != ".") {
      names.push_back(name.substr(name.rfind('/') + 1));
    }
  }
  return names;
}

Result<FileKind> FakeEnv::KindOf(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("stat", path));
  const auto found = names_.find(path);
  if (found == names_.end()) return FileKind::kAbsent;
  return found->second->directory ? FileKind::kDirectory : FileKind::kFile;
}

Result<uint64_t> FakeEnv::FileSize(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("stat", path));
  const auto found = names_.find(path);
  if (found == names_.end()) return NotFound("stat", path);
  return uint64_t{found->second->current.size()};
}

Result<int64_t> FakeEnv::ModificationTime(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("stat", path));
  const auto found = names_.find(path);
  if (found == names_.end()) return NotFound("stat", path);
  return found->second->modified_us;
}

Status FakeEnv::SyncDir(const std::string& raw_path) {
  std::lock_guard lock(mutex_);
  const std::string path = Normalize(raw_path);
  CAIRN_RETURN_IF_ERROR(CountCall("fsync", path));
  const auto found = names_.find(path);
  if (found == names_.end()) return NotFound("fsync", path);
  if (!found->second->directory) {
    return Error(StatusCode::kIo, "fsync", path, "Not a directory");
  }
  // A rename between two directories becomes certain with either of them, and takes along what
  // happened before in the other: walking back, the set of directories grows.
  std::set<std::string> directories{path};
  std::vector<bool> certain(unsynced_names_.size());
  for (size_t i = unsynced_names_.size(); i-- > 0;) {
    for (const auto& [name, inode] : unsynced_names_[i].names) {
      if (directories.contains(DirName(name))) certain[i] = true;
    }
    if (!certain[i]) continue;
    for (const auto& [name, inode] : unsynced_names_[i].names) directories.insert(DirName(name));
  }
  std::vector<DirChange> rest;
  for (size_t i = 0; i < certain.size(); ++i) {
    if (certain[i]) {
      Apply(unsynced_names_[i], &durable_names_);
    } else {
      rest.push_back(std::move(unsynced_names_[i]));
    }
  }
  unsynced_names_ = std::move(rest);
  return Status::Ok();
}

Result<uint64_t> FakeEnv::FreeSpace(const std::string& path) {
  std::lock_guard lock(mutex_);
  CAIRN_RETURN_IF_ERROR(CountCall("statvfs", path));
  return FreeLocked();
}

}  // namespace cairn
