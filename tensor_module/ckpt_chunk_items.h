#pragma once

// The list of distinct chunks in front of a run in RDB files and DUMP payloads (ckpt_file.h):
//
//   chunk := dtype u | hash low u | hash high u | form
//   form  := 0 u, bytes s                      plain
//          | 1 u, size u                       named: the bytes are in the chunk log (chunk_log.h)
//          | 2 u, size u, base u, encoded s    as chunk_codec.h has it; base: 0 for none, else n
//                                              for the n-th chunk of this list, which stands in
//                                              front
//          | 3 u, size u                       lost: damaged when it was saved, and not named
//
// Hash and size are those of the plain bytes. So a base that is missing, or leads back, cannot be
// written; chains of more than ChunkPool::kMaxChain links are refused, and so are bytes that do not
// decode to what has the hash. Forms 1 and 3 stand only in files of a server and are only read from
// them; form 2 is written to those alone, so that a DUMP or a digest does not depend on what the
// background has come to. Version 1 of the file has no forms: bytes follow the hash; version 2 has
// 0 and 1. Form 3 stands in version 3 without a number of its own: a build that does not know it
// refuses the run, and those without damage go on being read by all.
//
// A chunk in form 3 is looked for in the log as a named one is, which may have it again (a segment
// put back, a disk that reads another time). Where it has not, the chunk is damaged as it was: it
// must not keep the server from starting, nor what is whole from being saved.
//
// Example: a chunk of 262144 zero bytes, and one that differs from it in one place, as forms 0 and
// 2 of one list: "dtype hash hash 0 bytes" and "dtype hash hash 2 262144 1 encoded".

#include <unordered_map>
#include <vector>

#include "server/engine/module_api.h"
#include "tensor_module/chunk_pool.h"

namespace cairn::tensor {

class Module;

/// Emits the list: what the run refers to, in whatever order, and bases. `numbers` becomes each
/// chunk's place in it, from 0. False: the receiver failed, or a damaged chunk has to be emitted to
/// who is no file of this server. Thread: any.
bool SaveChunkItems(Module& module, CairnWriter* writer, const std::vector<const Chunk*>& distinct,
                    std::unordered_map<const Chunk*, uint64_t>* numbers);

/// Reads the next chunk of a list. `before`: those that stand in front of it. Empty when it does
/// not fit. `version`: of the file. Thread: any.
ChunkRef LoadChunkItem(Module& module, CairnReader* reader, int version,
                       const std::vector<ChunkRef>& before);

}  // namespace cairn::tensor
