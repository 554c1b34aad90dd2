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
/// No note of ours holds this. It stands where bytes of a group were lost and later ones were not.
constexpr std::string_view kPaddingInside = "##";
/// No disk loses less of the start of a file.
constexpr size_t kShortestHole = 32;
/// A command of more words is parsed with none behind it, and its vector is let go: what stands
/// ahead takes little memory.
constexpr size_t kManyWords = 1024;
/// What is read where bytes never reached the disk.
constexpr std::string_view kBlank("\0#", 2);

/// Finds where the padding at the end of `text` begins, not before `start`. In small steps: what is
/// looked at is read again in its turn.
Status FindEnd(std::string_view text, uint64_t start, const AofScanOptions& options,
               uint64_t* end) {
  const uint64_t step = std::max<uint64_t>(options.window_bytes / 64, 1);
  for (*end = text.size(); *end > start;) {
    const uint64_t from = *end - std::min(step, *end - start);
    if (options.make_readable) CAIRN_RETURN_IF_ERROR(options.make_readable(from, *end - from));
    const size_t last = text.substr(from, *end - from).find_last_not_of(kAofPadding);
    if (last != std::string_view::npos) {
      *end = from + last + 1;
      return Status::Ok();
    }
    *end = from;
  }
  return Status::Ok();
}

class Scanner {
 public:
  /// `end`: of the text, without the padding behind it.
  Scanner(std::string_view text, uint64_t start, uint64_t end, CommandSink& sink, AofScan* scan,
          const AofScanOptions& options)
      : text_(text.substr(0, end)),
        start_(start),
        options_(options),
        readable_(options.make_readable ? start : text_.size()),
        position_(start),
        sink_(sink),
        scan_(scan),
        interval_(options.on_progress ? options.progress_interval_bytes : 0),
        next_report_(start + interval_) {
    scan_->good_bytes = start;
    scan_->covered = start == 0;
    scan_->pad_bytes = text.size() - text_.size();
  }

