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
//
// Thread: any. Keep() and Collect() take turns and may take as long as the disk does; the rest
// takes microseconds, but for Find(), which maps a segment at the first look into it.

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
  bool writable = false;  ///< no other process does
  bool pinned = false;    ///< L6
  std::string held_by;    ///< the file whose last save is the oldest (L4)
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
  /// the disk, or another process writes here.
  Status Keep(const std::vector<const Chunk*>& chunks, uint64_t number,
              const std::vector<std::string>& files, std::vector<bool>* kept);

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

 private:
  struct Segment {
    std::string name;
    uint64_t number = 0;
    uint64_t salt = 0;
    uint64_t bytes = 0;    ///< appended or found
    uint64_t synced = 0;   ///< what lies in front is on disk
    bool damaged = false;  ///< a needed record does not fit its hash (L5)
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
  };
  struct Written {
    Key key;
    uint64_t offset = 0;
    const Chunk* chunk = nullptr;  ///< nullptr: moved by Collect()
  };
  enum class Look { kSame, kOther, kDamaged };

  Status OpenSegment(const std::string& name);
  Status ReadNamed(bool segments);
  Status WriteNamed(const std::set<std::string>& names);
  bool EnsureWritable(Status* why);
  Status Register(uint64_t number, const std::vector<std::string>& files);

  // With write_mutex_ held:
  Status Append(const Key& key, DType dtype, const ChunkFigures& figures, std::string_view bytes,
                const Chunk* chunk);
  Status OpenActive();
  /// L1, L2: what was appended becomes part of the index, or is forgotten.
  Status SyncActive();
  void CloseActive();
  void ForgetMissing();
  Look Compare(const Entry& entry, const Chunk& chunk);
  Status Move(Segment* segment, uint64_t floor, bool* damaged);
  bool CollectOne();

  // With state_mutex_ held:
  /// `held_by`: the file that holds it, if it is one.
  uint64_t Floor(std::string* held_by = nullptr) const;
  Status MapSegment(Segment* segment, uint64_t end);
  std::map<Segment*, uint64_t> NeededBytes(uint64_t floor) const;

  void Run();

  const std::unique_ptr<LogFiles> files_;
  const ChunkLogOptions options_;

  std::mutex write_mutex_;  // taken before state_mutex_
  std::unique_ptr<LogFile> active_file_;
  std::vector<Written> pending_;  // appended to the active segment, not synced

  mutable std::mutex state_mutex_;
  std::vector<std::unique_ptr<Segment>> segments_;
  Segment* active_ = nullptr;
  std::unordered_map<Key, Entry, HashOfKey> index_;
  uint64_t next_segment_ = 1, next_number_ = 1;
  std::set<std::string> named_;  // files of the list
  bool list_is_old_ = false;     // named_ has more than the list on disk
  std::map<std::string, uint64_t> file_number_;
  std::set<uint64_t> running_;                // saves that have named something and are not over
  uint64_t last_number_ = 0, last_done_ = 0;  // of saves
  bool opened_ = false, locked_ = false, writable_ = false, refused_ = false, pinned_ = false;
  ChunkLogFigures counts_;

  std::thread thread_;
  std::condition_variable wake_;
  bool collect_wanted_ = false, stop_ = false;
};

}  // namespace cairn::tensor
