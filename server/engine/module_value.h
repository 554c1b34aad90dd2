#pragma once

// Module values as the keyspace holds them: ModuleObject is a value of a loaded module behind its
// callbacks; ForeignObject keeps the saved form of a value whose module is not loaded, and saves it
// back unchanged. Both are frozen from birth (module_api.h, rule M1). ModuleEvents is the saved
// form in memory, what save emits and load reads. Any thread may read; events are built by one
// thread.

#include <memory>
#include <string>
#include <vector>

#include "server/data/object.h"
#include "server/data/value_codec.h"
#include "server/engine/module_api.h"

/// A registered value type. Owned by ModuleHost, lives as long as it.
struct CairnType {
  std::string name;       ///< 9 characters
  std::string type_name;  ///< TYPE's word
  uint64_t id = 0;        ///< name and encoding version, as files have it
  CairnTypeSpec spec{};   ///< its strings point into the two above
  void* module_data = nullptr;
  int (*may_evict)(const void* value) = nullptr;
  void (*on_stored)(void* data, uint32_t db, CairnBytes key, const void* value) = nullptr;
};

namespace cairn {

inline constexpr size_t kModuleTypeNameChars = 9;
inline constexpr int kMaxModuleEncodingVersion = 1023;

/// The 64-bit type id: nine characters of six bits, first one highest, then ten bits of version. 0
/// when the name or the version is not one. Source: RDB files, type 7.
uint64_t ModuleTypeId(std::string_view name, int encoding_version);
/// The nine characters of an id.
std::string ModuleTypeName(uint64_t type_id);

struct ModuleEvent {
  enum class Kind : uint8_t { kUnsigned, kSigned, kDouble, kFloat, kString };
  Kind kind;
  uint64_t bits = 0;  ///< of the number; floats in their own width
  BlobRef bytes;      ///< kString
};
using ModuleEvents = std::vector<ModuleEvent>;

/// What every entry of type kModule refers to.
class AnyModuleObject : public Object {
 public:
  /// nullptr: the module is not loaded, and this is a ForeignObject; else this is a ModuleObject.
  virtual const CairnType* type() const = 0;
  const char* EncodingName() const override { return "raw"; }
};

class ModuleObject final : public AnyModuleObject {
 public:
  /// Takes over `value`.
  ModuleObject(const CairnType& type, void* value) : type_(type), value_(value) {}
  Status Emit(ValueSink& sink) const override;
  size_t MemoryUsage() const override { return sizeof *this + type_.spec.memory_usage(value_); }
  size_t FreeEffort() const override { return type_.spec.free_effort(value_); }
  bool MayEvict() const override {
    return type_.may_evict == nullptr || type_.may_evict(value_) != 0;
  }
  const char* TypeName() const override { return type_.type_name.c_str(); }
  const CairnType* type() const override { return &type_; }
  void* value() const { return value_; }

 private:
  ~ModuleObject() override { type_.spec.free(value_); }
  const CairnType& type_;
  void* const value_;
};

class ForeignObject final : public AnyModuleObject {
 public:
  ForeignObject(uint64_t type_id, ModuleEvents events);
  Status Emit(ValueSink& sink) const override;
  size_t MemoryUsage() const override;
  size_t FreeEffort() const override { return 1 + events_.size(); }
  bool MayEvict() const override { return false; }  // its module might have forbidden it
  const CairnType* type() const override { return nullptr; }
  const char* TypeName() const override { return name_.c_str(); }
  uint64_t type_id() const { return type_id_; }
  const ModuleEvents& events() const { return events_; }

 private:
  ~ForeignObject() override = default;
  const uint64_t type_id_;
  const std::string name_;
  const ModuleEvents events_;
};

/// The value that `events` make under `type`. `own_file`: they come from a file of this server's
/// directory, not from a client. Errors: kCorruption when the module refuses them.
Result<ObjectRef> LoadModuleValue(const CairnType& type, uint64_t type_id,
                                  const ModuleEvents& events, bool own_file);

/// Collects the events of one value; Finish makes a ModuleObject of `type`, or without one a
/// ForeignObject.
std::unique_ptr<ModuleValueReader> NewModuleValueReader(const CairnType* type, uint64_t type_id,
                                                        bool own_file);

}  // namespace cairn

/// What a type's save emits into.
struct CairnWriter {
  cairn::ValueSink& sink;
  cairn::Status status;  ///< the first failure; later emits are refused
};

/// What a type's load reads from.
struct CairnReader {
  const cairn::ModuleEvents& events;
  bool own_file = false;
  size_t next = 0;
};
