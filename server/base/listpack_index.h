#pragma once

// ListpackIndex: finds elements of one listpack by their hash, for who looks up many in turn; a
// single look-up is cheaper without. It comes into being once the elements passed so far would have
// paid for it, lives beside the listpack as long as its user does, and is no part of any value.
// Thread: its user's.
//
//   slot := hash(4) offset(4)   in an open-addressed table at most half full; offset 0 = free
//
// Worked example: the only element "a", of hash ..06, in a table of 4: slots {}, {}, {..06, 6}, {}.

#include <cstdint>
#include <string_view>
#include <vector>

#include "server/base/listpack.h"

namespace cairn {

class ListpackIndex {
 public:
  /// Of one element in `1 + skip`. `seed`: as for HashBytes.
  ListpackIndex(uint32_t skip, uint64_t seed) : skip_(skip), seed_(seed) {}

  /// As ListpackView::Find from the beginning on. `view`: always the same listpack, changed only as
  /// told below. Cost: O(1) in the mean of many calls.
  uint32_t Find(const ListpackView& view, std::string_view text);
  /// `text`, which was not there, stands at `at` now, and what was there stands where it stood.
  void Added(std::string_view text, uint32_t at);
  /// The element at `at` takes `growth` more bytes now, or fewer.
  void Resized(uint32_t at, int64_t growth);
  /// Elements are gone, or others. Cost: O(1).
  void Forget();

  /// Whether one element in `1 + skip` stands in `view` twice. Cost: O(n).
  static bool HoldsTwice(const ListpackView& view, uint32_t skip, uint64_t seed);

 private:
  struct Slot {
    uint32_t hash, at;
  };
  // Passing this many elements costs as much as hashing one and putting it in its slot.
  static constexpr uint32_t kPassedForOne = 4;
  static constexpr uint32_t kFewestSlots = 16;

  uint32_t HashOf(std::string_view text) const;
  void Put(Slot slot);
  void MakeRoom(size_t elements);

  uint32_t skip_;
  uint64_t seed_;
  uint64_t passed_ = 0;
  size_t used_ = 0;
  std::vector<Slot> slots_;  // empty until it is worth while
};

}  // namespace cairn
