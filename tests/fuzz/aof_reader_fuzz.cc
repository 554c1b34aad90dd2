// Any bytes as a manifest or as the text of a log end in a Status or a judgement, never in a crash.
// What a manifest accepts it writes in a form that it reads again; what a scan calls sound up to an
// offset is sound when cut there (the file that a start would leave behind must load).
//
// The first byte chooses: even, the rest is a manifest; odd, the text of a file.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/aof_manifest.h"
#include "persistence/aof_reader.h"
#include "server/base/check.h"

namespace {

class Counter final : public cairn::CommandSink {
 public:
  cairn::Status BeginFile(std::string_view) override { return cairn::Status::Ok(); }
  cairn::Status Command(std::span<const std::string_view> args) override {
    CAIRN_CHECK(!args.empty());
    for (std::string_view arg : args) {
      for (const char byte : arg) sum += static_cast<unsigned char>(byte);  // reads all of it
    }
    ++commands;
    return cairn::Status::Ok();
  }
  uint64_t commands = 0;
  uint64_t sum = 0;
};

void FuzzManifest(std::string_view text) {
  using namespace cairn;
  const Result<AofManifest> manifest = AofManifest::Parse(text, "fuzz");
  if (!manifest.ok()) {
    CAIRN_CHECK(manifest.status().code() == StatusCode::kCorruption);
    return;
  }
  if (manifest->empty()) return;
  const std::string written = manifest->Format();
  const Result<AofManifest> again = AofManifest::Parse(written, "again");
  // Quoting may make a line too long to be read; CheckAofName keeps our own names from that.
  if (!again.ok()) {
    CAIRN_CHECK(again.status().message().find("too long line") != std::string_view::npos);
    return;
  }
  CAIRN_CHECK(again->Format() == written);
}

void FuzzText(std::string_view text) {
  using namespace cairn;
  AofScan scan;
  Counter counter;
  CAIRN_CHECK(ScanAofText(text, 0, counter, &scan).ok());
  CAIRN_CHECK(scan.good_bytes <= text.size() && scan.error_offset <= text.size());
  CAIRN_CHECK(scan.commands == counter.commands);
  CAIRN_CHECK((scan.tail == AofTail::kWhole) == scan.reason.empty());
  if (scan.tail == AofTail::kWhole) {
    CAIRN_CHECK(scan.good_bytes + scan.pad_bytes == text.size());
    CAIRN_CHECK(text.find_first_not_of(kAofPadding, scan.good_bytes) == std::string_view::npos);
    return;
  }
  AofScan cut;
  Counter cut_counter;
  CAIRN_CHECK(ScanAofText(text.substr(0, scan.good_bytes), 0, cut_counter, &cut).ok());
  CAIRN_CHECK(cut.tail == AofTail::kWhole);
  CAIRN_CHECK(cut_counter.commands <= counter.commands);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    FuzzManifest(text);
  } else {
    FuzzText(text);
  }
  return 0;
}
