// ScanAofText: the walk over one file's text and the judgement on how it ends (docs/aof.md,
// "Damage").

#include <algorithm>
#include <array>

#include "persistence/aof_reader.h"
#include "persistence/aof_text.h"
#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

constexpr uint64_t kNowhere = UINT64_MAX;
/// No note holds this. It stands where bytes of a group were lost and later ones were not.
constexpr std::string_view kPaddingInside = "##";
/// A command of more words is parsed with none behind it, and its vector is let go: what stands
/// ahead takes little memory.
constexpr size_t kManyWords = 1024;
/// What is read where bytes never reached the disk.
constexpr std::string_view kBlank("\0#", 2);

class Scanner {
 public:
  Scanner(std::string_view text, uint64_t start, CommandSink& sink, AofScan* scan,
          uint64_t progress_interval_bytes, const std::function<Status(uint64_t)>& on_progress)
      : text_(text.substr(0, std::max<uint64_t>(start, text.find_last_not_of(kAofPadding) + 1))),
        position_(start),
        sink_(sink),
        scan_(scan),
        interval_(on_progress ? progress_interval_bytes : 0),
        next_report_(start + interval_),
        on_progress_(on_progress) {
    scan_->good_bytes = start;
    scan_->covered = start == 0;
    scan_->pad_bytes = text.size() - text_.size();
  }

  Status Run() {
    while (position_ < text_.size() && !ended_) {
      if (text_.substr(position_).starts_with(kAofCheckMark)) {
        CAIRN_RETURN_IF_ERROR(Group());
      } else {
        if (uncovered_start_ == kNowhere) uncovered_start_ = position_;
        scan_->covered = false;
        CAIRN_RETURN_IF_ERROR(Commands(text_.size(), true));
      }
    }
    if (!ended_ && transaction_start_ != kNowhere) {
      End(AofTail::kTorn, transaction_start_, position_, "a transaction is cut short");
    }
    if (!ended_) scan_->good_bytes = position_;
    return Status::Ok();
  }

 private:
  /// A check line and the group behind it.
  Status Group() {
    const uint64_t begin = position_;
    if (uncovered_start_ != kNowhere) {
      // Groups tile a file from its start: a check line behind bytes without one means that the
      // line in front of those is gone.
      Damage(uncovered_start_, begin, "a check line follows bytes that no check covers");
      return Status::Ok();
    }
    AofCheckLine line;
    const AofParse parsed = ParseAofCheckLine(text_, begin, &line);
    if (parsed != AofParse::kCommand) {
      Damage(begin, begin,
             parsed == AofParse::kIncomplete ? "a check line is cut short"
                                             : "a check line is malformed");
      return Status::Ok();
    }
    if (!VerifyAofGroup(text_, begin, line)) {
      Damage(begin, begin,
             line.group_bytes > text_.size() - begin - line.line_bytes
                 ? "a group is cut short"
                 : "a group does not match its check");
      return Status::Ok();
    }
    position_ = begin + line.line_bytes;
    const uint64_t end = position_ + line.group_bytes;
    CAIRN_RETURN_IF_ERROR(Commands(end, false));
    if (!ended_) scan_->checked_bytes += end - begin;
    return Status::Ok();
  }

  /// Commands and annotations up to `end`, or, in text without checks, up to the next check line.
  Status Commands(uint64_t end, bool stop_at_check) {
    const std::string_view text = text_.substr(0, end);
    while (position_ < end) {
      ParseAhead(text);
      if (ahead_count_ > 0) {
        CAIRN_RETURN_IF_ERROR(RunNext());
        continue;
      }
      if (text[position_] == '#') {
        if (stop_at_check && text.substr(position_).starts_with(kAofCheckMark)) return Status::Ok();
        const size_t newline = text.find('\n', position_);
        if (newline == std::string_view::npos) {
          Fail(AofParse::kIncomplete, position_, position_, "an annotation is cut short", end);
          return Status::Ok();
        }
        const std::string_view note = text.substr(position_, newline - position_);
        if (note.find('\0') != std::string_view::npos) {
          // A hole that swallowed the end of a line and the beginning of others.
          Fail(AofParse::kInvalid, position_, position_, "an annotation holds a zero byte", end);
          return Status::Ok();
        }
        if (note.find(kPaddingInside) != std::string_view::npos) {
          padding_inside_ = true;
          Fail(AofParse::kInvalid, position_, position_, "padding stands in front of a group", end);
          return Status::Ok();
        }
        position_ = newline + 1;
        continue;
      }
      uint64_t at = position_;
      const AofParse parsed = ParseAofCommand(text, &at, &args_, &reason_);
      CAIRN_CHECK(parsed != AofParse::kCommand);
      Fail(parsed, position_, at, reason_, end);
      return Status::Ok();
    }
    return Status::Ok();
  }

