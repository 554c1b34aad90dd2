#pragma once

// BlockingTable: the sessions that wait inside a command (BLPOP, BZPOPMIN, XREAD BLOCK, WAIT) and
// what wakes them: one of their keys becoming ready, their deadline, CLIENT UNBLOCK, the end of
// their connection. It keeps places in line and knows no command; the dispatcher
// (dispatcher_blocking.cc) asks the waiting command again and answers for it. Thread: executor.
//
// For the author of a blocking command. The handler tries first; when there is nothing it parks:
//
//   Status BLPop(CommandContext& ctx) {
//     int64_t timeout_ms;
//     const size_t last = ctx.argc() - 1;
//     CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, last, TimeoutUnit::kSeconds, &timeout_ms));
//     ... for each key: found a list? pop, reply, return ...
//     return ctx.Block({.keys = ctx.args().subspan(1, last - 1), .timeout_ms = timeout_ms,
//                       .type = ValueType::kList, .retry = RetryBLPop});
//   }
//   // Called with the same arguments when `key` holds a list again. Pops, replies, notifies and
//   // propagates (ctx.PropagateAs LPOP) as the command itself would; *served tells whether it did.
//   Status RetryBLPop(CommandContext& ctx, KeyRef key, bool* served);
//
// Inside MULTI, a script or the loader nobody can wait: Block answers as the timeout would.
// A key becomes ready when it is created (any command that stores under a free name: the keyspace
// reports it), when its database is swapped in, and when a command calls ctx.SignalReady: XADD and
// others that feed an existing key, and those that replace a key as if it were new (RENAME, COPY,
// RESTORE).
//
// Invariants (CheckInvariants):
//   B1  A session is in the line of each of its keys exactly once, and in no other.
//   B2  A line is never empty; a session has a deadline entry if and only if it can time out.
//   B3  A blocked session is suspended.
//   B4  The keyspace reports to this table if and only if some session waits for a key.

#include <cstdint>
#include <functional>
#include <list>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/engine/session.h"
#include "server/keyspace/keyspace.h"
#include "server/platform/transport.h"

namespace cairn {

class CommandContext;
class Engine;
struct Command;

/// Tries a waiting command again; `key` is one of its keys and holds a value of its type (or, for
/// those that asked for it, is gone). Leaving *served false keeps the session in its place and must
/// leave no trace. Errors: an error line for the client, whose waiting ends.
using BlockRetry = Status (*)(CommandContext& ctx, KeyRef key, bool* served);

/// What CommandContext::Block is asked to wait for.
struct BlockRequest {
  std::span<const std::string_view> keys = {};  ///< in the session's database; repeats count once
  int64_t timeout_ms = 0;                       ///< 0: for ever
  ValueType type = ValueType::kString;          ///< keys of other types do not wake it
  bool also_when_gone = false;  ///< also when a stream key is removed or replaced (XREADGROUP)
  BlockRetry retry = nullptr;   ///< may be null when there are no keys
  void (*on_timeout)(CommandContext& ctx) = nullptr;  ///< nullptr: the null array
  /// What the command is asked again with, where that must not be what was sent (XREAD's "$" means
  /// the last ID of when it came); empty: as sent. Used up by Block.
  std::span<const std::string_view> args = {};
};

/// The sessions that wait for one key, in the order of their coming.
struct BlockLine {
  uint32_t db = 0;
  std::string_view key;  ///< borrows the table's own copy
  std::list<Session*> sessions;
  size_t want_gone = 0;  ///< sessions with also_when_gone
  bool ready = false;    ///< in the list of ready keys
};

/// A session's side of waiting.
struct BlockedState {
  BlockRequest request;  ///< without its keys
  OwnedCommand command;
  Command* counted = nullptr;  ///< where its outcome is counted
  uint64_t spent_ticks = 0;    ///< what the first try cost
  int64_t deadline_ms = 0;     ///< loop clock; 0: none
  struct Place {
    BlockLine* line;
    std::list<Session*>::iterator at;
  };
  std::vector<Place> places;
};

class BlockingTable final : public KeyObserver {
 public:
  explicit BlockingTable(Engine& engine) : engine_(engine) {}
  ~BlockingTable() override;
  BlockingTable(const BlockingTable&) = delete;
  BlockingTable& operator=(const BlockingTable&) = delete;

  /// Parks `session`. Requires: it is not blocked. Cost: O(keys).
  void Park(Session& session, const BlockRequest& request, OwnedCommand command);
  /// Takes it out of every line and lets it run again; its connection hands in what it kept. No-op
  /// for a session that is not blocked.
  void Release(Session& session);
  /// Release without letting it run: its connection is closing.
  void Forget(Session& session);

  /// The key may serve a waiter now. Those who wait are asked after the running command.
  void Signal(uint32_t db, std::string_view key) {
    if (!lines_.empty()) [[unlikely]]
      SignalSlow(db, key, /*gone=*/false);
  }
  /// The database was swapped or emptied: all keys waited for in it may serve or be gone.
  void SignalDatabase(uint32_t db);

  bool has_ready() const { return !ready_.empty(); }
  /// Goes through the waiters of the keys that were ready when it was called, keys in the order of
  /// their signals, waiters in the order of their coming. `ask` may release the session it is given
  /// and no other; returning false ends the line of this key.
  void ServeReady(const std::function<bool(Session&, const BlockLine&)>& ask);

  /// Sessions whose deadline has come, earliest first.
  std::vector<Session*> Due();
  size_t blocked_count() const { return blocked_; }
  size_t deadline_count() const { return deadlines_.size(); }

  // KeyObserver
  void OnKeyCreated(uint32_t db, std::string_view key, ValueType type) override;
  void OnKeyGone(uint32_t db, std::string_view key, ValueType type) override;

  /// Stops the process when B1 to B4 do not hold. Cost: O(waiters * keys).
  void CheckInvariants() const;

 private:
  static std::string MakeId(uint32_t db, std::string_view key);
  void SignalSlow(uint32_t db, std::string_view key, bool gone);
  void MarkReady(BlockLine& line);
  void LeaveLine(Session& session, const BlockedState::Place& place);
  void ArmTimer();
  void OnTimer();
  int64_t NowMs() const;

  Engine& engine_;
  std::unordered_map<std::string, BlockLine> lines_;  // by database number and key
  std::vector<std::string> ready_;                    // ids of lines_
  std::set<std::pair<int64_t, uint64_t>> deadlines_;  // deadline, session id
  size_t blocked_ = 0;
  TimerId timer_ = 0;
  int64_t timer_due_ms_ = 0;  // of timer_, when it is not 0
};

enum class TimeoutUnit : uint8_t { kSeconds, kMilliseconds };

/// arg(i) as the timeout of a blocking command: 0 is for ever, fractions of a millisecond count as
/// a whole one. Errors: "ERR timeout is not a float or out of range" (kSeconds), "... not an
/// integer ..." (kMilliseconds), "ERR timeout is negative", which is also what Redis 7.0 says of
/// one beyond 64 bits.
Status ParseBlockTimeout(const CommandContext& ctx, size_t i, TimeoutUnit unit,
                         int64_t* timeout_ms);

}  // namespace cairn
