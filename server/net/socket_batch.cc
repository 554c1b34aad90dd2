#include "server/net/socket_batch.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "server/base/check.h"

namespace cairn {

namespace {

constexpr unsigned kRingEntries = 256;
// A single operation is cheaper by its own system call.
constexpr size_t kFewestInRing = 2;
// What one operation may ask for: the ring has 32 bits for it.
constexpr size_t kMostBytes = size_t{1} << 30;
constexpr int kReceiveFlags = MSG_DONTWAIT;
constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

}  // namespace

int SocketBatch::Open() {
  if (open_) return 0;
  // SUBMIT_ALL (5.18): an operation that fails at once does not keep back those behind it. A kernel
  // without it is served by the system calls.
  const int error = io_uring_queue_init(kRingEntries, &ring_, IORING_SETUP_SUBMIT_ALL);
  open_ = error == 0;
  return -error;
}

void SocketBatch::Close() {
  if (!open_) return;
  CAIRN_CHECK(operations_.empty());
  io_uring_queue_exit(&ring_);
  open_ = false;
}

void SocketBatch::AddReceive(int fd, std::span<char> space, ssize_t* result) {
  operations_.push_back({fd, true, space.data(), std::min(space.size(), kMostBytes), result});
}

void SocketBatch::AddSend(int fd, std::string_view bytes, ssize_t* result) {
  operations_.push_back(
      {fd, false, const_cast<char*>(bytes.data()), std::min(bytes.size(), kMostBytes), result});
}

void SocketBatch::Run() {
  std::span<const Operation> left = operations_;
  while (!left.empty()) {
    const size_t done = open_ && left.size() >= kFewestInRing ? RunInRing(left) : 0;
    if (done == 0) RunAlone(left.front());
    left = left.subspan(std::max<size_t>(done, 1));
  }
  operations_.clear();
}

void SocketBatch::RunAlone(const Operation& operation) {
  const ssize_t result = operation.receives
                             ? ::recv(operation.fd, operation.data, operation.size, kReceiveFlags)
                             : ::send(operation.fd, operation.data, operation.size, kSendFlags);
  *operation.result = result < 0 ? -errno : result;
}

size_t SocketBatch::RunInRing(std::span<const Operation> left) {
  const size_t count = std::min<size_t>(left.size(), kRingEntries);
  for (size_t i = 0; i < count; ++i) {
    const Operation& operation = left[i];
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (operation.receives) {
      io_uring_prep_recv(entry, operation.fd, operation.data, operation.size, kReceiveFlags);
    } else {
      io_uring_prep_send(entry, operation.fd, operation.data, operation.size, kSendFlags);
    }
    io_uring_sqe_set_data(entry, operation.result);
  }
  // What may not wait is done when the call returns; to wait for all of it costs nothing more.
  size_t done = 0;
  while (done < count) {
    const int submitted = io_uring_submit_and_wait(&ring_, static_cast<unsigned>(count - done));
    CAIRN_CHECK(submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN);
    io_uring_cqe* completions[kRingEntries];
    const unsigned ready = io_uring_peek_batch_cqe(&ring_, completions, kRingEntries);
    for (unsigned i = 0; i < ready; ++i)
      *static_cast<ssize_t*>(io_uring_cqe_get_data(completions[i])) = completions[i]->res;
    io_uring_cq_advance(&ring_, ready);
    done += ready;
  }
  return count;
}

}  // namespace cairn
