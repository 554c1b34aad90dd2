#include "server/engine/pubsub.h"

#include "server/base/check.h"
#include "server/base/strings.h"
#include "server/engine/engine.h"

namespace cairn {

size_t Subscriptions::MemoryUsage() const {
  // A node of a map holds about four words beside its pair.
  size_t bytes = sizeof(Subscriptions);
  for (const Names& names : of) {
    for (const auto& [name, at] : names)
      bytes += sizeof(name) + name.capacity() + 6 * sizeof(void*);
  }
  return bytes;
}

bool PubSub::Subscribe(Session& session, SubscriptionKind kind, std::string_view name) {
  if (session.subscriptions == nullptr) session.subscriptions = std::make_unique<Subscriptions>();
  Subscriptions::Names& names = session.subscriptions->of[static_cast<size_t>(kind)];
  if (names.contains(name)) return false;
  std::list<Session*>& list = lists_[static_cast<size_t>(kind)][std::string(name)];
  list.push_back(&session);
  names.emplace(name, std::prev(list.end()));
  SettleKind(session);
  return true;
}

void PubSub::RemoveFrom(SubscriptionKind kind, std::string_view name,
                        std::list<Session*>::iterator at) {
  Lists& lists = lists_[static_cast<size_t>(kind)];
  const auto found = lists.find(name);
  found->second.erase(at);
  if (found->second.empty()) lists.erase(found);
}

bool PubSub::Unsubscribe(Session& session, SubscriptionKind kind, std::string_view name) {
  if (session.subscriptions == nullptr) return false;
  Subscriptions::Names& names = session.subscriptions->of[static_cast<size_t>(kind)];
  const auto found = names.find(name);
  if (found == names.end()) return false;
  RemoveFrom(kind, name, found->second);
  names.erase(found);
  SettleKind(session);
  return true;
}

void PubSub::Leave(Session& session) {
  if (session.subscriptions == nullptr) return;
  for (size_t kind = 0; kind < kSubscriptionKinds; ++kind) {
    for (const auto& [name, at] : session.subscriptions->of[kind])
      RemoveFrom(static_cast<SubscriptionKind>(kind), name, at);
  }
  session.subscriptions.reset();
  SettleKind(session);
}

void PubSub::SettleKind(Session& session) {
  bool listens = false;
  if (session.subscriptions != nullptr) {
    for (const Subscriptions::Names& names : session.subscriptions->of) listens |= !names.empty();
  }
  if (listens && session.kind == SessionKind::kNormal) session.kind = SessionKind::kPubsub;
  if (!listens && session.kind == SessionKind::kPubsub) session.kind = SessionKind::kNormal;
}

std::vector<std::string> PubSub::NamesOf(const Session& session, SubscriptionKind kind) {
  std::vector<std::string> result;
  if (session.subscriptions == nullptr) return result;
  for (const auto& [name, at] : session.subscriptions->of[static_cast<size_t>(kind)])
    result.push_back(name);
  return result;
}

size_t PubSub::CountOf(const Session& session, SubscriptionKind kind) {
  return session.subscriptions == nullptr
             ? 0
             : session.subscriptions->of[static_cast<size_t>(kind)].size();
}

size_t PubSub::ListenerCount(SubscriptionKind kind, std::string_view name) const {
  const auto found = lists(kind).find(name);
  return found == lists(kind).end() ? 0 : found->second.size();
}

std::vector<std::string_view> PubSub::Names(SubscriptionKind kind,
                                            const std::string_view* glob) const {
  std::vector<std::string_view> result;
  for (const auto& [name, list] : lists(kind)) {
    if (glob == nullptr || GlobMatch(*glob, name, /*nocase=*/false)) result.push_back(name);
  }
  return result;
}

void PubSub::Deliver(Session& session, std::span<const std::string_view> words,
                     std::string_view message, const BlobRef& blob) {
  if (!session.TakesOutput()) return;
  const Session::Push push(session, words.size() + 1);
  RespWriter& out = push.writer();
  for (std::string_view word : words) out.Bulk(word);
  if (blob) {
    out.BulkBlob({blob, 0, message.size()});
  } else {
    out.Bulk(message);
  }
  engine_.OutputAdded(session);
}

int64_t PubSub::PublishToPatterns(std::string_view channel, std::string_view message,
                                  const BlobRef& blob) {
  int64_t receivers = 0;
  for (const auto& [pattern, list] : lists(SubscriptionKind::kPattern)) {
    if (!GlobMatch(pattern, channel, /*nocase=*/false)) continue;
    const std::string_view words[] = {"pmessage", pattern, channel};
    for (Session* session : list) Deliver(*session, words, message, blob);
    receivers += static_cast<int64_t>(list.size());
  }
  return receivers;
}

int64_t PubSub::Publish(SubscriptionKind kind, std::string_view channel, std::string_view message,
                        BlobRef blob) {
  const auto found = lists(kind).find(channel);
  const bool patterns =
      kind == SubscriptionKind::kChannel && !lists(SubscriptionKind::kPattern).empty();
  if (found == lists(kind).end() && !patterns) return 0;
  if (!blob && message.size() >= kReplyByReferenceBytes) blob = BlobRef::Copy(message);
  int64_t receivers = 0;
  if (found != lists(kind).end()) {
    const std::string_view words[] = {
        kind == SubscriptionKind::kShard ? std::string_view("smessage") : "message", channel};
    for (Session* session : found->second) Deliver(*session, words, message, blob);
    receivers += static_cast<int64_t>(found->second.size());
  }
  if (patterns) receivers += PublishToPatterns(channel, message, blob);
  return receivers;
}

void PubSub::CheckInvariants() const {
  for (size_t kind = 0; kind < kSubscriptionKinds; ++kind) {
    size_t places = 0;
    for (const auto& [name, list] : lists_[kind]) {
      CAIRN_CHECK(!list.empty());  // P2
      for (Session* session : list) {
        CAIRN_CHECK(session->subscriptions != nullptr);
        const auto& names = session->subscriptions->of[kind];
        const auto found = names.find(name);
        CAIRN_CHECK(found != names.end() && *found->second == session);  // P1
      }
      places += list.size();
    }
    for (const auto& [id, session] : engine_.sessions()) {
      places -= CountOf(*session, static_cast<SubscriptionKind>(kind));
    }
    CAIRN_CHECK(places == 0);  // P1
  }
  for (const auto& [id, session] : engine_.sessions()) {
    size_t count = 0;
    for (size_t kind = 0; kind < kSubscriptionKinds; ++kind)
      count += CountOf(*session, static_cast<SubscriptionKind>(kind));
    CAIRN_CHECK((session->kind == SessionKind::kPubsub) == (count > 0));  // P3
  }
}

}  // namespace cairn