  /// Parses and announces commands up to kAofAhead, up to the next annotation, or up to what does
  /// not parse, which is judged when its turn comes.
  void ParseAhead(std::string_view text) {
    if (ahead_count_ == 0) {
      ahead_position_ = position_;
      ahead_ends_ = false;
    }
    while (!ahead_ends_ && ahead_count_ < kAofAhead && !HasManyWordsLast() &&
           ahead_position_ < text.size() && text[ahead_position_] != '#') {
      Parsed& parsed = ahead_[(ahead_first_ + ahead_count_) % kAofAhead];
      parsed.end = ahead_position_;
      if (ParseAofCommand(text, &parsed.end, &parsed.args, &reason_) != AofParse::kCommand) {
        ahead_ends_ = true;
        return;
      }
      ahead_position_ = parsed.end;
      ++ahead_count_;
      sink_.Announce(parsed.args);
    }
  }

  bool HasManyWordsLast() const {
    return ahead_count_ > 0 &&
           ahead_[(ahead_first_ + ahead_count_ - 1) % kAofAhead].args.size() > kManyWords;
  }

  Status RunNext() {
    Parsed& parsed = ahead_[ahead_first_];
    TrackTransaction(parsed.args);
    CAIRN_RETURN_IF_ERROR(sink_.Command(parsed.args));
    ++scan_->commands;
    position_ = parsed.end;
    ahead_first_ = (ahead_first_ + 1) % kAofAhead;
    --ahead_count_;
    if (parsed.args.size() > kManyWords) parsed.args = {};
    if (interval_ == 0 || position_ < next_report_) return Status::Ok();
    next_report_ = position_ + interval_;
    return on_progress_(position_);
  }

  void TrackTransaction(const std::vector<std::string_view>& args) {
    if (args.size() != 1) return;
    if (args[0].size() == 5 && EqualsIgnoreCase(args[0], "multi")) {
      if (transaction_start_ == kNowhere) transaction_start_ = position_;
    } else if (args[0].size() == 4 && EqualsIgnoreCase(args[0], "exec")) {
      transaction_start_ = kNowhere;
    }
  }

  /// A command that does not parse, at `begin`, failing at `at`.
  void Fail(AofParse parsed, uint64_t begin, uint64_t at, std::string reason, uint64_t end) {
    if (end != text_.size() || uncovered_start_ == kNowhere) {
      End(AofTail::kDamaged, begin, at, "a group whose check holds does not parse: " + reason);
      return;
    }
    const bool torn = parsed == AofParse::kIncomplete || TornBeforeZeros(begin);
    if (padding_inside_ || checked_file() || SoundGroupBehind(begin) || HoleBeforeGroup(begin)) {
      // Behind verified groups stand commands of a server that writes no checks, or the ruins of a
      // group. Padding stands only where groups have checks.
      if (torn && !ProvenDurable(uncovered_start_)) {
        End(AofTail::kTorn, begin, at, std::move(reason));
      } else {
        Damage(begin, at, std::move(reason));
      }
      return;
    }
    End(torn ? AofTail::kTorn : AofTail::kDamaged, begin, at, std::move(reason));
  }

  /// Something is wrong in a part of the file that checks cover, from `begin` on.
  void Damage(uint64_t begin, uint64_t at, std::string reason) {
    if (ProvenDurable(begin)) {
      End(AofTail::kDamaged, begin, at, reason + ", and later checks say that it was once on disk");
    } else if (reason.ends_with("cut short") || ZerosToTheEnd(begin)) {
      End(AofTail::kTorn, begin, at, std::move(reason));
    } else {
      End(AofTail::kCorruptTail, begin, at, std::move(reason));
    }
  }

