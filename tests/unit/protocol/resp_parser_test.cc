#include "server/protocol/resp_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace cairn {
namespace {

std::string Encode(const std::vector<std::string>& args) {
  std::string wire = "*" + std::to_string(args.size()) + "\r\n";
  for (const std::string& arg : args) {
    wire += "$" + std::to_string(arg.size()) + "\r\n" + arg + "\r\n";
  }
  return wire;
}

// All a caller can observe of one stream.
struct Outcome {
  std::vector<std::vector<std::string>> requests;
  std::string error;
  size_t wire_bytes = 0;
  size_t left = 0;
  bool operator==(const Outcome&) const = default;
};

void Drain(RequestParser* parser, Outcome* outcome) {
  Request request;
  ParseResult result;
  while ((result = parser->Next(&request)) == ParseResult::kRequest) {
    outcome->requests.emplace_back(request.args.begin(), request.args.end());
    outcome->wire_bytes += request.wire_bytes;
    for (const Request::BigArgument& big : request.blobs) {
      EXPECT_EQ(big.blob.view(), request.args[big.index]);
    }
  }
  if (result == ParseResult::kProtocolError) outcome->error = parser->error();
}

// Feeds with chunks that `chunk` chooses; 0 from it means as much as the parser has room for.
template <typename Chunk>
Outcome Feed(std::string_view wire, Chunk chunk, bool authenticated = true) {
  RequestParser parser;
  parser.set_authenticated(authenticated);
  Outcome outcome;
  while (!wire.empty() && outcome.error.empty()) {
    const std::span<char> room = parser.Reserve(wire.size());
    size_t size = chunk();
    if (size == 0) size = wire.size();
    size = std::min({size, room.size(), wire.size()});
    std::memcpy(room.data(), wire.data(), size);
    wire.remove_prefix(size);
    parser.Commit(size);
    Drain(&parser, &outcome);
  }
  outcome.left = outcome.error.empty() ? parser.buffered_bytes() : 0;
  return outcome;
}

Outcome FeedWhole(std::string_view wire, bool authenticated = true) {
  return Feed(
      wire, [] { return size_t{0}; }, authenticated);
}
Outcome FeedBytewise(std::string_view wire, bool authenticated = true) {
  return Feed(
      wire, [] { return size_t{1}; }, authenticated);
}

using Requests = std::vector<std::vector<std::string>>;

struct Case {
  std::string wire;
  Requests requests;
  std::string error;
};

void ExpectCase(const Case& c, bool authenticated = true) {
  const std::string shown = c.wire.substr(0, 60);
  for (const Outcome& outcome :
       {FeedWhole(c.wire, authenticated), FeedBytewise(c.wire, authenticated)}) {
    EXPECT_EQ(outcome.requests, c.requests) << shown;
    EXPECT_EQ(outcome.error, c.error.empty() ? "" : "ERR Protocol error: " + c.error) << shown;
  }
}

// The error texts below were read from redis-server 7.0.15 over a socket.
TEST(RequestParserTest, MalformedHeadersGetTheErrorLinesOfRedis) {
  const Case cases[] = {
      {"*abc\r\n", {}, "invalid multibulk length"},
      {"*\r\n", {}, "invalid multibulk length"},
      {"*+1\r\n", {}, "invalid multibulk length"},
      {"*01\r\n", {}, "invalid multibulk length"},
      {"*-0\r\n", {}, "invalid multibulk length"},
      {"* 1\r\n", {}, "invalid multibulk length"},
      {"*2147483648\r\n", {}, "invalid multibulk length"},
      {"*99999999999999999999\r\n", {}, "invalid multibulk length"},
      {"*2147483647\r\nx\r\n", {}, "expected '$', got 'x'"},
      {"*1\r\nx\r\n", {}, "expected '$', got 'x'"},
      {"*1\r\n\r\n\r\n", {}, "expected '$', got ' '"},
      {"*1\r\n\n\r\n", {}, "expected '$', got ' '"},
      {"*1\r\n\xff\r\n", {}, "expected '$', got '\xff'"},
      {"*1\r\n$-1\r\n", {}, "invalid bulk length"},
      {"*1\r\n$\r\n", {}, "invalid bulk length"},
      {"*1\r\n$04\r\nPING\r\n", {}, "invalid bulk length"},
      {"*1\r\n$4x\r\nPING\r\n", {}, "invalid bulk length"},
      {"*1\r\n$536870913\r\n", {}, "invalid bulk length"},
      {"*1\r\n$4\r\nPING\r\n*x\r\n", {{"PING"}}, "invalid multibulk length"},
  };
  for (const Case& c : cases) ExpectCase(c);
}

TEST(RequestParserTest, EmptyRequestsAreSkippedAndLineFeedsTakenUnseen) {
  const Case cases[] = {
      {"*0\r\nPING\r\n", {{"PING"}}, ""},
      {"*-1\r\nPING\r\n", {{"PING"}}, ""},
      {"*-9223372036854775808\r\nPING\r\n", {{"PING"}}, ""},
      {"\r\n\n  \r\nPING\r\n", {{"PING"}}, ""},
      {"*1\rX$4\rYPINGabPING\r\n", {{"PING"}, {"PING"}}, ""},
      {"*1\r\n$0\r\n\r\n", {{""}}, ""},
  };
  for (const Case& c : cases) ExpectCase(c);
}

TEST(RequestParserTest, InlineWordsAreQuotedAsInRedis) {
  const Case cases[] = {
      {"ECHO \"a\\x41\\n\\q\"\r\n", {{"ECHO", "aA\nq"}}, ""},
      {"ECHO \"\\xZZ\\\\\"\n", {{"ECHO", "xZZ\\"}}, ""},
      {"ECHO foo\"bar\"\r\n", {{"ECHO", "foobar"}}, ""},
      {"ECHO 'it\\'s'\r\n", {{"ECHO", "it's"}}, ""},
      {"ECHO '' \"\"\r\n", {{"ECHO", "", ""}}, ""},
      {"ECHO a\vb\r\n", {{"ECHO", "a\vb"}}, ""},
      {"\vECHO a\r\n", {{"ECHO", "a"}}, ""},
      {"ECHO a\rb\r\n", {{"ECHO", "a", "b"}}, ""},
      {"  ECHO   a  \r\n", {{"ECHO", "a"}}, ""},
      {"SET a \"b\n", {}, "unbalanced quotes in request"},
      {"SET a \"b\\\n", {}, "unbalanced quotes in request"},
      {"SET a 'b'c\r\n", {}, "unbalanced quotes in request"},
      {"SET a \"b\"c\r\n", {}, "unbalanced quotes in request"},
  };
  for (const Case& c : cases) ExpectCase(c);
}

TEST(RequestParserTest, NulHidesTheLineEnd) {
  const std::string wire("ECHO a\0b\r\nPING\r\n", 16);
  ExpectCase({wire, {}, ""});
  ExpectCase({std::string("*1\0\r\nPING\r\n", 11), {}, ""});
  ExpectCase({wire + std::string(kMaxLineBytes, 'x'), {}, "too big inline request"});
}

TEST(RequestParserTest, LineLimitsAtTheEdgeAndOnePast) {
  const std::string word(kMaxLineBytes, 'x');
  ExpectCase({word + "\n", {{word}}, ""});
  ExpectCase({word + "x", {}, "too big inline request"});
  ExpectCase({"*" + std::string(kMaxLineBytes - 1, '1'), {}, ""});
  ExpectCase({"*" + std::string(kMaxLineBytes, '1'), {}, "too big mbulk count string"});
  ExpectCase({"*1\r\n$" + std::string(kMaxLineBytes - 1, '1'), {}, ""});
  ExpectCase({"*1\r\n$" + std::string(kMaxLineBytes, '1'), {}, "too big bulk count string"});
}

TEST(RequestParserTest, SmallLimitsBeforeAuthentication) {
  ExpectCase({"*10\r\n$16384\r\n", {}, ""}, false);
  ExpectCase({"*11\r\n", {}, "unauthenticated multibulk length"}, false);
  ExpectCase({"*1\r\n$16385\r\n", {}, "unauthenticated bulk length"}, false);
  ExpectCase({"*2147483648\r\n", {}, "invalid multibulk length"}, false);
  ExpectCase({"*11\r\n", {}, ""}, true);
}

TEST(RequestParserTest, MaxBulkBytesAppliesFromTheNextHeaderOn) {
  RequestParser parser;
  const auto receive = [&parser](std::string_view wire) {
    std::memcpy(parser.Reserve(wire.size()).data(), wire.data(), wire.size());
    parser.Commit(wire.size());
  };
  Request request;
  parser.set_max_bulk_bytes(kLeastMaxBulkBytes);
  receive("*2\r\n$1048576\r\n");
  EXPECT_EQ(parser.Next(&request), ParseResult::kNeedMore);
  const std::span<char> room = parser.Reserve();
  ASSERT_EQ(room.size(), size_t{1048576});
  std::memset(room.data(), 'a', room.size());
  parser.Commit(room.size());
  EXPECT_EQ(parser.Next(&request), ParseResult::kNeedMore);
  receive("\r\n");
  EXPECT_EQ(parser.Next(&request), ParseResult::kNeedMore);
  receive("$1048577\r\n");
  EXPECT_EQ(parser.Next(&request), ParseResult::kProtocolError);
  EXPECT_EQ(parser.error(), "ERR Protocol error: invalid bulk length");
  EXPECT_EQ(parser.Next(&request), ParseResult::kProtocolError);
}

// The shortest last arguments end within the eight bytes that the header reader looks at, and
// counts and sizes change their number of digits: all must be read alike, whole or cut.
TEST(RequestParserTest, ShortTailsAndDigitCountsAreReadAlike) {
  for (const size_t count : {1, 2, 9, 10, 11, 21, 98, 99, 100, 101}) {
    for (const size_t size : {0, 1, 2, 3, 9, 10, 99, 100, 999, 1000, 9999, 10000}) {
      std::string wire = "*" + std::to_string(count) + "\r\n";
      for (size_t i = 0; i < count; ++i) {
        const size_t bytes = i + 1 == count ? size : 1;
        wire += "$" + std::to_string(bytes) + "\r\n" + std::string(bytes, 'a') + "\r\n";
      }
      RequestParser parser;
      Request request;
      const std::string_view whole = wire;
      for (const std::string_view piece :
           {whole.substr(0, whole.size() - 1), whole.substr(whole.size() - 1), whole}) {
        const std::span<char> space = parser.Reserve(piece.size());
        ASSERT_GE(space.size(), piece.size());
        piece.copy(space.data(), piece.size());
        parser.Commit(piece.size());
        const ParseResult result = parser.Next(&request);
        if (piece.size() == whole.size() - 1) {
          EXPECT_EQ(result, ParseResult::kNeedMore);
          continue;
        }
        ASSERT_EQ(result, ParseResult::kRequest) << count << " " << size;
        EXPECT_EQ(request.args.size(), count);
        EXPECT_EQ(request.args.back(), std::string(size, 'a'));
        EXPECT_EQ(request.wire_bytes, wire.size());
        EXPECT_EQ(parser.Next(&request), ParseResult::kNeedMore);
      }
    }
  }
}

TEST(RequestParserTest, PipelineIsViewsIntoOneRead) {
  std::string wire;
  for (int i = 0; i < 300; ++i) wire += Encode({"SET", "key:" + std::to_string(i), "v"});
  RequestParser parser;
  const std::span<char> room = parser.Reserve(wire.size());
  ASSERT_GE(room.size(), wire.size());
  std::memcpy(room.data(), wire.data(), wire.size());
  parser.Commit(wire.size());
  std::vector<Request> batch(300);
  for (Request& request : batch) ASSERT_EQ(parser.Next(&request), ParseResult::kRequest);
  for (int i = 0; i < 300; ++i) {
    const Request& request = batch[static_cast<size_t>(i)];
    ASSERT_EQ(request.args.size(), 3u);
    EXPECT_EQ(request.args[1], "key:" + std::to_string(i));
    EXPECT_GE(request.args[1].data(), room.data());
    EXPECT_LT(request.args[1].data(), room.data() + wire.size());
  }
  Request more;
  EXPECT_EQ(parser.Next(&more), ParseResult::kNeedMore);
  EXPECT_EQ(parser.buffered_bytes(), 0u);
}

TEST(RequestParserTest, BigArgumentIsReceivedInItsBlob) {
  const std::string big(kBigArgument * 3, 'b');
  const std::string head = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$" + std::to_string(big.size()) + "\r\n";
  RequestParser parser;
  std::span<char> room = parser.Reserve();
  const std::string first = head + big.substr(0, 10);
  std::memcpy(room.data(), first.data(), first.size());
  parser.Commit(first.size());
  Request request;
  ASSERT_EQ(parser.Next(&request), ParseResult::kNeedMore);
  EXPECT_EQ(parser.buffered_bytes(), first.size());

  room = parser.Reserve();
  ASSERT_EQ(room.size(), big.size() - 10) << "the whole rest of the blob is offered";
  std::memcpy(room.data(), big.data() + 10, room.size());
  const char* const blob_bytes = room.data() - 10;
  parser.Commit(room.size());
  ASSERT_EQ(parser.Next(&request), ParseResult::kNeedMore) << "the line end is still missing";

  const std::string rest = "\r\n" + Encode({"PING"});
  room = parser.Reserve();
  std::memcpy(room.data(), rest.data(), rest.size());
  parser.Commit(rest.size());
  ASSERT_EQ(parser.Next(&request), ParseResult::kRequest);
  EXPECT_EQ(request.args[1], "k");
  EXPECT_EQ(request.args[2].data(), blob_bytes);
  EXPECT_EQ(request.args[2], big);
  ASSERT_NE(request.FindBlob(2), nullptr);
  EXPECT_EQ(request.FindBlob(1), nullptr);
  EXPECT_EQ(request.wire_bytes, head.size() + big.size() + 2);
  ASSERT_EQ(parser.Next(&request), ParseResult::kRequest);
  EXPECT_EQ(request.args[0], "PING");
  EXPECT_TRUE(request.blobs.empty());
}

TEST(RequestParserTest, BlobsBeginAtExactlyTheThreshold) {
  for (const size_t size : {kBigArgument - 1, kBigArgument, kBigArgument + 1}) {
    const std::string value(size, 'v');
    const std::string wire = Encode({"SET", value, "x", value});
    RequestParser parser;
    Request request;
    std::string_view rest = wire;
    while (!rest.empty()) {
      const std::span<char> room = parser.Reserve();
      const size_t taken = std::min(room.size(), rest.size());
      std::memcpy(room.data(), rest.data(), taken);
      parser.Commit(taken);
      rest.remove_prefix(taken);
      EXPECT_EQ(parser.Next(&request),
                rest.empty() ? ParseResult::kRequest : ParseResult::kNeedMore);
    }
    EXPECT_EQ(request.blobs.size(), size >= kBigArgument ? 2u : 0u);
    EXPECT_EQ(request.args[1], value);
    EXPECT_EQ(request.args[2], "x");
    EXPECT_EQ(request.args[3], value);
    EXPECT_EQ(request.wire_bytes, wire.size());
  }
}

class RefusingSource : public BlobSource {
 public:
  Blob* Allocate(size_t size) override {
    asked = size;
    return nullptr;
  }
  size_t asked = 0;
};

TEST(RequestParserTest, RefusedMemoryIsAnErrorOfTheClient) {
  RefusingSource source;
  RequestParser parser(&source);
  const std::string wire = "*1\r\n$100000\r\n";
  std::memcpy(parser.Reserve().data(), wire.data(), wire.size());
  parser.Commit(wire.size());
  Request request;
  EXPECT_EQ(parser.Next(&request), ParseResult::kProtocolError);
  EXPECT_EQ(source.asked, 100000u);
}

/// Gives memory whose pages come when the test says so.
class SlowSource : public BlobSource {
 public:
  Blob* Allocate(size_t size) override { return Blob::Create(size); }
  bool IsWarm(const Blob&) const override { return warm; }
  bool warm = false;
};

TEST(RequestParserTest, WaitsForTheMemoryOfABigArgument) {
  const std::string value(300'000, 'v');
  const std::string wire = Encode({"SET", "key", value}) + Encode({"PING"});
  for (const size_t ahead : {size_t{40}, size_t{5'000}, wire.size()}) {
    SlowSource source;
    RequestParser parser(&source);
    Request request;
    std::memcpy(parser.Reserve(wire.size()).data(), wire.data(), ahead);
    parser.Commit(ahead);
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(parser.Next(&request), ParseResult::kNeedMore);
      ASSERT_TRUE(parser.waits_for_memory());
      ASSERT_FALSE(parser.memory_came());
    }
    source.warm = true;
    // Still, until it is asked again: the bytes that were read must go in first.
    ASSERT_TRUE(parser.waits_for_memory());
    ASSERT_TRUE(parser.memory_came());
    std::string_view rest = std::string_view(wire).substr(ahead);
    ParseResult result = parser.Next(&request);
    ASSERT_FALSE(parser.waits_for_memory());
    while (result == ParseResult::kNeedMore) {
      ASSERT_FALSE(rest.empty());
      const std::span<char> room = parser.Reserve();
      const size_t taken = std::min(room.size(), rest.size());
      std::memcpy(room.data(), rest.data(), taken);
      parser.Commit(taken);
      rest.remove_prefix(taken);
      result = parser.Next(&request);
    }
    ASSERT_EQ(result, ParseResult::kRequest);
    EXPECT_EQ(request.args[2], value) << ahead;
  }
}

TEST(RequestParserTest, ShrinksWhenIdleAndKeepsAPartialRequest) {
  RequestParser parser;
  const std::string large = Encode({"SET", std::string(60000, 'x')});
  const std::string partial = "*2\r\n$4\r\nECHO\r\n$2\r\nh";
  const std::string wire = large + large + partial;
  std::memcpy(parser.Reserve(wire.size()).data(), wire.data(), wire.size());
  parser.Commit(wire.size());
  Request request;
  ASSERT_EQ(parser.Next(&request), ParseResult::kRequest);
  ASSERT_EQ(parser.Next(&request), ParseResult::kRequest);
  ASSERT_EQ(parser.Next(&request), ParseResult::kNeedMore);
  EXPECT_TRUE(parser.in_request());
  const size_t before = parser.footprint();
  parser.ShrinkIfIdle();
  EXPECT_LT(parser.footprint(), before / 4);
  std::memcpy(parser.Reserve().data(), "i\r\n", 3);
  parser.Commit(3);
  ASSERT_EQ(parser.Next(&request), ParseResult::kRequest);
  EXPECT_EQ(request.args[1], "hi");
  EXPECT_FALSE(parser.in_request());
  parser.ShrinkIfIdle();
  EXPECT_LT(parser.footprint(), kReadBufferInitialBytes);
}

std::string RandomWire(std::mt19937_64* random) {
  const auto below = [random](size_t n) { return static_cast<size_t>((*random)() % n); };
  std::string wire;
  const size_t requests = 1 + below(30);
  for (size_t r = 0; r < requests; ++r) {
    if (below(5) == 0) {
      static const char* const kLines[] = {"PING\r\n", "\r\n", "*0\r\n", "SET a \"b c\"\n",
                                           "*-1\r\n"};
      wire += kLines[below(5)];
      continue;
    }
    std::vector<std::string> args(1 + below(12));
    for (std::string& arg : args) {
      static constexpr size_t kSizes[] = {0,           1, 9, 10, 99, 100, 3000, kBigArgument - 1,
                                          kBigArgument};
      const size_t size = kSizes[below(below(8) == 0 ? 9 : 6)];
      arg.assign(size, static_cast<char>(below(256)));
    }
    wire += Encode(args);
  }
  if (below(4) == 0) wire[below(wire.size())] = static_cast<char>(below(256));
  wire.resize(wire.size() - below(4));
  return wire;
}

TEST(RequestParserTest, AnyChunkingGivesTheSameRequests) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    std::mt19937_64 random(seed);
    const std::string wire = RandomWire(&random);
    const Outcome whole = FeedWhole(wire);
    const Outcome random_chunks = Feed(wire, [&] { return 1 + random() % (random() % 5000 + 1); });
    EXPECT_EQ(random_chunks, whole) << "seed " << seed;
    if (seed % 10 == 0) {
      EXPECT_EQ(FeedBytewise(wire), whole) << "seed " << seed;
    }
  }
}

TEST(RequestParserTest, ManyArgumentsInOneRequest) {
  std::vector<std::string> args(100000, "x");
  args[0] = "DEL";
  const Outcome outcome = Feed(Encode(args), [] { return size_t{1000}; });
  ASSERT_EQ(outcome.requests.size(), 1u);
  EXPECT_EQ(outcome.requests[0], args);
}

}  // namespace
}  // namespace cairn
