#pragma once

// CommandContext: what one handler sees: its arguments, the database, the reply, and the ways to
// declare effects. Lives on the dispatcher's stack for one command. Argument views are valid during
// the handler only; ArgBlob shares a big argument without copying it. Some of it is inline in
// engine.h, which handlers include. Thread: executor.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/engine/command_spec.h"
#include "server/engine/session.h"
#include "server/engine/settings.h"
#include "server/keyspace/keyspace.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

class Engine;
struct BlockRequest;

/// Keyspace notification classes, the bits of the setting notify-keyspace-events.
enum class NotifyClass : uint16_t {
  kGeneric = 1 << 2,    // g
  kString = 1 << 3,     // $
  kList = 1 << 4,       // l
  kSet = 1 << 5,        // s
  kHash = 1 << 6,       // h
  kSortedSet = 1 << 7,  // z
  kExpired = 1 << 8,    // x
  kEvicted = 1 << 9,    // e
  kStream = 1 << 10,    // t
  kKeyMiss = 1 << 11,   // m
  kModule = 1 << 12,    // d
  kNew = 1 << 13,       // n
};

class CommandContext {
 public:
  CommandContext(Engine& engine, Session& session, const CommandSpec& spec,
                 std::span<const std::string_view> args)
      : engine_(engine), session_(session), spec_(spec), args_(args) {}
  CommandContext(const CommandContext&) = delete;

  // --- arguments: arg(0) is the command's name as sent; a subcommand's word is arg(1) ---
  size_t argc() const { return args_.size(); }
  std::string_view arg(size_t i) const { return args_[i]; }
  std::span<const std::string_view> args() const { return args_; }
  /// The blob that holds arg(i) when it was received into one (64 KiB and more), else empty.
  BlobRef ArgBlob(size_t i) const;
  /// arg(i) as a key with its hash, which was computed when the batch was prefetched for the first
  /// keys at least.
  KeyRef Key(size_t i) const;
  /// arg(i) as a 64-bit integer; "ERR value is not an integer or out of range" otherwise.
  Status ArgInt64(size_t i, int64_t* out) const;
  bool ArgIs(size_t i, std::string_view word) const;  ///< case-insensitive

  // --- surroundings ---
  Engine& engine() { return engine_; }
  Session& session() { return session_; }
  const CommandSpec& spec() const { return spec_; }
  RespWriter& reply() { return session_.reply; }
  Database& db();
  Keyspace& keyspace();
  const Settings& settings() const;
  int64_t now_ms() const;  ///< wall clock, constant during a command, transaction or script
  /// Running inside EXEC (or later a script): blocking commands answer at once.
  bool in_exec() const { return in_exec_; }
  /// False inside EXEC, a script, the loader or the primary's stream: a blocking command then
  /// answers as its timeout would.
  bool CanBlock() const { return !in_exec_ && !session_.obeys(); }
  /// A script's command, not a client's.
  bool from_script() const;
  /// The loader of the append-only file is the caller: no replies, TTLs are taken as they stand.
  bool is_loading() const { return session_.kind == SessionKind::kInternal; }

  /// What runs was decided by the primary or stands in a file: limits on what clients may ask for
  /// do not apply, and times are taken as they stand.
  bool obeys() const { return session_.obeys(); }

  // --- work in two halves ---
  /// This run may wait: it is a client's, not part of a transaction, and nothing is loading.
  bool CanRunLater() const;
  /// Hands `job` to a worker and suspends the client. The handler returns OK then, without a reply;
  /// the command goes on in job->Finish. What it has changed so far is propagated by itself, and
  /// others see it. Requires: CanRunLater(), at most once.
  void RunLater(std::unique_ptr<CommandJob> job);

  // --- effects ---
  /// States that `key` was changed by this command: WATCHers are told, dirty += 1, `event` is
  /// published to keyspace notifications.
  void Changed(KeyRef key, NotifyClass cls, std::string_view event);
  void Changed(uint32_t db, KeyRef key, NotifyClass cls, std::string_view event);
  /// The parts of Changed apart, for the commands that need them apart.
  void TouchWatchers(uint32_t db, std::string_view key);
  void Notify(NotifyClass cls, std::string_view event, std::string_view key, uint32_t db);
  void AddDirty(uint64_t changes) { dirty_ += changes; }
  uint64_t dirty() const { return dirty_; }

  /// What goes to the append-only file and replicas in place of the command as sent. Called more
  /// than once the commands follow each other (wrapped in MULTI/EXEC). Only takes effect when dirty
  /// > 0.
  void PropagateAs(std::vector<std::string> args);
  /// Parks the session until one of the request's keys can serve it or its time is over (blocking.h
  /// tells how to write such a command). Where waiting is not possible it answers as the timeout
  /// would. Last thing a handler does; nothing was replied before.
  Status Block(const BlockRequest& request);
  /// The reply of a wait that ended for nothing.
  void ReplyTimedOut(const BlockRequest& request);
  /// `key` may serve a waiter now, though it was there before or replaced another (XADD, RENAME).
  void SignalReady(uint32_t db, std::string_view key);

  void PropagateNothing() { propagate_nothing_ = true; }
  /// Only what PropagateAs was given goes out, perhaps nothing; never the command as sent.
  void PropagateNotAsSent() { propagate_as_sent_ = false; }
  /// The command goes out even when nothing changed (FLUSHDB of an empty database).
  void PropagateAlways() { propagate_always_ = true; }
  /// The command goes to replicas, and only there: it changed nothing that a file could hold, but
  /// is for whoever listens to them (PUBLISH).
  void PropagateToReplicas() { propagate_to_replicas_ = true; }

 private:
  friend class Dispatcher;
  Engine& engine_;
  Session& session_;
  const CommandSpec& spec_;
  std::span<const std::string_view> args_;
  const Request* request_ = nullptr;     // set when args view a parsed request
  const OwnedCommand* owned_ = nullptr;  // set when args view an owned command
  // Hashes computed when the batch was prefetched: of the arguments first_key_, then every
  // 2^key_shift_.
  const uint64_t* key_hashes_ = nullptr;
  uint32_t hash_count_ = 0;
  uint32_t first_key_ = 0;
  uint32_t key_shift_ = 0;
  uint64_t dirty_ = 0;
  bool in_exec_ = false;
  bool blocked_on_ = false;  // a retry that was not served yet
  bool propagate_nothing_ = false;
  bool propagate_always_ = false;
  bool propagate_to_replicas_ = false;
  bool goes_on_later_ = false;
  bool propagate_as_sent_ = true;
  std::vector<std::vector<std::string>> rewritten_;
};

}  // namespace cairn
