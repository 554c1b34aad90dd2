#include "tests/support/command_harness.h"

#include <functional>

#include "server/base/check.h"
#include "server/platform/working_directory.h"

namespace cairn {

/// Commands that need the loop do not run here: posted jobs would wait for ever, so they stop the
/// test.
class CommandHarness::NoLoop final : public EventLoopPort {
 public:
  void Post(std::function<void()>) override { CAIRN_CHECK(!"the harness has no loop to post to"); }
  TimerId StartTimer(int64_t, int64_t, std::function<void()>) override {
    CAIRN_CHECK(!"the harness has no loop to start timers on");
    return 0;
  }
  void StopTimer(TimerId) override {}
  int64_t NowMillis() const override { return 0; }
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
      loop_(std::make_unique<NoLoop>()),
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
  engine_->on_keyspace_event = [this](NotifyClass, std::string_view event, std::string_view key,
                                      uint32_t db) {
    events_.push_back(std::to_string(db) + " " + std::string(event) + " " + std::string(key));
  };
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
  engine_->RefreshClock();
  const std::vector<std::string_view> views(args.begin(), args.end());
  dispatcher_->RunArgs(session, views);
  const std::string bytes = session.output.Flatten();
  session.output.Clear();
  RespValue value;
  size_t consumed = 0;
  CAIRN_CHECK(ParseReply(bytes, &consumed, &value) == ReplyParse::kValue);
  CAIRN_CHECK(consumed == bytes.size());
  return value;
}

std::vector<std::string> CommandHarness::TakePropagated() {
  int64_t database_before = -1;
  const std::string bytes = engine_->propagation.TakeBuffer(&database_before);
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

void CommandHarness::AdvanceMs(int64_t ms) {
  env_.AdvanceMicros(ms * 1000);
  engine_->RefreshClock();
}

}  // namespace cairn
