#pragma once

// Bytes of a mapped file, which the disk may refuse at the moment they are touched: a bad sector,
// or a file that somebody has shortened, would end the process with SIGBUS.

#include <cstddef>
#include <string_view>

#include "server/base/hash.h"

namespace cairn {

inline constexpr size_t kPageBytes = 4096;

/// Brings the pages of `bytes` into memory. False: some of them cannot be read, and must not be
/// touched. True of any other memory, and where the kernel is too old to be asked (before 5.14).
/// The pages of a file may go again, and then the next touch is at its own risk. Cost: a system
/// call and what the disk takes. Source: madvise(2), MADV_POPULATE_READ.
bool CanRead(std::string_view bytes);
/// The same, and they are those of the hash.
bool CanReadAs(std::string_view bytes, Hash128 hash);

/// A hint: the pages of `bytes` are about to be read. Does not wait for the disk.
void WillRead(std::string_view bytes);

}  // namespace cairn
