#pragma once

// The values of an RDB file: one call parses the value of a record and plays its events into a
// ValueSink. Framing only, for every published type; knows no keys, opcodes or databases.
// Stateless; the thread of the parser.

#include <cstdint>

#include "persistence/rdb_parser.h"
#include "persistence/value_sink.h"

namespace cairn {

/// Parses a value of `type` (an rdb::Type). `valkey` tells whose type 22 is meant. Errors: the
/// parser's with name and offset (kUnsupported for types unknown here), or the sink's unchanged.
Status ReadRdbValue(RdbParser& in, uint8_t type, bool valkey, ValueSink& sink);

/// The opcodes of a module value or of module aux data, up to and with the final EOF opcode.
Status ReadModuleOpcodes(RdbParser& in, ValueSink& sink);

/// A name for reports: "string", "list (quicklist)"; "unknown" for foreign numbers.
const char* RdbTypeName(uint8_t type);

}  // namespace cairn
