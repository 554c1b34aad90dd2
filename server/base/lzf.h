#pragma once

// LZF, the compression of RDB files and of lists' inner nodes (Marc Lehmann's format, as liblzf and
// Redis have it). Ours where inputs are small, as almost all are: liblzf's table of 65,536
// positions lies cold each time it is called, and 64 bytes cost half a microsecond. What comes out
// is, byte for byte, what liblzf makes with a table that was empty. Larger inputs are liblzf's. Any
// thread.
//
// A compressed text is a row of
//   000nnnnn                      n+1 bytes that follow are copied
//   lllooooo [llllllll] oooooooo  l+2 bytes are repeated from o+1 bytes before; the byte in the
//                                 middle is there, and added, when l is 7

#include <cstddef>
#include <string_view>

namespace cairn {

/// Inputs of up to so many bytes are compressed here.
inline constexpr size_t kLzfSmallBytes = 1024;

/// Compresses into `room_bytes` at `out`. Returns the size, or 0 when it does not fit: `out` may
/// then have been written to. Requires: less than 4 GiB.
size_t LzfCompress(std::string_view bytes, char* out, size_t room_bytes);

/// Undoes it. Returns how many bytes came out, or 0 when that are more than `room_bytes` or
/// `packed` is malformed: `out` may then have been written to. Never reads or writes beyond either.
size_t LzfDecompress(std::string_view packed, char* out, size_t room_bytes);

}  // namespace cairn