  Status Run() {
    while (position_ < text_.size() && !ended_) {
      CAIRN_RETURN_IF_ERROR(Need(position_ + kMaxAofCheckLine));
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
  /// Bytes of the text up to `end` may be touched from now on, as far as there are any. No other
  /// bytes are: text_ is cut at readable_ wherever it is not known how far a look will go.
  Status Need(uint64_t end) {
    if (end <= readable_ || readable_ == text_.size()) [[likely]]
      return Status::Ok();
    end = std::min<uint64_t>(std::max(end, readable_ + options_.window_bytes), text_.size());
    CAIRN_RETURN_IF_ERROR(options_.make_readable(readable_, end - readable_));
    readable_ = end;
    return Status::Ok();
  }

  /// A check line and the group behind it.
  Status Group() {
    const uint64_t begin = position_;
    if (uncovered_start_ != kNowhere) {
      // Groups tile a file from its start: a check line behind bytes without one means that the
      // line in front of those is gone.
      return Damage(uncovered_start_, begin, "a check line follows bytes that no check covers");
    }
    AofCheckLine line;
    const AofParse parsed = ParseAofCheckLine(text_, begin, &line);
    if (parsed != AofParse::kCommand) {
      return Damage(begin, begin,
                    parsed == AofParse::kIncomplete ? "a check line is cut short"
                                                    : "a check line is malformed");
    }
    const bool cut_short = line.group_bytes > text_.size() - begin - line.line_bytes;
    if (!cut_short) CAIRN_RETURN_IF_ERROR(Need(begin + line.line_bytes + line.group_bytes));
    if (!VerifyAofGroup(text_, begin, line)) {
      return Damage(begin, begin,
                    cut_short ? "a group is cut short" : "a group does not match its check");
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
      CAIRN_RETURN_IF_ERROR(ParseAhead(text));
      if (ahead_count_ > 0) {
        CAIRN_RETURN_IF_ERROR(RunNext());
        continue;
      }
      if (text[position_] == '#') {
        CAIRN_RETURN_IF_ERROR(Need(position_ + kAofCheckMark.size()));
        if (stop_at_check && text.substr(position_).starts_with(kAofCheckMark)) return Status::Ok();
        size_t newline = std::string_view::npos;
        CAIRN_RETURN_IF_ERROR(FindNewline(text, &newline));
        if (newline == std::string_view::npos) {
          return Fail(AofParse::kIncomplete, position_, position_, "an annotation is cut short",
                      end);
        }
        const std::string_view note = text.substr(position_, newline - position_);
        if (note.find('\0') != std::string_view::npos) {
          // A hole that swallowed the end of a line and the beginning of others.
          return Fail(AofParse::kInvalid, position_, position_, "an annotation holds a zero byte",
                      end);
        }
        bool hole = note.find(kPaddingInside) != std::string_view::npos;
        if (hole && stop_at_check) {
          CAIRN_RETURN_IF_ERROR(Need(text_.size()));
          hole = IsHole();
        }
        if (hole) {
          padding_inside_ = true;
          return Fail(AofParse::kInvalid, position_, position_,
                      "padding stands in front of a group", end);
        }
        position_ = newline + 1;
        continue;
      }
      uint64_t at = position_;
      AofParse parsed = AofParse::kInvalid;
      CAIRN_RETURN_IF_ERROR(Parse(text, &at, &args_, &parsed));
      CAIRN_CHECK(parsed != AofParse::kCommand);
      return Fail(parsed, position_, at, reason_, end);
    }
    return Status::Ok();
  }

  /// The first one from position_ on, or npos.
  Status FindNewline(std::string_view text, size_t* newline) {
    for (uint64_t from = position_;;) {
      const std::string_view seen = text.substr(0, readable_);
      *newline = seen.find('\n', from);
      if (*newline != std::string_view::npos || seen.size() == text.size()) return Status::Ok();
      CAIRN_RETURN_IF_ERROR(Need(readable_ + 1));
      from = seen.size();
    }
  }

  /// ParseAofCommand, which sees as much of `text` as the command takes.
  Status Parse(std::string_view text, uint64_t* at, std::vector<std::string_view>* args,
               AofParse* parsed) {
    const uint64_t begin = *at;
    for (;;) {
      const std::string_view seen = text.substr(0, readable_);
      *parsed = ParseAofCommand(seen, at, args, &reason_);
      if (*parsed != AofParse::kIncomplete || seen.size() == text.size()) return Status::Ok();
      // As much again, so that all that is parsed in vain is no more than the command.
      CAIRN_RETURN_IF_ERROR(Need(readable_ + (readable_ - begin) + 1));
      *at = begin;
    }
  }

  /// Parses and announces commands up to kAofAhead, up to the next annotation, or up to what does
  /// not parse, which is judged when its turn comes.
  Status ParseAhead(std::string_view text) {
    if (ahead_count_ == 0) {
      ahead_position_ = position_;
      ahead_ends_ = false;
    }
    while (!ahead_ends_ && ahead_count_ < kAofAhead && !HasManyWordsLast() &&
           ahead_position_ < text.size()) {
      CAIRN_RETURN_IF_ERROR(Need(ahead_position_ + 1));
      if (text[ahead_position_] == '#') return Status::Ok();
      Parsed& parsed = ahead_[(ahead_first_ + ahead_count_) % kAofAhead];
      parsed.end = ahead_position_;
      AofParse how = AofParse::kInvalid;
      CAIRN_RETURN_IF_ERROR(Parse(text, &parsed.end, &parsed.args, &how));
      if (how != AofParse::kCommand) {
        ahead_ends_ = true;
        return Status::Ok();
      }
      ahead_position_ = parsed.end;
      ++ahead_count_;
      sink_.Announce(parsed.args);
    }
    return Status::Ok();
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
    return options_.on_progress(position_);
  }

  void TrackTransaction(const std::vector<std::string_view>& args) {
    if (args.size() != 1) return;
    if (args[0].size() == 5 && EqualsIgnoreCase(args[0], "multi")) {
      if (transaction_start_ == kNowhere) transaction_start_ = position_;
    } else if (args[0].size() == 4 && EqualsIgnoreCase(args[0], "exec")) {
      transaction_start_ = kNowhere;
    }
  }

  /// A command that does not parse, at `begin`, failing at `at`. Errors: what follows it, which it
  /// is judged by, cannot be read.
  Status Fail(AofParse parsed, uint64_t begin, uint64_t at, std::string reason, uint64_t end) {
    CAIRN_RETURN_IF_ERROR(Need(text_.size()));
    if (end != text_.size() || uncovered_start_ == kNowhere) {
      End(AofTail::kDamaged, begin, at, "a group whose check holds does not parse: " + reason);
      return Status::Ok();
    }
    const bool torn = parsed == AofParse::kIncomplete || TornBeforeZeros(begin);
    if (padding_inside_ || checked_file() || SoundGroupBehind(begin) || HoleBeforeGroup(begin)) {
      // Behind verified groups stand commands of a server that writes no checks, or the ruins of a
      // group. Padding stands only where groups have checks.
      if (!torn || ProvenDurable(uncovered_start_)) return Damage(begin, at, std::move(reason));
      End(AofTail::kTorn, begin, at, std::move(reason));
      return Status::Ok();
    }
    End(torn ? AofTail::kTorn : AofTail::kDamaged, begin, at, std::move(reason));
    return Status::Ok();
  }

  /// Something is wrong in a part of the file that checks cover, from `begin` on. Errors: as Fail.
  Status Damage(uint64_t begin, uint64_t at, std::string reason) {
    CAIRN_RETURN_IF_ERROR(Need(text_.size()));
    if (ProvenDurable(begin)) {
      End(AofTail::kDamaged, begin, at, reason + ", and later checks say that it was once on disk");
    } else if (reason.ends_with("cut short") || ZerosToTheEnd(begin)) {
      End(AofTail::kTorn, begin, at, std::move(reason));
    } else {
      End(AofTail::kCorruptTail, begin, at, std::move(reason));
    }
    return Status::Ok();
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

  /// Whether a sound group follows: then the ruins at `begin` were one as well.
  bool SoundGroupBehind(uint64_t begin) {
    if (begin >= none_behind_) return false;
    if (HasSoundAofGroup(text_, begin, 0)) return true;
    none_behind_ = begin;
    return false;
  }

  /// Whether the note at position_, which holds padding, is a place where groups of the writer were
  /// lost, and not the note of somebody's hand. Requires: all of the text may be touched.
  bool IsHole() {
    if (checked_file() || SoundGroupBehind(position_) || HoleBeforeGroup(position_)) return true;
    // Of the only group that left anything behind, the line may be what was lost.
    return position_ == 0 && text_.find_first_not_of(kAofPadding) >= kShortestHole;
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
  bool ProvenDurable(uint64_t begin) const { return HasSoundAofGroup(text_, begin, begin + 1); }

  /// Start of the run of zeros, or of zeros and padding, that ends the text; text_.size() when
  /// there is none.
  uint64_t TrailingZeros() const {
    if (text_.empty() || text_.back() != '\0') return text_.size();
    const size_t last = text_.substr(start_).find_last_not_of(kBlank);
    return last == std::string_view::npos ? start_ : start_ + last + 1;
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
  const uint64_t start_;
  const AofScanOptions& options_;
  uint64_t readable_;  // bytes of the text below, from start_ on, may be touched
  uint64_t position_;
  CommandSink& sink_;
  AofScan* const scan_;
  const uint64_t interval_;
  uint64_t next_report_;
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
  uint64_t none_behind_ = kNowhere;        // no sound group is there or behind
  bool padding_inside_ = false;
  bool ended_ = false;
};

}  // namespace

Status HasRdbPreamble(std::string_view text,
                      const std::function<Status(uint64_t offset, uint64_t size)>& make_readable,
                      bool* has) {
  constexpr std::string_view kRedisMagic = "REDIS", kValkeyMagic = "VALKEY";
  text = text.substr(0, kValkeyMagic.size());
  if (make_readable && !text.empty()) CAIRN_RETURN_IF_ERROR(make_readable(0, text.size()));
  *has = text.starts_with(kRedisMagic) || text == kValkeyMagic;
  return Status::Ok();
}

Status ScanAofText(std::string_view text, uint64_t start, CommandSink& sink, AofScan* scan,
                   const AofScanOptions& options) {
  uint64_t end = 0;
  CAIRN_RETURN_IF_ERROR(FindEnd(text, start, options, &end));
  return Scanner(text, start, end, sink, scan, options).Run();
}

}  // namespace cairn
