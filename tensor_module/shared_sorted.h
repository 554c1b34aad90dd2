#pragma once

// SharedSorted<T>: a sorted list of which copies are cheap, and stay so when an item comes: items
// lie in blocks (kept.h) of some size that copies share, and an item that comes copies the one
// block where it belongs. The caller says what the order is, the same in each call. shared_list.h
// is for lists that get no items. Thread: as kept.h.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

#include "tensor_module/kept.h"
#include "tensor_module/shared_list.h"

namespace cairn::tensor {

template <typename T>
class SharedSorted {
 public:
  /// Most items of a block. An item that comes copies that many at most, and one handle for each
  /// block.
  static constexpr size_t kBlockItems = 16;

  SharedSorted() = default;
  /// Requires: ascending.
  explicit SharedSorted(std::vector<T> items)
      : size_(items.size()), blocks_(InBlocks(std::move(items), kBlockItems)) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  /// Requires: not empty.
  const T& front() const { return blocks_.front()->front(); }
  /// `visit(item)` for each, in order.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& block : blocks_) {
      for (const T& item : *block) visit(item);
    }
  }

  /// The first item that `is_before` is false of; nullptr when there is none. Cost: O(log n).
  template <typename IsBefore>
  const T* Find(IsBefore is_before) const {
    const Place at = PlaceOf(is_before);
    return at.block == blocks_.size() ? nullptr : &(*blocks_[at.block])[at.item];
  }
  /// The same, to be changed in this list alone, but for its place in the order. Requires: it is
  /// there.
  template <typename IsBefore>
  T& Own(IsBefore is_before) {
    const Place at = PlaceOf(is_before);
    return blocks_[at.block].Own()[at.item];
  }
  /// Puts an item in front of the first that `is_before` is false of.
  template <typename IsBefore>
  void Insert(T item, IsBefore is_before) {
    Place at = PlaceOf(is_before);
    ++size_;
    if (at.block == blocks_.size()) {
      if (blocks_.empty() || blocks_.back()->size() == kBlockItems) {
        // What comes in order fills its blocks.
        blocks_.push_back(Kept<Block>::Make(Block()));
      }
      blocks_.back().Own().push_back(std::move(item));
      return;
    }
    if (blocks_[at.block]->size() == kBlockItems) {
      Block& full = blocks_[at.block].Own();
      const auto half = full.begin() + kBlockItems / 2;
      Block behind(std::make_move_iterator(half), std::make_move_iterator(full.end()));
      full.erase(half, full.end());
      blocks_.insert(blocks_.begin() + static_cast<std::ptrdiff_t>(at.block) + 1,
                     Kept<Block>::Make(std::move(behind)));
      if (at.item > kBlockItems / 2) at = {at.block + 1, at.item - kBlockItems / 2};
    }
    Block& block = blocks_[at.block].Own();
    block.insert(block.begin() + static_cast<std::ptrdiff_t>(at.item), std::move(item));
  }

 private:
  using Block = std::vector<T>;  // never empty
  struct Place {
    size_t block = 0, item = 0;
  };
  template <typename IsBefore>
  Place PlaceOf(IsBefore is_before) const {
    const auto block =
        std::partition_point(blocks_.begin(), blocks_.end(),
                             [&](const Kept<Block>& each) { return is_before(each->back()); });
    if (block == blocks_.end()) return {blocks_.size(), 0};
    const auto item = std::partition_point((*block)->begin(), (*block)->end(), is_before);
    return {static_cast<size_t>(block - blocks_.begin()),
            static_cast<size_t>(item - (*block)->begin())};
  }

  size_t size_ = 0;
  std::vector<Kept<Block>> blocks_;
};

}  // namespace cairn::tensor
