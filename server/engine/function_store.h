#pragma once

// FunctionStore: the function libraries as saving, loading and flushing see them. Implemented by
// server/scripting, which knows what a library is; the engine only carries its source. Thread:
// executor.

#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"

namespace cairn {

class FunctionStore {
 public:
  virtual ~FunctionStore() = default;
  /// The sources of all libraries, each with its `#!` line, in the order of their names.
  virtual std::vector<std::string> Sources() const = 0;
  /// Makes a library of a file's source. Errors: Redis's lines of FUNCTION LOAD.
  virtual Status Restore(std::string_view source, bool replace) = 0;
  /// Forgets all libraries. `lazy`: the reaper frees what is much.
  virtual void Clear(bool lazy) = 0;
};

}  // namespace cairn
