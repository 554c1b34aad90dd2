#include "server/replication/peer.h"

#include <utility>

#include "server/base/check.h"
#include "server/engine/engine.h"
#include "server/replication/primary.h"

namespace cairn {

Peer::~Peer() {
  if (poll_ != 0) primary_.engine().loop.StopTimer(poll_);
}

std::string Peer::address() const {
  if (!announced_ip.empty()) return announced_ip;
  std::string_view peer = session_.peer_address;
  peer = peer.substr(0, peer.rfind(':'));
  if (peer.starts_with('[') && peer.ends_with(']')) peer = peer.substr(1, peer.size() - 2);
  return std::string(peer);
}

// --- transitions ---

void Peer::WaitForCut() {
  state_ = PeerState::kWaitsForCut;
  asked_at_s = primary_.now_s();
  acked_at_s = asked_at_s;
}

void Peer::GoOnline(uint64_t position) {
  state_ = PeerState::kOnline;
  position_ = position;
  acked_at_s = primary_.now_s();
  if (session_.port != nullptr) session_.port->OutputReady();
}

void Peer::BeginFile(std::shared_ptr<SyncFile> file) {
  CAIRN_CHECK(state_ == PeerState::kWaitsForCut);
  state_ = PeerState::kWaitsForFile;
  position_ = file->cut_offset;
  file_ = std::move(file);
  if (file_->complete) OnFileComplete();
}

void Peer::StartSending(bool with_mark) {
  state_ = PeerState::kSendsFile;
  progress_at_ms = primary_.engine().loop.NowMillis();
  if (with_mark) {
    mark_ = primary_.engine().NewId();
    CAIRN_CHECK(mark_.size() == kMarkBytes);
    session_.output.Append("$EOF:" + mark_ + "\r\n");
  } else {
    session_.output.Append("$" + std::to_string(file_->size) + "\r\n");
  }
  session_.port->OutputReady();
  RequestPiece();
}

void Peer::OnFileComplete() {
  if (state_ == PeerState::kWaitsForFile) StartSending(/*with_mark=*/false);
}

void Peer::OnAck(uint64_t offset, int64_t now_s) {
  if (offset > acked_offset_) acked_offset_ = offset;
  acked_at_s = now_s;
  if (state_ == PeerState::kWaitsForAck) GoOnline(position_);
}

void Peer::NoteInput(int64_t now_s) {
  if (heard_bytes_ == session_.received_bytes) return;
  heard_bytes_ = session_.received_bytes;
  acked_at_s = now_s;
}

void Peer::FileSent() {
  file_.reset();
  // The stream was not kept for one that said rdb-only, should it have taken that back meanwhile.
  if (only_file || !primary_.has_backlog() || !primary_.backlog().Holds(position_)) {
    session_.close_after_reply = true;
    return;
  }
  // Behind a mark the stream may not follow at once: the replica finds the mark only where it ends
  // what it read. It tells by an ACK that it is ready.
  const bool marked = !mark_.empty();
  mark_.clear();
  if (marked) {
    state_ = PeerState::kWaitsForAck;
    acked_at_s = primary_.now_s();
  } else {
    GoOnline(position_);
  }
  primary_.OnPeerOnline(*this);
}

// --- output ---

void Peer::Fill(Session& session) {
  if (state_ == PeerState::kSendsFile) {
    FillFromFile();
  } else if (state_ == PeerState::kOnline) {
    position_ += primary_.backlog().Read(position_, kFillBytes, &session.output);
  }
}

void Peer::FillFromFile() {
  if (piece_.empty()) return;
  session_.output.Append(piece_);
  piece_.clear();
  progress_at_ms = primary_.engine().loop.NowMillis();
  if (file_->complete && file_position_ == file_->size) {
    session_.output.Append(mark_);
    FileSent();
  } else {
    RequestPiece();
  }
}

void Peer::RequestPiece() {
  if (reading_) return;
  reading_ = true;
  file_->ReadPiece(primary_.reader(), primary_.engine().loop, file_position_,
                   [this, alive = std::weak_ptr<int>(alive_)](Result<std::string> piece) {
                     if (!alive.expired()) OnPiece(std::move(piece));
                   });
}

void Peer::OnPiece(Result<std::string> piece) {
  reading_ = false;
  if (state_ != PeerState::kSendsFile || session_.port == nullptr) return;
  if (!piece.ok()) {
    primary_.engine().log.Log(LogLevel::kWarning, "Reading the copy for replica {}: {}", address(),
                              piece.status().message());
    session_.port->Close(false);
    return;
  }
  if (piece->empty()) {
    if (file_->complete && file_position_ == file_->size) {
      // The end was reached before the walker told that it is the end.
      session_.output.Append(mark_);
      FileSent();
      session_.port->OutputReady();
      return;
    }
    poll_ = primary_.engine().loop.StartTimer(kPollMs, 0, [this] {
      poll_ = 0;
      RequestPiece();
    });
    return;
  }
  piece_ = std::move(*piece);
  file_position_ += piece_.size();
  session_.port->OutputReady();
}

uint64_t Peer::waiting_bytes() const {
  return in_need_of_stream() && primary_.has_backlog() ? primary_.backlog().end() - position_ : 0;
}

size_t Peer::waiting_pieces() const {
  return waiting_bytes() > 0 ? primary_.backlog().BlocksFrom(position_) : 0;
}

}  // namespace cairn
