#pragma once

// Fiber: a function that can be left in its middle and gone on with later: for a long load that
// must give the loop its turns. It runs on a thread of its own, but never at the same time as its
// owner: Resume hands over and waits, Yield hands back. So what belongs to the owner's thread may
// be used inside, without locks, as if the owner had called the function itself; the hand-over
// orders all memory. Not for things that depend on the identity of the thread.
//
//   owner:  Resume() ....waits.... returns true   Resume() ...waits... returns false: it has ended
//   fiber:          body() .. Yield() ..waits..           .. returns
//
// Thread: one owner; Yield inside the body only.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace cairn {

class Fiber {
 public:
  /// Nothing runs before the first Resume.
  explicit Fiber(std::function<void(Fiber&)> body);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  /// Cancels and runs the body to its end.
  ~Fiber();

  /// Runs the body until it yields or ends. Returns whether there is more. Requires: not called
  /// from the body.
  bool Resume();
  /// Hands back to Resume and waits for the next one. Returns false when the body is to end now,
  /// undone. Requires: called from the body.
  bool Yield();
  /// From now on Yield returns false.
  void Cancel() { cancelled_ = true; }

 private:
  enum class Turn { kOwner, kBody, kEnded };
  void Run();

  std::function<void(Fiber&)> body_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Turn turn_ = Turn::kOwner;
  bool cancelled_ = false;  // read and written by whoever has the turn
  std::thread thread_;
};

}  // namespace cairn
