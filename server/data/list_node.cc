#include "server/data/list_node.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "server/base/check.h"
#include "server/base/lzf.h"

namespace cairn {
namespace {

// What quicklist of Redis 7.0 asks of a node before it keeps it compressed.
constexpr size_t kMinCompressBytes = 48, kMinGainBytes = 8;
// A block grows to twice its use, but not past the default size of a full node before that is full.
constexpr size_t kNodeBytes = 8192;
// A block of which less than a quarter is used shrinks to twice its use, but for small ones.
constexpr size_t kShrinkShare = 4, kMinShrinkBytes = 128;
constexpr uint32_t kUnknownCount = 65535;

size_t GrownCapacity(size_t needed) {
  if (needed <= kNodeBytes) return std::min(kNodeBytes, std::max<size_t>(64, needed * 2));
  return needed + needed / 8;
}

char* NewBlock(size_t bytes) {
  void* block = std::malloc(std::max<size_t>(bytes, 1));
  CAIRN_CHECK(block != nullptr);
  return static_cast<char*>(block);
}

ListNode* NewNode(ListNode::Form form, size_t capacity) {
  void* memory = std::malloc(sizeof(ListNode));
  CAIRN_CHECK(memory != nullptr);
  auto* node = new (memory) ListNode;
  *node = ListNode{};
  node->form = form;
  node->capacity = capacity;
  node->block = NewBlock(capacity);
  return node;
}

}  // namespace

ListNode* ListNode::NewPacked(size_t capacity) {
  ListNode* node = NewNode(Form::kPacked, std::max<size_t>(capacity, kListpackEmptyBytes));
  node->bytes = kListpackEmptyBytes;
  node->block[kListpackHeaderBytes] = '\xff';
  node->WriteHeader();
  return node;
}

ListNode* ListNode::NewPlain(std::string_view element) {
  ListNode* node = NewNode(Form::kPlain, element.size());
  if (!element.empty()) std::memcpy(node->block, element.data(), element.size());
  node->bytes = element.size();
  node->count = 1;
  return node;
}

ListNode* ListNode::FromListpack(std::string_view listpack, uint32_t count) {
  ListNode* node = NewNode(Form::kPacked, listpack.size());
  std::memcpy(node->block, listpack.data(), listpack.size());
  node->bytes = listpack.size();
  node->count = count;
  node->WriteHeader();
  return node;
}

ListNode* ListNode::Copy(const ListNode& node) {
  // Only a node that is about to be written is copied while it is in use at an end: keep its room.
  ListNode* copy = NewNode(node.form, node.capacity);
  char* block = copy->block;
  *copy = node;
  copy->block = block;
  const size_t used = node.form == Form::kCompressed ? node.stored : node.bytes;
  if (used != 0) std::memcpy(block + node.offset, node.block + node.offset, used);
  return copy;
}

void ListNode::Free(ListNode* node) {
  std::free(node->block);
  std::free(node);
}

void ListNode::Retire(SnapshotGate& gate, ListNode* node) {
  gate.Retire(Retired::Kind::kBlock, node->block, 0, node->capacity);
  gate.Retire(Retired::Kind::kBlock, node, 0, sizeof(ListNode));
}

std::string_view ListNode::Raw(std::string* scratch) const {
  if (form != Form::kCompressed) return {block + offset, bytes};
  scratch->resize(bytes);
  const size_t size = LzfDecompress({block, stored}, scratch->data(), bytes);
  CAIRN_CHECK(size == bytes);
  return *scratch;
}

void ListNode::Decompress() {
  if (form != Form::kCompressed) return;
  char* raw = NewBlock(bytes);
  const size_t size = LzfDecompress({block, stored}, raw, bytes);
  CAIRN_CHECK(size == bytes);
  std::free(block);
  block = raw;
  capacity = bytes;
  stored = 0;
  form = Form::kPacked;
}

void ListNode::Compress() {
  if (form != Form::kPacked || incompressible) return;
  if (bytes < kMinCompressBytes || bytes > UINT32_MAX) return;
  std::string packed(bytes, '\0');
  const size_t size = LzfCompress({block + offset, bytes}, packed.data(), bytes - kMinGainBytes);
  if (size == 0) {
    incompressible = true;
    return;
  }
  std::free(block);
  block = NewBlock(size);
  std::memcpy(block, packed.data(), size);
  capacity = stored = static_cast<uint32_t>(size);
  offset = 0;
  form = Form::kCompressed;
}

void ListNode::WriteHeader() {
  const auto total = static_cast<uint32_t>(bytes);
  const auto items = static_cast<uint16_t>(std::min(count, kUnknownCount));
  std::memcpy(block + offset, &total, sizeof total);
  std::memcpy(block + offset + 4, &items, sizeof items);
  incompressible = false;
}

void ListNode::Reallocate(size_t new_capacity, bool slack_in_front) {
  char* fresh = NewBlock(new_capacity);
  const size_t new_offset = slack_in_front ? new_capacity - bytes : 0;
  std::memcpy(fresh + new_offset, block + offset, bytes);
  std::free(block);
  block = fresh;
  capacity = new_capacity;
  offset = static_cast<uint32_t>(new_offset);
}

bool ListNode::HasSlack() const { return form == Form::kPacked && capacity - bytes > capacity / 8; }

void ListNode::Trim() {
  if (HasSlack()) Reallocate(bytes, false);
}

// Makes room for `gap` bytes before the listpack's byte `place`, moving the shorter side that has
// the room. The bytes of the new total are set; the header is not written yet.
char* ListNode::OpenGap(size_t place, size_t gap, bool at_head) {
  const size_t needed = bytes + gap;
  CAIRN_CHECK(needed <= UINT32_MAX);
  if (needed > capacity) {
    Reallocate(GrownCapacity(needed), at_head);
  } else if (at_head ? offset < gap : capacity - offset - bytes < gap) {
    const size_t room = capacity - bytes;
    const size_t new_offset = at_head ? room : 0;
    std::memmove(block + new_offset, block + offset, bytes);
    offset = static_cast<uint32_t>(new_offset);
  }
  char* begin = block + offset;
  if (at_head) {
    std::memmove(begin - gap, begin, place);
    offset -= static_cast<uint32_t>(gap);
  } else {
    std::memmove(begin + place + gap, begin + place, bytes - place);
  }
  bytes += gap;
  return block + offset + place;
}

void ListNode::CloseGap(size_t place, size_t gap) {
  char* begin = block + offset;
  const size_t behind = bytes - place - gap;
  const bool near_head = place < behind;
  if (near_head) {
    std::memmove(begin + gap, begin, place);
    offset += static_cast<uint32_t>(gap);
  } else {
    std::memmove(begin + place, begin + place + gap, behind);
  }
  bytes -= gap;
  // What is taken out at one end of a queue comes in at the other.
  if (capacity > kMinShrinkBytes && bytes < capacity / kShrinkShare)
    Reallocate(GrownCapacity(bytes), /*slack_in_front=*/!near_head);
}

void ListNode::InsertAt(size_t place, std::string_view element, bool at_head) {
  WriteListpackElement(element, OpenGap(place, ListpackElementBytes(element), at_head));
  ++count;
  WriteHeader();
}

void ListNode::Insert(uint32_t index, std::string_view element) {
  InsertAt(ListpackView(listpack()).Seek(index), element, index < count / 2);
}

void ListNode::Replace(uint32_t index, std::string_view element) {
  const ListpackView all(listpack());
  const size_t place = all.Seek(index);
  const size_t old_bytes = all.Next(static_cast<uint32_t>(place)) - place;
  const size_t new_bytes = ListpackElementBytes(element);
  if (new_bytes > old_bytes) OpenGap(place, new_bytes - old_bytes, false);
  if (new_bytes < old_bytes) CloseGap(place, old_bytes - new_bytes);
  WriteListpackElement(element, block + offset + place);
  WriteHeader();
}

void ListNode::Erase(uint32_t index, uint32_t n) {
  CAIRN_CHECK(n < count);
  const ListpackView all(listpack());
  const uint32_t from = all.Seek(index);
  uint32_t to = from;
  if (index + n == count) {
    to = all.end();
  } else {
    for (uint32_t i = 0; i < n; ++i) to = all.Next(to);
  }
  CloseGap(from, to - from);
  count -= n;
  WriteHeader();
}

void ListNode::Append(const ListNode& other) {
  const std::string_view all = other.listpack();
  const std::string_view entries =
      all.substr(kListpackHeaderBytes, all.size() - kListpackHeaderBytes - 1);
  std::memcpy(OpenGap(bytes - 1, entries.size(), false), entries.data(), entries.size());
  count += other.count;
  WriteHeader();
}

}  // namespace cairn
