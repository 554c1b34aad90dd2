#pragma once

// QuickList: a list of listpack nodes in a CowTree, filled, split and joined by the rules of Redis
// 7.0's quicklist, so that the same commands give the same nodes and the same DUMP payload.
// Elements are reached by index in O(log nodes + node). Nodes away from both ends are kept
// compressed when the list was made with a compress depth. Executor; Emit and the const calls also
// the walker while frozen. Small lists are one listpack inside their entry: see list_access.h.
//
//   Q1  No node is empty; a packed node's count and bytes are those of its listpack.
//   Q2  The first and the last compress_depth nodes are not compressed.
//   Q3  node_bytes is the heap of all nodes that this header reaches.

#include <cstdint>
#include <string>
#include <string_view>

#include "server/data/cow_tree.h"
#include "server/data/list_node.h"

namespace cairn {

/// The settings that shape a list.
struct ListShape {
  int fill = -2;           ///< list-max-listpack-size: elements, or -1..-5 for 4..64 KiB
  int compress_depth = 0;  ///< list-compress-depth: nodes at each end that stay plain; 0 = off
  uint64_t packed_threshold = uint64_t{1} << 30;  ///< elements from this size get a node each
};

/// Whether a listpack of `node_bytes` and `node_count` may take an element of `element_bytes`.
bool NodeAllowsInsert(const ListShape& shape, size_t node_bytes, uint32_t node_count,
                      size_t element_bytes);

struct ListTreePolicy {
  using Leaf = ListNode;
  struct Key {
    bool operator==(const Key&) const = default;
  };
  static constexpr uint32_t kFanout = 28;  ///< inner nodes of 464 bytes
  static uint64_t Weight(const ListNode& node) { return node.count; }
  static Key FirstKey(const ListNode&) { return {}; }
  static ListNode* Copy(const ListNode& node) { return ListNode::Copy(node); }
  static void Free(ListNode* node) { ListNode::Free(node); }
  static void Retire(SnapshotGate& gate, ListNode* node) { ListNode::Retire(gate, node); }
};

class QuickList final : public Container {
 public:
  using Tree = CowTree<ListTreePolicy>;

  QuickList(const ValueHome& home, const ListShape& shape) : Container(home), shape_(shape) {}
  ~QuickList() override;

  QuickList* Fork(uint64_t frozen_until) override { return new QuickList(*this, frozen_until); }
  QuickList* Clone() const override;
  void CheckInvariants() const override;
  Status Emit(ValueSink& sink) const override;
  size_t MemoryUsage() const override;
  size_t FreeEffort() const override { return owns_nodes() ? tree_.leaf_count() : 1; }
  const char* EncodingName() const override { return "quicklist"; }
  const char* TypeName() const override { return "list"; }

  uint64_t size() const { return tree_.weight(); }
  uint64_t node_count() const { return tree_.leaf_count(); }
  const ListShape& shape() const { return shape_; }
  /// DEBUG quicklist-packed-threshold reaches lists that exist.
  void set_packed_threshold(uint64_t bytes) { shape_.packed_threshold = bytes; }
  /// The only node's listpack when there is one node and it is packed, else empty.
  std::string_view SoleListpack() const;

  void Push(bool at_head, std::string_view element);
  /// Puts `element` before or after the element `index`.
  void Insert(uint64_t index, bool after, std::string_view element);
  void Replace(uint64_t index, std::string_view element);
  void EraseRange(uint64_t from, uint64_t n);
  /// Takes out up to `limit` elements equal to `element`, from the head or the tail. Returns how
  /// many. Cost: O(n).
  uint64_t EraseEqual(std::string_view element, uint64_t limit, bool from_tail);
  /// Adds a node as a file holds it, at the end. Requires: the bytes were validated.
  void AppendListpack(std::string_view listpack, uint32_t count);
  void AppendPlain(std::string_view element);

  /// Visits up to `n` elements from `index` on, towards the tail or, `reverse`, the head, until
  /// `visit(const ListpackValue&)` returns false. The item is valid during the visit.
  template <typename Visitor>
  void Visit(uint64_t index, uint64_t n, bool reverse, Visitor&& visit) const;
  /// Visits every node: visit(const ListNode&), in order.
  template <typename Visitor>
  void VisitNodes(Visitor&& visit) const {
    for (auto cursor = tree_.First(); cursor; cursor.Next()) visit(*cursor.leaf());
  }

 private:
  QuickList(QuickList& old, uint64_t frozen_until)
      : Container(old, frozen_until), shape_(old.shape_), node_bytes_(old.node_bytes_) {
    tree_.ForkFrom(old.tree_);
  }

  bool IsLarge(std::string_view element) const { return element.size() >= shape_.packed_threshold; }
  bool AllowsInsert(const Tree::Cursor& cursor, std::string_view element) const;
  bool AllowsMerge(const ListNode& a, const ListNode& b) const;
  ListNode* NewNode(std::string_view element) const;
  void AddNode(Tree::Cursor* cursor, bool after, ListNode* node);
  void DropNode(Tree::Cursor* cursor);
  /// Runs `edit(ListNode*)` on the owned, uncompressed node and keeps the books.
  template <typename Edit>
  void EditNode(Tree::Cursor* cursor, Edit&& edit);
  Tree::Cursor NodeAt(uint64_t index, uint32_t* offset) const;
  void SplitAndInsert(uint64_t index, bool after, std::string_view element);
  ListNode* SplitOff(uint64_t index, bool after);
  void MergeAround(uint64_t index);
  bool MergeWithNext(Tree::Cursor* cursor);
  uint64_t EraseEqualInNode(Tree::Cursor* cursor, std::string_view element, uint64_t limit,
                            bool from_tail);
  void Settle(uint64_t index);
  void Press(Tree::Cursor* cursor, bool compressed);

  ListShape shape_;
  Tree tree_;
  uint64_t node_bytes_ = 0;
};

template <typename Visitor>
void QuickList::Visit(uint64_t index, uint64_t n, bool reverse, Visitor&& visit) const {
  if (n == 0 || index >= size()) return;
  uint64_t offset = 0;
  auto cursor = tree_.Seek(index, &offset);
  std::string scratch;
  bool first = true;
  do {
    const ListNode& node = *cursor.leaf();
    const uint32_t at = first ? static_cast<uint32_t>(offset) : reverse ? node.count - 1 : 0;
    first = false;
    if (node.is_plain()) {
      if (!visit(ListpackValue{false, 0, node.Raw(nullptr)}) || --n == 0) return;
    } else if (!VisitListpack(ListpackView(node.Raw(&scratch)), at, reverse, &n, visit)) {
      return;
    }
  } while (reverse ? cursor.Prev() : cursor.Next());
}

}  // namespace cairn
