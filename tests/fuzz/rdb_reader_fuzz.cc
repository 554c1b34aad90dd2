// Whatever the bytes are, the RDB reader ends with a Status: no crash, no memory beyond the input's
// size times the LZF ratio. The checksum is off, or nothing would get past it. What it accepts is
// written again, and that must be readable.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  std::string copy;
  StringByteSink bytes(&copy);
  RdbWriter writer(&bytes, {});
  CAIRN_CHECK(writer.Start().ok());
  RdbReadOptions options;
  options.verify_checksum = false;
  RdbReader reader({reinterpret_cast<const char*>(data), size}, "fuzz", options);
  if (!reader.Load(writer).ok()) return 0;
  CAIRN_CHECK(writer.Finish().ok());

  std::string again_bytes;
  StringByteSink again_sink(&again_bytes);
  RdbWriter again(&again_sink, {});
  RdbReader second(copy, "copy", {});
  CAIRN_CHECK(second.Load(again).ok());
  CAIRN_CHECK(second.counts().keys == reader.counts().keys);
  return 0;
}
