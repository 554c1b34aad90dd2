#pragma once

// How a transaction becomes a version, and what may become of versions: C1, C2, C4, C8. Works on a
// CkptRun as ckpt_machine.h does: a failed call leaves it as it was. Pure; executor.

#include <string>
#include <string_view>
#include <vector>

#include "tensor_module/ckpt_machine.h"

namespace cairn::tensor {

/// Why the transaction cannot be committed yet ("ranks 1,3 have not prepared"), empty when it can.
/// Errors: the sharding is too ragged to tell.
Result<std::string> WhatIsMissing(const CkptRun& run, const Transaction& transaction);

/// Ranks that are told of when they have not prepared: of 65536 a reply would be long.
inline constexpr size_t kListedRanks = 16;
/// The first kListedRanks that have not prepared, ascending. Cost: O(ranks that declared).
std::vector<uint32_t> FirstMissingRanks(const Transaction& transaction);

/// Makes the transaction the version of its step, replacing one that is there, and removes what
/// `keep` leaves no room for, but never what it has just made. Returns the steps it removed, in
/// order. Errors: those of FindLive; CKPTINCOMPLETE; CKPTDIVERGED when replicas of one box have
/// other bytes; CKPTBUSY when the version of that step is pinned; TAG with an empty name or too
/// many tags.
Result<std::vector<uint64_t>> Commit(CkptRun* run, std::string_view tx, Durable durable,
                                     std::string_view tag, Moment moment);

/// The end of Commit, for a version that no transaction made: its time is `moment`'s. Errors:
/// CKPTBUSY when the version of its step is pinned; too many tags.
Result<std::vector<uint64_t>> CommitVersion(CkptRun* run, Version version, std::string_view tag,
                                            Moment moment);
/// Errors: CKPTBUSY.
Status CheckNotPinned(const CkptRun& run, uint64_t step);
/// The version has all groups that the run requires (C1). Errors: CKPTINCOMPLETE.
Status CheckGroups(const CkptRun& run, const Version& version);

/// step | @tag | LATEST. Errors: no such version, or not a version's name.
Result<const Version*> ResolveVersion(const CkptRun& run, std::string_view text);

struct RetainRule {
  uint64_t keep = 0;       ///< the newest n; 0: none by this
  uint64_t every = 0;      ///< steps that are multiples; 0: none by this
  int64_t within_ms = -1;  ///< committed since; -1: none by this
};
/// Steps that the rule does not keep. LATEST, pinned versions and parents of open transactions are
/// always kept; rolled back ones only when one of these, or tagged.
std::vector<uint64_t> NotRetained(const CkptRun& run, const RetainRule& rule, int64_t now_ms);

/// Removes versions and the tags that name them, and notes each as deleted.
void RemoveVersions(CkptRun* run, const std::vector<uint64_t>& steps, Moment moment);
/// Errors: none such; pinned; the parent of an open transaction.
Status DeleteVersion(CkptRun* run, uint64_t step, Moment moment);
/// LATEST becomes `step`: versions above it stay but are passed over. Errors: none such.
Status Rollback(CkptRun* run, uint64_t step, Moment moment);
/// Errors: too many tags.
Status SetTag(CkptRun* run, std::string_view name, uint64_t step, bool pinned);
void RemoveTag(CkptRun* run, std::string_view name);
bool IsPinned(const CkptRun& run, uint64_t step);
/// An open transaction whose parent is the version of `step`, or nullptr. Borrows from `run`.
const Transaction* FindChild(const CkptRun& run, uint64_t step);

}  // namespace cairn::tensor
