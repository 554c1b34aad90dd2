// Any bytes, fed in chunks the input itself chooses, give the same requests, sizes and error as fed
// at once. Reserved room is filled with noise first, so that a parser that looks behind the
// committed bytes sees something else in each feeding.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "server/protocol/resp_parser.h"

namespace {

struct Outcome {
  std::vector<std::string> args;  // of all requests, each request closed by its size
  std::string error;
  bool operator==(const Outcome&) const = default;
};

// `noise` fills what is not yet committed; `seed` 0 feeds at once.
Outcome Feed(std::string_view wire, bool authenticated, uint32_t seed, char noise) {
  cairn::RequestParser parser;
  parser.set_authenticated(authenticated);
  parser.set_max_bulk_bytes(1 << 20);
  Outcome outcome;
  cairn::Request request;
  while (!wire.empty() && outcome.error.empty()) {
    const std::span<char> room = parser.Reserve(seed == 0 ? wire.size() : 64);
    std::memset(room.data(), noise, std::min<size_t>(room.size(), 4096));
    size_t size = std::min(wire.size(), room.size());
    if (seed != 0) {
      seed = seed * 1664525 + 1013904223;
      size = std::min<size_t>(size, 1 + (seed >> 16) % 40);
    }
    std::memcpy(room.data(), wire.data(), size);
    wire.remove_prefix(size);
    parser.Commit(size);
    cairn::ParseResult result;
    while ((result = parser.Next(&request)) == cairn::ParseResult::kRequest) {
      CAIRN_CHECK(!request.args.empty());
      for (std::string_view arg : request.args) outcome.args.emplace_back(arg);
      outcome.args.push_back(std::to_string(request.wire_bytes));
    }
    if (result == cairn::ParseResult::kProtocolError) outcome.error = parser.error();
    if (seed % 7 == 3) parser.ShrinkIfIdle();
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const bool authenticated = data[0] % 2 == 0;
  const uint32_t seed = 1u + data[1];
  const std::string_view wire(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Outcome whole = Feed(wire, authenticated, 0, '\r');
  const Outcome chunked = Feed(wire, authenticated, seed, '7');
  CAIRN_CHECK(whole == chunked);
  return 0;
}
