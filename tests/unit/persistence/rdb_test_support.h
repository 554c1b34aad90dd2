#pragma once

// What the rdb_*_test files share: a sink that writes every event down as text, and a
// redis-server 7.0.15 on a unix socket as oracle. Local to these tests.

#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "persistence/value_sink.h"

namespace cairn {

class RecordingSink final : public DatasetSink, public ValueSink {
 public:
  std::vector<std::string> events;
  int blobs = 0;

  Status Aux(std::string_view n, std::string_view v) override { return Note("aux", n, v); }
  Status FunctionLibrary(std::string_view code) override { return Note("function", code); }
  Status SelectDatabase(uint32_t i, uint64_t k, uint64_t e) override {
    return Note("db", std::to_string(i), std::to_string(k), std::to_string(e));
  }
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& m) override {
    CAIRN_RETURN_IF_ERROR(Note("key", key, std::to_string(m.expire_at_ms),
                               std::to_string(m.lru_idle_s), std::to_string(m.lfu_frequency)));
    return static_cast<ValueSink*>(this);
  }
  Result<ValueSink*> ModuleAux(uint64_t id, uint64_t when) override {
    CAIRN_RETURN_IF_ERROR(Note("module-aux", std::to_string(id), std::to_string(when)));
    return static_cast<ValueSink*>(this);
  }
  Status String(std::string_view b) override { return Note("string", b); }
  Status StringBlob(BlobRef b) override {
    ++blobs;
    return String(b.view());
  }
  Status Integer(int64_t v) override { return Note("integer", std::to_string(v)); }
  Status Begin(ValueKind kind, uint64_t count) override {
    return Note("begin", std::to_string(static_cast<int>(kind)), std::to_string(count));
  }
  Status Item(std::string_view e) override { return Note("item", e); }
  Status Field(std::string_view f, std::string_view v) override { return Note("field", f, v); }
  Status Scored(std::string_view m, double s) override {
    return Note("scored", m, std::to_string(s));
  }
  Status Packed(uint8_t type, std::string_view b) override {
    return Note("packed", std::to_string(type), b);
  }
  Status FieldExpiring(std::string_view f, std::string_view v, int64_t at) override {
    return Note("field-ttl", f, v, std::to_string(at));
  }
  Status StreamState(const StreamStateRecord& s) override {
    return Note("state", std::to_string(s.length), Id(s.last_id), Id(s.first_id),
                Id(s.max_deleted_id), std::to_string(s.entries_added),
                std::to_string(s.group_count));
  }
  Status StreamGroup(const StreamGroupRecord& g) override {
    return Note("group", g.name, Id(g.last_id), std::to_string(g.entries_read),
                std::to_string(g.pending_count));
  }
  Status StreamPending(const StreamPendingRecord& p) override {
    return Note("pending", Id(p.id), std::to_string(p.delivered_at_ms),
                std::to_string(p.delivery_count));
  }
  Status StreamConsumers(uint64_t n) override { return Note("consumers", std::to_string(n)); }
  Status StreamConsumer(const StreamConsumerRecord& c) override {
    return Note("consumer", c.name, std::to_string(c.seen_at_ms), std::to_string(c.pending_count));
  }
  Status StreamConsumerPending(StreamId id) override { return Note("owned", Id(id)); }
  Status BeginModule(uint64_t id) override { return Note("module", std::to_string(id)); }
  Status ModuleUnsigned(uint64_t v) override { return Note("unsigned", std::to_string(v)); }
  Status ModuleSigned(int64_t v) override { return Note("signed", std::to_string(v)); }
  Status ModuleDouble(double v) override { return Note("double", std::to_string(v)); }
  Status ModuleFloat(float v) override { return Note("float", std::to_string(v)); }
  Status ModuleString(std::string_view b) override { return Note("bytes", b); }
  Status End() override { return Note("end"); }

 private:
  static std::string Id(StreamId id) {
    return std::to_string(id.ms) + "-" + std::to_string(id.sequence);
  }
  template <typename... Words>
  Status Note(Words... words) {
    std::string line;
    ((line.append(words).append(1, ' ')), ...);
    line.pop_back();
    events.push_back(std::move(line));
    return Status::Ok();
  }
};

/// A directory that is gone with the test.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "cairn_rdb_XXXXXX").string();
    CAIRN_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline void WriteAll(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// redis-server in `dir`, loading dump.rdb if there is one. Reachable by unix socket only.
class OracleServer {
 public:
  explicit OracleServer(const std::string& dir) {
    const std::string socket = dir + "/oracle.sock";
    pid_ = ::fork();
    if (pid_ == 0) {
      CAIRN_CHECK(std::freopen("/dev/null", "w", stdout) != nullptr);
      ::execl("/usr/bin/redis-server", "redis-server", "--port", "0", "--unixsocket",
              socket.c_str(), "--dir", dir.c_str(), "--save", "", "--enable-debug-command", "yes",
              nullptr);
      ::_exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < deadline && !Connect(socket)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  ~OracleServer() {
    if (context_ != nullptr) redisFree(context_);
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  bool up() const { return context_ != nullptr; }

  /// The reply as text: bulk and status as they are, integers printed, errors with "-", nil
  /// "(nil)".
  std::string Call(const std::vector<std::string>& words) {
    std::vector<const char*> argv;
    std::vector<size_t> sizes;
    for (const std::string& word : words) {
      argv.push_back(word.data());
      sizes.push_back(word.size());
    }
    auto* reply = static_cast<redisReply*>(
        redisCommandArgv(context_, static_cast<int>(words.size()), argv.data(), sizes.data()));
    CAIRN_CHECK(reply != nullptr);
    std::string text = reply->type == REDIS_REPLY_INTEGER ? std::to_string(reply->integer)
                       : reply->type == REDIS_REPLY_NIL
                           ? "(nil)"
                           : std::string(reply->str ? reply->str : "", reply->len);
    if (reply->type == REDIS_REPLY_ERROR) text.insert(0, "-");
    freeReplyObject(reply);
    return text;
  }

 private:
  bool Connect(const std::string& socket) {
    context_ = redisConnectUnix(socket.c_str());
    if (context_ != nullptr && context_->err == 0 && Call({"PING"}) == "PONG") return true;
    if (context_ != nullptr) redisFree(context_);
    context_ = nullptr;
    return false;
  }

  pid_t pid_ = -1;
  redisContext* context_ = nullptr;
};

}  // namespace cairn
