#include "server/engine/latency.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cairn {

// --- samples ---

void LatencySeries::Add(int64_t unix_s, uint32_t latency_ms) {
  max_ms_ = std::max(max_ms_, latency_ms);
  if (count_ > 0) {
    LatencySample& previous = ring_[(next_ + kLatencySamples - 1) % kLatencySamples];
    if (previous.unix_s == unix_s) {
      previous.latency_ms = std::max(previous.latency_ms, latency_ms);
      last_ = previous;
      return;
    }
  }
  ring_[next_] = last_ = {unix_s, latency_ms};
  next_ = (next_ + 1) % kLatencySamples;
  count_ = std::min(count_ + 1, kLatencySamples);
}

std::vector<LatencySample> LatencySeries::Samples() const {
  std::vector<LatencySample> samples;
  samples.reserve(count_);
  for (size_t i = 0; i < count_; ++i)
    samples.push_back(ring_[(next_ + kLatencySamples - count_ + i) % kLatencySamples]);
  return samples;
}

void LatencyMonitor::Add(std::string_view event, int64_t unix_s, int64_t latency_ms) {
  const auto found = events_.find(event);
  LatencySeries& series = found != events_.end() ? found->second : events_[std::string(event)];
  series.Add(unix_s, static_cast<uint32_t>(std::clamp<int64_t>(latency_ms, 0, UINT32_MAX)));
}

bool LatencyMonitor::Reset(std::string_view event) {
  const auto found = events_.find(event);
  if (found == events_.end()) return false;
  events_.erase(found);
  return true;
}

size_t LatencyMonitor::ResetAll() {
  const size_t count = events_.size();
  events_.clear();
  return count;
}

const LatencySeries* LatencyMonitor::Find(std::string_view event) const {
  const auto found = events_.find(event);
  return found == events_.end() ? nullptr : &found->second;
}

// --- graph ---

namespace {

constexpr size_t kGraphRows = 4;
/// The top of a bar inside its row, lowest first; a row the bar passes through is kGraphFull.
constexpr std::string_view kGraphTops = "_o#";
constexpr char kGraphFull = '|';

std::string AgeLabel(int64_t seconds) {
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m", seconds / 60);
  if (seconds < 86400) return fmt::format("{}h", seconds / 3600);
  return fmt::format("{}d", seconds / 86400);
}

/// One band of the graph: rows of bars, an empty row, then the labels downwards.
std::string GraphBand(const std::vector<LatencySample>& band, uint32_t low, uint32_t high,
                      int64_t now_s) {
  const size_t levels = kGraphRows * kGraphTops.size();
  const uint32_t range = std::max(high - low, 1u);
  std::string text;
  for (size_t row = 0; row < kGraphRows; ++row) {
    const size_t below = (kGraphRows - row - 1) * kGraphTops.size();
    for (const LatencySample& sample : band) {
      const size_t level =
          std::min(static_cast<size_t>(static_cast<float>(sample.latency_ms - low) *
                                       static_cast<float>(levels) / static_cast<float>(range)),
                   levels - 1);
      text += level < below                       ? ' '
              : level < below + kGraphTops.size() ? kGraphTops[level - below]
                                                  : kGraphFull;
    }
    text += '\n';
  }
  std::vector<std::string> labels;
  size_t longest = 0;
  for (const LatencySample& sample : band) {
    labels.push_back(AgeLabel(now_s - sample.unix_s));
    longest = std::max(longest, labels.back().size());
  }
  text.append(band.size(), ' ');
  text += '\n';
  for (size_t row = 0; row < longest; ++row) {
    for (const std::string& label : labels) text += row < label.size() ? label[row] : ' ';
    text += '\n';
  }
  return text;
}

}  // namespace

