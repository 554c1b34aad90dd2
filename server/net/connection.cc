#include "server/net/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "server/engine/durability.h"
#include "server/engine/job_runner.h"
#include "server/net/client_host.h"

namespace cairn {

namespace {

// Pieces per vectored write, and bytes per connection and turn, so that one reader of big values
// does not keep the others waiting.
constexpr size_t kPiecesPerWrite = 64;
constexpr size_t kMaxBytesPerTurn = 16 * 1024 * 1024;
// A read that filled its buffer asks for this much the next time.
constexpr size_t kLargeReadBytes = 128 * 1024;
// What comes of a big argument in one turn: a third of a millisecond. The kernel holds up to 32 MB.
constexpr size_t kMaxReadBytes = 1024 * 1024;

}  // namespace

Connection::Connection(ClientHost& host, std::unique_ptr<SocketStream> stream, BlobSource* blobs)
    : host_(host), stream_(std::move(stream)), parser_(blobs) {}

std::span<char> Connection::ReadBuffer() {
  // One read a turn: the turn parses it first, so that a big argument's header is known before its
  // bytes are read and they land in their blob. While the memory of one is on its way the same
  // holds.
  if (unparsed_ || parser_.waits_for_memory()) {
    reads_wait_ = true;
    return {};
  }
  const bool ahead = session_->job != 0;
  if (ahead && (!JobRunner::ReadsAhead(*session_) || !parser_.error().empty())) return {};
  std::span<char> space = parser_.Reserve(read_hint_);
  space = space.first(std::min(space.size(), kMaxReadBytes));
  offered_ = space.size();
  return space;
}

void Connection::OnRead(size_t size) {
  parser_.Commit(size);
  unparsed_ = true;
  read_hint_ = size == offered_ ? kLargeReadBytes : kReadBufferInitialBytes;
  host_.engine_.stats.net_input_bytes += size;
  ++host_.engine_.stats.reads_processed;
  session_->received_bytes += size;
  session_->last_interaction_ms = host_.engine_.now_ms();
  host_.Enqueue(this);
}

void Connection::OnWritable() { host_.EnqueueFlush(this); }

void Connection::OnEnd(const Status& reason) {
  peer_ended_ = true;
  // What was read before the end still runs in this turn; then nothing is left to do.
  host_.Enqueue(this);
}

void Connection::OnClosed() { host_.Remove(this); }

void Connection::OutputReady() { host_.EnqueueFlush(this); }

void Connection::InputReady() {
  stream_->ResumeReads();
  host_.Enqueue(this);
}

void Connection::DelayPackets() {
  const int off = 0;
  // On a unix socket it fails, and nothing is lost.
  [[maybe_unused]] const int result =
      setsockopt(stream_->fd(), IPPROTO_TCP, TCP_NODELAY, &off, sizeof off);
}

void Connection::Close(bool after_output) {
  if (after_output && !session_->output.empty()) {
    session_->close_after_reply = true;
    OutputReady();
    return;
  }
  CloseNow();
}

void Connection::CloseNow() {
  if (session_->closing) return;
  session_->closing = true;
  host_.NoteClosed(this);
  host_.CountMemory(*this);
  host_.engine_.DetachSession(*session_);
  stream_->Close();
}

void Connection::CloseAtEnd() {
  // What it asked for before it went is done, and told: FlushAll asks again.
  if (session_->job != 0 || in_flush_) return;
  // While the disk is not sound this may last: whoever has given up by now is not kept.
  if (!in_held_ || !host_.engine_.durability->WriteRefusal().ok()) CloseNow();
}

size_t Connection::Send(ReplyBuffer& output) {
  if (const std::string_view only = output.OnlyPiece(); !only.empty()) {
    const size_t taken = stream_->TryWrite(std::span(&only, 1));
    output.Consume(taken);
    return taken;
  }
  return SendUpTo(output, UINT64_MAX);
}

size_t Connection::SendUpTo(ReplyBuffer& output, uint64_t allowed) {
  std::array<std::string_view, kPiecesPerWrite> pieces;
  size_t sent = 0;
  while (!output.empty() && sent < kMaxBytesPerTurn && sent < allowed) {
    size_t count = output.GatherPieces(pieces);
    size_t offered = 0;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t left = allowed - sent - offered;
      if (pieces[i].size() > left) pieces[i] = pieces[i].substr(0, left);
      offered += pieces[i].size();
    }
    while (count > 0 && pieces[count - 1].empty()) --count;
    const size_t taken = stream_->TryWrite(std::span(pieces).first(count));
    output.Consume(taken);
    sent += taken;
    if (taken < offered) break;
  }
  return sent;
}

// A session that is fed: one piece after the other, as long as the stream takes them.
void Connection::FlushSource() {
  ReplyBuffer& output = session_->output;
  size_t sent = 0;
  while (sent < kMaxBytesPerTurn && !session_->closing) {
    if (output.empty() && session_->source != nullptr) session_->source->Fill(*session_);
    if (output.empty()) break;
    const size_t taken = Send(output);
    sent += taken;
    session_->sent_bytes += taken;
    if (!output.empty()) break;
  }
  CountSent(sent);
  host_.engine_.stats.net_repl_output_bytes += sent;
  if (session_->closing) return;
  if (output.empty() && session_->close_after_reply) {
    CloseNow();
  } else if (sent >= kMaxBytesPerTurn) {
    host_.EnqueueFlush(this);
  }
}

bool Connection::Flush(uint64_t durable_offset) {
  // However much of it the kernel would take.
  if (session_->over_output_limit) CloseNow();
  if (session_->closing) return true;
  ReplyBuffer& output = session_->output;
  if (session_->source != nullptr && session_->reply_gate.empty()) {
    FlushSource();
    return true;
  }
  const uint64_t released = session_->reply_gate.Released(durable_offset);
  if (released <= session_->sent_bytes && !output.empty()) return false;
  NoteSent(released == UINT64_MAX ? Send(output)
                                  : SendUpTo(output, released - session_->sent_bytes));
  if (!session_->reply_gate.empty()) return false;
  if (session_->source != nullptr) host_.EnqueueFlush(this);
  return true;
}

void Connection::CountSent(size_t sent) {
  if (sent == 0) return;
  host_.engine_.stats.net_output_bytes += sent;
  ++host_.engine_.stats.writes_processed;
  session_->last_interaction_ms = host_.engine_.now_ms();
}

void Connection::NoteSent(size_t sent) {
  CountSent(sent);
  session_->sent_bytes += sent;
  if (session_->output.empty()) {
    if (session_->close_after_reply) CloseNow();
  } else if (sent >= kMaxBytesPerTurn) {
    host_.EnqueueFlush(this);
  }
}

std::string_view Connection::WholeOutput(uint64_t durable_offset) {
  if (session_->closing || session_->over_output_limit || session_->source != nullptr) return {};
  if (session_->reply_gate.Released(durable_offset) != UINT64_MAX) return {};
  const std::string_view only = session_->output.OnlyPiece();
  return only.size() < kMaxBytesPerTurn ? only : std::string_view{};
}

void Connection::Sent(ssize_t result) {
  ReplyBuffer& output = session_->output;
  const size_t taken = stream_->Wrote(output.size(), result);
  output.Consume(taken);
  NoteSent(taken);
}

}  // namespace cairn
