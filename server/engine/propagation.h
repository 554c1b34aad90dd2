#pragma once

// Propagation: the stream of effects. Each change of the dataset is appended once, as a RESP
// command, and read by the append-only file and by the replicas' backlog. SELECT is
// inserted when the database changes; several commands of one top-level command are wrapped in
// MULTI/EXEC. The buffer is handed over at the end of each turn. Offsets count bytes since start.
// What one of the two readers is not given (PUBLISH goes to replicas alone, and so may a script's
// effects) is kept beside: offsets are those of the append-only file's bytes.
// Thread: executor.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/check.h"

namespace cairn {

/// Who is given an effect.
enum class EffectReader : uint8_t { kBoth, kLog, kReplicas };

class Propagation {
 public:
  /// Off (no append-only file, no replica): Append does nothing. Each of the two readers of the
  /// stream says for itself whether it wants it.
  void set_enabled(bool on) {
    logged_ = on;
    enabled_ = logged_ || fed_;
  }
  void set_fed(bool on) {
    fed_ = on;
    enabled_ = logged_ || fed_;
  }
  bool enabled() const { return enabled_; }
  /// The append-only file alone reads the stream.
  bool only_logged() const { return logged_ && !fed_; }

  /// Appends one effect.
  void Append(uint32_t db, std::span<const std::string_view> args,
              EffectReader reader = EffectReader::kBoth);
  void Append(uint32_t db, std::span<const std::string> args,
              EffectReader reader = EffectReader::kBoth);

  /// Opens a group: if two or more effects follow before EndGroup they are wrapped in MULTI/EXEC.
  void BeginGroup() {
    if (group_depth_++ == 0) group_effects_ = 0;
  }
  void EndGroup() {
    CAIRN_CHECK(group_depth_ > 0);
    if (--group_depth_ == 0 && group_effects_ != 0) CloseGroup();
  }

  /// The effects of the open group are dropped, and none is taken from here on: the server ends in
  /// the middle of it.
  void AbandonGroup();

  /// A command, transaction or script is running: its effects are not complete.
  bool in_group() const { return group_depth_ > 0; }

  /// Forgets which database is selected: a new file or replica begins here.
  void ResetSelectedDatabase() { selected_db_ = -1; }
  /// The database that the stream's last SELECT names; -1: the next effect brings its own.
  int64_t selected_database() const { return selected_db_; }

  /// Stream offset behind the last byte appended.
  uint64_t offset() const { return handed_over_ + buffer_.size(); }
  /// Stream offset behind the last byte taken by Take.
  uint64_t handed_over() const { return handed_over_; }
  bool empty() const { return buffer_.empty() && asides_.empty(); }
  /// Bytes that wait for the next hand-over to replicas. Asked after each command.
  uint64_t waiting_for_replicas() const { return buffer_.size() + aside_bytes_; }
  /// False while a group has effects in the buffer: it must not be split over two hand-overs.
  bool CanTake() const { return group_depth_ == 0 || group_effects_ == 0; }
  struct Taken {
    std::string log;               ///< for the append-only file; may be empty
    int64_t database_before = -1;  ///< selected ahead of `log`; -1: it begins with its own SELECT
    std::string replicas;          ///< for replicas, where that is not the same
    bool same = true;              ///< replicas are given `log`
    std::string_view for_replicas() const { return same ? log : replicas; }
  };
  /// Moves the bytes out; the next ones continue at offset().
  Taken Take();

 private:
  /// A piece of the stream that one reader is not given. Of replicas alone: `bytes`, which stand
  /// between those of buffer_. Of the log alone: `length` bytes of buffer_.
  struct Aside {
    size_t at;  ///< position in buffer_
    size_t length;
    std::string bytes;
  };

  void CloseGroup();
  void AppendHeader(uint32_t db);
  void AppendCommand(const auto& args);
  void AppendEffect(uint32_t db, const auto& args, EffectReader reader);
  std::string ForReplicas() const;

  bool enabled_ = false;  // logged_ || fed_
  bool logged_ = false;
  bool fed_ = false;
  std::string buffer_;
  std::vector<Aside> asides_;  // in the stream's order
  uint64_t aside_bytes_ = 0;   // of replicas alone, less those of the log alone (modulo 2^64)
  size_t last_taken_ = 0;      // size of the buffer last handed over: the next one begins with room
  uint64_t handed_over_ = 0;
  int64_t selected_db_ = -1;
  int64_t db_at_buffer_start_ = -1;
  int group_depth_ = 0;
  uint64_t group_effects_ = 0;
  size_t group_start_ = 0;   // buffer position where MULTI would go
  size_t group_asides_ = 0;  // how many asides stand before it
};

}  // namespace cairn
