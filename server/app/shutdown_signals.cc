#include "server/app/shutdown_signals.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

#include "server/app/crash_report.h"

namespace cairn {

namespace {

constexpr size_t kMaxPath = 64;
char temp_path[kMaxPath];
volatile std::sig_atomic_t asked = 0;
struct sigaction of_interrupt, of_terminate;  // what would be called without this

void OnSignal(int number) {
  if (number == SIGINT && asked) {
    ::unlink(temp_path);
    EndFromHandler("You insist... exiting now.");
  }
  asked = 1;
  (number == SIGINT ? of_interrupt : of_terminate).sa_handler(number);
}

void PutInFront(int number, struct sigaction* behind) {
  ::sigaction(number, nullptr, behind);
  struct sigaction action = *behind;
  action.sa_handler = &OnSignal;
  ::sigaction(number, &action, nullptr);
}

}  // namespace

void InstallShutdownSignals(const char* rdb_temp_path) {
  std::strncpy(temp_path, rdb_temp_path, kMaxPath - 1);
  PutInFront(SIGINT, &of_interrupt);
  PutInFront(SIGTERM, &of_terminate);
}

void ForgetShutdownSignals() { asked = 0; }

void IgnoreShutdownSignals() {
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
}

}  // namespace cairn
