#pragma once

// Peer: one replica of this server, as its primary sees it: what it told of itself (REPLCONF), how
// far it is, and the source of its connection's output: first the file of a full copy, then the
// stream from the backlog. Who gets what is Primary's. Thread: executor.
//
//            PSYNC, SYNC: Primary::Sync
//   kTold ------------------------------> kOnline                    (the backlog holds its offset)
//     |                                     ^   ^
//     | full copy                           |   | file sent with its length: FileSent
//     v                                     |   |
//   kWaitsForCut --cut: BeginFile--> kWaitsForFile --complete, or $EOF: at once: StartSending-->
//   kSendsFile
//                                           |                                                     |
//                                           |  first REPLCONF ACK: OnAck      file sent with a
//                                           mark: FileSent
//                                           +-------------------------- kWaitsForAck <------------+
//   kSendsFile --rdb-only: FileSent--> gone                       any --connection ends--> gone

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/engine/session.h"
#include "server/replication/backlog.h"
#include "server/replication/sync_file.h"

namespace cairn {

class Primary;

enum class PeerState : uint8_t {
  kTold,
  kWaitsForCut,
  kWaitsForFile,
  kSendsFile,
  kWaitsForAck,
  kOnline,
};

class Peer final : public OutputSource {
 public:
  /// Bytes of the stream put into the output at a time.
  static constexpr size_t kFillBytes = 64 * 1024;
  /// Length of the mark behind a file whose length was not announced.
  static constexpr size_t kMarkBytes = 40;
  /// How often the end of a file that is still written is looked at.
  static constexpr int64_t kPollMs = 20;

  Peer(Primary& primary, Session& session) : primary_(primary), session_(session) {}
  ~Peer() override;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // --- what it told (REPLCONF) ---
  int listening_port = 0;
  std::string announced_ip;
  bool takes_eof = false;     ///< capa eof: the end of a file may be marked instead of announced
  bool takes_psync2 = false;  ///< capa psync2: +CONTINUE may name a new id
  bool only_file = false;     ///< rdb-only: no stream wanted
  bool without_data = false;  ///< rdb-filter-only: no keys are sent
  bool without_functions = false;  ///< nor function libraries
  bool pre_psync = false;          ///< it came with SYNC

  // --- where it is ---
  PeerState state() const { return state_; }
  bool online() const { return state_ == PeerState::kOnline; }
  /// Online as INFO shows it: a file sent with a mark counts.
  bool shown_online() const { return online() || state_ == PeerState::kWaitsForAck; }
  /// Offset of the stream behind the last byte given to its connection: what it still needs.
  uint64_t position() const { return position_; }
  uint64_t acked_offset() const { return acked_offset_; }
  int64_t acked_at_s = 0;       ///< wall clock of the last word from it
  int64_t asked_at_s = 0;       ///< when it asked for a copy
  int64_t progress_at_ms = 0;   ///< when bytes of the file last went out
  std::string address() const;  ///< announced, or where it connects from

  Session& session() { return session_; }
  const Session& session() const { return session_; }

  // --- transitions ---
  void WaitForCut();
  void GoOnline(uint64_t position);
  void BeginFile(std::shared_ptr<SyncFile> file);
  /// With a mark (at once), or with its length (once complete).
  void StartSending(bool with_mark);
  void OnFileComplete();
  void OnAck(uint64_t offset, int64_t now_s);
  /// Whatever it sends shows that it is there: one that loads sends newlines, and no ACK.
  void NoteInput(int64_t now_s);
  const std::shared_ptr<SyncFile>& file() const { return file_; }
  bool in_need_of_stream() const {
    return shown_online() ||
           (state_ != PeerState::kTold && state_ != PeerState::kWaitsForCut && !only_file);
  }

  // OutputSource
  void Fill(Session& session) override;
  uint64_t waiting_bytes() const override;
  size_t waiting_pieces() const override;

 private:
  void FillFromFile();
  void RequestPiece();
  void OnPiece(Result<std::string> piece);
  void FileSent();

  Primary& primary_;
  Session& session_;
  PeerState state_ = PeerState::kTold;
  uint64_t position_ = 0;
  uint64_t acked_offset_ = 0;
  uint64_t heard_bytes_ = 0;  // received on its connection when last looked at
  std::shared_ptr<SyncFile> file_;
  uint64_t file_position_ = 0;  // of the next byte to be read
  bool reading_ = false;
  std::string piece_;  // read and not yet in the output
  std::string mark_;   // empty: the length was announced
  TimerId poll_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace cairn
