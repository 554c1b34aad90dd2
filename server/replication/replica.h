#pragma once

// ReplicaLink: this server as the replica of another: the connection to its primary, from the
// handshake over the full copy to the stream, and back to the beginning whenever it breaks.
// Commands of the stream run on a session of their own; the bytes they came in go on to this
// server's own replicas. Thread: executor; files are written on a worker, the copy is loaded in a
// fiber so that clients are answered (LOADING) meanwhile.
//
//                         Follow
//    kNone <---------> kConnect <--------------------------------------------+
//          Unfollow       | Tick: Connect                                    |
//                         v                                                  |
//                    kConnecting --OnConnected--> kHandshake --OnLine-->     |
//                                                 (PING, AUTH, REPLCONF)     |
//                                                      | all answered        |
//                                                      v                     |
//            +CONTINUE: OnContinue               kAwaitsPsync --refused-->  SYNC
//          +------------------------------------------ |                     |
//          |                     +FULLRESYNC: OnFullResync, or SYNC          |
//          |                                           v                     |
//          |                                     kAwaitsCopy --OnCopyHeader--+
//          |                                           v                     |
//          |                                     kReceivesCopy --OnStored--> |
//          |                                           v                     |
//          |                                     kLoads ------- failed ------+
//          v                                           | OnLoaded            |
//     kConnected <-------------------------------------+                     |
//          |                                                                 |
//          +-- any state: broken, silent for repl-timeout, CLIENT KILL: Drop +
//
// Invariants:
//   S1  The backlog's end is the offset of the last command (or transaction) that was run here, and
//       the bytes in the backlog are those that came from the primary.
//   S2  While connected, what was received and not run is kept and is in no backlog: after a break
//       it is asked for again.
//   S3  The id of the history changes together with the dataset (OnLoaded) or by +CONTINUE, never
//       otherwise.
//   S4  The old dataset stays until the new copy is complete in a file.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"
#include "server/platform/fiber.h"
#include "server/platform/worker.h"
#include "server/replication/link_parser.h"
#include "server/replication/primary.h"

namespace cairn {

enum class LinkState : uint8_t {
  kNone,
  kConnect,
  kConnecting,
  kHandshake,
  kAwaitsPsync,
  kAwaitsCopy,
  kReceivesCopy,
  kLoads,
  kConnected,
};

/// What the link tells its owner (Replication).
class LinkListener {
 public:
  virtual ~LinkListener() = default;
  /// The state changed: facts that gate commands may have.
  virtual void OnLinkChanged() = 0;
  /// The new primary was asked to take part in a failover and answered PSYNC.
  virtual void OnPsyncAnswered(bool granted) = 0;
};

class ReplicaLink final : public StreamReceiver, public SessionPort {
 public:
  /// Bytes read at a time in the handshake and for the copy.
  static constexpr size_t kReadBytes = 64 * 1024;
  /// Bytes of the copy on their way to the disk, beyond which the socket waits.
  static constexpr size_t kMaxUnwrittenBytes = 8 * 1024 * 1024;

  ReplicaLink(Engine& engine, Connector& connector, Primary& primary, FormerHistory& former,
              LinkListener& listener);
  ~ReplicaLink() override;

  /// Follows host:port from the next moment on. `failover`: asks it, by PSYNC .. FAILOVER, to take
  /// over first.
  void Follow(const std::string& host, int port, bool failover);
  /// Gives up a load that waits for its next step. For the end of the process.
  void StopLoading() { loading_.reset(); }
  /// Follows nobody.
  void Unfollow();
  /// The dataset's history is known (loaded from a file): a partial resync may be asked for, with
  /// `db` selected.
  void RememberHistory(uint32_t db) {
    may_continue_ = true;
    selected_db_ = db;
  }
  bool follows() const { return state_ != LinkState::kNone; }
  LinkState state() const { return state_; }
  const std::string& host() const { return host_; }
  int master_port() const { return port_; }
  /// Database that the primary's stream has selected.
  uint32_t selected_db() const { return session_ != nullptr ? session_->db : selected_db_; }
  /// The primary asked how far this server is: answered as soon as what came before has run.
  void RequestAck() { ack_wanted_ = true; }
  void Tick();
  /// A field repl-stream-db of the copy that is being loaded.
  void OnCopyDatabase(uint32_t db) { copy_db_ = db; }

