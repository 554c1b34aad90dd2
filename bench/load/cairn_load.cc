// cairn-load: an open-loop load generator for any RESP server. Requests are due at fixed times,
// whatever the server does; a late reply counts from when its request was due, so a stall shows in
// the percentiles as long as it lasts (no coordinated omission). With --rate 0 the loop is closed:
// each connection sends the next request when the last is answered. One thread, one epoll. Prints
// one JSON object; with --series-ms N also what each N ms looked like, for plots. With --into hash,
// zset, list or stream all requests are writes to one value of --keys elements, the key "big". With
// --log FILE it writes when each request was due and when it was answered, two integers of 64 bits
// in ns of the monotonic clock, and prints when cores stood still meanwhile (core_pulse.h) in place
// of percentiles: those are the reader's to make of the times (latency.py).

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/load/core_pulse.h"
#include "server/base/histogram.h"
#include "server/platform/worker.h"

namespace cairn {
namespace {

struct LoadOptions {
  std::string host = "127.0.0.1";
  std::string unix_path;
  int port = 6379;
  int clients = 50;
  int64_t rate = 10000;  // requests per second over all clients; 0 = closed loop
  double seconds = 5;
  uint64_t keys = 1000000;
  size_t value_bytes = 64;
  int write_percent = 100;
  uint64_t seed = 1;
  std::string prefix = "key:";
  int64_t series_ms = 0;  // length of one window of the time series; 0 = none
  std::string log;        // the file of all requests' times; empty: none
  std::string into;       // the type of the one value that is written to; empty: strings
};

[[noreturn]] void Die(const std::string& text) {
  std::fprintf(stderr, "cairn-load: %s\n", text.c_str());
  std::exit(1);
}

// Skips one reply of the kinds GET and SET give; 0 = incomplete. Errors end the run: a bench must
// not measure a wrong answer.
size_t SkipReply(std::string_view bytes) {
  const size_t line = bytes.find("\r\n");
  if (line == std::string_view::npos) return 0;
  if (bytes[0] == '+' || bytes[0] == ':') return line + 2;
  if (bytes[0] != '$') Die("unexpected reply: " + std::string(bytes.substr(0, line)));
  int64_t length = 0;
  std::from_chars(bytes.data() + 1, bytes.data() + line, length);
  if (length < 0) return line + 2;
  const size_t whole = line + 2 + static_cast<size_t>(length) + 2;
  return bytes.size() >= whole ? whole : 0;
}

void AppendRequest(std::string* out, std::initializer_list<std::string_view> words) {
  *out += "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string_view word : words) {
    *out += "$" + std::to_string(word.size()) + "\r\n";
    out->append(word).append("\r\n");
  }
}

// Latencies of the replies that arrived in one window.
struct Window {
  int64_t began_ns = 0;  // since the run's begin
  uint64_t replies = 0, p50_ns = 0, p99_ns = 0, max_ns = 0;
};

struct Client {
  int fd = -1;
  std::deque<int64_t> due;  // of the requests in flight
  std::string out, in;
};

class Load {
 public:
  explicit Load(const LoadOptions& options)
      : options_(options), clients_(static_cast<size_t>(options.clients)), random_(options.seed) {
    value_.assign(options.value_bytes, 'x');
    epoll_ = epoll_create1(0);
    for (Client& client : clients_) Connect(client);
  }

  void Run() {
    if (!options_.log.empty()) pulse_.emplace();
    const int64_t begin = begin_ns_ = NowNanos();
    const int64_t end = begin + static_cast<int64_t>(options_.seconds * 1e9);
    const double gap = options_.rate > 0 ? 1e9 / static_cast<double>(options_.rate) : 0;
    uint64_t issued = 0;
    size_t turn = 0;
    if (gap == 0) {
      for (Client& client : clients_) Issue(client, NowNanos());
    }
    while (true) {
      const int64_t now = NowNanos();
      if (now >= end) break;
      while (gap > 0) {
        const int64_t due = begin + static_cast<int64_t>(static_cast<double>(issued) * gap);
        if (due > now) break;
        Issue(clients_[turn++ % clients_.size()], due);
        ++issued;
      }
      const int64_t next =
          gap > 0 ? begin + static_cast<int64_t>(static_cast<double>(issued) * gap) : end;
      Poll(gap == 0, std::min(next, end) - NowNanos());
    }
    Drain();
    EndWindow();
    elapsed_s_ = static_cast<double>(NowNanos() - begin) / 1e9;
    if (pulse_) WriteLog();
  }

  void Print() const {
    std::printf("{\"requests\": %llu, \"seconds\": %.3f, \"per_second\": %.0f",
                static_cast<unsigned long long>(answered_), elapsed_s_,
                static_cast<double>(answered_) / elapsed_s_);
    if (!pulse_) PrintPercentiles();
    if (pulse_ && pulse_->works()) {
      PrintStops("stops_ns", stops_.of_all);
      PrintStops("core_stops_ns", stops_.of_a_core);
    }
    if (options_.series_ms > 0) PrintSeries();
    std::printf("}\n");
  }

