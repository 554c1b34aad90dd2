#pragma once

// A thread of the module that does what nobody waits for.

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cairn::tensor {

/// Makes the calling thread give way to all others when it has made them ready: it was started by
/// the executor, from which it inherits a claim to run first. Wishes: what is refused changes
/// nothing but time. `name`: at most 15 characters.
inline void BecomeBackground(const char* name) {
  constexpr int kNice = 10;
  const sched_param none{};
  (void)::sched_setscheduler(0, SCHED_BATCH, &none);
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
  (void)::pthread_setname_np(::pthread_self(), name);
}

}  // namespace cairn::tensor
