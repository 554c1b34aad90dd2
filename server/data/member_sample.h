#pragma once

// Random choices of many members: HRANDFIELD, SRANDMEMBER and SPOP with a count. Free functions
// over MembersView. Members borrow what the view looks at. Thread: executor.

#include <string>
#include <unordered_set>
#include <vector>

#include "server/base/hash.h"
#include "server/base/strings.h"
#include "server/data/member_value.h"

namespace cairn {

/// `count` members, each as likely as any other every time, or fewer: until emit(const Member&)
/// returns false. Requires: view.size() > 0. Cost: O(count), O(count + n) for packed views.
template <typename Emit>
void SampleWithRepeats(const MembersView& view, uint64_t count, uint64_t random, Emit&& emit) {
  if (!view.is_packed()) {
    while (count > 0 && emit(view.Random(NextRandom(&random)))) --count;
    return;
  }
  // An element of packed bytes has to be walked to: once for all of them.
  std::vector<Member> all;
  all.reserve(view.size());
  view.ForEach([&all](const Member& member) {
    all.push_back(member);
    return true;
  });
  while (count > 0 && emit(all[NextRandom(&random) % all.size()])) --count;
}

/// `count` different members, or all when there are no more; each choice of them is as likely as
/// any other. Cost: O(count) for few of many, else O(n).
template <typename Emit>
void SampleDistinct(const MembersView& view, uint64_t count, uint64_t random, Emit&& emit) {
  constexpr uint64_t kFewOf = 3;
  if (view.is_packed() || count > view.size() / kFewOf) {
    // One walk that takes each with the chance that fills the rest: needs no memory.
    uint64_t wanted = count, left = view.size();
    view.ForEach([&](const Member& member) {
      if (wanted >= left || NextRandom(&random) % left < wanted) {
        emit(member);
        --wanted;
      }
      --left;
      return wanted > 0;
    });
    return;
  }
  std::unordered_set<std::string> taken;
  char scratch[kMaxInt64Chars];
  while (taken.size() < count) {
    const Member member = view.Random(NextRandom(&random));
    if (taken.emplace(member.key.Text(scratch)).second) emit(member);
  }
}

}  // namespace cairn