  void End(AofTail tail, uint64_t good, uint64_t at, std::string reason) {
    scan_->tail = tail;
    scan_->good_bytes = std::min(good, transaction_start_);
    scan_->error_offset = at;
    scan_->reason = std::move(reason);
    // After a cut what is left is covered unless the file had bytes without a check before it.
    scan_->covered = scan_->covered || uncovered_start_ >= scan_->good_bytes;
    ended_ = true;
  }

  bool checked_file() const { return scan_->checked_bytes > 0; }

  /// Whether a sound group follows: then the ruins at `begin` were one as well. (Its place in the
  /// file is part of the check, so bytes of a value cannot pass for one.)
  bool SoundGroupBehind(uint64_t begin) const {
    size_t at = begin;
    while ((at = text_.find(kAofCheckMark, at)) != std::string_view::npos) {
      AofCheckLine line;
      if (ParseAofCheckLine(text_, at, &line) == AofParse::kCommand &&
          VerifyAofGroup(text_, at, line)) {
        return true;
      }
      at += kAofCheckMark.size();
    }
    return false;
  }

  /// Whether zeros or padding stand at `begin`, where a command or group should, and then the
  /// beginning of a group: writes that were lost in front of one that was torn.
  bool HoleBeforeGroup(uint64_t begin) const {
    size_t after = text_.find_first_not_of(kBlank, begin);
    if (after == std::string_view::npos || after == begin) return false;
    if (text_[after - 1] == kAofCheckMark.front()) --after;  // the mark begins as padding looks
    return after > begin && kAofCheckMark.starts_with(text_.substr(after, kAofCheckMark.size()));
  }

  /// Whether a sound group behind `begin` says that bytes above `begin` were synced before it was
  /// written.
  bool ProvenDurable(uint64_t begin) const {
    size_t at = begin;
    while ((at = text_.find(kAofCheckMark, at)) != std::string_view::npos) {
      AofCheckLine line;
      if (ParseAofCheckLine(text_, at, &line) == AofParse::kCommand && line.synced_bytes > begin &&
          VerifyAofGroup(text_, at, line)) {
        return true;
      }
      at += kAofCheckMark.size();
    }
    return false;
  }

  /// Start of the run of zeros, or of zeros and padding, that ends the text; text_.size() when
  /// there is none.
  uint64_t TrailingZeros() const {
    if (text_.empty() || text_.back() != '\0') return text_.size();
    const size_t last = text_.find_last_not_of(kBlank);
    return last == std::string_view::npos ? 0 : last + 1;
  }
  bool ZerosToTheEnd(uint64_t begin) const {
    return text_.size() - std::max(TrailingZeros(), begin) >= 1;
  }

  /// Blocks that never reached the disk read as zeros: without them, is the command just cut short?
  bool TornBeforeZeros(uint64_t begin) {
    const uint64_t zeros = TrailingZeros();
    if (zeros == text_.size()) return false;
    if (zeros <= begin) return true;
    uint64_t at = begin;
    std::string ignored;
    return ParseAofCommand(text_.substr(0, zeros), &at, &args_, &ignored) == AofParse::kIncomplete;
  }

  const std::string_view text_;
  uint64_t position_;
  CommandSink& sink_;
  AofScan* const scan_;
  const uint64_t interval_;
  uint64_t next_report_;
  const std::function<Status(uint64_t)>& on_progress_;
  struct Parsed {
    std::vector<std::string_view> args;
    uint64_t end = 0;  // behind the command
  };
  // The commands from position_ on that are parsed: a ring, so that its vectors keep their room.
  std::array<Parsed, kAofAhead> ahead_;
  size_t ahead_first_ = 0, ahead_count_ = 0;
  uint64_t ahead_position_ = 0;
  bool ahead_ends_ = false;  // what stands at ahead_position_ does not parse
  std::vector<std::string_view> args_;
  std::string reason_;
  uint64_t uncovered_start_ = kNowhere;    // first byte that no check covers
  uint64_t transaction_start_ = kNowhere;  // of the open MULTI
  bool padding_inside_ = false;
  bool ended_ = false;
};

}  // namespace

Status ScanAofText(std::string_view text, uint64_t start, CommandSink& sink, AofScan* scan,
                   uint64_t progress_interval_bytes,
                   const std::function<Status(uint64_t offset)>& on_progress) {
  return Scanner(text, start, sink, scan, progress_interval_bytes, on_progress).Run();
}

}  // namespace cairn
