#pragma once

// SaveTarget: what a value may know of the file it is saved to. A value that keeps part of itself
// in files of its own beside the server's (module_api.h, save_target) names them instead of
// emitting what they hold, when its sink is one that has a target; to all others it emits
// everything.

#include <cstdint>
#include <string>
#include <vector>

namespace cairn {

struct SaveTarget {
  std::string directory;           ///< the server's, absolute; empty: none, emit everything
  uint64_t number = 0;             ///< of the save, ascending within a process, from 1
  std::vector<std::string> files;  ///< that the save becomes, relative to directory
};

/// What a ValueSink is besides when its bytes may go to a file that stays in the server's
/// directory.
class TargetedSink {
 public:
  /// nullptr: this one does not.
  virtual const SaveTarget* target() const = 0;

 protected:
  ~TargetedSink() = default;
};

}  // namespace cairn