  // --- for INFO ---
  int64_t last_heard_ms() const { return last_heard_ms_; }
  int64_t down_since_s() const { return down_since_s_; }
  uint64_t copy_total_bytes() const { return copy_total_; }
  uint64_t copy_read_bytes() const { return copy_read_; }
  uint64_t read_offset() const;
  bool syncs() const {
    return state_ == LinkState::kAwaitsCopy || state_ == LinkState::kReceivesCopy ||
           state_ == LinkState::kLoads;
  }

  // StreamReceiver
  std::span<char> ReadBuffer() override;
  void OnRead(size_t size) override;
  void OnWritable() override { FlushOutput(); }
  void OnEnd(const Status& reason) override;
  void OnClosed() override {}

  // SessionPort, of the session that runs the stream
  void OutputReady() override {}
  void Close(bool after_output) override;
  void InputReady() override;
  int fd() const override { return stream_ != nullptr ? stream_->fd() : -1; }
  size_t query_bytes() const override { return parser_ ? parser_->buffered_bytes() : 0; }
  size_t query_capacity() const override { return parser_ ? parser_->footprint() : 0; }

 private:
  enum class Step : uint8_t { kPing, kAuth, kPort, kIp, kCapabilities };

  void SetState(LinkState state);
  void Connect();
  void OnConnected(Result<std::unique_ptr<Stream>> stream);
  /// Gives the connection up; the next tick connects anew.
  void Drop(std::string_view why);
  void Send(std::initializer_list<std::string_view> words);
  void SendRaw(std::string_view bytes);
  void FlushOutput();
  void SendAck();
  void OnLines();
  bool OnLine(std::string_view line);
  bool OnHandshakeLine(std::string_view line);
  void SendIntroduction();
  void SendPsync();
  bool OnPsyncLine(std::string_view line);
  bool OnContinue(std::string_view id);
  bool OnFullResync(std::string_view id, uint64_t offset);
  // replica_copy.cc
  bool OnCopyHeader(std::string_view line);
  void OnCopyBytes(std::string_view bytes);
  void StoreCopy(bool last);
  void OnStored(const Status& status, bool last, size_t bytes);
  void LoadCopy();
  void StepLoad();
  void OnLoaded(const Status& status);
  void AbandonCopy();
  void BeginStream(uint32_t db);
  void RunStream();
  bool HeldByPause();

  Engine& engine_;
  Connector& connector_;
  Primary& primary_;
  FormerHistory& former_;
  LinkListener& listener_;

  LinkState state_ = LinkState::kNone;
  std::string host_;
  int port_ = 0;
  bool failover_ = false;      // ask for FAILOVER with the next PSYNC
  bool may_continue_ = false;  // this dataset is a point of the history replication_id
  uint32_t selected_db_ = 0;   // by the stream, when it broke

  std::unique_ptr<Connecting> connecting_;
  std::unique_ptr<Stream> stream_;
  std::string input_;  // the buffer of the handshake
  std::string lines_;  // received and not yet used
  std::string output_;
  std::deque<Step> steps_;
  int64_t last_heard_ms_ = -1;
  int64_t last_attempt_ms_ = 0;
  int64_t next_second_ms_ = 0;
  int64_t down_since_s_ = 0;

  // the copy
  std::string copy_id_;
  uint64_t copy_offset_ = 0;
  uint32_t copy_db_ = 0;
  std::optional<CopyReader> copy_;
  std::string copy_path_;
  std::shared_ptr<WritableFile> copy_file_;  // the worker's while it writes
  std::string unwritten_;
  size_t being_written_ = 0;
  uint64_t copy_total_ = 0, copy_read_ = 0;
  uint64_t copies_ = 0;  // tells the writes of one copy from those of the one before
  std::string behind_copy_;
  std::unique_ptr<WorkerThread> writer_;
  std::unique_ptr<Fiber> loading_;
  Status load_status_;

  // the stream
  Session* session_ = nullptr;
  /// The link has nobody to call it again once memory is warm: it takes what is.
  class WarmMemory final : public BlobSource {
   public:
    explicit WarmMemory(BlobArena& arena) : arena_(arena) {}
    Blob* Allocate(size_t size) override { return arena_.Allocate(size); }

   private:
    BlobArena& arena_;
  };
  WarmMemory memory_{engine_.arena};
  std::unique_ptr<RequestParser> parser_;
  std::span<char> reserved_;
  std::string raw_;         // received and not yet in the backlog (S2)
  uint64_t received_ = 0;   // bytes given to the parser
  uint64_t passed_on_ = 0;  // of which in the backlog
  uint64_t run_ = 0;        // of which whole commands, and whole transactions, that were run (S1)
  bool running_ = false;
  bool close_wanted_ = false;
  bool ack_wanted_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace cairn
