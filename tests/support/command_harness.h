#pragma once

// CommandHarness: an engine in process, without sockets, files or threads of its own, for tests
// that run commands and look at the reply, at what was propagated and at what was published. Its
// clock stands still until it is moved. One thread.

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"
#include "server/platform/fake_env.h"
#include "server/protocol/resp_reader.h"
#include "server/replication/replication.h"
#include "server/scripting/script_host.h"

namespace cairn {

class CommandHarness {
 public:
  /// Registers `families` and connects one client.
  explicit CommandHarness(std::initializer_list<CommandFamily> families);
  ~CommandHarness();
  CommandHarness(const CommandHarness&) = delete;
  CommandHarness& operator=(const CommandHarness&) = delete;

  /// Runs one command on the client's session and parses its reply.
  RespValue Call(const std::vector<std::string>& args);
  /// The same on a session of the caller's, for what one client sees of another.
  RespValue CallOn(Session& session, const std::vector<std::string>& args);
  /// The reply in the one-line form of RespValue::ToString.
  std::string Run(const std::vector<std::string>& args) { return Call(args).ToString(); }

  /// Connects one more client.
  Session& AddSession();
  /// Sends a command that may wait (or push to others); while the session waits it is kept as the
  /// server keeps pipelined requests.
  void Send(Session& session, const std::vector<std::string>& args);
  /// What the session was sent since it was last looked at.
  std::vector<RespValue> TakeReplies(Session& session);
  /// The same in one line, parted by spaces; empty when there was nothing.
  std::string Received(Session& session);

  /// What went into the propagation stream since the last call, one command a line, words parted by
  /// spaces.
  std::vector<std::string> TakePropagated();
  /// What was published to keyspace notifications since the last call: "db event key".
  std::vector<std::string> TakeEvents();
  /// CONFIG SET of one setting. Requires: it is accepted.
  void SetSetting(const std::string& name, const std::string& value);

  /// Waits until a worker has posted something to the loop and runs what is there; false when
  /// nothing came within half a minute.
  bool RunPosted();

  /// Moves the clock and fires the timers on the way.
  void AdvanceMs(int64_t ms);
  int64_t now_ms() const { return engine_->now_ms(); }

  Engine& engine() { return *engine_; }
  Replication& replication() { return *replication_; }
  Session& session() { return *session_; }
  FakeEnv& env() { return env_; }

 private:
  class StillLoop;
  class NoLog;
  class FixedDirectory;
  class NoNetwork;

  void Settle();

  FakeEnv env_;
  std::unique_ptr<StillLoop> loop_;
  std::unique_ptr<FixedDirectory> directory_;
  std::unique_ptr<NoLog> log_sink_;
  std::unique_ptr<Logger> log_;
  std::unique_ptr<Config> config_;
  std::unique_ptr<BlobArena> arena_;
  std::unique_ptr<KeyspaceListener> listener_;
  std::unique_ptr<Keyspace> keyspace_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<ScriptHost> scripts_;
  std::unique_ptr<NoNetwork> network_;
  std::unique_ptr<Replication> replication_;
  Session* session_ = nullptr;
  std::vector<std::string> events_;
};

}  // namespace cairn
