// The payloads of RESTORE and FUNCTION RESTORE, with the checksum check off as DEBUG
// SET-SKIP-CHECKSUM-VALIDATION does: any bytes give a Status, and what is accepted dumps to a
// payload that is accepted too.

#include <cstddef>
#include <cstdint>
#include <string>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/check.h"

namespace {

void CheckFunctions(std::string_view bytes) {
  using namespace cairn;
  DumpWriter first;
  const auto copy_to = [](DumpWriter& writer) {
    return [&writer](std::string_view source) { return writer.FunctionLibrary(source); };
  };
  if (!ReadFunctionsPayload(bytes, true, copy_to(first)).ok()) return;
  const std::string payload = first.Finish().value();
  DumpWriter second;
  CAIRN_CHECK(ReadFunctionsPayload(payload, false, copy_to(second)).ok());
  CAIRN_CHECK(second.Finish().value() == payload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  CheckFunctions(bytes);
  DumpWriter first;
  if (!ReadDumpPayload(bytes, first.sink(), true).ok()) return 0;
  const std::string payload = first.Finish().value();
  DumpWriter second;
  CAIRN_CHECK(ReadDumpPayload(payload, second.sink()).ok());
  CAIRN_CHECK(second.Finish().value() == payload);
  return 0;
}
