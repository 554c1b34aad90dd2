#pragma once

// A disk for the tests of the chunk log: files with a durable and a volatile part, faults on
// request, and a crash that keeps what was synced and an arbitrary, damaged piece of what was not.
// A failed sync loses what it was to write, and the next one says yes: as Linux does it.

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "tensor_module/log_files.h"

namespace cairn::tensor {

struct FakeDisk {
  struct File {
    std::string content;
    size_t durable = 0;           ///< bytes from the front that a crash keeps
    size_t lost_from = SIZE_MAX;  ///< a failed sync gave up what is behind it
  };
  std::map<std::string, File> files;
  std::set<std::string> server_files;
  bool directory = false;
  bool locked = false;

  // Faults.
  uint64_t room = UINT64_MAX;  ///< bytes that appends still get
  uint64_t free = UINT64_MAX;  ///< bytes that the disk says it has
  int fail_syncs = 0;          ///< of the next ones
  int fail_replaces = 0;
  uint64_t sync_calls = 0;
  /// Called once inside the next sync, before it says anything: what others do meanwhile.
  std::function<void()> during_sync;

  void Crash(std::mt19937_64& random) {
    for (auto& [name, file] : files) {
      const size_t loose = file.content.size() - file.durable;
      if (loose > 0) file.content.resize(file.durable + random() % (loose + 1));
      for (size_t at = file.durable; at < file.content.size(); at += 64) {
        if (at < file.lost_from && random() % 4 != 0) continue;
        const size_t length = std::min<size_t>(64, file.content.size() - at);
        file.content.replace(at, length, length, '\0');
      }
      file.durable = file.content.size();
      file.lost_from = SIZE_MAX;
    }
    locked = false;
    room = free = UINT64_MAX;
    fail_syncs = fail_replaces = 0;
  }
};

class FakeLogFiles final : public LogFiles {
 public:
  explicit FakeLogFiles(FakeDisk& disk) : disk_(disk) {}
  ~FakeLogFiles() override {
    if (mine_) disk_.locked = false;
  }
  Status CreateDirectory() override {
    disk_.directory = true;
    return Status::Ok();
  }
  bool Lock() override {
    if (mine_) return true;
    if (disk_.locked) return false;
    return disk_.locked = mine_ = true;
  }
  Result<std::vector<std::string>> List() override {
    std::vector<std::string> names;
    if (disk_.directory) names = {".", "..", "lock"};
    for (const auto& [name, file] : disk_.files) names.push_back(name);
    return names;
  }
  Result<std::unique_ptr<LogFile>> Create(const std::string& name) override {
    if (disk_.room == 0) return Status(StatusCode::kNoSpace, "open: no space");
    if (disk_.files.contains(name)) return Status::Io("open: exists");
    disk_.files[name];
    return std::unique_ptr<LogFile>(std::make_unique<File>(disk_, name));
  }
  Result<MappingRef> Map(const std::string& name) override {
    const auto found = disk_.files.find(name);
    if (found == disk_.files.end()) return Status(StatusCode::kNotFound, "open: no such file");
    auto* mapping = new Mapping(found->second.content);
    MappingRef out{Ref<LogMapping>(*mapping)};
    mapping->DropReference();
    return out;
  }
  bool HasFile(const std::string& name, uint64_t size) override {
    const auto found = disk_.files.find(name);
    return found != disk_.files.end() && found->second.content.size() >= size;
  }
  Status Remove(const std::string& name) override {
    return disk_.files.erase(name) == 1 ? Status::Ok() : Status(StatusCode::kNotFound, "unlink");
  }
  Status Replace(const std::string& name, std::string_view text) override {
    if (disk_.fail_replaces > 0) {
      --disk_.fail_replaces;
      return Status::Io("rename: no");
    }
    disk_.files[name] = {std::string(text), text.size()};
    return Status::Ok();
  }
  Result<std::string> Read(const std::string& name) override {
    const auto found = disk_.files.find(name);
    return found == disk_.files.end() ? std::string() : found->second.content;
  }
  uint64_t FreeBytes() override { return disk_.free; }
  bool MayExist(const std::string& server_file) override {
    return disk_.server_files.contains(server_file);
  }

 private:
  class Mapping final : public LogMapping {
   public:
    explicit Mapping(std::string bytes) : bytes_(std::move(bytes)) { view_ = bytes_; }

   private:
    const std::string bytes_;
  };
  class File final : public LogFile {
   public:
    File(FakeDisk& disk, std::string name) : disk_(disk), name_(std::move(name)) {}
    Status Append(const std::vector<std::string_view>& parts) override {
      for (std::string_view part : parts) {
        const size_t fits = static_cast<size_t>(std::min<uint64_t>(part.size(), disk_.room));
        disk_.files[name_].content += part.substr(0, fits);
        if (disk_.room != UINT64_MAX) disk_.room -= fits;
        if (fits < part.size()) return Status(StatusCode::kNoSpace, "write: no space");
      }
      return Status::Ok();
    }
    Status Sync() override {
      ++disk_.sync_calls;
      if (disk_.during_sync) std::exchange(disk_.during_sync, nullptr)();
      FakeDisk::File& file = disk_.files[name_];
      if (disk_.fail_syncs > 0) {
        --disk_.fail_syncs;
        file.lost_from = std::min(file.lost_from, file.durable);
        return Status::Io("fdatasync: input/output error");
      }
      if (file.lost_from == SIZE_MAX) file.durable = file.content.size();
      return Status::Ok();
    }

   private:
    FakeDisk& disk_;
    const std::string name_;
  };

  FakeDisk& disk_;
  bool mine_ = false;
};

}  // namespace cairn::tensor
