#pragma once

// Payloads: what a keyspace holds, or a view emits, of every type: each value as a file would have
// it (DUMP), with its time to live. One thread at a time per sink.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "persistence/rdb_writer.h"
#include "server/keyspace/keyspace.h"

namespace cairn {

struct Payload {
  std::string bytes;
  int64_t expire_at_ms = kNoExpiry;
  bool operator==(const Payload&) const = default;
};
/// By database and key.
using Payloads = std::map<std::pair<uint32_t, std::string>, Payload>;

inline Payloads PayloadsOf(Keyspace& keyspace) {
  Payloads all;
  keyspace.ForEachDatabase([&](Database& db) {
    db.ForEach([&](const Entry& entry) {
      DumpWriter writer;
      EXPECT_TRUE(entry.Emit(writer.sink()).ok());
      all[{db.index(), std::string(entry.key())}] = {*writer.Finish(), entry.expire_at_ms()};
      return true;
    });
  });
  return all;
}

/// The keys that are not the same in both, for messages; "" when there are none.
inline std::string Differences(const Payloads& found, const Payloads& expected) {
  std::string names;
  const auto add = [&names](const Payloads& in, const Payloads& other) {
    for (const auto& [place, payload] : in) {
      const auto at = other.find(place);
      if (at != other.end() && at->second == payload) continue;
      names += " " + std::to_string(place.first) + ":" + place.second + " (" +
               std::to_string(payload.bytes.size()) + " bytes, expires " +
               std::to_string(payload.expire_at_ms) + ")";
    }
  };
  if (found == expected) return names;
  names = "found:";
  add(found, expected);
  names += " expected:";
  add(expected, found);
  return names;
}

class PayloadSink : public DatasetSink {
 public:
  Payloads keys;
  int repeated = 0;

  Status Aux(std::string_view, std::string_view) override { return Unexpected(); }
  Status FunctionLibrary(std::string_view) override { return Unexpected(); }
  Status SelectDatabase(uint32_t index, uint64_t, uint64_t) override {
    Finish();
    database_ = index;
    return Status::Ok();
  }
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override {
    Finish();
    const auto [at, fresh] = keys.insert({{database_, std::string(key)}, {}});
    repeated += !fresh;
    current_ = &at->second;
    current_->expire_at_ms = meta.expire_at_ms;
    writer_.emplace();
    return &writer_->sink();
  }
  /// Call once the walk is over.
  void Finish() {
    if (!writer_) return;
    Result<std::string> payload = writer_->Finish();
    if (payload.ok()) current_->bytes = std::move(*payload);
    writer_.reset();
  }

 private:
  static Status Unexpected() { return Status(StatusCode::kUnsupported, "not part of a keyspace"); }
  uint32_t database_ = 0;
  Payload* current_ = nullptr;
  std::optional<DumpWriter> writer_;
};

}  // namespace cairn
