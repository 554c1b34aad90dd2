#pragma once

// ChunkLog: chunks of checkpoints on disk, each once: append-only segment files in a directory of
// their own beside the server's (log_files.h), and the index of what they hold. RDB files name
// chunks by hash and length, never by place, so that a record may move. A save asks Keep() to make
// its chunks durable and names those that are; a load asks Find(). Not here: the format
// (chunk_log_format.h), values, or which save runs when.
//
//   L1  A record is named by a save only after fdatasync has returned well behind it: the log is
//       ahead of every file that names it. Old segments are never appended to: what was found in
//       them without proof of a sync is read, but written again before it is named.
//   L2  An error of write or fdatasync is believed the first time: the segment takes no more, and
//       what it got since its last good sync counts as not written. The save that asked emits
//       those chunks itself.
//   L3  A chunk is named only if a record with its very bytes exists: the hash alone is not enough
//       (P2). A chunk knows its record by number; without one the bytes are compared.
//   L4  A record is needed while a file may name it: it was named, or appended, at or after the
//       oldest save that a file of the list `named` has, or a save that runs. Saves are numbered;
//       what was there at the start of the process has number 0, as have files that this process
//       has not replaced. Whoever is about to name records first gets onto that list, durably.
//   L5  A segment is removed only when no record in it is needed; needed ones are copied to
//       another segment first, checked, and synced. One that does not fit its hash stays, and with
//       it its segment.
//   L6  Without a readable list nothing is ever removed.
//   L7  Only the holder of the lock writes and removes. Others read.
//   L8  A segment that somebody else has deleted or cut is believed gone at the next Keep(): what
//       it had is written again before it is named.
//   L9  Increments: Stage() appends, Name() lets one command name what is staged or durable, and
//       SyncStaged() returns well before a byte of that command is written to the append-only file,
//       under each policy. So L1 holds for them: whatever is lost of the log's unsynced tail, no
//       increment has named it, and an increment that names what is not there is damage. Killed
//       between append and name, the record is one that nothing needs.
//   L10 What SyncStaged() could not sync (L2) is held in memory and written to another segment by
//       the next SyncStaged(); until that returns well the append-only file takes no byte, so that
//       its writes are refused as for an error of its own.
//   L11 An increment belongs to the file of its manifest (L4). Its names get the number of the
//       latest save that had begun: a rewrite that began later, and alone such a one, ends them.
//
// Thread: any. Keep() and Collect() take turns and may take as long as the disk does, and so may
// Stage() and SyncStaged(), which wait for neither of them; the rest takes microseconds, but for
// Find(), which maps a segment at the first look into it.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tensor_module/chunk_log_format.h"
#include "tensor_module/chunk_pool.h"
#include "tensor_module/log_files.h"

namespace cairn::tensor {

struct ChunkLogOptions {
  uint64_t segment_bytes = uint64_t{256} << 20;  ///< a segment takes no more beyond this
  /// A segment with less than so much needed is rewritten.
  int needed_percent = 50;
  /// Collect() looks at so many records, or buckets of the index, before it lets go of the lock
  /// that the executor takes as well.
  size_t records_at_a_time = 4096;
  std::function<uint64_t()> random;
  std::function<void(std::string_view line)> say;  ///< any thread
};

struct ChunkLogFigures {
  uint64_t segments = 0;
  uint64_t bytes = 0;         ///< of segment files
  uint64_t chunks = 0;        ///< records in the index
  uint64_t chunk_bytes = 0;   ///< of their payloads
  uint64_t needed_bytes = 0;  ///< of records that files may name (L4)
  uint64_t appended_bytes = 0;
  uint64_t syncs = 0;
  uint64_t errors = 0;  ///< of write and sync
  uint64_t removed_segments = 0;
  bool collecting = false;  ///< a save has ended, and segments may still go
  bool writable = false;    ///< no other process does
  bool pinned = false;      ///< L6
  std::string held_by;      ///< the file whose last save is the oldest (L4)
};

class ChunkLog {
 public:
  /// Chunks below this are cheaper inline.
  static constexpr size_t kLeastBytes = 4096;

  ChunkLog(std::unique_ptr<LogFiles> files, ChunkLogOptions options);
  ChunkLog(const ChunkLog&) = delete;
  ChunkLog& operator=(const ChunkLog&) = delete;
  ~ChunkLog();

  /// Reads what is there. Call first, once. Cost: a page a record; payloads without proof of a sync
  /// are hashed. Errors: the directory or a segment cannot be read; nothing may be loaded then.
  Status Open();

  /// Makes chunks durable for save `number`, which will become `files` (relative to the server's
  /// directory). kept[i] says whether the i-th may be named, also behind an error; the caller emits
  /// the others. `number` 0: for no save in particular, nothing is going to name them. Errors: of
  /// the disk, kNoSpace also when less than kRoomLeft would be free, or another process writes
  /// here.
  Status Keep(const std::vector<const Chunk*>& chunks, uint64_t number,
              const std::vector<std::string>& files, std::vector<bool>* kept);

