// Any bytes as a segment of the chunk log; with a first byte of 1 as what follows a good header,
// and each head that it seems to have gets the check that fits it: then only sense is left to
// refuse it. What is accepted lies within the file, in order, and says where it is.

#include <cstdint>
#include <cstring>

#include "server/base/check.h"
#include "server/base/hash.h"
#include "tensor_module/chunk_log_format.h"

namespace {

using namespace cairn;
using namespace cairn::tensor;

void Check(std::string_view segment) {
  const SegmentScan scan = ScanSegment(segment);
  if (!scan.valid) return;
  CAIRN_CHECK(scan.end <= segment.size() && scan.synced <= scan.end);
  uint64_t at = kSegmentHeaderBytes;
  for (const ChunkRecord& record : scan.chunks) {
    CAIRN_CHECK(record.offset >= at && record.end() <= segment.size());
    CAIRN_CHECK(record.raw_bytes > 0 && record.raw_bytes <= kChunkBytes);
    CAIRN_CHECK(record.raw_bytes % DTypeSize(record.dtype) == 0);
    CAIRN_CHECK(record.stored_bytes == record.raw_bytes && record.synced <= record.offset);
    ChunkRecord again;
    CAIRN_CHECK(ParseRecord(segment, record.offset, scan.salt, &again));
    at = record.end();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] != 1) {
    Check(bytes);
    return 0;
  }
  constexpr uint64_t kSalt = 42;
  std::string segment = EncodeSegmentHeader(kSalt, 1);
  segment += bytes;
  for (size_t at = kSegmentHeaderBytes; at + kRecordHeadBytes <= segment.size();
       at += kRecordAlignment) {
    if (std::memcmp(segment.data() + at, "CREC", 4) != 0) continue;
    const uint64_t check = HashBytes({segment.data() + at, kRecordHeadBytes - 8}, kSalt);
    std::memcpy(segment.data() + at + kRecordHeadBytes - 8, &check, sizeof check);
  }
  Check(segment);
  return 0;
}
