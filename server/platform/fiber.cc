#include "server/platform/fiber.h"

#include <utility>

namespace cairn {

Fiber::Fiber(std::function<void(Fiber&)> body) : body_(std::move(body)) {}

Fiber::~Fiber() {
  if (!thread_.joinable()) return;
  Cancel();
  while (Resume()) {
  }
  thread_.join();
}

void Fiber::Run() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return turn_ == Turn::kBody; });
  }
  body_(*this);
  std::lock_guard lock(mutex_);
  turn_ = Turn::kEnded;
  changed_.notify_all();
}

bool Fiber::Resume() {
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  std::unique_lock lock(mutex_);
  if (turn_ == Turn::kEnded) return false;
  turn_ = Turn::kBody;
  changed_.notify_all();
  changed_.wait(lock, [this] { return turn_ != Turn::kBody; });
  return turn_ == Turn::kOwner;
}

bool Fiber::Yield() {
  std::unique_lock lock(mutex_);
  turn_ = Turn::kOwner;
  changed_.notify_all();
  changed_.wait(lock, [this] { return turn_ == Turn::kBody; });
  return !cancelled_;
}

}  // namespace cairn
