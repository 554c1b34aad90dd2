#pragma once

// FakeClient: a connected client of a CommandHarness without a socket: requests go through a real
// parser and the dispatcher's turn, and the session can be suspended, unlike the harness's own. It
// must go before the harness.

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "server/engine/job_runner.h"
#include "server/protocol/resp_parser.h"
#include "tests/support/command_harness.h"

namespace cairn {

/// A connected client whose requests come as bytes and whose replies are read as bytes.
class FakeClient final : public SessionPort {
 public:
  explicit FakeClient(CommandHarness& harness)
      : harness_(harness), session_(harness.engine().CreateSession(this, SessionKind::kNormal)) {}
  ~FakeClient() override { Disconnect(); }

  void Send(const std::vector<std::vector<std::string>>& commands) {
    std::string wire;
    for (const auto& args : commands) {
      wire += "*" + std::to_string(args.size()) + "\r\n";
      for (const std::string& arg : args)
        wire += "$" + std::to_string(arg.size()) + "\r\n" + arg + "\r\n";
    }
    Feed(wire);
  }
  /// What is no request.
  void SendRaw(std::string_view wire) { Feed(wire); }
  /// Runs what was sent and, once InputReady was called, what was deferred.
  void RunTurn() {
    input_ready = false;
    ReadySession ready{session_, &parser_};
    harness_.engine().dispatcher->RunTurn({&ready, 1});
  }
  std::string TakeReplies() {
    std::string bytes = session_->output.Flatten();
    session_->output.Clear();
    return bytes;
  }
  void Disconnect() {
    if (session_ != nullptr) harness_.engine().DestroySession(session_);
    session_ = nullptr;
  }
  Session& session() { return *session_; }

  void OutputReady() override {}
  void Close(bool) override { session_->closing = true; }
  void InputReady() override { input_ready = true; }
  int fd() const override { return -1; }
  size_t query_bytes() const override { return 0; }
  size_t query_capacity() const override { return 0; }

  bool input_ready = false;

 private:
  /// As a socket would: big arguments land in their blobs, so the parser looks in between.
  void Feed(std::string_view wire) {
    while (!wire.empty()) {
      const std::span<char> room = parser_.Reserve(kReadBytes);
      const size_t size = std::min(room.size(), wire.size());
      std::memcpy(room.data(), wire.data(), size);
      parser_.Commit(size);
      session_->received_bytes += size;
      wire.remove_prefix(size);
      if (!session_->suspended || JobRunner::ReadsAhead(*session_)) RunTurn();
    }
  }

  static constexpr size_t kReadBytes = 16 * 1024;
  CommandHarness& harness_;
  RequestParser parser_;
  Session* session_;
};

}  // namespace cairn