std::string LatencyGraph(std::string_view event, const LatencySeries& series, int64_t now_s) {
  std::vector<LatencySample> samples = series.Samples();
  std::erase_if(samples, [](const LatencySample& sample) { return sample.latency_ms == 0; });
  uint32_t low = 0, high = 0;
  if (!samples.empty()) {
    const auto [least, most] = std::minmax_element(
        samples.begin(), samples.end(),
        [](const LatencySample& a, const LatencySample& b) { return a.latency_ms < b.latency_ms; });
    low = least->latency_ms;
    high = most->latency_ms;
  }
  std::string text = fmt::format("{} - high {} ms, low {} ms (all time high {} ms)\n", event, high,
                                 low, series.max_ms());
  text.append(kLatencyGraphColumns, '-');
  text += '\n';
  for (size_t at = 0; at < samples.size(); at += kLatencyGraphColumns) {
    if (at != 0) text += '\n';
    const size_t end = std::min(at + kLatencyGraphColumns, samples.size());
    text += GraphBand({samples.begin() + static_cast<ptrdiff_t>(at),
                       samples.begin() + static_cast<ptrdiff_t>(end)},
                      low, high, now_s);
  }
  return text;
}

// --- doctor ---

namespace {

struct Advice {
  std::string_view event;
  std::string_view text;
};
/// What usually helps, by event.
constexpr Advice kAdvices[] = {
    {"command",
     "Look at SLOWLOG GET: commands whose cost grows with the size of a key (KEYS, SMEMBERS, SORT, "
     "big ranges) hold the loop for everybody. Prefer SCAN and its relatives."},
    {"fast-command",
     "Commands of constant cost were slow: the process was not given the CPU. Look for other loads "
     "on this machine, swapping, and a virtual machine that is short of cores."},
    {"command-unblocking",
     "Serving clients that waited took long: many may wait for the same key, or the served "
     "commands move much data at once."},
    {"expire-cycle",
     "Many keys end at the same time. Spread their times, or lower active-expire-effort."},
    {"expire-del", "Freeing expired values takes long: set lazyfree-lazy-expire to yes."},
    {"eviction-cycle",
     "Memory is at its limit and much has to go at once: raise maxmemory, or lower "
     "maxmemory-eviction-tenacity."},
    {"eviction-del", "Freeing evicted values takes long: set lazyfree-lazy-eviction to yes."},
    {"aof-write", "The disk does not keep up with the append-only file."},
    {"aof-fsync-always",
     "With appendfsync always each answer waits for the disk: everysec costs at most a second of "
     "writes, or use a faster disk."},
    {"aof-write-pending-fsync",
     "A write had to wait for a sync that was still running: something else keeps the disk busy, "
     "perhaps a rewrite (see no-appendfsync-on-rewrite)."},
};

std::string DoctorLine(std::string_view event, const LatencySeries& series, size_t number,
                       int64_t now_s) {
  const std::vector<LatencySample> samples = series.Samples();
  double sum = 0;
  for (const LatencySample& sample : samples) sum += sample.latency_ms;
  const double mean = sum / static_cast<double>(samples.size());
  double deviation = 0;
  for (const LatencySample& sample : samples) deviation += std::abs(sample.latency_ms - mean);
  deviation /= static_cast<double>(samples.size());
  const double period_s =
      static_cast<double>(now_s - samples.front().unix_s) / static_cast<double>(samples.size());
  return fmt::format(
      "{}. {}: {} latency spikes (average {:.0f}ms, mean deviation {:.0f}ms, period {:.2f} sec). "
      "Worst all time event {}ms.\n",
      number, event, samples.size(), mean, deviation, period_s, series.max_ms());
}

}  // namespace

std::string LatencyDoctor(const LatencyMonitor& monitor, int64_t now_s, int64_t threshold_ms) {
  if (monitor.events().empty()) {
    if (threshold_ms == 0) {
      return "Latency is not being watched. CONFIG SET latency-monitor-threshold <milliseconds> "
             "begins; take the longest wait that your application can bear.\n";
    }
    return fmt::format("No event took {} ms or more so far.\n", threshold_ms);
  }
  std::string text = "These events held the server longer than they should:\n\n";
  size_t number = 0;
  for (const auto& [event, series] : monitor.events())
    text += DoctorLine(event, series, ++number, now_s);
  text += "\nWhat may help:\n\n";
  for (const Advice& advice : kAdvices) {
    if (monitor.Find(advice.event) != nullptr)
      text += fmt::format("- {}: {}\n", advice.event, advice.text);
  }
  return text;
}

}  // namespace cairn
