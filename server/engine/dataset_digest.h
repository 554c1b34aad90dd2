#pragma once

// The digests of DEBUG DIGEST and DEBUG DIGEST-VALUE: equal data gives equal digests, on
// redis-server 7.0 too (module values excepted: there the module decides). Built from SHA-1 by two
// steps: Xor folds the hash of some bytes in, so that order does not matter; Mix does the same and
// hashes the result, so that it does. Nothing here looks at time: keys past their TTL count. Pure
// reading. Thread: executor.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/keyspace/keyspace.h"

namespace cairn {

class Digest {
 public:
  void Xor(std::string_view bytes);
  void Mix(std::string_view bytes);
  void Xor(const Digest& other) { Xor(other.bytes()); }
  void Mix32(uint32_t value);  ///< in network byte order
  std::string_view bytes() const {
    return {reinterpret_cast<const char*>(sum_.data()), sum_.size()};
  }
  std::string Hex() const;

 private:
  std::array<unsigned char, 20> sum_{};
};

/// The whole keyspace. Errors: those of values that cannot be emitted. Cost: a few SHA-1 of every
/// key and value.
Result<Digest> DigestOfKeyspace(Keyspace& keyspace);

/// One value with its TTL, without its key; all zeros for nullptr.
Result<Digest> DigestOfValue(const Entry* entry);

}  // namespace cairn
