#include "server/app/host_process.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "server/platform/memory.h"

extern char** environ;

namespace cairn {

namespace {

constexpr const char* kOomScoreFile = "/proc/self/oom_score_adj";
// The kernel's range.
constexpr int kMinOomScore = -1000;
constexpr int kMaxOomScore = 1000;

bool ReadOomScore(int* score) {
  std::FILE* file = std::fopen(kOomScoreFile, "re");
  if (file == nullptr) return false;
  const int fields = std::fscanf(file, "%d", score);
  std::fclose(file);
  return fields == 1;
}

bool WriteOomScore(int score) {
  std::FILE* file = std::fopen(kOomScoreFile, "we");
  if (file == nullptr) return false;
  const bool printed = std::fprintf(file, "%d\n", score) > 0;
  return std::fclose(file) == 0 && printed;
}

/// What of {name} the template may hold.
std::string TitleVariable(std::string_view name, const Settings& settings,
                          const std::string& executable, std::string_view config_file) {
  if (name == "title") return executable;
  if (name == "listen-addr") {
    if (settings.port == 0 && settings.tls_port == 0) return "unixsocket:" + settings.unixsocket;
    const int port = settings.port != 0 ? settings.port : settings.tls_port;
    return (settings.bind.empty() ? "*" : settings.bind[0]) + ":" + std::to_string(port);
  }
  if (name == "server-mode") return settings.cluster_enabled ? "[cluster]" : "";
  if (name == "port") return std::to_string(settings.port);
  if (name == "tls-port") return std::to_string(settings.tls_port);
  if (name == "unixsocket") return settings.unixsocket;
  return std::string(config_file);  // the table lets no other name through
}

}  // namespace

HostProcess::HostProcess(int argc, char** argv) : executable_(argv[0]) {
  // The kernel puts arguments and environment behind each other; `ps` shows what stands there.
  char* end = argv[0];
  for (int i = 0; i < argc && argv[i] == end; ++i) end = argv[i] + std::strlen(argv[i]) + 1;
  size_t count = 0;
  for (; environ[count] != nullptr; ++count) {
    if (environ[count] == end) end = environ[count] + std::strlen(environ[count]) + 1;
  }
  // Lives as long as the process: getenv hands out pointers into it.
  char** moved = new char*[count + 1];
  for (size_t i = 0; i < count; ++i) moved[i] = ::strdup(environ[i]);
  moved[count] = nullptr;
  environ = moved;
  title_begin_ = argv[0];
  title_capacity_ = static_cast<size_t>(end - argv[0]);
}

void HostProcess::FindSupervisor(const Settings& settings) {
  const bool systemd = std::getenv("NOTIFY_SOCKET") != nullptr;
  const bool upstart = std::getenv("UPSTART_JOB") != nullptr;
  const Supervised wanted = settings.supervised;
  const bool any = wanted == Supervised::kAuto;
  if ((any || wanted == Supervised::kUpstart) && upstart) {
    manager_ = Supervised::kUpstart;
  } else if ((any || wanted == Supervised::kSystemd) && systemd) {
    manager_ = Supervised::kSystemd;
  }
}

void HostProcess::Begin(Config& config, Logger& log) {
  const Settings& settings = config.settings();
  if (manager_ == Supervised::kUpstart) {
    log.Log(LogLevel::kNotice, "supervised by upstart, will stop to signal readiness.");
    std::raise(SIGSTOP);
    ::unsetenv("UPSTART_JOB");
  } else if (manager_ == Supervised::kSystemd) {
    log.Log(LogLevel::kWarning,
            "supervised by systemd. Please make sure you set appropriate values for "
            "TimeoutStartSec and TimeoutStopSec in your service unit.");
    Tell("STATUS=Redis is loading...\n");
  } else if (settings.supervised == Supervised::kUpstart) {
    log.Log(LogLevel::kWarning, "upstart supervision requested, but UPSTART_JOB not found!");
  } else if (settings.supervised == Supervised::kSystemd) {
    log.Log(LogLevel::kWarning, "systemd supervision error: NOTIFY_SOCKET not found!");
  }
  if (settings.set_proc_title) ShowTitle(Title(settings, config.file_path()));
  // A score that cannot be set does not keep the server from starting; the log has the reason.
  [[maybe_unused]] const Status scored = ApplyOomScore(settings, log);
  SetAllocatorBackgroundThread(settings.jemalloc_bg_thread);

  const auto retitle = [this, &config](const Settings&, const Settings& after) {
    if (after.set_proc_title) ShowTitle(Title(after, config.file_path()));
    return Status::Ok();
  };
  for (std::string_view name : {"proc-title-template", "port", "bind"})
    config.OnChange(name, retitle);
  for (std::string_view name : {"oom-score-adj", "oom-score-adj-values"}) {
    config.OnChange(name, [this, &log](const Settings&, const Settings& after) {
      return ApplyOomScore(after, log);
    });
  }
  config.OnChange("jemalloc-bg-thread", [](const Settings&, const Settings& after) {
    SetAllocatorBackgroundThread(after.jemalloc_bg_thread);
    return Status::Ok();
  });
}

void HostProcess::Tell(std::string_view message) const {
  if (manager_ != Supervised::kSystemd) return;
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || (path[0] != '/' && path[0] != '@') ||
      std::strlen(path) >= sizeof(address.sun_path))
    return;
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path);
  if (path[0] == '@') address.sun_path[0] = '\0';  // a name in the abstract namespace
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  // A manager that is gone is not ours to wait for.
  [[maybe_unused]] const ssize_t sent =
      ::sendto(fd, message.data(), message.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), length);
  ::close(fd);
}

