#pragma once

// A thread of the module that does what nobody waits for.

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace cairn::tensor {

/// Makes the calling thread give way to all others when it has made them ready: it was started by
/// the executor, from which it inherits a claim to run first. Wishes: what is refused changes
/// nothing but time. `name`: at most 15 characters.
inline void BecomeBackground(const char* name) {
  constexpr int kNicer = 10;
  (void)::pthread_setname_np(::pthread_self(), name);
  if (::sched_getscheduler(0) != SCHED_OTHER) return;  // somebody chose a policy for us
  const sched_param none{};
  (void)::sched_setscheduler(0, SCHED_BATCH, &none);
  const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
  errno = 0;
  const int nice = ::getpriority(PRIO_PROCESS, thread);
  if (errno == 0) (void)::setpriority(PRIO_PROCESS, thread, nice + kNicer);
}

}  // namespace cairn::tensor
