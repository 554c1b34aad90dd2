#pragma once

// ClientHost: all client connections and what is decided about them together: accepting within
// maxclients and protected mode, the turn (run what was read, hand effects over, flush replies),
// the periodic checks (idle timeout, buffer limits, end of CLIENT PAUSE), and maxmemory-clients:
// what the clients take together, of which the greediest go first. Thread: loop.

#include <cstdint>
#include <memory>
#include <vector>

#include "server/engine/dispatcher.h"
#include "server/net/connection.h"
#include "server/net/event_loop.h"
#include "server/net/listener.h"

namespace cairn {

/// maxmemory-clients is never less than this: below it nobody could be talked to.
/// Source: getClientEvictionLimit of Redis 7.0.
inline constexpr uint64_t kLeastClientsBytes = 128 * 1024;

class ClientHost {
 public:
  ClientHost(Engine& engine, EventLoop& loop) : engine_(engine), loop_(loop) {}
  ~ClientHost();

  void OnAccept(const Accepted& accepted);
  /// After each poll: executes, hands over to durability, flushes.
  void RunTurn();
  /// A script is over its time: serves what clients send, most with -BUSY, without waiting. Called
  /// from inside the turn that runs the script, again and again; its caller and what came with it
  /// in one pipeline wait.
  void ServeWhileBusy();
  /// DurableOffset() advanced: sends what was held.
  void ReleaseHeld();
  /// Pages of a big argument have come: those that waited for theirs go on.
  void OnMemory();
  /// Pauses, and the timeouts, limits and peaks for INFO of some clients in turn: called
  /// `per_second` times a second, of each at least once. Cost: O(clients / per_second).
  void Cron(int per_second);
  /// Keeps the next poll from waiting when there is input to run or output to send. Called at the
  /// end of what runs outside a turn (timers).
  void WakeIfPending();
  /// Sends what can be sent and closes every connection (shutdown).
  void CloseAll();

 private:
  friend class Connection;
  void RunBusyTurn();
  void EndTurn();
  void AnswerBusy(Connection& connection);
  void Enqueue(Connection* connection);
  void EnqueueFlush(Connection* connection);
  /// Its input was parsed as far as could be: reads go on, or wait for the memory of an argument.
  void OnParsed(Connection& connection);
  /// Sends what may go; what waits for the disk is held until ReleaseHeld().
  void FlushOrHold(Connection* connection, uint64_t durable);
  void FlushAll();
  void CheckLimits(Connection& connection);
  void NotePeaks(const Session& session);
  void CheckIdle(Connection& connection, int64_t now_ms);
  /// maxmemory-clients in bytes; 0: no limit.
  uint64_t ClientsLimit() const;
  /// Brings clients_bytes_ up to date with what this one takes now.
  void CountMemory(Connection& connection);
  /// Closes the greediest clients until the rest are within maxmemory-clients. Cost: O(clients)
  /// when the limit was just set or is passed, else O(1).
  void EvictClients();
  void NoteClosed(Connection* connection);
  void Remove(Connection* connection);
  void RemoveClosed();
  void Refuse(const Accepted& accepted, std::string_view line);

  Engine& engine_;
  EventLoop& loop_;
  std::vector<std::unique_ptr<Connection>> connections_;
  size_t open_ = 0;       // of connections_; the others are closed, and go when the loop turns
  size_t next_look_ = 0;  // where Cron goes on
  std::vector<Connection*> closed_;  // while a script was busy
  std::vector<Connection*> ready_;
  std::vector<Connection*> flush_;
  std::vector<Connection*> held_;
  std::vector<Connection*> cold_;
  std::vector<ReadySession> turn_;
  struct Outcome {
    bool batched;
    ssize_t result;
  };
  std::vector<Outcome> sent_;         // in FlushAll: of each connection
  std::vector<Connection*> running_;  // those whose input the turn runs
  uint64_t clients_bytes_ = 0;        // of all connections, while it is kept
  bool counts_memory_ = false;        // there is a limit to keep it for
};

}  // namespace cairn