 private:
  void PrintPercentiles() const {
    std::printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p99_9_us\": %.1f, \"max_us\": %.1f",
                static_cast<double>(latency_.Quantile(0.5)) / 1e3,
                static_cast<double>(latency_.Quantile(0.99)) / 1e3,
                static_cast<double>(latency_.Quantile(0.999)) / 1e3,
                static_cast<double>(latency_.max()) / 1e3);
  }

  void WriteLog() {
    stops_ = pulse_->End();
    std::FILE* file = std::fopen(options_.log.c_str(), "wb");
    if (file == nullptr) Die("cannot write " + options_.log);
    for (const Answered& each : log_) std::fwrite(&each, sizeof each, 1, file);
    if (std::fclose(file) != 0) Die("cannot write " + options_.log);
  }

  static void PrintStops(const char* name, const std::vector<CorePulse::Stop>& stops) {
    std::printf(", \"%s\": [", name);
    const char* separator = "";
    for (const CorePulse::Stop& stop : stops) {
      std::printf("%s[%lld, %lld]", separator, static_cast<long long>(stop.began_ns),
                  static_cast<long long>(stop.ended_ns));
      separator = ", ";
    }
    std::printf("]");
  }

  // began_s is on the monotonic clock, so that others can place their events beside the windows.
  void PrintSeries() const {
    std::printf(", \"began_s\": %.6f, \"series\": [", static_cast<double>(begin_ns_) / 1e9);
    const char* separator = "";
    for (const Window& window : series_) {
      std::printf(
          "%s{\"at_ms\": %lld, \"replies\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
          "\"max_us\": %.1f}",
          separator, static_cast<long long>(window.began_ns / 1'000'000),
          static_cast<unsigned long long>(window.replies), static_cast<double>(window.p50_ns) / 1e3,
          static_cast<double>(window.p99_ns) / 1e3, static_cast<double>(window.max_ns) / 1e3);
      separator = ", ";
    }
    std::printf("]");
  }

  void EndWindow() {
    if (in_window_.count() != 0) {
      series_.push_back({window_began_ns_, in_window_.count(), in_window_.Quantile(0.5),
                         in_window_.Quantile(0.99), in_window_.max()});
    }
    in_window_.Reset();
  }

  void Record(int64_t now, int64_t due) {
    const auto latency = static_cast<uint64_t>(std::max<int64_t>(0, now - due));
    ++answered_;
    if (pulse_) {
      log_.push_back({due, now});
    } else {
      latency_.Record(latency);
    }
    if (options_.series_ms == 0) return;
    const int64_t window_ns = options_.series_ms * 1'000'000;
    const int64_t began_ns = (now - begin_ns_) / window_ns * window_ns;
    if (began_ns != window_began_ns_) {
      EndWindow();
      window_began_ns_ = began_ns;
    }
    in_window_.Record(latency);
  }