  /// What Keep(), Stage() and the collector leave free on the disk: room for the append-only file,
  /// which has to go on also when the save fails that the chunks were kept for.
  static constexpr uint64_t kRoomLeft = uint64_t{64} << 20;

  /// Bytes that its disk still takes.
  uint64_t FreeBytes() const { return files_->FreeBytes(); }

  /// Appends what the log has not got yet, so that increments of `file` (relative to the server's
  /// directory) may name it. Errors: as Keep(); kNoSpace also when less than kRoomLeft would be
  /// free. Those that are not in the log then are not named.
  Status Stage(const std::vector<ChunkRef>& chunks, const std::string& file);
  /// Which of the chunks a command may name that goes to increments of `file` now, `number` being
  /// the latest save that has begun (L11). Cost: a look-up a chunk.
  std::vector<bool> Name(const std::vector<ChunkRef>& chunks, const std::string& file,
                         uint64_t number);
  /// Makes durable what has been staged (L9). Errors: of the disk; ask again before anything that
  /// names it is written (L10).
  Status SyncStaged();
  /// Something that Name() has given away is not durable yet: SyncStaged() would wait for the disk.
  bool HasUnsyncedNames() const {
    return named_staged_.load(std::memory_order_acquire) >
           synced_staged_.load(std::memory_order_acquire);
  }

  struct Found {
    MappingRef mapping;
    std::string_view bytes;  ///< in the mapping; not compared with the hash yet
    ChunkRecord record;
    uint64_t number = 0;  ///< for Chunk::set_record
  };
  /// mapping is unset when there is no such record.
  Found Find(Hash128 hash, size_t size);

  /// These files (relative to the server's directory) may name chunks too, though no save of a
  /// process with this module made them: a server without it writes on what it has loaded.
  void Presume(const std::vector<std::string>& files);

  /// Nothing is left to do for Keep().
  bool Has(const Chunk& chunk) const;

  /// Save `number` is in `file` now; `file` empty: it is over. Wakes Collect() in the background
  /// when StartThread() was called.
  void OnSaved(const std::string& file, uint64_t number);
  /// Removes segments that nothing needs, after rewriting those that little needs (L4, L5).
  void Collect();
  /// Collects in the background after each save, until this object ends.
  void StartThread();

  ChunkLogFigures figures() const;
  /// Bytes of chunks that were found at the start, and that saves and commands have appended since.
  uint64_t logged_bytes() const { return logged_bytes_.load(std::memory_order_relaxed); }

 private:
  struct Segment {
    std::string name;
    uint64_t number = 0;
    uint64_t salt = 0;
    uint64_t bytes = 0;    ///< appended or found
    uint64_t synced = 0;   ///< what lies in front is on disk
    bool damaged = false;  ///< a needed record does not fit its hash (L5)
    bool open = false;     ///< records may still come, or wait for their sync
    uint64_t needed = 0;   ///< bytes of needed records, as CountNeeded() found them
    MappingRef mapping;
  };
  struct Key {
    Hash128 hash;
    uint64_t size;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct HashOfKey {
    size_t operator()(const Key& key) const { return key.hash.low ^ key.size; }
  };
  struct Entry {
    Segment* segment = nullptr;
    uint64_t offset = 0;  ///< of the record
    uint64_t number = 0;  ///< ascending from 1, the same wherever the record moves
    uint64_t named = 0;   ///< last save that named it (L4)
    bool durable = false;
    bool staged = false;  ///< appended by Stage(), not synced
  };
  struct Written {
    Key key;
    uint64_t offset = 0;
    const Chunk* chunk = nullptr;  ///< nullptr: moved by Collect()
  };
  struct Staged {
    Key key;
    uint64_t offset = 0;
    ChunkRef chunk;  ///< held until it is synced (L10)
  };
  /// The segment that Stage() appends to, or one that it has filled.
  struct StageWriter {
    Segment* segment = nullptr;
    std::shared_ptr<LogFile> file;
    std::vector<Staged> pending;  ///< not synced
    uint64_t covered = 0;         ///< bytes of the segment that the sync ahead is about
    bool torn = false;            ///< nothing may stand behind its last record
  };
  /// What the log has under a chunk's hash and size.
  enum class Look { kAbsent, kUnproven, kSame, kOther, kDamaged };

  Status OpenSegment(const std::string& name);
  Status ReadNamed(bool segments);
  Status WriteNamed(const std::set<std::string>& names);
  bool EnsureWritable(Status* why);
  Status Register(uint64_t number, const std::vector<std::string>& files);
  Status ListFiles(const std::vector<std::string>& files);

