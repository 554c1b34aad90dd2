#include "server/data/stream_node.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "server/base/check.h"

namespace cairn {
namespace {

enum EntryFlag : int64_t { kDeleted = 1, kSameFields = 2 };
constexpr uint32_t kUnknownElementCount = 65535;
constexpr size_t kFirstCapacity = 256;
constexpr char kListpackEnd = '\xff';

Status Corrupt(std::string_view what) {
  return Status::Corruption("stream node: " + std::string(what));
}

/// Builds the bytes of elements one after another.
class ElementWriter {
 public:
  void Add(std::string_view text) {
    ListpackAppend(&listpack_, text);
    ++count_;
  }
  void Add(int64_t value) {
    char digits[kMaxInt64Chars];
    Add(std::string_view(digits, FormatInt64(value, digits)));
  }
  /// The elements alone, without header and end.
  std::string_view bytes() const {
    return std::string_view(listpack_).substr(kListpackHeaderBytes,
                                              listpack_.size() - kListpackEmptyBytes);
  }
  uint32_t count() const { return count_; }

 private:
  std::string listpack_ = NewListpack();
  uint32_t count_ = 0;
};

void AddEntry(ElementWriter* out, StreamId master_id, StreamId id, bool same_fields,
              std::span<const std::string_view> fields) {
  const int64_t pairs = static_cast<int64_t>(fields.size() / 2);
  out->Add(same_fields ? int64_t{kSameFields} : int64_t{0});
  out->Add(static_cast<int64_t>(id.ms - master_id.ms));
  out->Add(static_cast<int64_t>(id.sequence - master_id.sequence));
  if (!same_fields) out->Add(pairs);
  for (size_t i = 0; i < fields.size(); i += 2) {
    if (!same_fields) out->Add(fields[i]);
    out->Add(fields[i + 1]);
  }
  out->Add(3 + pairs + (same_fields ? 0 : pairs + 1));
}

/// Whether the names of `fields` are those of the master entry.
bool SameNames(const StreamEntry& master, std::span<const std::string_view> fields) {
  if (master.field_count != fields.size() / 2) return false;
  const ListpackView view(master.listpack);
  uint32_t at = master.master_fields;
  for (size_t i = 0; i < fields.size(); i += 2, at = view.Next(at)) {
    if (!view.Get(at).Equals(fields[i])) return false;
  }
  return true;
}

void PutLittle(char* at, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) at[i] = static_cast<char>(value >> (8 * i));
}

StreamNode* NewNode(StreamId master_id, size_t capacity) {
  void* memory = std::malloc(sizeof(StreamNode) + capacity);
  CAIRN_CHECK(memory != nullptr);
  auto* node = new (memory) StreamNode{};
  node->master_id = master_id;
  node->capacity = static_cast<uint32_t>(capacity);
  return node;
}

}  // namespace

// --- life ------------------------------------------------------------------------------------

StreamNode* StreamNode::New(StreamId id, std::span<const std::string_view> fields) {
  ElementWriter writer;
  writer.Add(int64_t{1});
  writer.Add(int64_t{0});
  writer.Add(static_cast<int64_t>(fields.size() / 2));
  for (size_t i = 0; i < fields.size(); i += 2) writer.Add(fields[i]);
  writer.Add(int64_t{0});
  AddEntry(&writer, id, id, true, fields);

  const std::string_view elements = writer.bytes();
  const size_t size = kListpackEmptyBytes + elements.size();
  StreamNode* node = NewNode(id, std::max(size, kFirstCapacity));
  std::memcpy(node->block() + kListpackHeaderBytes, elements.data(), elements.size());
  node->bytes = static_cast<uint32_t>(size);
  node->block()[size - 1] = kListpackEnd;
  node->live = 1;
  PutLittle(node->block() + 4, std::min(writer.count(), kUnknownElementCount), 2);
  node->WriteSize();
  return node;
}

StreamNode* StreamNode::Copy(const StreamNode& node) {
  StreamNode* copy = NewNode(node.master_id, node.capacity);
  std::memcpy(copy->block(), node.block(), node.bytes);
  copy->bytes = node.bytes;
  copy->live = node.live;
  copy->deleted = node.deleted;
  return copy;
}

void StreamNode::Free(StreamNode* node) { std::free(node); }

void StreamNode::Retire(SnapshotGate& gate, StreamNode* node) {
  gate.Retire(Retired::Kind::kBlock, node, 0, node->HeapBytes());
}

// --- bytes from outside ----------------------------------------------------------------------

