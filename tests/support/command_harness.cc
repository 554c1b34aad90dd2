#include "tests/support/command_harness.h"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>

#include "server/base/check.h"
#include "server/platform/working_directory.h"

namespace cairn {

/// Timers that fire when the harness moves its clock, in the order of their times; posted jobs run
/// then too.
class CommandHarness::StillLoop final : public EventLoopPort {
 public:
  explicit StillLoop(FakeEnv& env) : env_(env) {}
  void Post(std::function<void()> job) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(job));
    came_.notify_one();
  }
  TimerId StartTimer(int64_t delay_ms, int64_t period_ms, std::function<void()> fn) override {
    const TimerId id = ++last_id_;
    // A deadline beyond the end of time is one at its end, as in the real loop.
    const int64_t now_ms = NowMillis();
    const int64_t due_ms = delay_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + delay_ms;
    timers_.emplace(std::pair(due_ms, id), Timer{period_ms, std::move(fn)});
    return id;
  }
  void StopTimer(TimerId id) override {
    std::erase_if(timers_, [id](const auto& timer) { return timer.first.second == id; });
  }
  int64_t NowMillis() const override { return env_.MonotonicMicros() / 1000; }

  /// When the next timer is due; INT64_MAX when there is none.
  int64_t next_due_ms() const { return timers_.empty() ? INT64_MAX : timers_.begin()->first.first; }
  void RunDue() {
    while (next_due_ms() <= NowMillis()) {
      auto [when, timer] = *timers_.begin();
      timers_.erase(timers_.begin());
      if (timer.period_ms > 0)
        timers_.emplace(std::pair(when.first + timer.period_ms, when.second), timer);
      timer.fn();
    }
    RunPosted();
  }
  /// Waits up to half a minute for a worker to post something; false when nothing came.
  bool WaitAndRunPosted() {
    {
      std::unique_lock lock(mutex_);
      came_.wait_for(lock, std::chrono::seconds(30), [this] { return !posted_.empty(); });
    }
    return RunPosted();
  }

 private:
  struct Timer {
    int64_t period_ms;
    std::function<void()> fn;
  };
  bool RunPosted() {
    std::vector<std::function<void()>> jobs;
    {
      std::lock_guard lock(mutex_);
      jobs.swap(posted_);
    }
    for (const auto& job : jobs) job();
    return !jobs.empty();
  }

  FakeEnv& env_;
  std::mutex mutex_;
  std::condition_variable came_;
  TimerId last_id_ = 0;
  std::map<std::pair<int64_t, TimerId>, Timer> timers_;
  std::vector<std::function<void()>> posted_;
};

class CommandHarness::NoLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view) override {}
};

/// Commands of these families have no business with the directory.
class CommandHarness::FixedDirectory final : public WorkingDirectory {
 public:
  Status Change(const std::string&) override { return Status::Io("the harness stays where it is"); }
  std::string Current() const override { return "/"; }
};

/// Connections that are never made.
class CommandHarness::NoNetwork final : public Connector {
 public:
  std::unique_ptr<Connecting> Connect(const ConnectRequest&, StreamReceiver*, Done) override {
    return std::make_unique<Connecting>();
  }
};

namespace {

/// Hands removals by TTL to the dispatcher, as the server does.
class ExpiryListener final : public KeyspaceListener {
 public:
  explicit ExpiryListener(std::unique_ptr<Engine>& engine) : engine_(engine) {}
  void OnExpired(uint32_t db, std::string_view key) override {
    engine_->dispatcher->PropagateRemoval(db, key, engine_->settings().lazyfree_lazy_expire);
    engine_->NotifyKeyspaceEvent(NotifyClass::kExpired, "expired", key, db);
  }
  void OnEvicted(uint32_t db, std::string_view key) override {
    engine_->dispatcher->PropagateRemoval(db, key, engine_->settings().lazyfree_lazy_eviction);
    engine_->NotifyKeyspaceEvent(NotifyClass::kEvicted, "evicted", key, db);
  }

 private:
  std::unique_ptr<Engine>& engine_;
};

}  // namespace

