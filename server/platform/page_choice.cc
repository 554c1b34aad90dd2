#include "server/platform/page_choice.h"

#include <algorithm>

namespace cairn {

using Pages = AddressSpace::Pages;

namespace {

Pages OtherThan(Pages pages) { return pages == Pages::kHuge ? Pages::kSmall : Pages::kHuge; }

}  // namespace

Pages PageChoice::Next(size_t bytes) {
  std::lock_guard lock(mutex_);
  if (forgone_) return Pages::kHuge;
  if (speeds_[0].bytes == 0 || speeds_[1].bytes == 0) {
    // One that is known waits for the other; huge ones are first.
    last_ = OtherThan(last_);
    return last_;
  }
  if (const Pages faster = Faster(); faster != faster_) {
    faster_ = faster;
    patience_ = kPatience;
    bytes_since_other_ = 0;
  }
  if (bytes_since_other_ / patience_ < bytes) {
    bytes_since_other_ += bytes;
    return faster_;
  }
  bytes_since_other_ = 0;
  patience_ = std::min(2 * patience_, kMostPatience);
  const Pages other = OtherThan(faster_);
  // What was seen long ago shall not outweigh what is about to be seen.
  Speed& speed = speeds_[IndexOf(other)];
  speed = {.bytes = speed.bytes / 64 + 1, .nanoseconds = speed.nanoseconds / 64 + 1};
  return other;
}

void PageChoice::Forgo() {
  std::lock_guard lock(mutex_);
  forgone_ = true;
}

void PageChoice::Fetched(Pages pages, size_t bytes, int64_t nanoseconds) {
  std::lock_guard lock(mutex_);
  Speed& speed = speeds_[IndexOf(pages)];
  speed.bytes += bytes;
  speed.nanoseconds += std::max<int64_t>(nanoseconds, 1);
  while (speed.bytes > 2 * kWindowBytes) {
    speed = {.bytes = speed.bytes / 2, .nanoseconds = speed.nanoseconds / 2};
  }
}

Pages PageChoice::Faster() const {
  const Speed& huge = speeds_[IndexOf(Pages::kHuge)];
  const Speed& small = speeds_[IndexOf(Pages::kSmall)];
  // In doubles: the products may not fit 64 bits. As fast is fast enough for huge pages.
  const double huge_cost = static_cast<double>(huge.nanoseconds) * static_cast<double>(small.bytes);
  const double small_cost =
      static_cast<double>(small.nanoseconds) * static_cast<double>(huge.bytes);
  return huge_cost <= small_cost ? Pages::kHuge : Pages::kSmall;
}

}  // namespace cairn
