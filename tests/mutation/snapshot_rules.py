"""The rules of docs/snapshot.md, each broken in turn: (name, file, what stands there, what to put there).

The first text must occur exactly once in its file, so a mutation that no longer applies is an error
and not a pass. Each must make a test of unit_keyspace fail."""

DATABASE = "server/keyspace/database.cc"
TABLE = "server/data/seg_table.h"
STRUCTURE = "server/data/seg_table_structure.h"
WALK = "server/data/frozen_walk.h"
GATE = "server/data/snapshot_gate.h"
PAGES = "server/data/passed_pages.h"
CONTAINER = "server/data/container.h"
STRING = "server/data/chunked_string.cc"
FLUSH = "server/keyspace/flush.cc"

MUTATIONS = [
    ("R1 a frozen entry's expiry is edited", DATABASE,
     "if (entry->has_expiry() && expire_at_ms != kNoExpiry && table_->IsPrivate(place, key.hash)) {",
     "if (entry->has_expiry() && expire_at_ms != kNoExpiry) {"),
    ("R1 a frozen entry is overwritten", DATABASE,
     "if (table_->IsPrivate(place, key.hash) && old->TryOverwrite(value, expire_at_ms, access)) {",
     "if (old->TryOverwrite(value, expire_at_ms, access)) {"),
    ("R2 a frozen segment is written without a copy", TABLE,
     "return CopySegment(segment, readers);",
     "segment->generation = gate_->generation();\n    return segment;"),
    ("R2 a frozen directory is written without a copy", STRUCTURE,
     "if (old->generation == gate_->generation()) return old;",
     "if (old != nullptr) return old;"),
    ("R3 a copied segment's slots are not marked SHARED", STRUCTURE,
     "for (uint64_t& word : bucket.slots) word |= kSlotShared;",
     "for (uint64_t& word : bucket.slots) word |= 0;"),
    ("R3 SHARED is not looked at", TABLE,
     "return !(place.word() & kSlotShared) || gate_->Passed(Position(hash) + 1);",
     "return true;"),
    ("R3 a split forgets SHARED", STRUCTURE,
     "items->push_back({hash, word});",
     "items->push_back({hash, word & ~kSlotShared});"),
    ("R4 an entry is freed instead of retired", DATABASE,
     "if (shared || HoldsFrozenNodes(*entry)) {",
     "if (false) {"),
    ("R4 a segment is freed instead of retired", STRUCTURE,
     "gate_->RetireTo(readers, Retired::Kind::kSegment, old, Position(old->prefix), sizeof(Seg));",
     "frames_->Give(old);"),
    ("R4 a directory is freed instead of retired", STRUCTURE,
     "if (gate_->Readers(old->generation, end) == 0) {",
     "if (true) {"),
    ("R4 a root is freed instead of retired", STRUCTURE,
     "if (gate_->Readers(old->generation, kWatermarkEnd) == 0) {",
     "if (true) {"),
    ("R4 a flushed table that a view reads is freed", FLUSH,
     "if (readers == 0) return ReapTable(std::move(table), lazy);",
     "return ReapTable(std::move(table), lazy);"),
    ("R4 a page that is still to be read is freed", PAGES,
     "} else if (item.position < hash) {",
     "} else if (item.position != hash) {"),
    ("R4 a page of another value is freed", PAGES,
     "return table.Reaches(static_cast<const MemberPage*>(item->object), item->position);",
     "return true;"),
    ("R4 a blob of another value is freed", PAGES,
     "if (item->kind != Retired::Kind::kMemberBlob || item->position != table.id()) return false;",
     "if (item->kind != Retired::Kind::kMemberBlob) return false;"),
    ("R4 a blob that is still to be read is freed", PAGES,
     "item->position = table.HashOf(*static_cast<const Blob*>(item->object));",
     "item->position = 0;"),
    ("R5 W is published before the segment is read", WALK,
     "      CAIRN_RETURN_IF_ERROR(VisitSegment(table, SegmentRef::Get<P>(ref), visit));\n      cursor_ = end;\n      Publish(end);\n",
     "      Publish(end);\n      CAIRN_RETURN_IF_ERROR(VisitSegment(table, SegmentRef::Get<P>(ref), visit));\n      cursor_ = end;\n"),
    ("R5 W is published a little too far", WALK,
     "      cursor_ = end;\n      Publish(end);\n",
     "      cursor_ = end;\n      Publish(end + 2);\n"),
    ("R6 a superseded segment comes after the entry retired behind it", WALK,
     "    if (!queue_.Pop(&item)) return false;\n",
     "    if (!queue_.Pop(&item)) return false;\n"
     "    if (item.kind == Retired::Kind::kSegment) {\n"
     "      Retired next;\n"
     "      if (queue_.Pop(&next)) {\n"
     "        if (next.kind == Retired::Kind::kRecord) {\n"
     "          Free(next, destroy);\n"
     "        } else {\n"
     "          kept_.push_back(next);\n"
     "        }\n"
     "      }\n"
     "    }\n"),
    ("R6 a superseded segment is freed unread", WALK,
     "if (item.kind == Retired::Kind::kSegment && item.position >= lane_->watermark()) {",
     "if (item.kind == Retired::Kind::kSegment && item.position > UINT64_MAX - 1) {"),
    ("R8 what two views read is freed by the first", GATE,
     "if (readers_left->fetch_sub(1, std::memory_order_acq_rel) != 1) return false;",
     "if (readers_left->fetch_sub(1, std::memory_order_acq_rel) == 1) return false;"),
    ("R8 a superseded segment goes to the oldest view alone", STRUCTURE,
     "gate_->RetireTo(readers, Retired::Kind::kSegment, old, Position(old->prefix), sizeof(Seg));",
     "gate_->RetireTo(readers & -readers, Retired::Kind::kSegment, old, Position(old->prefix), sizeof(Seg));"),
    ("R8 a segment goes to a view that does not have it", TABLE,
     "return gate_->Readers(segment->generation, EndOf(segment));",
     "return gate_->Readers(0, EndOf(segment));"),
    ("R8 a header forgets what an older view reads through it", CONTAINER,
     "if (!IsFrozen()) frozen_until_ = 0;",
     "frozen_until_ = 0;"),
    ("C2 a chunk that a view reads is written", STRING,
     "if (!in_block && MayWrite(chunk.generation) && chunk.blob->IsUnique()) {",
     "if (!in_block && chunk.blob->IsUnique()) {"),
    ("C2 a chunk that a reply or a copy holds is written", STRING,
     "if (!in_block && MayWrite(chunk.generation) && chunk.blob->IsUnique()) {",
     "if (!in_block && MayWrite(chunk.generation)) {"),
    ("C2 a block that a view reads is written", STRING,
     "if (!MayWrite(block_generation_) || !block_->IsUnique()) return false;",
     "if (!block_->IsUnique()) return false;"),
    ("C2 a block that a reply or a copy holds is written", STRING,
     "if (!MayWrite(block_generation_) || !block_->IsUnique()) return false;",
     "if (!MayWrite(block_generation_)) return false;"),
    ("F1 a table of chunks that a view reads is written", STRING,
     "if (MayWrite(table_->generation) && table_->capacity >= chunks) {",
     "if (table_->capacity >= chunks) {"),
    ("F1 a chunk is freed instead of retired", STRING,
     "if (MayWrite(chunk.generation)) {",
     "if (true) {"),
    ("F3 what a flushed table holds of a frozen value is freed", FLUSH,
     "return container != nullptr && container->MayBeFrozen();",
     "return false;"),
]
