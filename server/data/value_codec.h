#pragma once

// ValueBuilder: the ValueSink that makes a ValueInput of a value's events; what loading an RDB
// file, RESTORE and DEBUG RELOAD end in. The other direction is Entry::Emit. It refuses, with
// kUnsupported, types this server cannot hold yet, so nothing is dropped in silence. Module values
// are made by the module host behind ModuleValueFactory. Reused from key to key; one thread at a
// time (executor).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "persistence/value_sink.h"
#include "server/data/entry.h"
#include "server/data/member_builder.h"
#include "server/data/ordered_builder.h"
#include "server/data/stream_builder.h"

namespace cairn {

/// Takes the opcodes of one module value between BeginModule and End.
class ModuleValueReader {
 public:
  virtual ~ModuleValueReader() = default;
  virtual Status Unsigned(uint64_t value) = 0;
  virtual Status Signed(int64_t value) = 0;
  virtual Status Double(double value) = 0;
  virtual Status Float(float value) = 0;
  virtual Status String(std::string_view bytes) = 0;
  /// Bytes that already stand in a counted blob; keeping the reference saves the copy.
  virtual Status StringBlob(BlobRef bytes) { return String(bytes.view()); }
  /// All opcodes were given: the value. Errors: kCorruption when they do not make one. Last call.
  virtual Result<ObjectRef> Finish() = 0;
};

/// Knows the module types. Implemented by the module host.
class ModuleValueFactory {
 public:
  virtual ~ModuleValueFactory() = default;
  /// A reader for values of `type_id` (name and encoding version in 64 bits). Errors: kUnsupported
  /// when no module provides the type and the host does not keep foreign values.
  virtual Result<std::unique_ptr<ModuleValueReader>> Open(uint64_t type_id) = 0;
};

class ValueBuilder final : public ValueSink {
 public:
  /// `modules` and `home` outlive the builder; `modules` nullptr refuses all module values.
  ValueBuilder(ModuleValueFactory* modules, const ValueHome* home, const PackedLimits& limits)
      : modules_(modules), home_(*home), limits_(limits) {}

  /// Forgets what it holds: call before the events of each value.
  void Reset();
  /// The value. Errors: that of the event that was refused, or kCorruption when no whole value
  /// came. The builder is empty afterwards. Cost: none; short strings are borrowed from the builder
  /// until Reset.
  Result<ValueInput> Take();
  /// The value came whole but is a container of nothing, which no key may hold: Take refuses it,
  /// while files that hold such keys are loaded without them.
  bool is_empty() const { return empty_ && refusal_.ok(); }

  /// Whether the value, when it came whole, is one that stands inside its entry: at most
  /// kMaxInlineValueBytes. False for a container of nothing and for what was refused.
  bool is_short() const {
    return whole_ && value_.form != ValueForm::kBlob && value_.form != ValueForm::kObject;
  }

  Status String(std::string_view bytes) override;
  Status StringBlob(BlobRef bytes) override;
  Status Integer(int64_t value) override;
  Status Begin(ValueKind kind, uint64_t count) override;
  Status Item(std::string_view element) override;
  Status Field(std::string_view field, std::string_view value) override;
  /// Refused when the field has a time of its own (kUnsupported).
  Status FieldExpiring(std::string_view field, std::string_view value,
                       int64_t expire_at_ms) override;
  Status Scored(std::string_view member, double score) override;
  Status Packed(uint8_t rdb_type, std::string_view blob) override;
  Status StreamState(const StreamStateRecord& state) override;
  Status StreamGroup(const StreamGroupRecord& group) override;
  Status StreamPending(const StreamPendingRecord& pending) override;
  Status StreamConsumers(uint64_t count) override;
  Status StreamConsumer(const StreamConsumerRecord& consumer) override;
  Status StreamConsumerPending(StreamId id) override;
  Status BeginModule(uint64_t type_id) override;
  Status ModuleUnsigned(uint64_t value) override;
  Status ModuleSigned(int64_t value) override;
  Status ModuleDouble(double value) override;
  Status ModuleFloat(float value) override;
  Status ModuleString(std::string_view bytes) override;
  Status ModuleStringBlob(BlobRef bytes) override;
  Status End() override;

 private:
  Status Store(ValueInput value);
  Status Refuse(Status why);
  /// Runs `read` on the open module value.
  template <typename Read>
  Status ToModule(Read read);

  Status BeginMembers(ValueType type, uint64_t count);
  Status PackedHash(uint8_t rdb_type, std::string_view blob);
  Status PackedSet(uint8_t rdb_type, std::string_view blob);
  Status EndMembers();
  // value_codec_ordered.cc: lists and sorted sets.
  Status BeginList();
  Status BeginSortedSet();
  Status ListNodeBlob(uint8_t rdb_type, std::string_view blob);
  Status PackedSortedSet(uint8_t rdb_type, std::string_view blob);
  Status EndList();
  Status EndSortedSet();
  Status EndStream();
  /// Runs `add` on the open stream.
  template <typename Add>
  Status ToStream(Add add);
  /// Takes a packed blob apart into the events above.
  Status FromEvents(uint8_t rdb_type, std::string_view blob);

  ModuleValueFactory* modules_;
  const ValueHome& home_;
  const PackedLimits limits_;
  std::unique_ptr<ModuleValueReader> module_;
  std::optional<MemberBuilder> members_;    // a hash or set; also what its value borrows
  std::optional<ListBuilder> list_;         // the same for a list
  std::optional<SortedSetBuilder> scored_;  // and a sorted set
  std::optional<StreamBuilder> stream_;
  bool open_ = false;  // between Begin and End
  bool empty_ = false;
  std::string bytes_;  // what an inline value borrows
  ValueInput value_;
  bool whole_ = false;
  Status refusal_;
};

}  // namespace cairn