CommandHarness::CommandHarness(std::initializer_list<CommandFamily> families)
    : env_(/*seed=*/1),
      loop_(std::make_unique<StillLoop>(env_)),
      directory_(std::make_unique<FixedDirectory>()),
      log_sink_(std::make_unique<NoLog>()),
      log_(std::make_unique<Logger>(LoggerOptions{
          .wall_micros = [this] { return env_.WallMicros(); }, .sink = log_sink_.get()})),
      config_(std::make_unique<Config>(env_, *directory_)),
      arena_(std::make_unique<BlobArena>(size_t{1} << 20)),
      listener_(std::make_unique<ExpiryListener>(engine_)) {
  Keyspace::Options options;
  options.hash_seed = 42;
  options.listener = listener_.get();
  keyspace_ = std::make_unique<Keyspace>(options);
  engine_ = std::make_unique<Engine>(env_, *loop_, *log_, *config_, *keyspace_, *arena_);
  dispatcher_ = std::make_unique<Dispatcher>(*engine_);
  engine_->dispatcher = dispatcher_.get();
  network_ = std::make_unique<NoNetwork>();
  replication_ = std::make_unique<Replication>(*engine_, *network_);
  engine_->on_keyspace_event = [this](NotifyClass, std::string_view event, std::string_view key,
                                      uint32_t db) {
    events_.push_back(std::to_string(db) + " " + std::string(event) + " " + std::string(key));
  };
  scripts_ = std::make_unique<ScriptHost>(*engine_);
  functions_ = std::make_unique<FunctionHost>(*engine_, *scripts_);
  for (CommandFamily family : families) engine_->commands.Add(family);
  engine_->propagation.set_enabled(true);
  engine_->RefreshClock();
  session_ = engine_->CreateSession(nullptr, SessionKind::kNormal);
}

CommandHarness::~CommandHarness() = default;

RespValue CommandHarness::Call(const std::vector<std::string>& args) {
  return CallOn(*session_, args);
}

RespValue CommandHarness::CallOn(Session& session, const std::vector<std::string>& args) {
  Send(session, args);
  std::vector<RespValue> replies = TakeReplies(session);
  CAIRN_CHECK(replies.size() == 1);
  return std::move(replies[0]);
}

Session& CommandHarness::AddSession() {
  return *engine_->CreateSession(nullptr, SessionKind::kNormal);
}

void CommandHarness::Send(Session& session, const std::vector<std::string>& args) {
  engine_->RefreshClock();
  const std::vector<std::string_view> views(args.begin(), args.end());
  dispatcher_->RunArgs(session, views);
  Settle();
}

void CommandHarness::Settle() {
  // What the loop's next turn does for sessions that may run again.
  for (const auto& [id, session] : engine_->sessions()) {
    if (!session->suspended && !session->deferred.empty()) dispatcher_->RunDeferred(*session);
  }
}

std::vector<RespValue> CommandHarness::TakeReplies(Session& session) {
  const std::string bytes = session.output.Flatten();
  session.output.Clear();
  std::vector<RespValue> replies;
  for (size_t at = 0; at < bytes.size();) {
    size_t consumed = 0;
    CAIRN_CHECK(ParseReply(std::string_view(bytes).substr(at), &consumed,
                           &replies.emplace_back()) == ReplyParse::kValue);
    at += consumed;
  }
  return replies;
}

std::string CommandHarness::Received(Session& session) {
  std::string text;
  for (const RespValue& reply : TakeReplies(session))
    text += (text.empty() ? "" : " ") + reply.ToString();
  return text;
}

std::vector<std::string> CommandHarness::TakePropagated() {
  const std::string bytes = engine_->propagation.Take().log;
  std::vector<std::string> commands;
  for (size_t at = 0; at < bytes.size();) {
    RespValue command;
    size_t consumed = 0;
    CAIRN_CHECK(ParseReply(std::string_view(bytes).substr(at), &consumed, &command) ==
                ReplyParse::kValue);
    at += consumed;
    std::string line;
    for (const RespValue& word : command.elements) line += (line.empty() ? "" : " ") + word.text;
    commands.push_back(std::move(line));
  }
  return commands;
}

std::vector<std::string> CommandHarness::TakeEvents() { return std::exchange(events_, {}); }

void CommandHarness::SetSetting(const std::string& name, const std::string& value) {
  const Config::NameAndValue pair{name, value};
  CAIRN_CHECK(config_->Set({&pair, 1}, SetContext{}).ok());
}

bool CommandHarness::RunPosted() { return loop_->WaitAndRunPosted(); }

void CommandHarness::AdvanceMs(int64_t ms) {
  const int64_t end_ms = loop_->NowMillis() + ms;
  // From timer to timer, so that each finds the clock at its own time.
  while (loop_->next_due_ms() < end_ms) {
    env_.AdvanceMicros(std::max<int64_t>(loop_->next_due_ms() - loop_->NowMillis(), 0) * 1000);
    loop_->RunDue();
  }
  env_.AdvanceMicros((end_ms - loop_->NowMillis()) * 1000);
  loop_->RunDue();
  engine_->RefreshClock();
  Settle();
}

}  // namespace cairn
