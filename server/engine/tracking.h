#pragma once

// Tracking: which sessions hold copies of which keys in caches of their own (CLIENT TRACKING), and
// the messages that tell them to forget. By default a key is remembered for a session when it reads
// it; with BCAST prefixes are, and nothing is remembered by key. Messages are pushes in RESP3, or
// go as pub/sub messages of channel "__redis__:invalidate" to the session named by REDIRECT. Keys
// are tracked by name whatever their database, as in Redis. Thread: executor.
//
// Order: others hear of a changed key at once; the session that changed it after its command
// (transaction, script), so that the message follows the reply. Broadcasts go at the end of the
// turn, many keys in one message.
//
// Invariants (CheckInvariants):
//   T1  The counters of sessions and items (pairs of key and session) equal what is held.
//   T2  No key and no prefix is without a session; a session is in exactly its own prefixes.
// A key may hold sessions that are gone or track no more: they are left out when it changes.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/base/status.h"
#include "server/engine/session.h"

namespace cairn {

class CommandContext;
class Engine;
struct Command;

/// The channel of invalidations in RESP2.
inline constexpr std::string_view kInvalidateChannel = "__redis__:invalidate";

/// One session's side.
struct TrackingState {
  bool broadcast = false, opt_in = false, opt_out = false, no_loop = false;
  bool caching = false;  ///< CLIENT CACHING spoke of the next command, or of the transaction
  bool broken_redirection = false;
  uint64_t redirect = 0;              ///< session id, 0: to itself
  std::vector<std::string> prefixes;  ///< sorted once enabled
};

class Tracking {
 public:
  explicit Tracking(Engine& engine) : engine_(engine) {}
  Tracking(const Tracking&) = delete;
  Tracking& operator=(const Tracking&) = delete;

  /// What CLIENT TRACKING ON asks for. Replaces the options of a session that tracks already, but
  /// for its prefixes, which are added to.
  void Enable(Session& session, TrackingState options);
  void Disable(Session& session);
  /// Errors: "ERR Prefix 'a' overlaps with ..." when one of `prefixes` begins with another of them
  /// or of the session's, or is its beginning.
  static Status CheckPrefixes(const Session& session, std::span<const std::string> prefixes);

  /// Somebody must hear of changes; keys that are remembered are forgotten when they change even
  /// after the last session left.
  bool active() const { return sessions_ > 0 || !table_.empty(); }
  /// After a command that only reads: its keys are remembered for the session.
  void RememberKeys(Session& session, const Command& command,
                    std::span<const std::string_view> args);
  /// `key` changed. `origin` is the session whose command did it, nullptr: expired, evicted.
  void Invalidate(Session* origin, std::string_view key);
  /// Every key changed (FLUSHALL, FLUSHDB, SWAPDB): the null message to all.
  void InvalidateAll();
  /// What a session hears of its own changes, and the table's limit. After each top-level command.
  void Settle();
  /// The table's limit may have been lowered, or one round was not enough. Every 100 ms.
  void Tick();
  bool has_work() const { return !pending_.empty() || over_limit_; }
  /// Sends what prefixes gathered. At the end of a turn.
  void SendBroadcasts();

  size_t session_count() const { return sessions_; }
  size_t key_count() const { return table_.size(); }
  size_t item_count() const { return items_; }
  size_t prefix_count() const { return prefixes_.size(); }

  void CheckInvariants() const;

 private:
  struct Prefix {
    /// Changed keys with the session that changed them first (0: nobody).
    std::map<std::string, uint64_t> changed;
    std::set<uint64_t> sessions;
  };
  struct NameHash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  using Table = std::unordered_map<std::string, std::set<uint64_t>, NameHash, std::equal_to<>>;

  void AddPrefix(Session& session, const std::string& prefix);
  void LimitTable();
  bool IsOverLimit() const;
  void SendKeys(Session& session, std::span<const std::string_view> keys);
  void SendFlush(Session& session);
  /// Where messages of `session` go, nullptr: nowhere (RESP2 without a listening redirection).
  Session* TargetOf(Session& session);
  static void WriteKeys(RespWriter& out, std::span<const std::string_view> keys);
  void SendPrefix(const Prefix& prefix);

  Engine& engine_;
  size_t sessions_ = 0;
  size_t items_ = 0;
  bool over_limit_ = false;
  uint64_t limit_rounds_ = 0;  // rounds in a row that did not bring the table below its limit
  bool broadcasts_waiting_ = false;
  Table table_;
  std::map<std::string, Prefix, std::less<>> prefixes_;
  // What the running session will hear when its command is over; an empty optional is a flush.
  std::vector<std::optional<std::string>> pending_;
};

}  // namespace cairn