std::string HostProcess::Title(const Settings& settings, std::string_view config_file) const {
  std::string title;
  std::string_view rest = settings.proc_title_template;
  while (!rest.empty()) {
    const size_t open = rest.find('{');
    title += rest.substr(0, open);
    if (open == std::string_view::npos) break;
    const size_t close = rest.find('}', open);
    title +=
        TitleVariable(rest.substr(open + 1, close - open - 1), settings, executable_, config_file);
    rest.remove_prefix(std::min(close, rest.size() - 1) + 1);
  }
  title.erase(title.find_last_not_of(' ') + 1);
  return title;
}

void HostProcess::ShowTitle(const std::string& title) {
  const size_t length = std::min(title.size(), title_capacity_ - 1);
  std::memset(title_begin_, 0, title_capacity_);
  std::memcpy(title_begin_, title.data(), length);
}

void HostProcess::RoleChanged(const Settings& settings, Logger& log) {
  // The log has the reason why not; the role stands.
  [[maybe_unused]] const Status scored = ApplyOomScore(settings, log);
}

Status HostProcess::ApplyOomScore(const Settings& settings, Logger& log) {
  const Status failed = Status::Client("Failed to set current oom_score_adj. Check server logs.");
  const bool wanted = settings.oom_score_adj != OomScoreAdj::kNo;
  if (!wanted && !oom_score_is_ours_) return Status::Ok();
  if (!oom_score_is_ours_ && !ReadOomScore(&oom_score_base_)) {
    log.Log(LogLevel::kWarning, "Unable to read {}: {}", kOomScoreFile, std::strerror(errno));
    return failed;
  }
  int score = oom_score_base_;
  if (wanted) {
    // The third value is of a child that saves, and there is none.
    score = settings.oom_score_adj_values[settings.replicaof.host.empty() ? 0 : 1];
    if (settings.oom_score_adj == OomScoreAdj::kRelative) score += oom_score_base_;
  }
  if (!WriteOomScore(std::clamp(score, kMinOomScore, kMaxOomScore))) {
    log.Log(LogLevel::kWarning, "Unable to write {}: {}", kOomScoreFile, std::strerror(errno));
    return failed;
  }
  oom_score_is_ours_ = wanted;
  return Status::Ok();
}

}  // namespace cairn