namespace {

/// Reads elements of a listpack whose lengths were validated, and knows when they end.
class CheckedReader {
 public:
  explicit CheckedReader(std::string_view listpack) : view_(listpack), at_(view_.begin()) {}
  bool done() const { return at_ == view_.end(); }
  bool Skip(uint64_t elements) {
    for (; elements != 0; --elements) {
      if (done()) return false;
      at_ = view_.Next(at_);
    }
    return true;
  }
  bool Integer(int64_t* out) {
    if (done()) return false;
    const ListpackValue value = view_.Get(at_);
    at_ = view_.Next(at_);
    *out = value.integer;
    return value.is_integer;
  }
  bool Count(uint64_t* out) {
    int64_t value = 0;
    if (!Integer(&value) || value < 0) return false;
    *out = static_cast<uint64_t>(value);
    return true;
  }
  uint32_t at() const { return at_; }

 private:
  ListpackView view_;
  uint32_t at_;
};

struct NodeCheck {
  StreamId master_id;
  uint64_t master_fields = 0;
  uint64_t live = 0, deleted = 0;
  bool any = false;
  StreamId last;

  /// One entry. Flags are changed in place later, so they must stand in their shortest form.
  bool Entry(CheckedReader* in) {
    int64_t flags = 0, ms = 0, sequence = 0;
    const uint32_t start = in->at();
    if (!in->Integer(&flags) || flags < 0 || flags > (kDeleted | kSameFields)) return false;
    if (in->at() - start != 2) return false;
    if (!in->Integer(&ms) || !in->Integer(&sequence)) return false;
    uint64_t pairs = master_fields, elements = 3;
    const bool same = flags & kSameFields;
    if (!same && !in->Count(&pairs)) return false;
    if (!in->Skip(pairs) || (!same && !in->Skip(pairs))) return false;
    elements += same ? pairs : 2 * pairs + 1;
    uint64_t stated = 0;
    if (!in->Count(&stated) || stated != elements) return false;
    const StreamId id{master_id.ms + static_cast<uint64_t>(ms),
                      master_id.sequence + static_cast<uint64_t>(sequence)};
    if (id < master_id || (any && id <= last)) return false;
    last = id;
    any = true;
    ++(flags & kDeleted ? deleted : live);
    return true;
  }
};

}  // namespace

Result<StreamNode*> StreamNode::FromBytes(StreamId master_id, std::string_view listpack) {
  if (!ListpackView::Validate(listpack)) return Corrupt("no listpack");
  CheckedReader in(listpack);
  NodeCheck check;
  check.master_id = master_id;
  uint64_t live = 0, deleted = 0, terminator = 1;
  if (!in.Count(&live) || !in.Count(&deleted) || !in.Count(&check.master_fields) ||
      !in.Skip(check.master_fields) || !in.Count(&terminator) || terminator != 0) {
    return Corrupt("bad master entry");
  }
  while (!in.done()) {
    if (!check.Entry(&in)) return Corrupt("bad entry");
  }
  if (!check.any) return Corrupt("no entry");
  if (check.live != live || check.deleted != deleted) return Corrupt("wrong counts");
  StreamNode* node = NewNode(master_id, listpack.size());
  std::memcpy(node->block(), listpack.data(), listpack.size());
  node->bytes = static_cast<uint32_t>(listpack.size());
  node->live = static_cast<uint32_t>(live);
  node->deleted = static_cast<uint32_t>(deleted);
  return node;
}

// --- reading ---------------------------------------------------------------------------------

// Where the first entry begins. Fills in what all entries of the node share.
uint32_t StreamNode::ReadMaster(StreamEntry* out) const {
  out->listpack = listpack();
  const ListpackView view(out->listpack);
  uint32_t at = view.Next(view.Next(view.begin()));
  out->field_count = static_cast<uint64_t>(view.Get(at).integer);
  at = view.Next(at);
  out->master_fields = at;
  for (uint64_t i = 0; i <= out->field_count; ++i) at = view.Next(at);  // and the terminator
  return at;
}

// Requires: ReadMaster filled *out.
bool StreamNode::Read(uint32_t at, StreamEntry* out) const {
  if (at == end()) return false;
  const ListpackView view(out->listpack);
  const auto next_integer = [&view, &at] {
    const int64_t value = view.Get(at).integer;
    at = view.Next(at);
    return value;
  };
  out->at = at;
  const int64_t flags = next_integer();
  out->id.ms = master_id.ms + static_cast<uint64_t>(next_integer());
  out->id.sequence = master_id.sequence + static_cast<uint64_t>(next_integer());
  out->deleted = flags & kDeleted;
  out->same_fields = flags & kSameFields;
  if (!out->same_fields) out->field_count = static_cast<uint64_t>(next_integer());
  out->body = at;
  for (uint64_t i = out->field_count * (out->same_fields ? 1 : 2); i != 0; --i) at = view.Next(at);
  out->end = view.Next(at);
  return true;
}

