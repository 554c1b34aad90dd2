#pragma once

// Packed containers on their way in: the blobs that RDB files and DUMP payloads carry for small
// hashes, sets, sorted sets and list nodes, turned into events or into today's form. Every length
// in them is checked before it is used. The older forms (ziplist of Redis 2.6 to 6.2, zipmap
// of 2.4) become listpacks. Pure; any thread.
//
//   ziplist := bytes(4) tail(4) count(2) entry* 0xFF
//   entry   := previous(1, or 0xFE and 4) encoding payload
//   encoding:= 00llllll | 01llllll llllllll | 10000000 l(4, big-endian)      string of l bytes
//            | 0xC0 i16 | 0xD0 i32 | 0xE0 i64 | 0xF0 i24 | 0xFE i8 | 1111vvvv  v - 1, of 0..12
//   zipmap  := count(1) { length key length free(1) value pad(free) }* 0xFF
//   length  := 0..253 | 0xFE l(4)

#include <cstdint>
#include <string>
#include <string_view>

#include "persistence/value_sink.h"

namespace cairn {

/// The listpack with the same elements as a ziplist or zipmap. Errors: kCorruption.
Result<std::string> ListpackOfZiplist(std::string_view ziplist);
Result<std::string> ListpackOfZipmap(std::string_view zipmap);

/// A packed blob of `rdb_type` (rdb_format.h; any but those with field TTLs) as the listpack with
/// the same elements; that of an intset holds its integers. Errors: kCorruption, kUnsupported.
Result<std::string> ListpackOf(uint8_t rdb_type, std::string_view blob);

/// Plays a packed value as Begin, its items, End. Errors: as ListpackOf, or the sink's.
Status UnpackValue(uint8_t rdb_type, std::string_view blob, ValueSink& sink);

/// Plays the items of one list node: kListZiplist a ziplist, kListQuicklist2 a listpack, kString
/// one element as it stands. Errors: as UnpackValue.
Status UnpackListNode(uint8_t rdb_type, std::string_view blob, ValueSink& sink);

}  // namespace cairn
