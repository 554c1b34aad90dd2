// slow_disk.so, for LD_PRELOAD: gives the process it is loaded into a slow disk, for as long as the
// file that SLOW_DISK_SWITCH names is there. fsync and fdatasync then take SLOW_DISK_SYNC_MS
// longer, and a write to an append-only file that begins meanwhile waits for their end, as it may
// on a file system that writes the same pages back. With SLOW_DISK_PATH only files are slow that
// have it in their path. What reaches the real disk is the same as without it. The same for every
// server that is compared: ./dev compare --rows slow-disk.

#include <dlfcn.h>
#include <pthread.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
std::atomic<int> syncing{0};

bool IsOn() {
  const char* path = std::getenv("SLOW_DISK_SWITCH");
  return path != nullptr && ::access(path, F_OK) == 0;
}

void Sleep() {
  const char* wish = std::getenv("SLOW_DISK_SYNC_MS");
  const long ms = wish == nullptr ? 0 : std::atol(wish);
  const timespec time = {ms / 1000, ms % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
}

bool HasInPath(int fd, std::string_view word) {
  char link[32];
  char path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path);
  return size > 0 &&
         std::string_view(path, static_cast<size_t>(size)).find(word) != std::string_view::npos;
}

bool IsChosen(int fd) {
  const char* word = std::getenv("SLOW_DISK_PATH");
  return word == nullptr || HasInPath(fd, word);
}

int SlowSync(int fd, int (*sync)(int)) {
  if (!IsOn() || !IsChosen(fd)) return sync(fd);
  syncing.fetch_add(1);
  const int result = sync(fd);
  Sleep();
  pthread_mutex_lock(&mutex);
  syncing.fetch_sub(1);
  pthread_cond_broadcast(&ended);
  pthread_mutex_unlock(&mutex);
  return result;
}

void WaitForSyncs(int fd) {
  if (syncing.load(std::memory_order_relaxed) == 0) return;
  if (!HasInPath(fd, ".aof") || !IsChosen(fd)) return;
  pthread_mutex_lock(&mutex);
  while (syncing.load() != 0) pthread_cond_wait(&ended, &mutex);
  pthread_mutex_unlock(&mutex);
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int fsync(int fd) {
  static const auto next = Next<int (*)(int)>("fsync");
  return SlowSync(fd, next);
}

int fdatasync(int fd) {
  static const auto next = Next<int (*)(int)>("fdatasync");
  return SlowSync(fd, next);
}

ssize_t write(int fd, const void* data, size_t size) {
  static const auto next = Next<ssize_t (*)(int, const void*, size_t)>("write");
  WaitForSyncs(fd);
  return next(fd, data, size);
}

ssize_t writev(int fd, const iovec* pieces, int count) {
  static const auto next = Next<ssize_t (*)(int, const iovec*, int)>("writev");
  WaitForSyncs(fd);
  return next(fd, pieces, count);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  static const auto next = Next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  WaitForSyncs(fd);
  return next(fd, data, size, offset);
}

ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) {
  static const auto next = Next<ssize_t (*)(int, const iovec*, int, off_t)>("pwritev");
  WaitForSyncs(fd);
  return next(fd, pieces, count, offset);
}

}  // extern "C"
