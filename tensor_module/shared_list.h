#pragma once

// SharedList<T>: a list of which copies are cheap, and stay so when one item is changed: items lie
// in blocks (kept.h) that copies share, and a change copies the one block that it touches. Ranks
// have thousands of shards and shards thousands of cells, and each PUT makes another value of the
// run. Thread: as kept.h.

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <utility>
#include <vector>

#include "tensor_module/kept.h"

namespace cairn::tensor {

/// The items in their order, `block_items` a block; the last one has what is left.
template <typename T>
std::vector<Kept<std::vector<T>>> InBlocks(std::vector<T> items, size_t block_items) {
  std::vector<Kept<std::vector<T>>> blocks;
  blocks.reserve((items.size() + block_items - 1) / block_items);
  for (size_t at = 0; at < items.size(); at += block_items) {
    const auto begin = items.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = begin + static_cast<std::ptrdiff_t>(std::min(block_items, items.size() - at));
    blocks.push_back(Kept<std::vector<T>>::Make(
        std::vector<T>(std::make_move_iterator(begin), std::make_move_iterator(end))));
  }
  return blocks;
}

template <typename T>
class SharedList {
 public:
  /// Items a block. A change copies that many at most, a copy of the list one handle for as many.
  static constexpr size_t kBlockItems = 32;

  class const_iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = const T*;
    using reference = const T&;
    const_iterator() = default;
    const_iterator(const SharedList* list, size_t at) : list_(list), at_(at) {}
    const T& operator*() const { return (*list_)[at_]; }
    const T* operator->() const { return &(*list_)[at_]; }
    const_iterator& operator++() {
      ++at_;
      return *this;
    }
    const_iterator operator++(int) { return {list_, at_++}; }
    bool operator==(const const_iterator& other) const { return at_ == other.at_; }

   private:
    const SharedList* list_ = nullptr;
    size_t at_ = 0;
  };

  SharedList() = default;
  explicit SharedList(size_t count) : SharedList(std::vector<T>(count)) {}
  SharedList(std::initializer_list<T> items) : SharedList(std::vector<T>(items)) {}
  explicit SharedList(std::vector<T> items)
      : size_(items.size()), blocks_(InBlocks(std::move(items), kBlockItems)) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T& operator[](size_t i) const { return (*blocks_[i / kBlockItems])[i % kBlockItems]; }
  const_iterator begin() const { return {this, 0}; }
  const_iterator end() const { return {this, size_}; }

  /// Item i, to be changed in this list alone.
  T& Own(size_t i) { return blocks_[i / kBlockItems].Own()[i % kBlockItems]; }

 private:
  size_t size_ = 0;
  std::vector<Kept<std::vector<T>>> blocks_;
};

/// Where the first item stands that `is_before` is false of, as std::lower_bound has it; size()
/// when there is none. Cost: O(log n).
template <typename T, typename IsBefore>
size_t LowerBound(const SharedList<T>& list, IsBefore is_before) {
  size_t low = 0;
  for (size_t left = list.size(); left > 0;) {
    const size_t half = left / 2;
    if (is_before(list[low + half])) {
      low += half + 1;
      left -= half + 1;
    } else {
      left = half;
    }
  }
  return low;
}

}  // namespace cairn::tensor
