// What a primary says outside RESP: the lines of the handshake never name what they do not hold,
// and a copy in any pieces gives the same file as in one, wherever its mark begins.

#include <cstdint>
#include <string>
#include <string_view>

#include "server/base/check.h"
#include "server/replication/link_parser.h"

namespace {

using cairn::CopyHeader;
using cairn::CopyReader;
using cairn::PsyncAnswer;

bool Inside(std::string_view whole, std::string_view part) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

struct Outcome {
  std::string file;
  size_t taken = 0;
  bool done = false;
  bool operator==(const Outcome&) const = default;
};

// `seed` 0 gives all at once. A marked copy is known to end only where a read ends: the pieces of a
// wire that goes on behind its mark may end there or not, so such wires are cut at the mark.
Outcome Receive(CopyReader reader, std::string_view wire, uint32_t seed) {
  Outcome outcome;
  while (!wire.empty() && !reader.done()) {
    size_t size = wire.size();
    if (seed != 0) {
      seed = seed * 1664525 + 1013904223;
      size = std::min<size_t>(size, 1 + (seed >> 16) % 60);
    }
    const size_t taken = reader.Take(wire.substr(0, size), &outcome.file);
    CAIRN_CHECK(taken <= size);
    CAIRN_CHECK(taken == size || reader.done());
    outcome.taken += taken;
    wire.remove_prefix(taken);
  }
  outcome.done = reader.done();
  return outcome;
}

void CheckLines(std::string_view line) {
  const PsyncAnswer answer = cairn::ParsePsyncAnswer(line);
  CAIRN_CHECK(Inside(line, answer.id));
  CAIRN_CHECK(answer.id.empty() || answer.id.size() == cairn::kReplicationIdBytes);
  if (answer.kind == PsyncAnswer::Kind::kFullResync) {
    CAIRN_CHECK(!answer.id.empty());
    CAIRN_CHECK(answer.offset <= static_cast<uint64_t>(INT64_MAX));
  }
  const CopyHeader header = cairn::ParseCopyHeader(line);
  CAIRN_CHECK(Inside(line, header.mark));
  CAIRN_CHECK((header.kind == CopyHeader::Kind::kMark) == !header.mark.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint32_t seed = 1u + data[1];
  const std::string_view input(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t line_end = input.find('\n');
  const std::string_view line = input.substr(0, line_end);
  CheckLines(line);
  if (line_end == std::string_view::npos) return 0;
  std::string wire(input.substr(line_end + 1));
  const CopyHeader header = cairn::ParseCopyHeader(line);
  if (header.kind == CopyHeader::Kind::kLength) {
    const Outcome whole = Receive(CopyReader(header.length), wire, 0);
    CAIRN_CHECK(whole == Receive(CopyReader(header.length), wire, seed));
    CAIRN_CHECK(whole.file == std::string_view(wire).substr(0, header.length));
  } else if (header.kind == CopyHeader::Kind::kMark) {
    const std::string mark(header.mark);
    if (const size_t at = wire.find(mark); at != std::string::npos) wire.resize(at);
    const std::string file = wire;
    wire += mark;
    // The file's end and the mark's beginning may look like a mark that comes sooner.
    wire.resize(wire.find(mark) + mark.size());
    const Outcome whole = Receive(CopyReader(mark), wire, 0);
    CAIRN_CHECK(whole.done);
    CAIRN_CHECK(whole == Receive(CopyReader(mark), wire, seed));
    CAIRN_CHECK(whole.file == file.substr(0, wire.size() - mark.size()));
  }
  return 0;
}