bool StreamNode::First(StreamEntry* out) const { return Read(ReadMaster(out), out); }

bool StreamNode::Next(const StreamEntry& from, StreamEntry* out) const {
  const uint32_t at = from.end;
  if (at == end()) return false;
  ReadMaster(out);
  return Read(at, out);
}

bool StreamNode::Last(StreamEntry* out) const {
  StreamEntry behind;
  behind.at = end();
  return Previous(behind, out);
}

bool StreamNode::Previous(const StreamEntry& from, StreamEntry* out) const {
  uint32_t at = from.at;
  if (at == ReadMaster(out)) return false;
  const ListpackView view(out->listpack);
  at = view.Previous(at);
  for (int64_t i = view.Get(at).integer; i > 0; --i) at = view.Previous(at);
  return Read(at, out);
}

bool StreamNode::Find(StreamId id, StreamEntry* out) const {
  for (bool more = First(out); more && out->id <= id; more = Next(*out, out)) {
    if (out->id == id) return true;
  }
  return false;
}

// --- changing --------------------------------------------------------------------------------

StreamNode* StreamNode::Reallocate(size_t new_capacity) {
  void* memory = std::realloc(static_cast<void*>(this), sizeof(StreamNode) + new_capacity);
  CAIRN_CHECK(memory != nullptr);
  auto* node = static_cast<StreamNode*>(memory);
  node->capacity = static_cast<uint32_t>(new_capacity);
  return node;
}

StreamNode* StreamNode::Reserve(size_t more) {
  const size_t needed = bytes + more;
  return needed <= capacity ? this : Reallocate(needed + needed / 2);
}

void StreamNode::WriteSize() { PutLittle(block(), bytes, 4); }

StreamNode* StreamNode::Append(StreamId id, std::span<const std::string_view> fields) {
  StreamEntry master;
  ReadMaster(&master);
  ElementWriter writer;
  AddEntry(&writer, master_id, id, SameNames(master, fields), fields);
  const std::string_view elements = writer.bytes();
  StreamNode* node = Reserve(elements.size());
  char* const block = node->block();
  std::memcpy(block + node->end(), elements.data(), elements.size());
  node->bytes += static_cast<uint32_t>(elements.size());
  block[node->end()] = kListpackEnd;
  const uint32_t count =
      static_cast<uint8_t>(block[4]) | static_cast<uint32_t>(static_cast<uint8_t>(block[5])) << 8;
  PutLittle(block + 4, std::min(count + writer.count(), kUnknownElementCount), 2);
  node->WriteSize();
  return node->SetCounts(node->live + 1, node->deleted);
}

StreamNode* StreamNode::Delete(StreamEntry* entry) {
  CAIRN_CHECK(!entry->deleted);
  // A small integer is its own encoding.
  block()[entry->at] = static_cast<char>(entry->same_fields ? kDeleted | kSameFields : kDeleted);
  const uint32_t old_bytes = bytes;
  StreamNode* node = SetCounts(live - 1, deleted + 1);
  // The counts in front may have grown by a byte, which moved all that follows.
  const uint32_t moved = node->bytes - old_bytes;
  entry->deleted = true;
  entry->listpack = node->listpack();
  for (uint32_t* offset : {&entry->at, &entry->body, &entry->end, &entry->master_fields})
    *offset += moved;
  return node;
}

// The two counts stand at the front; one of 128 and more takes another byte.
StreamNode* StreamNode::SetCounts(uint32_t new_live, uint32_t new_deleted) {
  ElementWriter writer;
  writer.Add(static_cast<int64_t>(new_live));
  writer.Add(static_cast<int64_t>(new_deleted));
  const std::string_view elements = writer.bytes();
  const ListpackView view(listpack());
  const uint32_t before = view.Next(view.Next(view.begin())) - kListpackHeaderBytes;
  StreamNode* node = elements.size() > before ? Reserve(elements.size() - before) : this;
  char* const place = node->block() + kListpackHeaderBytes;
  if (elements.size() != before) {
    std::memmove(place + elements.size(), place + before,
                 node->bytes - kListpackHeaderBytes - before);
    node->bytes = static_cast<uint32_t>(node->bytes + elements.size() - before);
    node->WriteSize();
  }
  std::memcpy(place, elements.data(), elements.size());
  node->live = new_live;
  node->deleted = new_deleted;
  return node;
}

StreamNode* StreamNode::Trim() { return capacity == bytes ? this : Reallocate(bytes); }

}  // namespace cairn
