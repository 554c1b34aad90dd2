#include "server/protocol/resp_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace cairn {
namespace {

template <typename Write>
std::string Written(int version, Write write) {
  ReplyBuffer buffer;
  RespWriter writer(&buffer, version);
  write(&writer);
  return buffer.Flatten();
}

#define EXPECT_WIRE(call, resp2, resp3)                                  \
  EXPECT_EQ(Written(2, [](RespWriter* w) { w->call; }), resp2) << #call; \
  EXPECT_EQ(Written(3, [](RespWriter* w) { w->call; }), resp3) << #call

// Forms as DEBUG PROTOCOL of redis-server 7.0.15 sends them.
TEST(RespWriterTest, EachKindInBothVersions) {
  EXPECT_WIRE(Ok(), "+OK\r\n", "+OK\r\n");
  EXPECT_WIRE(SimpleString("PONG"), "+PONG\r\n", "+PONG\r\n");
  EXPECT_WIRE(Bulk("Hello World"), "$11\r\nHello World\r\n", "$11\r\nHello World\r\n");
  EXPECT_WIRE(Bulk(""), "$0\r\n\r\n", "$0\r\n\r\n");
  EXPECT_WIRE(EmptyBulk(), "$0\r\n\r\n", "$0\r\n\r\n");
  EXPECT_WIRE(BulkInt64(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n");
  EXPECT_WIRE(Null(), "$-1\r\n", "_\r\n");
  EXPECT_WIRE(NullArray(), "*-1\r\n", "_\r\n");
  EXPECT_WIRE(Double(3.141), "$5\r\n3.141\r\n", ",3.141\r\n");
  EXPECT_WIRE(DoubleText("0.1"), "$3\r\n0.1\r\n", ",0.1\r\n");
  EXPECT_WIRE(BigNumber("1234567999999999999999999999999999999"),
              "$37\r\n1234567999999999999999999999999999999\r\n",
              "(1234567999999999999999999999999999999\r\n");
  EXPECT_WIRE(Boolean(true), ":1\r\n", "#t\r\n");
  EXPECT_WIRE(Boolean(false), ":0\r\n", "#f\r\n");
  EXPECT_WIRE(Verbatim("txt", "This is a verbatim\nstring"),
              "$25\r\nThis is a verbatim\nstring\r\n", "=29\r\ntxt:This is a verbatim\nstring\r\n");
  EXPECT_WIRE(ArrayHeader(3), "*3\r\n", "*3\r\n");
  EXPECT_WIRE(MapHeader(3), "*6\r\n", "%3\r\n");
  EXPECT_WIRE(SetHeader(12), "*12\r\n", "~12\r\n");
  EXPECT_WIRE(PushHeader(2), "*2\r\n", ">2\r\n");
  EXPECT_EQ(Written(3, [](RespWriter* w) { w->AttributeHeader(1); }), "|1\r\n");
}

TEST(RespWriterTest, IntegersAtTheEdges) {
  for (const int64_t value :
       {int64_t{0}, int64_t{1}, int64_t{9}, int64_t{10}, int64_t{-1},
        std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
    ReplyBuffer buffer;
    RespWriter(&buffer).Integer(value);
    EXPECT_EQ(buffer.Flatten(), ":" + std::to_string(value) + "\r\n");
  }
}

// Texts as ZSCORE of redis-server 7.0.15 replies them.
TEST(RespWriterTest, DoublesHaveSeventeenDigits) {
  EXPECT_WIRE(Double(0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n");
  EXPECT_WIRE(Double(1), "$1\r\n1\r\n", ",1\r\n");
  EXPECT_WIRE(Double(1e17), "$5\r\n1e+17\r\n", ",1e+17\r\n");
  EXPECT_WIRE(Double(123456789012345678.0), "$22\r\n1.2345678901234568e+17\r\n",
              ",1.2345678901234568e+17\r\n");
  EXPECT_WIRE(Double(1e300), "$23\r\n1.0000000000000001e+300\r\n", ",1.0000000000000001e+300\r\n");
  EXPECT_WIRE(Double(INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
  EXPECT_WIRE(Double(-INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
}

TEST(RespWriterTest, ErrorsStayOnOneLine) {
  EXPECT_WIRE(Error("a\r\nb\r\n"), "-a  b  \r\n", "-a  b  \r\n");
  EXPECT_WIRE(StatusReply(Status::Client("ERR a\nb\r\n")), "-ERR a b\r\n", "-ERR a b\r\n");
  EXPECT_WIRE(StatusReply(Status::Io("open x: denied")), "-ERR open x: denied\r\n",
              "-ERR open x: denied\r\n");
}

TEST(RespWriterTest, DeferredCountsNest) {
  const auto write = [](RespWriter* w) {
    const auto outer = w->BeginDeferred();
    w->Integer(1);
    const auto inner = w->BeginDeferred();
    w->Bulk("k");
    w->Bulk("v");
    w->EndDeferredMap(inner, 1);
    const auto set = w->BeginDeferred();
    w->EndDeferredSet(set, 0);
    w->EndDeferredArray(outer, 3);
    w->Ok();
  };
  EXPECT_EQ(Written(2, write), "*3\r\n:1\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n*0\r\n+OK\r\n");
  EXPECT_EQ(Written(3, write), "*3\r\n:1\r\n%1\r\n$1\r\nk\r\n$1\r\nv\r\n~0\r\n+OK\r\n");
}

TEST(RespWriterTest, BulkBlobSendsTheBytesOfTheBlob) {
  ReplyBuffer buffer;
  RespWriter writer(&buffer);
  const std::string bytes(kReplyByReferenceBytes, 'v');
  const BlobRef blob = BlobRef::Copy(bytes);
  writer.BulkBlob({blob, 0, bytes.size()});
  writer.BulkBlob({blob, 1, 2});
  EXPECT_EQ(buffer.Flatten(), "$16384\r\n" + bytes + "\r\n$2\r\nvv\r\n");
  std::string_view pieces[4];
  ASSERT_EQ(buffer.GatherPieces(pieces), 3u);
  EXPECT_EQ(pieces[1].data(), blob->data());
}

}  // namespace
}  // namespace cairn
