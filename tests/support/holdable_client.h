#pragma once

// HoldableClient: a client of a DurableProcess whose writes may have to wait.

#include <string_view>
#include <vector>

#include "tests/support/durable_process.h"

namespace cairn {

/// Sends commands from a connection, which unlike DurableProcess::Run's session may be held.
class HoldableClient {
 public:
  explicit HoldableClient(DurableProcess& process)
      : process_(process), session_(process.engine_.CreateSession(&port_, SessionKind::kNormal)) {}
  ~HoldableClient() { process_.engine_.DestroySession(session_); }
  /// False: it is held.
  bool Run(std::vector<std::string_view> args) {
    port_.told = false;
    process_.engine_.RefreshClock();
    session_->output.Clear();
    process_.dispatcher_.RunArgs(*session_, args);
    process_.EndOfTurn();
    return !session_->output.empty();
  }
  bool held() const { return session_->suspended; }
  bool told_to_go_on() const { return port_.told; }

 private:
  class Port final : public SessionPort {
   public:
    void OutputReady() override {}
    void Close(bool) override {}
    void InputReady() override { told = true; }
    int fd() const override { return -1; }
    size_t query_bytes() const override { return 0; }
    size_t query_capacity() const override { return 0; }
    bool told = false;
  };
  DurableProcess& process_;
  Port port_;
  Session* session_;
};

}  // namespace cairn
