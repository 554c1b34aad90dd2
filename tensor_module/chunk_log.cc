#include "tensor_module/chunk_log.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <unordered_set>
#include <utility>

#include "server/base/hash.h"
#include "server/base/mapped_bytes.h"
#include "server/base/strings.h"

namespace cairn::tensor {

namespace {

constexpr std::string_view kSuffix = ".chunks";
constexpr size_t kNumberDigits = 16;
constexpr const char* kNamedFile = "named";
constexpr std::string_view kNamedHead = "chunk log names 1\n";
constexpr std::string_view kNamedEnd = "end ";

std::string SegmentName(uint64_t number) {
  char digits[kNumberDigits + 1];
  std::snprintf(digits, sizeof digits, "%016" PRIx64, number);
  return std::string(digits, kNumberDigits) + std::string(kSuffix);
}

/// False: the name is not a segment's.
bool ParseSegmentName(std::string_view name, uint64_t* number) {
  if (name.size() != kNumberDigits + kSuffix.size() || !name.ends_with(kSuffix)) return false;
  *number = 0;
  for (char c : name.substr(0, kNumberDigits)) {
    const size_t digit = std::string_view("0123456789abcdef").find(c);
    if (digit == std::string_view::npos) return false;
    *number = *number << 4 | digit;
  }
  return true;
}

std::string HashText(std::string_view text) { return Hash128Hex(HashBytes128(text)); }

}  // namespace

ChunkLog::ChunkLog(std::unique_ptr<LogFiles> files, ChunkLogOptions options)
    : files_(std::move(files)), options_(std::move(options)) {}

ChunkLog::~ChunkLog() {
  {
    const std::lock_guard lock(state_mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

// --- opening ---

Status ChunkLog::Open() {
  const std::lock_guard write(write_mutex_);
  const std::lock_guard state(state_mutex_);
  CAIRN_CHECK(!opened_);
  Result<std::vector<std::string>> names = files_->List();
  if (!names.ok()) return names.status();
  if (!names->empty()) {
    // Before anything is read, so that nothing that was read goes away under a save (L7).
    locked_ = files_->Lock();
    refused_ = !locked_;
    names = files_->List();
    if (!names.ok()) return names.status();
  }
  std::sort(names->begin(), names->end());
  uint64_t number = 0;
  for (const std::string& name : *names) {
    if (ParseSegmentName(name, &number)) CAIRN_RETURN_IF_ERROR(OpenSegment(name));
  }
  CAIRN_RETURN_IF_ERROR(ReadNamed(!segments_.empty()));
  for (const auto& [key, entry] : index_) logged_bytes_ += key.size;
  opened_ = true;
  return Status::Ok();
}

Status ChunkLog::OpenSegment(const std::string& name) {
  auto segment = std::make_unique<Segment>();
  segment->name = name;
  CAIRN_CHECK(ParseSegmentName(name, &segment->number));
  next_segment_ = std::max(next_segment_, segment->number + 1);
  Result<MappingRef> mapped = files_->Map(name);
  if (!mapped.ok()) return mapped.status();
  segment->mapping = std::move(*mapped);
  const std::string_view view = (*segment->mapping)->view();
  const SegmentScan scan = ScanSegment(view);
  segment->bytes = view.size();
  segment->salt = scan.salt;
  segment->synced = scan.synced;
  // Nobody knows what is in it, and another time the disk may say: it stays (L5).
  segment->damaged = scan.unreadable;
  if (scan.unreadable) options_.say("chunk log: " + name + " cannot be read whole, and stays");
  if (!scan.valid || scan.number != segment->number) {
    // Created just before a crash, or something else: nothing in it can be named.
    options_.say("chunk log: " + name + " has no header and is not read");
    segments_.push_back(std::move(segment));
    return Status::Ok();
  }
  if (scan.skipped_bytes > 0) {
    options_.say("chunk log: " + std::to_string(scan.skipped_bytes) + " bytes of " + name +
                 " are no records (a torn tail, or damage)");
  }
  for (const ChunkRecord& record : scan.chunks) {
    const bool durable = record.end() <= scan.synced;
    const std::string_view bytes =
        view.substr(static_cast<size_t>(record.payload_offset()), record.stored_bytes);
    // Heads may have reached the disk before what they describe.
    if (!durable && !CanReadAs(bytes, record.hash)) continue;
    Entry& entry = index_[{record.hash, record.raw_bytes}];
    // A chunk is written again when its record was damaged or without proof: the later one counts.
    if (entry.durable && !durable) continue;
    entry = {segment.get(), record.offset, next_number_++, 0, durable, false};
  }
  (*segment->mapping)->ExpectLongReads();
  segments_.push_back(std::move(segment));
  return Status::Ok();
}

Status ChunkLog::ReadNamed(bool segments) {
  Result<std::string> text = files_->Read(kNamedFile);
  if (!text.ok()) return text.status();
  std::string_view rest = *text;
  const size_t end = rest.rfind(kNamedEnd);
  const bool whole = rest.starts_with(kNamedHead) && end != std::string_view::npos &&
                     rest.substr(end + kNamedEnd.size()) == HashText(rest.substr(0, end)) + "\n";
  if (!whole) {
    pinned_ = segments || !text->empty();
    if (pinned_) {
      options_.say(
          "chunk log: the list of files that name chunks cannot be read: segments are "
          "never removed");
    }
    return Status::Ok();
  }
  rest = rest.substr(kNamedHead.size(), end - kNamedHead.size());
  while (!rest.empty()) {
    const size_t line = rest.find('\n');
    named_.emplace(rest.substr(0, line));
    rest.remove_prefix(line + 1);
  }
  return Status::Ok();
}

Status ChunkLog::WriteNamed(const std::set<std::string>& names) {
  std::string text(kNamedHead);
  for (const std::string& name : names) text += name + "\n";
  text += std::string(kNamedEnd) + HashText(text) + "\n";
  return files_->Replace(kNamedFile, text);
}

// --- writing ---

bool ChunkLog::EnsureWritable(Status* why) {
  const auto refuse = [&](Status status) {
    *why = std::move(status);
    return false;
  };
  const std::lock_guard lock(state_mutex_);
  if (!opened_) return refuse(Status::Io("the chunk log could not be read at the start"));
  if (writable_) return true;
  if (!refused_ && !locked_) {
    if (Status made = files_->CreateDirectory(); !made.ok()) return refuse(made);
    const bool locked = files_->Lock();
    const Result<std::vector<std::string>> names = files_->List();
    if (!names.ok()) return refuse(names.status());
    uint64_t number = 0;
    // What has come since Open() is not in the index.
    locked_ = locked && std::none_of(names->begin(), names->end(), [&](const std::string& name) {
                return ParseSegmentName(name, &number) || name == kNamedFile;
              });
    refused_ = !locked_;
  }
  if (refused_) return refuse(Status::Io("another process writes to the chunk log"));
  // Before the first segment, so that a missing list means something (L6).
  if (!pinned_) {
    if (Status written = WriteNamed(named_); !written.ok()) return refuse(written);
    list_is_old_ = false;
  }
  writable_ = true;
  return true;
}

Status ChunkLog::Register(uint64_t number, const std::vector<std::string>& files) {
  if (number == 0) return Status::Ok();
  {
    const std::lock_guard lock(state_mutex_);
    running_.insert(number);
    last_number_ = std::max(last_number_, number);
  }
  return ListFiles(files);
}

Status ChunkLog::ListFiles(const std::vector<std::string>& files) {
  std::set<std::string> names;
  bool is_old = false;
  {
    const std::lock_guard lock(state_mutex_);
    names = named_;
    is_old = std::exchange(list_is_old_, false);
  }
  const size_t before = names.size();
  for (const std::string& file : files) {
    if (file.empty() || file.find('\n') != std::string::npos) {
      return Status::Io("the chunk log cannot list a file of this name");
    }
    names.insert(file);
  }
  if (names.size() == before && !is_old) return Status::Ok();
  // A list that cannot be read is left alone: it pins everything.
  const Status written = pinned_ ? Status::Ok() : WriteNamed(names);
  const std::lock_guard lock(state_mutex_);
  if (!written.ok()) {
    list_is_old_ = list_is_old_ || is_old;
    return written;
  }
  named_.merge(names);
  return Status::Ok();
}

Result<std::unique_ptr<LogFile>> ChunkLog::OpenSegmentToWrite(Segment** out) {
  auto segment = std::make_unique<Segment>();
  {
    const std::lock_guard lock(state_mutex_);
    segment->number = next_segment_++;
  }
  segment->name = SegmentName(segment->number);
  segment->salt = options_.random();
  segment->open = true;
  Result<std::unique_ptr<LogFile>> file = files_->Create(segment->name);
  if (!file.ok()) return file;
  const std::string header = EncodeSegmentHeader(segment->salt, segment->number);
  if (Status written = (*file)->Append({header}); !written.ok()) {
    [[maybe_unused]] const Status removed = files_->Remove(segment->name);
    return written;
  }
  segment->bytes = header.size();
  *out = segment.get();
  const std::lock_guard lock(state_mutex_);
  segments_.push_back(std::move(segment));
  return file;
}

void ChunkLog::CloseActive() {
  active_file_.reset();
  pending_.clear();
  const std::lock_guard lock(state_mutex_);
  if (active_ != nullptr) active_->open = false;
  active_ = nullptr;
}

Result<uint64_t> ChunkLog::AppendRecord(Segment& segment, LogFile& file, const Key& key,
                                        DType dtype, const ChunkFigures& figures,
                                        std::string_view bytes) {
  ChunkRecord record;
  record.dtype = dtype;
  record.raw_bytes = record.stored_bytes = static_cast<uint32_t>(bytes.size());
  record.hash = key.hash;
  record.figures = figures;
  {
    const std::lock_guard lock(state_mutex_);
    record.synced = segment.synced;
    record.offset = segment.bytes;
  }
  static constexpr char kZeros[kRecordAlignment] = {};
  const size_t padding =
      static_cast<size_t>(record.end() - record.payload_offset() - record.stored_bytes);
  const std::string head = EncodeRecordHead(record, segment.salt);
  const Status written = file.Append({head, bytes, std::string_view(kZeros, padding)});
  const std::lock_guard lock(state_mutex_);
  if (!written.ok()) {
    // Part of it may be there: nothing may stand behind it (L2).
    ++counts_.errors;
    return written;
  }
  segment.bytes = record.end();
  counts_.appended_bytes += bytes.size();
  return record.offset;
}

Status ChunkLog::Append(const Key& key, DType dtype, const ChunkFigures& figures,
                        std::string_view bytes, const Chunk* chunk) {
  if (active_ != nullptr && active_->bytes >= options_.segment_bytes) {
    CAIRN_RETURN_IF_ERROR(SyncActive());
    CloseActive();
  }
  if (active_ == nullptr) {
    Segment* segment = nullptr;
    Result<std::unique_ptr<LogFile>> file = OpenSegmentToWrite(&segment);
    if (!file.ok()) return file.status();
    active_file_ = std::move(*file);
    const std::lock_guard lock(state_mutex_);
    active_ = segment;
  }
  Result<uint64_t> offset = AppendRecord(*active_, *active_file_, key, dtype, figures, bytes);
  if (!offset.ok()) return offset.status();
  pending_.push_back({key, *offset, chunk});
  if (chunk != nullptr) logged_bytes_ += key.size;
  return Status::Ok();
}

std::string ChunkLog::MarkOf(const Segment& segment, uint64_t synced) {
  ChunkRecord mark;
  mark.kind = ChunkRecord::Kind::kMark;
  mark.synced = synced;
  mark.offset = segment.bytes;
  return EncodeRecordHead(mark, segment.salt);
}

Status ChunkLog::SyncActive() {
  if (active_ == nullptr || pending_.empty()) return Status::Ok();
  if (Status synced = active_file_->Sync(); !synced.ok()) {
    // Asked again it might say yes, about pages that the kernel has given up (L2).
    CloseActive();
    const std::lock_guard lock(state_mutex_);
    ++counts_.errors;
    return synced;
  }
  {
    const std::lock_guard lock(state_mutex_);
    ++counts_.syncs;
    active_->synced = active_->bytes;
    for (const Written& written : pending_) {
      Entry& entry = index_[written.key];
      if (written.chunk != nullptr || entry.number == 0) entry.number = next_number_++;
      entry.segment = active_;
      entry.offset = written.offset;
      entry.durable = true;
      entry.staged = false;
      if (written.chunk == nullptr) continue;
      entry.named = std::max(entry.named, last_number_);
      written.chunk->set_record(entry.number);
    }
  }
  pending_.clear();
  // Tells the next process what need not be hashed. Without it that is only slower.
  if (!active_file_->Append({MarkOf(*active_, active_->synced)}).ok()) {
    CloseActive();
    return Status::Ok();
  }
  const std::lock_guard lock(state_mutex_);
  active_->bytes += kRecordHeadBytes;
  return Status::Ok();
}

/// L8.
void ChunkLog::ForgetMissing() {
  struct Expected {
    Segment* segment;
    std::string name;
    uint64_t bytes;
  };
  std::vector<Expected> all;
  {
    const std::lock_guard lock(state_mutex_);
    for (const auto& each : segments_) all.push_back({each.get(), each->name, each->bytes});
  }
  for (const auto& [segment, name, bytes] : all) {
    if (files_->HasFile(name, bytes)) continue;
    options_.say("chunk log: " + name +
                 " is gone, or shorter than it was: what it had is written again");
    if (segment == active_) CloseActive();
    ForgetStage(segment);
    const std::lock_guard lock(state_mutex_);
    std::erase_if(index_,
                  [gone = segment](const auto& item) { return item.second.segment == gone; });
    std::erase_if(segments_, [gone = segment](const auto& each) { return each.get() == gone; });
  }
}

ChunkLog::Look ChunkLog::Compare(const Chunk& chunk, bool staged) {
  MappingRef mapping;  // held as long as `bytes` are looked at
  std::string_view bytes;
  ChunkRecord record;
  uint64_t number = 0;
  {
    const std::lock_guard lock(state_mutex_);
    const auto found = index_.find({chunk.hash(), chunk.size()});
    if (found == index_.end()) return Look::kAbsent;
    const Entry& entry = found->second;
    if (!entry.durable && !(staged && entry.staged)) return Look::kUnproven;
    number = entry.number;
    if (number == chunk.record()) return Look::kSame;
    if (!ReadRecord(entry, chunk.size(), &record)) return Look::kDamaged;
    mapping = entry.segment->mapping;
    bytes = (*entry.segment->mapping)
                ->view()
                .substr(static_cast<size_t>(record.payload_offset()), record.stored_bytes);
  }
  if (!CanRead(bytes)) return Look::kDamaged;
  if (HasBytes(chunk, bytes)) {
    chunk.set_record(number);
    return Look::kSame;
  }
  return HashBytes128(bytes) == record.hash ? Look::kOther : Look::kDamaged;
}

Status ChunkLog::Keep(const std::vector<const Chunk*>& chunks, uint64_t number,
                      const std::vector<std::string>& files, std::vector<bool>* kept) {
  kept->assign(chunks.size(), false);
  const std::lock_guard write(write_mutex_);
  Status status;
  if (!EnsureWritable(&status)) return status;
  if (status = Register(number, files); !status.ok()) {
    options_.say("chunk log: " + std::string(status.message()));
    return status;
  }
  ForgetMissing();
  // What is staged need not be written twice. An error of it concerns the increments, not this.
  [[maybe_unused]] const Status staged = SyncStaged();
  std::unordered_set<Key, HashOfKey> fresh;
  for (const Chunk* chunk : chunks) {
    if (chunk->size() < kLeastBytes) continue;
    const Key key{chunk->hash(), chunk->size()};
    const Look look = Compare(*chunk, /*staged=*/false);
    // Another chunk of the same hash keeps the place: this one stays outside (L3).
    if (look == Look::kSame || look == Look::kOther) continue;
    if (!chunk->IsIntact()) continue;
    // The same bytes as two chunks (P1): the second finds the first's record at its next save.
    if (!fresh.insert(key).second) continue;
    status = HasRoomFor(chunk->size());
    if (!status.ok()) break;
    status = Append(key, chunk->dtype(), chunk->figures(), chunk->bytes().view(), chunk);
    if (!status.ok()) break;
  }
  // Also behind an error: what was written in front of it may have arrived.
  const Status synced = SyncActive();
  if (status.ok()) status = synced;
  if (!status.ok()) {
    options_.say("chunk log: " + std::string(status.message()));
    CloseActive();
  }
  const std::lock_guard lock(state_mutex_);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto found = index_.find({chunks[i]->hash(), chunks[i]->size()});
    if (found == index_.end() || !found->second.durable) continue;
    if (found->second.number != chunks[i]->record()) continue;
    found->second.named = std::max(found->second.named, number);
    (*kept)[i] = true;
  }
  return status;
}

void ChunkLog::Presume(const std::vector<std::string>& files) {
  const std::lock_guard lock(state_mutex_);
  for (const std::string& file : files) {
    if (named_.insert(file).second) list_is_old_ = true;
  }
}

bool ChunkLog::Has(const Chunk& chunk) const {
  if (chunk.size() < kLeastBytes) return true;
  const std::lock_guard lock(state_mutex_);
  const auto found = index_.find({chunk.hash(), chunk.size()});
  return found != index_.end() && found->second.durable && found->second.number == chunk.record();
}

// --- reading ---

Status ChunkLog::MapSegment(Segment* segment, uint64_t end) {
  if (segment->mapping && (*segment->mapping)->view().size() >= end) return Status::Ok();
  Result<MappingRef> mapped = files_->Map(segment->name);
  if (!mapped.ok()) return mapped.status();
  if ((*mapped.value())->view().size() < end) {
    return Status::Corruption(segment->name + " is shorter than it was");
  }
  segment->mapping = std::move(*mapped);
  (*segment->mapping)->ExpectLongReads();
  return Status::Ok();
}

bool ChunkLog::ReadRecord(const Entry& entry, uint64_t size, ChunkRecord* record) {
  if (!MapSegment(entry.segment, entry.offset + kRecordHeadBytes + size).ok()) return false;
  const std::string_view view = (*entry.segment->mapping)->view();
  return CanRead(view.substr(static_cast<size_t>(entry.offset), kRecordHeadBytes)) &&
         ParseRecord(view, entry.offset, entry.segment->salt, record);
}

ChunkLog::Found ChunkLog::Find(Hash128 hash, size_t size) {
  Found out;
  const std::lock_guard lock(state_mutex_);
  const auto found = index_.find({hash, size});
  if (found == index_.end()) return out;
  const Entry& entry = found->second;
  if (!ReadRecord(entry, size, &out.record)) return out;
  if (out.record.hash != hash || out.record.raw_bytes != size) return out;
  out.mapping = entry.segment->mapping;
  out.bytes = (*out.mapping)->view().substr(static_cast<size_t>(out.record.payload_offset()), size);
  out.number = entry.number;
  return out;
}

ChunkLogFigures ChunkLog::figures() const {
  const std::lock_guard lock(state_mutex_);
  ChunkLogFigures out = counts_;
  out.segments = segments_.size();
  for (const auto& segment : segments_) out.bytes += segment->bytes;
  out.chunks = index_.size();
  const uint64_t floor = Floor(&out.held_by);
  for (const auto& [key, entry] : index_) {
    out.chunk_bytes += key.size;
    if (entry.named >= floor) out.needed_bytes += key.size + kRecordHeadBytes;
  }
  out.collecting = collect_wanted_ || collecting_;
  out.writable = !refused_;
  out.pinned = pinned_;
  return out;
}

}  // namespace cairn::tensor
