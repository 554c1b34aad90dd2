#pragma once

// The numbers of the RDB file format, and nothing that runs except the length decoder's constants.
// CairnKV writes version 10 (Redis 7.0) and reads 1..12 (Redis 1.3 to 8.0) and Valkey's 80.
// Sources: published format descriptions and files written by redis-server; docs/rdb.md tells the
// same story at length.
//
//   file      := "REDIS" version(4 digits) aux* function* database* EOF(0xFF) crc64(8, from version
//   5) aux       := 0xFA string string function  := 0xF5 string                             source
//   of a function library module-aux:= 0xF7 length(id) 2 length(when) opcodes 0 database  := 0xFE
//   length(db) [0xFB length(keys) length(expires)] record* record    := [0xFC ms(8) | 0xFD s(4)]
//   [0xF8 length(idle s)] [0xF9 lfu(1)] type(1) string(key) value length    := 00xxxxxx | 01xxxxxx
//   x | 0x80 u32(big-endian) | 0x81 u64(big-endian) string    := length bytes | 0xC0 i8 | 0xC1 i16
//   | 0xC2 i32 | 0xC3 length(packed) length(plain) lzf module    := length(id) { length(opcode)
//   payload }* 0
//
// Fixed-width integers and doubles are little-endian, only the two wide lengths are big-endian.
// crc64 is the Jones polynomial, reflected, start 0, over every byte before it; 0 means "not
// computed".
//
// Worked example: database 0 holding a="12" (expires at 1000 ms) and b="hi":
//   52 45 44 49 53 30 30 31 30          REDIS0010
//   fe 00  fb 02 01                     database 0: 2 keys, 1 with TTL
//   fc e8 03 00 00 00 00 00 00          expires at 1000
//   00  01 61  c0 0c                    string, key "a", int8 12
//   00  01 62  02 68 69                 string, key "b", "hi"
//   ff  2e c9 81 0a 40 6f fa a8         end, CRC-64 of all before

#include <cstddef>
#include <cstdint>

namespace cairn::rdb {

inline constexpr int kWrittenVersion = 10;
inline constexpr int kNewestVersion = 12;  ///< of the files that begin with REDIS
inline constexpr int kValkeyVersion = 80;  ///< of the files that begin with VALKEY
inline constexpr int kFirstChecksumVersion = 5;
inline constexpr size_t kHeaderBytes = 9;
inline constexpr size_t kChecksumBytes = 8;

enum Opcode : uint8_t {
  kSlotInfo = 244,  ///< slot, keys, expires (Redis 7.4 cluster, Valkey 8): hints, skipped
  kFunction2 = 245,
  kFunctionPreRelease = 246,  ///< Redis 7.0 release candidates only: refused
  kModuleAux = 247,
  kIdle = 248,
  kFrequency = 249,
  kAux = 250,
  kResizeDb = 251,
  kExpireTimeMs = 252,
  kExpireTimeS = 253,
  kSelectDb = 254,
  kEof = 255,
};
inline constexpr uint8_t kFirstOpcode = 240;  ///< types grow from below, opcodes from above

enum Type : uint8_t {
  kString = 0,
  kList = 1,
  kSet = 2,
  kSortedSetText = 3,  ///< scores as decimal text
  kHash = 4,
  kSortedSet2 = 5,  ///< scores as binary doubles
  kModulePreRelease = 6,
  kModule2 = 7,
  kHashZipmap = 9,
  kListZiplist = 10,
  kSetIntset = 11,
  kSortedSetZiplist = 12,
  kHashZiplist = 13,
  kListQuicklist = 14,  ///< nodes are ziplists
  kStreamListpacks = 15,
  kHashListpack = 16,
  kSortedSetListpack = 17,
  kListQuicklist2 = 18,  ///< nodes are plain elements or listpacks
  kStreamListpacks2 = 19,
  kSetListpack = 20,
  kStreamListpacks3 = 21,
  kHash2Valkey =
      22,  ///< in a VALKEY file; a Redis 7.4 release candidate used 22 for something else
  kHashMetadata = 24,
  kHashListpackExpiring = 25,
};

enum ModuleOpcode : uint8_t {
  kModuleEof = 0,
  kModuleSigned = 1,
  kModuleUnsigned = 2,
  kModuleFloat = 3,
  kModuleDouble = 4,
  kModuleString = 5,
};

enum QuicklistNode : uint8_t { kNodePlain = 1, kNodePacked = 2 };

// Length encoding: the two top bits of the first byte.
inline constexpr uint8_t kLength6Bit = 0x00;
inline constexpr uint8_t kLength14Bit = 0x40;
inline constexpr uint8_t kLength32Bit = 0x80;
inline constexpr uint8_t kLength64Bit = 0x81;
inline constexpr uint8_t kEncodedString = 0xC0;
inline constexpr size_t kMaxLengthBytes = 9;

enum StringEncoding : uint8_t { kInt8 = 0, kInt16 = 1, kInt32 = 2, kLzf = 3 };

inline constexpr size_t kMinCompressedBytes = 21;  ///< shorter strings are never compressed
inline constexpr size_t kMaxIntegerText = 11;      ///< "-2147483648"
/// LZF writes at most 264 bytes for 3: what a compressed length can honestly claim.
inline constexpr uint64_t kMaxLzfRatio = 88;

inline constexpr size_t kDumpFooterBytes = 10;  ///< DUMP: version (2, little-endian), crc64 (8)

}  // namespace cairn::rdb
