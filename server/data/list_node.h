#pragma once

// ListNode: one leaf of a list: a listpack of many elements, or one big element stored plainly. The
// listpack stands anywhere in its block, so pushing and popping at either end moves no other
// element. Interior nodes may be compressed with LZF (list-compress-depth). It does not decide when
// a node is full: QuickList does. Executor; frozen nodes are read by the walker, which decompresses
// into memory of its own.

#include <cstdint>
#include <string>
#include <string_view>

#include "server/base/listpack.h"
#include "server/data/snapshot_gate.h"

namespace cairn {

struct ListNode {
  enum class Form : uint8_t { kPacked, kPlain, kCompressed };

  uint64_t generation;
  char* block;        ///< from malloc
  uint64_t capacity;  ///< of block
  uint64_t bytes;     ///< of the listpack, uncompressed, or of the plain element
  uint32_t offset;    ///< where the listpack begins in the block; 0 for the other forms
  uint32_t count;     ///< elements
  uint32_t stored;    ///< kCompressed: bytes in the block
  Form form;
  bool incompressible;  ///< compressing it was tried and gained too little

  /// A node without elements and room for `capacity` bytes of listpack.
  static ListNode* NewPacked(size_t capacity);
  static ListNode* NewPlain(std::string_view element);
  /// A node that holds a copy of a valid listpack of `count` elements.
  static ListNode* FromListpack(std::string_view listpack, uint32_t count);
  static ListNode* Copy(const ListNode& node);
  static void Free(ListNode* node);
  static void Retire(SnapshotGate& gate, ListNode* node);

  bool is_plain() const { return form == Form::kPlain; }
  size_t HeapBytes() const { return sizeof(ListNode) + capacity; }
  /// The listpack, or the plain element's bytes. A compressed one is unpacked into *scratch.
  /// Borrows: the node or *scratch.
  std::string_view Raw(std::string* scratch) const;

  // Below: the node is owned (F1) and, but for Compress and Decompress, kPacked.
  void Decompress();
  /// Compresses when that gains enough. Cost: O(bytes).
  void Compress();
  void PushFront(std::string_view element) { InsertAt(kListpackHeaderBytes, element, true); }
  void PushBack(std::string_view element) { InsertAt(bytes - 1, element, false); }
  /// Inserts before element `index`; count appends.
  void Insert(uint32_t index, std::string_view element);
  void Replace(uint32_t index, std::string_view element);
  /// Takes out `n` elements from `index` on. Requires: some stay.
  void Erase(uint32_t index, uint32_t n);
  /// Appends all elements of `other` (kPacked).
  void Append(const ListNode& other);
  std::string_view listpack() const { return {block + offset, bytes}; }
  /// Gives back the room that is not used, where that is worth the copy.
  void Trim();
  bool HasSlack() const;

 private:
  void InsertAt(size_t place, std::string_view element, bool at_head);
  char* OpenGap(size_t place, size_t gap, bool at_head);
  void CloseGap(size_t place, size_t gap);
  void Reallocate(size_t capacity, bool slack_in_front);
  void WriteHeader();
};

/// Visits up to `*n` of the `count` elements of `listpack` from `index` on, towards its end or,
/// `reverse`, its start, and counts *n down, until `visit(const ListpackValue&)` returns false.
/// Returns whether the visitor wants more and *n is not used up. Requires: 0 < *n, index < count.
template <typename Visitor>
bool VisitListpack(ListpackView listpack, uint32_t index, bool reverse, uint64_t* n,
                   Visitor&& visit) {
  const uint32_t begin = listpack.begin(), end = listpack.end();
  for (uint32_t at = listpack.Seek(index);;) {
    if (!visit(listpack.Get(at)) || --*n == 0) return false;
    if (reverse) {
      if (at == begin) return true;
      at = listpack.Previous(at);
    } else {
      at = listpack.Next(at);
      if (at == end) return true;
    }
  }
}

}  // namespace cairn
