// FUNCTION DUMP's payload: written, read back, and refused when anything of it is wrong.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/checksum.h"

namespace cairn {
namespace {

using Sources = std::vector<std::string>;

std::string Dump(const Sources& sources, bool compress = true) {
  DumpWriter writer(compress);
  for (const std::string& source : sources) EXPECT_TRUE(writer.FunctionLibrary(source).ok());
  return writer.Finish().value();
}

std::string Read(std::string_view payload, Sources* sources, bool skip_checksum = false) {
  const auto take = [sources](std::string_view source) {
    sources->emplace_back(source);
    return Status::Ok();
  };
  return std::string(ReadFunctionsPayload(payload, skip_checksum, take).message());
}

/// The footer of version 10 behind any bytes.
std::string Signed(std::string body) {
  body += std::string("\x0a\x00", 2);
  uint64_t crc = Crc64(0, body);
  for (int i = 0; i < 8; ++i, crc >>= 8) body += static_cast<char>(crc & 0xff);
  return body;
}

TEST(FunctionsPayloadTest, ComesBackAsItWent) {
  for (const Sources& sources :
       {Sources{}, Sources{"#!lua name=a\nx"}, Sources{"a", std::string(100000, 'y'), ""}}) {
    for (bool compress : {true, false}) {
      Sources read;
      EXPECT_EQ(Read(Dump(sources, compress), &read), "");
      EXPECT_EQ(read, sources);
    }
  }
}

TEST(FunctionsPayloadTest, TheWorkedExample) {
  // Opcode 245, a length of 2, the two bytes; then version and checksum.
  EXPECT_EQ(Dump({"ab"}), Signed("\xf5\x02"
                                 "ab"));
}

TEST(FunctionsPayloadTest, RefusesWhatIsNoLibrary) {
  Sources read;
  EXPECT_EQ(Read(Signed("\x01"), &read), "ERR given type is not a function");
  EXPECT_EQ(Read(Signed("\xf6\x01"
                        "a"),
                 &read),
            "ERR Pre-GA function format not supported");
  EXPECT_EQ(Read(Signed("\xf5"), &read), "ERR Failed loading library payload");
  EXPECT_EQ(Read(Signed("\xf5\x80"), &read), "ERR Failed loading library payload");
  EXPECT_TRUE(read.empty());
  for (std::string_view broken : {"", "short", "ten bytes."})
    EXPECT_EQ(Read(broken, &read), "ERR DUMP payload version or checksum are wrong");
}

TEST(FunctionsPayloadTest, StopsWhereTheVisitorDoes) {
  int visited = 0;
  const Status status = ReadFunctionsPayload(Dump({"a", "b", "c"}), false, [&](std::string_view) {
    return ++visited == 2 ? Status::Client("ERR enough") : Status::Ok();
  });
  EXPECT_EQ(status.message(), "ERR enough");
  EXPECT_EQ(visited, 2);
}

}  // namespace
}  // namespace cairn
