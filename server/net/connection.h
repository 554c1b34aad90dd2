#pragma once

// Connection: joins one Stream with one Session: bytes in to the parser, replies out by vectored
// writes, held back while the append-only file is not durable up to them. Policy (limits, timeouts,
// turns) is ClientHost's. Thread: loop.

#include <cstdint>
#include <memory>

#include "server/engine/engine.h"
#include "server/engine/session.h"
#include "server/net/socket_stream.h"
#include "server/platform/transport.h"
#include "server/protocol/resp_parser.h"

namespace cairn {

class ClientHost;

class Connection final : public StreamReceiver, public SessionPort {
 public:
  Connection(ClientHost& host, std::unique_ptr<SocketStream> stream, BlobSource* blobs);

  // StreamReceiver
  std::span<char> ReadBuffer() override;
  void OnRead(size_t size) override;
  void OnWritable() override;
  void OnEnd(const Status& reason) override;
  void OnClosed() override;

  // SessionPort
  void OutputReady() override;
  void Close(bool after_output) override;
  void InputReady() override;
  void DelayPackets() override;
  int fd() const override { return stream_->fd(); }
  size_t query_bytes() const override { return parser_.buffered_bytes(); }
  size_t query_capacity() const override { return parser_.footprint(); }

  /// Sends what may be sent. Returns false when some of it is held for durability.
  bool Flush(uint64_t durable_offset);
  /// The whole output, when a plain send of one piece may write it now; else empty, and Flush is to
  /// be asked. Stays in place until Sent.
  std::string_view WholeOutput(uint64_t durable_offset);
  /// What became of it in a SocketBatch.
  void Sent(ssize_t result);

  Session& session() { return *session_; }
  RequestParser& parser() { return parser_; }

 private:
  friend class ClientHost;
  void CloseNow();
  /// Its peer sends no more: it goes, but for replies that only wait for the disk, which Redis has
  /// written by then. FlushAll closes it behind them.
  void CloseAtEnd();
  /// Writes what the stream takes, as far as one turn may. Returns how much that was.
  size_t Send(ReplyBuffer& output);
  void FlushSource();
  /// In the figures of the server and of the session.
  void CountSent(size_t sent);
  void NoteSent(size_t sent);
  /// The same for the first `allowed` bytes only.
  size_t SendUpTo(ReplyBuffer& output, uint64_t allowed);

  ClientHost& host_;
  std::unique_ptr<SocketStream> stream_;
  RequestParser parser_;
  Session* session_ = nullptr;  // owned by the engine's registry
  size_t place_ = 0;            // among the host's connections
  size_t counted_bytes_ = 0;    // its part of the host's clients_bytes_
  size_t read_hint_ = kReadBufferInitialBytes;
  size_t offered_ = 0;
  // Membership flags of the host's per-turn lists.
  bool in_ready_ = false;
  bool in_flush_ = false;
  bool in_held_ = false;
  bool in_cold_ = false;
  bool reads_wait_ = false;  // paused until the parser has gone on
  bool unparsed_ =
      false;  // bytes were committed and not yet parsed: no further read before the turn
  bool peer_ended_ = false;
};

}  // namespace cairn
