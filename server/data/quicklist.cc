#include "server/data/quicklist.h"

#include <algorithm>

#include "persistence/rdb_format.h"

namespace cairn {
namespace {

// Redis 7.0 quicklist: negative fills name a size in bytes; a positive fill still keeps a node to
// kSafetyBytes; an insert is judged with kOverheadBytes for the entry's own header.
constexpr size_t kFillBytes[] = {4096, 8192, 16384, 32768, 65536};
constexpr size_t kSafetyBytes = 8192;
constexpr size_t kOverheadBytes = 8;
constexpr size_t kSharedBytes = 7;  // header and end of one of two joined listpacks

bool FitsFill(const ListShape& shape, size_t bytes, uint64_t count) {
  if (shape.fill < 0) {
    const size_t level = std::min<size_t>(static_cast<size_t>(-(shape.fill + 1)), 4);
    if (bytes <= kFillBytes[level]) return true;
    return false;
  }
  return bytes <= kSafetyBytes && count <= static_cast<uint64_t>(shape.fill);
}

}  // namespace

bool NodeAllowsInsert(const ListShape& shape, size_t node_bytes, uint32_t node_count,
                      size_t element_bytes) {
  if (element_bytes >= shape.packed_threshold) return false;
  return FitsFill(shape, node_bytes + element_bytes + kOverheadBytes, uint64_t{node_count} + 1);
}

QuickList::~QuickList() {
  if (owns_nodes()) tree_.FreeNodes();
}

QuickList* QuickList::Clone() const {
  auto* clone = new QuickList(home(), shape_);
  std::vector<ListNode*> nodes;
  nodes.reserve(tree_.leaf_count());
  VisitNodes([&nodes](const ListNode& node) { nodes.push_back(ListNode::Copy(node)); });
  clone->tree_.Build(nodes, *clone);
  clone->node_bytes_ = node_bytes_;
  return clone;
}

size_t QuickList::MemoryUsage() const {
  if (!owns_nodes()) return sizeof(*this);
  return sizeof(*this) + tree_.InnerBytes() + node_bytes_;
}

Status QuickList::Emit(ValueSink& sink) const {
  CAIRN_RETURN_IF_ERROR(sink.Begin(ValueKind::kList, tree_.leaf_count()));
  std::string scratch;
  for (auto cursor = tree_.First(); cursor; cursor.Next()) {
    const ListNode& node = *cursor.leaf();
    CAIRN_RETURN_IF_ERROR(
        sink.Packed(node.is_plain() ? rdb::kString : rdb::kListQuicklist2, node.Raw(&scratch)));
  }
  return sink.End();
}

std::string_view QuickList::SoleListpack() const {
  if (tree_.leaf_count() != 1) return {};
  const ListNode& node = *tree_.First().leaf();
  return node.form == ListNode::Form::kPacked ? node.listpack() : std::string_view();
}

// --- nodes -------------------------------------------------------------------------------------

bool QuickList::AllowsInsert(const Tree::Cursor& cursor, std::string_view element) const {
  if (!cursor || cursor.leaf()->is_plain()) return false;
  return NodeAllowsInsert(shape_, cursor.leaf()->bytes, cursor.leaf()->count, element.size());
}

bool QuickList::AllowsMerge(const ListNode& a, const ListNode& b) const {
  if (a.is_plain() || b.is_plain()) return false;
  return FitsFill(shape_, a.bytes + b.bytes - kSharedBytes, uint64_t{a.count} + b.count);
}

ListNode* QuickList::NewNode(std::string_view element) const {
  if (IsLarge(element)) return ListNode::NewPlain(element);
  ListNode* node = ListNode::NewPacked(kListpackEmptyBytes + ListpackElementBytes(element));
  node->PushBack(element);
  return node;
}

void QuickList::AddNode(Tree::Cursor* cursor, bool after, ListNode* node) {
  node_bytes_ += node->HeapBytes();
  tree_.InsertLeaf(cursor, after, node, *this);
}

void QuickList::DropNode(Tree::Cursor* cursor) {
  node_bytes_ -= cursor->leaf()->HeapBytes();
  tree_.EraseLeaf(cursor, *this);
}

template <typename Edit>
void QuickList::EditNode(Tree::Cursor* cursor, Edit&& edit) {
  node_bytes_ -= cursor->leaf()->HeapBytes();
  ListNode* node = tree_.Own(cursor, *this);
  node->Decompress();
  edit(node);
  node_bytes_ += node->HeapBytes();
  tree_.Refresh(*cursor);
}

QuickList::Tree::Cursor QuickList::NodeAt(uint64_t index, uint32_t* offset) const {
  uint64_t in_node = 0;
  auto cursor = tree_.Seek(index, &in_node);
  *offset = static_cast<uint32_t>(in_node);
  return cursor;
}

// --- compression -------------------------------------------------------------------------------

void QuickList::Press(Tree::Cursor* cursor, bool compressed) {
  const ListNode& seen = *cursor->leaf();
  if (seen.is_plain() || (seen.form == ListNode::Form::kCompressed) == compressed) return;
  if (compressed && seen.incompressible) return;
  node_bytes_ -= seen.HeapBytes();
  ListNode* node = tree_.Own(cursor, *this);
  if (compressed) {
    node->Compress();
  } else {
    node->Decompress();
  }
  node_bytes_ += node->HeapBytes();
}

// Restores Q2 after a change near the element `index`: unpacks what has come near an end, packs
// what has left it, and packs the nodes that were opened in between. Cost: O(depth) and three
// nodes. Each node is found anew: owning one may move what a second cursor goes through.
void QuickList::Settle(uint64_t index) {
  if (shape_.compress_depth == 0 || tree_.empty()) return;
  const auto depth = static_cast<uint64_t>(shape_.compress_depth);
  const uint64_t nodes = tree_.leaf_count();
  auto head = tree_.First();
  for (uint64_t i = 0; i < std::min(depth, nodes); ++i, head.Next()) Press(&head, false);
  const uint64_t first = head ? tree_.RankOf(head) : 0;
  auto tail = tree_.Last();
  for (uint64_t i = 0; i < std::min(depth, nodes); ++i, tail.Prev()) Press(&tail, false);
  if (nodes <= 2 * depth) return;
  const uint64_t last = tree_.RankOf(tail);
  const auto press_at = [this](uint64_t rank) {
    uint64_t offset = 0;
    auto cursor = tree_.Seek(rank, &offset);
    Press(&cursor, true);
    return rank - offset;  // where the node begins
  };
  press_at(first);
  press_at(last);
  uint64_t offset = 0;
  const uint64_t last_end = last + tree_.Seek(last, &offset).leaf()->count;
  const uint64_t near = std::min(index, size() - 1);
  const uint64_t begin = near - [&] {
    tree_.Seek(near, &offset);
    return offset;
  }();
  const uint64_t end = begin + tree_.Seek(begin, &offset).leaf()->count;
  if (begin > first && begin <= last_end) press_at(begin - 1);
  if (begin >= first && begin < last_end) press_at(begin);
  if (end >= first && end < last_end) press_at(end);
}

// --- changes -----------------------------------------------------------------------------------

void QuickList::Push(bool at_head, std::string_view element) {
  auto cursor = at_head ? tree_.First() : tree_.Last();
  if (AllowsInsert(cursor, element)) [[likely]] {
    EditNode(&cursor, [&](ListNode* node) {
      if (at_head) {
        node->PushFront(element);
      } else {
        node->PushBack(element);
      }
    });
  } else {
    // The one before it is full and stays so, most of the time.
    if (cursor && cursor.leaf()->HasSlack())
      EditNode(&cursor, [](ListNode* node) { node->Trim(); });
    AddNode(&cursor, !at_head, NewNode(element));
  }
  Settle(at_head ? 0 : size() - 1);
}

void QuickList::Insert(uint64_t index, bool after, std::string_view element) {
  uint32_t offset = 0;
  auto cursor = NodeAt(index, &offset);
  const ListNode& node = *cursor.leaf();
  const bool full = !AllowsInsert(cursor, element);
  const bool at_edge = after ? offset + 1 == node.count : offset == 0;
  auto beside = cursor;
  if (at_edge && !(after ? beside.Next() : beside.Prev())) beside = Tree::Cursor();
  const bool beside_has_room = at_edge && AllowsInsert(beside, element);
  if (!full) {
    EditNode(&cursor, [&](ListNode* into) { into->Insert(offset + (after ? 1 : 0), element); });
  } else if (IsLarge(element) ? (node.is_plain() || at_edge) : (at_edge && !beside_has_room)) {
    AddNode(&cursor, after, NewNode(element));
  } else if (!IsLarge(element) && beside_has_room) {
    EditNode(&beside, [&](ListNode* into) {
      if (after) {
        into->PushFront(element);
      } else {
        into->PushBack(element);
      }
    });
  } else {
    SplitAndInsert(index, after, element);
  }
  Settle(index);
}

// Takes what is behind (or, not `after`, before) the element `index` out of its node into a new
// one, which is returned, not yet in the tree. Both are uncompressed.
ListNode* QuickList::SplitOff(uint64_t index, bool after) {
  uint32_t offset = 0;
  auto cursor = NodeAt(index, &offset);
  ListNode* other = nullptr;
  EditNode(&cursor, [&](ListNode* node) {
    other = ListNode::Copy(*node);
    if (after) {
      other->Erase(0, offset + 1);
      node->Erase(offset + 1, node->count - offset - 1);
    } else {
      other->Erase(offset, other->count - offset);
      node->Erase(0, offset);
    }
    other->Trim();
    node->Trim();
  });
  return other;
}

void QuickList::SplitAndInsert(uint64_t index, bool after, std::string_view element) {
  ListNode* other = SplitOff(index, after);
  // After a split before `index`, its node has lost the elements in front.
  const uint64_t here = after ? index : index - other->count;
  uint32_t offset = 0;
  auto cursor = NodeAt(here, &offset);
  if (IsLarge(element)) {
    AddNode(&cursor, after, other);
    cursor = NodeAt(index, &offset);
    return AddNode(&cursor, after, NewNode(element));
  }
  if (after) {
    other->PushFront(element);
  } else {
    other->PushBack(element);
  }
  const uint64_t added = other->count;
  AddNode(&cursor, after, other);
  MergeAround(after ? here : here + added);
}

// Joins the nodes around that of element `index` as far as they fit: the two before it, the two
// after it, it with the one before, the result with the one after.
void QuickList::MergeAround(uint64_t index) {
  uint64_t offset = 0;
  auto cursor = tree_.Seek(index, &offset);
  auto pair = cursor;
  if (pair.Prev() && pair.Prev()) MergeWithNext(&pair);
  cursor = tree_.Seek(index, &offset);
  pair = cursor;
  if (pair.Next()) MergeWithNext(&pair);
  cursor = tree_.Seek(index, &offset);
  pair = cursor;
  if (pair.Prev()) MergeWithNext(&pair);
  cursor = tree_.Seek(index, &offset);
  MergeWithNext(&cursor);
}

// Joins the cursor's node and the next one if they fit. Invalidates the cursor when they did.
bool QuickList::MergeWithNext(Tree::Cursor* cursor) {
  auto next = *cursor;
  if (!next.Next() || !AllowsMerge(*cursor->leaf(), *next.leaf())) return false;
  std::string scratch;
  const std::string_view raw = next.leaf()->Raw(&scratch);
  ListNode* upper = ListNode::FromListpack(raw, next.leaf()->count);
  EditNode(cursor, [&](ListNode* node) { node->Append(*upper); });
  ListNode::Free(upper);
  // Its way shares owned nodes with the cursor's, so it still leads there.
  const uint64_t rank = tree_.RankOf(*cursor) + cursor->leaf()->count;
  uint64_t offset = 0;
  next = tree_.Seek(rank, &offset);
  DropNode(&next);
  return true;
}

void QuickList::Replace(uint64_t index, std::string_view element) {
  uint32_t offset = 0;
  auto cursor = NodeAt(index, &offset);
  const bool plain = cursor.leaf()->is_plain();
  if (!plain && !IsLarge(element)) {
    EditNode(&cursor, [&](ListNode* node) { node->Replace(offset, element); });
    return Settle(index);
  }
  if (plain && IsLarge(element)) {
    AddNode(&cursor, /*after=*/false, ListNode::NewPlain(element));
    cursor = NodeAt(index + 1, &offset);
    return DropNode(&cursor);
  }
  // From one form to the other: the new one goes behind the old one, as Redis does it.
  Insert(index, /*after=*/true, element);
  EraseRange(index, 1);
}

void QuickList::EraseRange(uint64_t from, uint64_t n) {
  while (n != 0) {
    uint32_t offset = 0;
    auto cursor = NodeAt(from, &offset);
    const auto here = static_cast<uint32_t>(std::min<uint64_t>(n, cursor.leaf()->count - offset));
    n -= here;
    if (here == cursor.leaf()->count) {
      DropNode(&cursor);
    } else {
      EditNode(&cursor, [&](ListNode* node) { node->Erase(offset, here); });
    }
  }
  Settle(from);
}

uint64_t QuickList::EraseEqualInNode(Tree::Cursor* cursor, std::string_view element, uint64_t limit,
                                     bool from_tail) {
  std::string scratch;
  const ListNode& seen = *cursor->leaf();
  const std::string_view raw = seen.Raw(&scratch);
  std::vector<uint32_t> found;
  if (seen.is_plain()) {
    if (raw == element) found.push_back(0);
  } else {
    const ListpackView all(raw);
    uint32_t at = all.begin();
    for (uint32_t i = 0; i < seen.count; ++i, at = all.Next(at)) {
      if (!all.Get(at).Equals(element)) continue;
      found.push_back(i);
      if (!from_tail && found.size() == limit) break;
    }
  }
  // From the tail, the last ones.
  if (found.size() > limit)
    found.erase(found.begin(), found.begin() + static_cast<ptrdiff_t>(found.size() - limit));
  if (found.empty()) return 0;
  const uint64_t erased = found.size();
  if (erased == seen.count) {
    DropNode(cursor);
  } else {
    EditNode(cursor, [&](ListNode* node) {
      for (size_t i = found.size(); i-- > 0;) node->Erase(found[i], 1);
    });
  }
  return erased;
}

uint64_t QuickList::EraseEqual(std::string_view element, uint64_t limit, bool from_tail) {
  uint64_t erased = 0;
  // Elements already looked at, from the side the search begins at.
  uint64_t passed = 0;
  while (erased < limit && passed < size()) {
    uint64_t offset = 0;
    const uint64_t index = from_tail ? size() - 1 - passed : passed;
    auto cursor = tree_.Seek(index, &offset);
    const uint32_t before = cursor.leaf()->count;
    const uint64_t here = EraseEqualInNode(&cursor, element, limit - erased, from_tail);
    erased += here;
    passed += before - here;
    if (here != 0 && size() != 0) Settle(std::min(index, size() - 1));
  }
  return erased;
}

void QuickList::AppendListpack(std::string_view listpack, uint32_t count) {
  auto cursor = tree_.Last();
  AddNode(&cursor, /*after=*/true, ListNode::FromListpack(listpack, count));
  Settle(size() - 1);
}

void QuickList::AppendPlain(std::string_view element) {
  auto cursor = tree_.Last();
  AddNode(&cursor, /*after=*/true, ListNode::NewPlain(element));
  Settle(size() - 1);
}

void QuickList::CheckInvariants() const {
  uint64_t bytes = 0, at = 0;
  const uint64_t nodes = tree_.leaf_count();
  const auto depth = static_cast<uint64_t>(shape_.compress_depth);
  tree_.CheckInvariants([&](const ListNode& node) {
    bytes += node.HeapBytes();
    std::string scratch;
    const std::string_view raw = node.Raw(&scratch);
    CAIRN_CHECK(node.form == ListNode::Form::kCompressed ||
                node.offset + node.bytes <= node.capacity);
    if (node.form == ListNode::Form::kCompressed)
      CAIRN_CHECK(at >= depth && at + depth < nodes);  // Q2
    ++at;
    CAIRN_CHECK(node.count != 0);  // Q1
    if (node.is_plain()) return;
    CAIRN_CHECK(ListpackView::Validate(raw) && ListpackView(raw).count() == node.count);
  });
  CAIRN_CHECK(bytes == node_bytes_);  // Q3
}

}  // namespace cairn