  void Connect(Client& client) {
    if (!options_.unix_path.empty()) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, options_.unix_path.c_str(), sizeof address.sun_path - 1);
      client.fd = socket(AF_UNIX, SOCK_STREAM, 0);
      if (connect(client.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        Die("cannot connect");
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<uint16_t>(options_.port));
      inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr);
      client.fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(client.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        Die("cannot connect");
      const int on = 1;
      setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &client;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, client.fd, &event);
  }

  uint64_t Random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_;
  }

  void Issue(Client& client, int64_t due) {
    if (options_.into.empty()) {
      AppendStringRequest(client.out);
    } else {
      AppendElement(client.out);
    }
    client.due.push_back(due);
    Send(client);
  }

  // Names as durability_rows.py gives them.
  void AppendElement(std::string& out) {
    const uint64_t number = Random() % options_.keys;
    char name[32];
    if (options_.into == "hash") {
      std::snprintf(name, sizeof name, "field:%010llu", static_cast<unsigned long long>(number));
      AppendRequest(&out, {"HSET", "big", name, value_});
    } else if (options_.into == "zset") {
      std::snprintf(name, sizeof name, "member:%09llu", static_cast<unsigned long long>(number));
      AppendRequest(&out, {"ZADD", "big", std::to_string(Random() % options_.keys), name});
    } else if (options_.into == "list") {
      AppendRequest(&out, {number % 2 == 0 ? "RPUSH" : "LPUSH", "big", value_});
    } else {
      AppendRequest(&out, {"XADD", "big", "*", "value", value_});
    }
  }

  void AppendStringRequest(std::string& out) {
    char key[32];
    const int digits = std::snprintf(key, sizeof key, "%012llu",
                                     static_cast<unsigned long long>(Random() % options_.keys));
    const std::string name = options_.prefix + std::string(key, static_cast<size_t>(digits));
    const bool write = static_cast<int>(Random() % 100) < options_.write_percent;
    out += write ? "*3\r\n$3\r\nSET\r\n$" : "*2\r\n$3\r\nGET\r\n$";
    out += std::to_string(name.size()) + "\r\n" + name + "\r\n";
    if (write) out += "$" + std::to_string(value_.size()) + "\r\n" + value_ + "\r\n";
  }

  void Send(Client& client) {
    while (!client.out.empty()) {
      const ssize_t sent =
          send(client.fd, client.out.data(), client.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent <= 0) return;  // the rest goes with the next poll
      client.out.erase(0, static_cast<size_t>(sent));
    }
  }

  // Waits for replies, but not past the next request that is due. It sleeps rather than spins: a
  // client that takes a whole core would take it from the server's threads.
  void Poll(bool reissue, int64_t wait_ns) {
    epoll_event events[256];
    const timespec wait = {0, std::clamp<int64_t>(wait_ns, 0, 1'000'000)};
    const int ready = epoll_pwait2(epoll_, events, 256, &wait, nullptr);
    for (int i = 0; i < ready; ++i) Receive(*static_cast<Client*>(events[i].data.ptr), reissue);
    for (Client& client : clients_) {
      if (!client.out.empty()) Send(client);
    }
  }

  void Receive(Client& client, bool reissue) {
    char buffer[65536];
    const ssize_t got = recv(client.fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got == 0) Die("the server closed a connection");
    if (got < 0) return;
    client.in.append(buffer, static_cast<size_t>(got));
    size_t used = 0;
    while (used < client.in.size()) {
      const size_t size = SkipReply(std::string_view(client.in).substr(used));
      if (size == 0) break;
      used += size;
      const int64_t now = NowNanos();
      Record(now, client.due.front());
      client.due.pop_front();
      if (reissue) Issue(client, now);
    }
    client.in.erase(0, used);
  }

  void Drain() {
    const int64_t deadline = NowNanos() + 10'000'000'000;
    const auto busy = [](const Client& client) { return !client.due.empty(); };
    while (NowNanos() < deadline && std::any_of(clients_.begin(), clients_.end(), busy))
      Poll(false, 1'000'000);
  }

  const LoadOptions options_;
  std::vector<Client> clients_;
  std::string value_;
  uint64_t random_;
  int epoll_ = -1;
  struct Answered {
    int64_t due_ns, at_ns;
  };
  uint64_t answered_ = 0;
  Histogram latency_, in_window_;  // the first only without a log
  std::deque<Answered> log_;
  std::optional<CorePulse> pulse_;
  CorePulse::Stops stops_;
  std::vector<Window> series_;
  int64_t begin_ns_ = 0, window_began_ns_ = 0;
  double elapsed_s_ = 0;
};

LoadOptions ParseOptions(int argc, char** argv) {
  LoadOptions options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--host")
      options.host = value;
    else if (name == "--unix")
      options.unix_path = value;
    else if (name == "--port")
      options.port = std::atoi(value);
    else if (name == "--clients")
      options.clients = std::max(1, std::atoi(value));
    else if (name == "--rate")
      options.rate = std::atoll(value);
    else if (name == "--seconds")
      options.seconds = std::atof(value);
    else if (name == "--keys")
      options.keys = std::max<uint64_t>(1, std::strtoull(value, nullptr, 10));
    else if (name == "--value-bytes")
      options.value_bytes = std::strtoull(value, nullptr, 10);
    else if (name == "--write-percent")
      options.write_percent = std::atoi(value);
    else if (name == "--seed")
      options.seed = std::max<uint64_t>(1, std::strtoull(value, nullptr, 10));
    else if (name == "--prefix")
      options.prefix = value;
    else if (name == "--into")
      options.into = value;
    else if (name == "--log")
      options.log = value;
    else if (name == "--series-ms")
      options.series_ms = std::max<int64_t>(0, std::atoll(value));
    else
      Die("unknown option " + std::string(name));
  }
  if (argc % 2 == 0) Die("options come as --name value");
  const std::string_view types[] = {"", "hash", "zset", "list", "stream"};
  if (std::find(std::begin(types), std::end(types), options.into) == std::end(types))
    Die("--into knows hash, zset, list and stream");
  return options;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  prctl(PR_SET_TIMERSLACK, 1);  // wake when the time has come, not up to 50 us later
  // A thread of the server that shares the client's core must not be measured as a late reply: the
  // client is meant to run as soon as it wakes, as on a machine of its own.
  cairn::AskForShortSlices();
  cairn::Load load(cairn::ParseOptions(argc, argv));
  load.Run();
  load.Print();
}
