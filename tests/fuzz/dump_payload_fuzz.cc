// RESTORE's payload, with the checksum check off as DEBUG SET-SKIP-CHECKSUM-VALIDATION does: any
// bytes give a Status, and an accepted value dumps to a payload that is accepted too.

#include <cstddef>
#include <cstdint>
#include <string>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  DumpWriter first;
  if (!ReadDumpPayload({reinterpret_cast<const char*>(data), size}, first.sink(), true).ok())
    return 0;
  const std::string payload = first.Finish().value();
  DumpWriter second;
  CAIRN_CHECK(ReadDumpPayload(payload, second.sink()).ok());
  CAIRN_CHECK(second.Finish().value() == payload);
  return 0;
}
