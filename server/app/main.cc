// cairn-server: reads arguments and configuration, builds the Server, runs it. Standard error
// carries what happens before the log is open.

#include <fcntl.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "server/app/crash_report.h"
#include "server/app/families.h"
#include "server/app/host_process.h"
#include "server/app/log_sinks.h"
#include "server/app/server.h"
#include "server/engine/command_reference.h"
#include "server/engine/version.h"
#include "server/platform/memory.h"
#include "server/platform/working_directory.h"

namespace cairn {
namespace {

// Where init scripts look for the pid of a server in the background that was told no place.
// Source: CONFIG_DEFAULT_PID_FILE of Redis 7.0.
constexpr const char* kPidFileOfDaemons = "/var/run/redis.pid";

void PrintHelp() {
  std::fprintf(
      stderr,
      "Usage: cairn-server [/path/to/cairn.conf] [options] [-]\n"
      "       cairn-server - (read the configuration from standard input)\n"
      "       cairn-server -v or --version\n"
      "       cairn-server -h or --help\n"
      "       cairn-server --generate-conf (print conf/cairn.conf: every setting with its "
      "explanation)\n"
      "       cairn-server --generate-commands (print docs/commands.md)\n"
      "       cairn-server --generate-differences (print docs/settings.md: settings without "
      "effect)\n\n"
      "Examples:\n"
      "       cairn-server (defaults)\n"
      "       cairn-server --port 7777 --loglevel verbose\n"
      "       cairn-server conf/durable.conf --dir /var/lib/cairn\n"
      "       echo 'maxmemory 128mb' | cairn-server -\n");
}

/// A line of the log before its place is known.
void PrintEarly(Env& env, std::string_view line) {
  const std::string prefix = LogPrefix(::getpid(), 'C', env.WallMicros(), LogLevel::kWarning);
  std::printf("%s%.*s\n", prefix.c_str(), static_cast<int>(line.size()), line.data());
  std::fflush(stdout);
}

void Daemonize() {
  if (::fork() != 0) std::_Exit(0);
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0) return;
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
  if (null > STDERR_FILENO) ::close(null);
}

void FollowCrashSetting(Config& config) {
  const auto follow = [](const Settings&, const Settings& now) {
    if (now.crash_log_enabled) {
      InstallCrashReport(now.logfile);
    } else {
      RemoveCrashReport(now.logfile);
    }
    return Status::Ok();
  };
  [[maybe_unused]] const Status followed = follow(config.settings(), config.settings());
  config.OnChange("crash-log-enabled", follow);
}

/// `configured`: there was a file or an option, so that what runs is not the default configuration.
int Serve(Env& env, Config& config, HostProcess& process, const std::string& executable,
          bool configured) {
  const Settings& settings = config.settings();
  process.FindSupervisor(settings);
  if (settings.daemonize && !process.is_supervised()) {
    Daemonize();
    if (settings.pidfile.empty()) config.MutableSettings().pidfile = kPidFileOfDaemons;
  }
  const std::unique_ptr<LogSink> sink = NewLogSink(settings);
  Logger log({.pid = ::getpid(),
              .wall_micros = [&env] { return env.WallMicros(); },
              .sink = sink.get(),
              .level = static_cast<LogLevel>(settings.loglevel),
              .role = 'C'});
  log.Log(LogLevel::kWarning, "oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
  log.Log(LogLevel::kWarning,
          "CairnKV version={}, following Redis version={}, bits=64, pid={}, just started",
          kCairnVersion, kRedisVersion, ::getpid());
  if (!configured) {
    log.Log(LogLevel::kWarning,
            "Warning: no config file specified, using the default config. In order to specify a "
            "config file use {} "
            "/path/to/cairn.conf",
            executable);
  } else {
    log.Log(LogLevel::kWarning, "Configuration loaded");
  }
  process.Begin(config, log);
  log.set_role('M');
  FollowCrashSetting(config);
  Server server(env, config, log, executable);
  server.engine().tell_supervisor = [&](std::string_view line) { process.Tell(line); };
  server.OnRoleChange([&] {
    log.set_role(settings.replicaof.host.empty() ? 'M' : 'S');
    process.RoleChanged(settings, log);
  });
  log.Log(LogLevel::kNotice, "Running mode=standalone, port={}. PID: {}", settings.port,
          ::getpid());
  if (Status started = server.Start(); !started.ok()) {
    log.Log(LogLevel::kWarning, "{}", started.message());
    // A load that SHUTDOWN or a signal ended did what it was told.
    return started.code() == StatusCode::kCancelled ? 0 : 1;
  }
  process.Tell(settings.replicaof.host.empty()
                   ? "STATUS=Ready to accept connections\n"
                   : "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> "
                     "REPLICA sync\n");
  process.Tell("READY=1\n");
  return server.Run();
}

/// Renames and users are tried on a table of their own while the file is read, so that a wrong one
/// is named with its line.
void CheckDirectives(Config& config, CommandTable& table, std::set<std::string>& users) {
  AddAllFamilies(table);
  config.SetDirectiveCheck("rename-command", [&table](std::span<const std::string> words) {
    return std::string(table.Rename(words[0], words[1]).message());
  });
  config.SetDirectiveCheck("user", [&table, &users](std::span<const std::string> words) {
    if (!users.insert(words[0]).second) {
      return "Error in user declaration '" + words[0] +
             "': Duplicate user found. A user can only be defined once in config files";
    }
    return Acl::CheckUserLine(table, words);
  });
}

int Main(int argc, char** argv) {
  std::setlocale(LC_COLLATE, "");  // SORT ALPHA compares as the environment says, like Redis
  const std::string executable = argv[0];
  const std::vector<std::string> words(argv + 1, argv + argc);
  const LaunchArguments arguments = ParseLaunchArguments(words);
  switch (arguments.mode) {
    case LaunchArguments::Mode::kVersion:
      std::printf("CairnKV server v=%s follows=%s malloc=%s bits=64\n", kCairnVersion.data(),
                  kRedisVersion.data(), AllocatorName());
      return 0;
    case LaunchArguments::Mode::kHelp:
      PrintHelp();
      return 1;  // as redis-server's
    case LaunchArguments::Mode::kTestMemory:
      std::fputs("There is no test of memory here. memtester(8) is one.\n", stderr);
      return 1;
    case LaunchArguments::Mode::kCheckSystem:
      std::fputs("There is no check of the system here: without fork nothing hangs on it.\n",
                 stderr);
      return 1;
    case LaunchArguments::Mode::kGenerateConf:
      std::fputs(GenerateDefaultConfig().c_str(), stdout);
      return 0;
    case LaunchArguments::Mode::kGenerateCommands: {
      CommandTable table;
      AddAllFamilies(table);
      std::fputs(GenerateCommandReference(table).c_str(), stdout);
      return 0;
    }
    case LaunchArguments::Mode::kGenerateDifferences:
      std::fputs(GenerateSettingsDifferences().c_str(), stdout);
      return 0;
    case LaunchArguments::Mode::kServe:
      break;
  }
  HostProcess process(argc, argv);
  const std::unique_ptr<Env> env = NewPosixEnv();
  const std::unique_ptr<WorkingDirectory> directory = NewPosixWorkingDirectory();
  Config config(*env, *directory);
  CommandTable renamed;
  std::set<std::string> users;
  CheckDirectives(config, renamed, users);
  std::string from_stdin;
  if (arguments.read_stdin) {
    PrintEarly(*env, "Reading config from stdin");
    from_stdin.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  if (Status loaded = config.Load(arguments, from_stdin); !loaded.ok()) {
    if (loaded.code() == StatusCode::kCorruption) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(loaded.message().size()),
                   loaded.message().data());
    } else {
      PrintEarly(*env, loaded.message());
    }
    return 1;
  }
  return Serve(*env, config, process, executable, !words.empty());
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
