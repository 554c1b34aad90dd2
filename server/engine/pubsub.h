#pragma once

// PubSub: who listens to which channel, pattern and shard channel, and the delivery of messages.
// Messages go straight into the receivers' reply buffers, as pushes in RESP3 and as arrays in
// RESP2. It knows neither commands nor permissions. Thread: executor.
//
// Invariants (CheckInvariants):
//   P1  A session is in the list of each of its names exactly once, and in no other list.
//   P2  A list is never empty.
//   P3  A session with a subscription is of kind kPubsub, and one without is not.

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/base/bytes.h"
#include "server/engine/session.h"

namespace cairn {

class Engine;

enum class SubscriptionKind : uint8_t { kChannel, kPattern, kShard };
inline constexpr size_t kSubscriptionKinds = 3;

/// One session's side: its names with its place in each list.
struct Subscriptions {
  using Names = std::map<std::string, std::list<Session*>::iterator, std::less<>>;
  std::array<Names, kSubscriptionKinds> of;
  size_t MemoryUsage() const;
};

class PubSub {
 public:
  explicit PubSub(Engine& engine) : engine_(engine) {}
  PubSub(const PubSub&) = delete;
  PubSub& operator=(const PubSub&) = delete;

  /// Both tell whether something changed. Cost: O(log names of the session).
  bool Subscribe(Session& session, SubscriptionKind kind, std::string_view name);
  bool Unsubscribe(Session& session, SubscriptionKind kind, std::string_view name);
  /// Ends all subscriptions without a word (RESET, disconnect).
  void Leave(Session& session);

  /// The names a session listens to, sorted.
  static std::vector<std::string> NamesOf(const Session& session, SubscriptionKind kind);
  static size_t CountOf(const Session& session, SubscriptionKind kind);

  /// Delivers to those who listen to the channel and then to those whose pattern matches it; shard
  /// messages (kShard) to the former only. `blob`, when not empty, holds exactly `message`; long
  /// messages are sent to all from one blob.
  /// Returns the number of deliveries. Cost: O(receivers + patterns).
  int64_t Publish(SubscriptionKind kind, std::string_view channel, std::string_view message,
                  BlobRef blob = {});

  /// Names somebody listens to.
  size_t NameCount(SubscriptionKind kind) const { return lists(kind).size(); }
  /// Sessions that listen to exactly this name.
  size_t ListenerCount(SubscriptionKind kind, std::string_view name) const;
  /// Names that match the glob (nullptr: all), in no particular order.
  std::vector<std::string_view> Names(SubscriptionKind kind, const std::string_view* glob) const;

  /// Stops the process when P1 to P3 do not hold.
  void CheckInvariants() const;

 private:
  struct NameHash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  using Lists = std::unordered_map<std::string, std::list<Session*>, NameHash, std::equal_to<>>;
  const Lists& lists(SubscriptionKind kind) const { return lists_[static_cast<size_t>(kind)]; }
  void RemoveFrom(SubscriptionKind kind, std::string_view name, std::list<Session*>::iterator at);
  static void SettleKind(Session& session);
  int64_t PublishToPatterns(std::string_view channel, std::string_view message,
                            const BlobRef& blob);
  void Deliver(Session& session, std::span<const std::string_view> words, std::string_view message,
               const BlobRef& blob);

  Engine& engine_;
  std::array<Lists, kSubscriptionKinds> lists_;
};

}  // namespace cairn
