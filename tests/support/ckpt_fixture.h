#pragma once

// CkptTest: the fixture of the CKPT commands' tests: short words for the steps of a transaction.

#include <string>

#include "server/base/checksum.h"
#include "tests/support/tensor_fixture.h"

namespace cairn {

inline constexpr size_t kChunk = tensor::kChunkBytes;

/// Bytes without a pattern.
inline std::string Fill(size_t size, int seed) {
  std::string out(size, '\0');
  uint32_t state = static_cast<uint32_t>(seed) * 2654435761u + 1;
  for (char& c : out) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

class CkptTest : public TensorFixture {
 protected:
  std::string Begin(uint64_t step, Lines more = {}) {
    Lines args = {"CKPT.BEGIN", "run", std::to_string(step)};
    args.insert(args.end(), more.begin(), more.end());
    return Call(args).text;
  }
  std::string Rank(const std::string& tx, int rank, const std::string& command, Lines more = {}) {
    Lines args = {"CKPT." + command, "run", tx, "RANK", std::to_string(rank)};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  }
  std::string DeclareU8(const std::string& tx, const std::string& name, size_t size, int rank = 0) {
    return Rank(tx, rank, "DECLARE",
                {"1", name, "weights", "U8", "SHAPE", "1", std::to_string(size)});
  }
  std::string Put(const std::string& tx, const std::string& name, uint64_t at,
                  const std::string& bytes, int rank = 0) {
    return Rank(tx, rank, "PUT", {name, "AT", std::to_string(at), "BLOB", bytes});
  }
  /// A version of one U8 tensor "w".
  std::string Save(uint64_t step, const std::string& bytes) {
    return Run({"CKPT.SAVE", "run", std::to_string(step), "1", "w", "U8", "SHAPE", "1",
                std::to_string(bytes.size()), "BLOB", bytes});
  }
  std::string Bytes(const std::string& version, const std::string& name) {
    const RespValue reply = Call({"CKPT.LOAD", "run", version, name});
    return reply.IsError() ? "-" + reply.text : reply.elements.at(5).text;
  }
  std::string Field(const RespValue& map, const std::string& name) {
    for (size_t i = 0; i + 1 < map.elements.size(); i += 2) {
      if (map.elements[i].text == name) return map.elements[i + 1].ToString();
    }
    return "absent";
  }
  /// What stands behind what is logged with its time.
  std::string AtNow() const { return " AT " + std::to_string(harness_.now_ms()); }
  static std::string Word(const std::string& reply) { return reply.substr(0, reply.find(' ')); }
};

}  // namespace cairn
