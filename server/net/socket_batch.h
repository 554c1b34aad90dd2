#pragma once

// SocketBatch: reads and writes of many sockets with one system call. A turn of the loop reads from
// every socket that became readable and then writes to every client that was answered; where
// entering the kernel costs as much as what it does there (mitigations, virtual machines), the
// entries of fifty clients are half of a turn. With io_uring they are two. Nothing is
// asynchronous: every operation is non-blocking, as recv and send are here without a ring, and has
// its result when Run returns. Without a ring (an old kernel, a sandbox that forbids it, Close) the
// same calls are made one by one. Not thread-safe.
//
// Source: io_uring(7); Linux 5.18 has what is used.

#include <liburing.h>
#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace cairn {

class SocketBatch {
 public:
  SocketBatch() = default;
  ~SocketBatch() { Close(); }
  SocketBatch(const SocketBatch&) = delete;
  SocketBatch& operator=(const SocketBatch&) = delete;

  /// Makes the ring. Returns 0, or the errno with which the system refused it. Idempotent.
  int Open();
  /// Gives the ring back. Requires: nothing was added since Run.
  void Close();
  bool open() const { return open_; }

  /// One receive or send to make. *result becomes what recv(2) or send(2) return, or -errno. Buffer
  /// and result are used until Run returns. One operation per socket and Run.
  void AddReceive(int fd, std::span<char> space, ssize_t* result);
  void AddSend(int fd, std::string_view bytes, ssize_t* result);
  /// Makes them all, in the order in which they were added. Does not wait for a socket.
  void Run();

 private:
  struct Operation {
    int fd;
    bool receives;
    char* data;
    size_t size;
    ssize_t* result;
  };
  /// The first operations of `left`, as many as the ring holds. Returns how many.
  size_t RunInRing(std::span<const Operation> left);
  static void RunAlone(const Operation& operation);

  io_uring ring_ = {};
  bool open_ = false;
  std::vector<Operation> operations_;
};

}  // namespace cairn