  // With write_mutex_ held:
  Status Append(const Key& key, DType dtype, const ChunkFigures& figures, std::string_view bytes,
                const Chunk* chunk);
  Result<std::unique_ptr<LogFile>> OpenSegmentToWrite(Segment** out);
  /// The record behind the segment's last; its offset.
  Result<uint64_t> AppendRecord(Segment& segment, LogFile& file, const Key& key, DType dtype,
                                const ChunkFigures& figures, std::string_view bytes);
  static std::string MarkOf(const Segment& segment, uint64_t synced);
  /// L1, L2: what was appended becomes part of the index, or is forgotten.
  Status SyncActive();
  void CloseActive();
  void ForgetMissing();
  /// `staged`: also records that are not synced. Sets the chunk's record when it is kSame.
  Look Compare(const Chunk& chunk, bool staged);
  using Records = std::vector<std::pair<uint64_t, Key>>;  ///< ascending by offset
  Status Move(const Segment* segment, const Records& records, uint64_t floor, bool* damaged);
  /// `rewrites`: also what is needed a little; else only what nothing needs.
  bool CollectOne(bool rewrites);

  Status MayStage(const std::string& file);
  Status HasRoomFor(uint64_t size_bytes) const;
  // With stage_mutex_ held:
  Status StageOne(const ChunkRef& chunk);
  void SealStage(bool torn);
  /// The one of sealed_ that has this segment, of which there is one at most; end(): none.
  std::vector<StageWriter>::iterator SealedOf(const Segment* segment);
  // With sync_mutex_ held:
  Status SyncOne(StageWriter* writer);
  void GiveUp(StageWriter* writer);
  void Publish(const StageWriter& writer);
  void MarkStage(const StageWriter& writer);
  bool LittleIsNeeded(const Segment& segment) const {
    return segment.needed * 100 < segment.bytes * static_cast<uint64_t>(options_.needed_percent);
  }
  /// The next command begins a segment of its own when little of this one is needed.
  void CloseStageIfIdle();
  /// With write_mutex_ held: the segment is gone.
  void ForgetStage(Segment* segment);

  // With state_mutex_ held:
  /// `held_by`: the file that holds it, if it is one.
  uint64_t Floor(std::string* held_by = nullptr) const;
  Status MapSegment(Segment* segment, uint64_t end);
  /// Maps the entry's segment and reads the record's head. False: neither is there as it was.
  bool ReadRecord(const Entry& entry, uint64_t size, ChunkRecord* record);

  // With write_mutex_ held; `state`, of state_mutex_, is let go of again and again.
  void LetOthersIn(std::unique_lock<std::mutex>& state) const;
  /// begin(), then visit(item) for each record. Once more from begin() on when the index has grown
  /// meanwhile; what came to another place of it may be left out.
  template <typename Begin, typename Visit>
  void LookThrough(std::unique_lock<std::mutex>& state, Begin begin, Visit visit) const;
  /// Sets Segment::needed.
  void CountNeeded(std::unique_lock<std::mutex>& state, uint64_t floor);
  /// All records of a segment that is not open: none can come.
  Records RecordsOf(std::unique_lock<std::mutex>& state, const Segment* segment) const;
  /// Takes them out of the index. False: one of them is needed; it and what is behind it stay.
  bool Forget(std::unique_lock<std::mutex>& state, const Segment* segment, const Records& records,
              uint64_t floor);

  void Run();

  const std::unique_ptr<LogFiles> files_;
  const ChunkLogOptions options_;

  // Taken in this order. Segments go away under write_mutex_ alone.
  std::mutex write_mutex_;
  std::unique_ptr<LogFile> active_file_;
  std::vector<Written> pending_;  // appended to the active segment, not synced

  std::mutex sync_mutex_;   // one sync of what is staged at a time; appends go on
  std::mutex stage_mutex_;  // appends of Stage()
  StageWriter stage_;
  std::vector<StageWriter> sealed_;  // full, not synced
  std::vector<ChunkRef> again_;      // L10
  bool stage_fails_ = false;         // said once a spell
  /// Chunks staged so far, the highest of these counts when one was named before it was durable,
  /// and how many of the first are durable.
  std::atomic<uint64_t> staged_{0}, named_staged_{0}, synced_staged_{0};
  std::atomic<uint64_t> logged_bytes_{0};

  mutable std::mutex state_mutex_;
  std::vector<std::unique_ptr<Segment>> segments_;
  Segment* active_ = nullptr;
  std::unordered_map<Key, Entry, HashOfKey> index_;
  uint64_t next_segment_ = 1, next_number_ = 1;
  std::set<std::string> named_;  // files of the list
  bool list_is_old_ = false;     // named_ has more than the list on disk
  std::map<std::string, uint64_t> file_number_;
  /// Of a file whose increments name something: the number of the first name. It may be that no
  /// manifest is there yet.
  std::map<std::string, uint64_t> increments_from_;
  std::set<uint64_t> running_;                // saves that have named something and are not over
  uint64_t last_number_ = 0, last_done_ = 0;  // of saves
  bool opened_ = false, locked_ = false, writable_ = false, refused_ = false, pinned_ = false;
  ChunkLogFigures counts_;

  std::thread thread_;
  std::condition_variable wake_;
  bool collect_wanted_ = false, collecting_ = false, stop_ = false;
};

}  // namespace cairn::tensor
