#pragma once

// CollectingSink: takes a walk of string values into a map and counts what should not happen, for
// the tests of views and files. One thread at a time.

#include <map>
#include <string>
#include <utility>

#include "persistence/value_sink.h"

namespace cairn {

struct CollectedValue {
  std::string value;
  int64_t expire_at_ms = -1;
  bool operator==(const CollectedValue&) const = default;
};
using CollectedKeys = std::map<std::pair<uint32_t, std::string>, CollectedValue>;

class CollectingSink : public DatasetSink, public ValueSink {
 public:
  CollectedKeys keys;
  uint64_t repeated = 0;        ///< keys emitted a second time (V2)
  uint64_t announced_keys = 0;  ///< sum of SelectDatabase's counts
  uint64_t announced_expires = 0;
  int64_t fail_after = -1;  ///< keys until Key() fails; -1 = never

  Status Aux(std::string_view, std::string_view) override { return Unexpected(); }
  Status FunctionLibrary(std::string_view) override { return Unexpected(); }
  Status SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) override {
    database_ = index;
    announced_keys += key_count;
    announced_expires += expire_count;
    return Status::Ok();
  }
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override {
    if (fail_after >= 0 && fail_after-- == 0) return Status::Io("sink is full");
    const auto [at, fresh] = keys.insert({{database_, std::string(key)}, {}});
    repeated += !fresh;
    at->second.expire_at_ms = meta.expire_at_ms;
    current_ = &at->second;
    return static_cast<ValueSink*>(this);
  }

  Status String(std::string_view bytes) override {
    current_->value = bytes;
    return Status::Ok();
  }
  Status Integer(int64_t value) override {
    current_->value = std::to_string(value);
    return Status::Ok();
  }
  Status Begin(ValueKind, uint64_t) override { return Unexpected(); }
  Status Item(std::string_view) override { return Unexpected(); }
  Status Field(std::string_view, std::string_view) override { return Unexpected(); }
  Status Scored(std::string_view, double) override { return Unexpected(); }
  Status Packed(uint8_t, std::string_view) override { return Unexpected(); }
  Status BeginModule(uint64_t) override { return Unexpected(); }
  Status ModuleUnsigned(uint64_t) override { return Unexpected(); }
  Status ModuleSigned(int64_t) override { return Unexpected(); }
  Status ModuleDouble(double) override { return Unexpected(); }
  Status ModuleFloat(float) override { return Unexpected(); }
  Status ModuleString(std::string_view) override { return Unexpected(); }
  Status End() override { return Unexpected(); }

 private:
  static Status Unexpected() {
    return Status(StatusCode::kUnsupported, "event not expected of string values");
  }
  uint32_t database_ = 0;
  CollectedValue* current_ = nullptr;
};

}  // namespace cairn
