// Runs in RDB files and DUMP payloads: the items of a module value (docs/rdb.md), in order. u is an
// unsigned item, s a string item; a count stands before what it counts.
//
//   run "cairnckpt" v3 := config | chunk* | version* | transaction* | tag* | ended* | line*
//   config      := world u | group s * | timeout u | max concurrent u | min pause u | keep u |
//                  durable u | highest attempt u | last commit u
//   chunk       := ckpt_chunk_items.h; each distinct one once
//   version     := rolled back u | step u | tx s | attempt u | world u | parent | began u |
//                  first prepare u | last prepare u | committed u | durable u |
//                  (rank u | shards u | bytes u)* | tensor* | (rank u | state)*
//   parent      := 0 u | 1 u, step u
//   tensor      := name s | group s | dtype u | shape | alias s | (extent | chunk u *)*
//   shape       := dim u *          extent := off u *, len u *, as many as the tensor has
//   dimensions state       := kind u | name s | chunk u * transaction := id s | step u | attempt u
//   | world u | parent | coverage u | state u | timeout u |
//                  began u | first prepare u | last prepare u | free at u | part*
//   part        := rank u | prepared u | (spec | cell*)* | state*
//   spec        := name s | group s | dtype u | shape | extent | alias s | index u
//   cell        := 0 u | 1 u, chunk u | 2 u, bytes s, (begin u, end u)*
//   tag         := name s | step u | pinned u
//   ended       := tx s | step u | how u | reason s
//   line        := at u | event s | step u | text s
//
// Older versions differ in their chunks.
//
// Deadlines are not kept: they count anew from the first look at the run. A chunk's hash must fit
// its bytes, cells must have the sizes of their grid, and shards must cover their tensor.

#include "tensor_module/ckpt_file.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "tensor_module/ckpt_check.h"
#include "tensor_module/ckpt_chunk_items.h"
#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

constexpr int kFirstVersion = 1;
constexpr int kEncodingVersion = 3;

// --- saving ---

class Saver {
 public:
  Saver(Module& module, CairnWriter* writer) : module_(module), api_(module.api), writer_(writer) {}
  bool failed() const { return failed_; }

  void SaveRun(const CkptRun& run) {
    SaveConfig(run);
    SaveChunks(run);
    List(run.versions, [&](const VersionRow& row) {
      U(row.rolled_back ? 1 : 0);
      SaveVersion(*row.version);
    });
    List(run.transactions, [&](const Kept<Transaction>& each) { SaveTransaction(*each); });
    List(run.tags, [&](const Tag& tag) {
      S(tag.name);
      U(tag.step);
      U(tag.pinned ? 1 : 0);
    });
    List(*run.ended, [&](const Ended& ended) {
      S(ended.tx);
      U(ended.step);
      U(static_cast<uint64_t>(ended.how));
      S(ended.reason);
    });
    List(*run.log, [&](const LogLine& line) {
      Ms(line.at_ms);
      S(line.event);
      U(line.step);
      S(line.text);
    });
  }

 private:
  void U(uint64_t value) { failed_ = failed_ || api_.save_unsigned(writer_, value) != CAIRN_OK; }
  void Ms(int64_t value) { U(static_cast<uint64_t>(value)); }
  void S(std::string_view bytes) {
    failed_ = failed_ || api_.save_string(writer_, {bytes.data(), bytes.size()}) != CAIRN_OK;
  }
  template <typename Items, typename Save>
  void List(const Items& items, Save save) {
    U(items.size());
    for (const auto& item : items) {
      if (failed_) return;
      save(item);
    }
  }
  void Numbers(const Shape& numbers) {
    List(numbers, [&](uint64_t number) { U(number); });
  }
  void Parent(const std::optional<uint64_t>& parent) {
    U(parent ? 1 : 0);
    if (parent) U(*parent);
  }
  void ChunkList(const std::vector<ChunkRef>& chunks) {
    List(chunks, [&](const ChunkRef& chunk) { U(numbers_.at(chunk.get())); });
  }

  void SaveConfig(const CkptRun& run) {
    const RunConfig& config = run.config;
    U(config.world);
    List(config.require, [&](const std::string& group) { S(group); });
    Ms(config.timeout_ms);
    U(config.max_concurrent);
    Ms(config.min_pause_ms);
    U(config.keep);
    U(static_cast<uint64_t>(config.durable));
    U(run.highest_attempt);
    Ms(run.last_commit_ms);
  }
  void SaveChunks(const CkptRun& run) {
    std::vector<const Chunk*> distinct;
    std::unordered_set<const Chunk*> seen;
    run.ForEachChunk([&](const Chunk& chunk) {
      if (seen.insert(&chunk).second) distinct.push_back(&chunk);
    });
    failed_ = failed_ || !SaveChunkItems(module_, writer_, distinct, &numbers_);
  }
  void SaveState(const StateBlob& state) {
    U(static_cast<uint64_t>(state.kind));
    S(state.name);
    ChunkList(state.chunks);
  }
  void SaveExtent(const Extent& extent) {
    Numbers(extent.off);
    Numbers(extent.len);
  }
  void SaveVersion(const Version& version) {
    U(version.step);
    S(version.tx);
    U(version.attempt);
    U(version.world);
    Parent(version.parent);
    Ms(version.began_ms);
    Ms(version.first_prepare_ms);
    Ms(version.last_prepare_ms);
    Ms(version.committed_ms);
    U(static_cast<uint64_t>(version.durable));
    List(version.ranks, [&](const RankSummary& rank) {
      U(rank.rank);
      U(rank.shards);
      U(rank.bytes);
    });
    List(version.tensors, [&](const Kept<LogicalTensor>& tensor) {
      S(tensor->name);
      S(tensor->group);
      U(static_cast<uint64_t>(tensor->dtype));
      Numbers(tensor->shape);
      S(tensor->alias_of);
      List(tensor->shards, [&](const StoredShard& shard) {
        SaveExtent(shard.extent);
        ChunkList(shard.chunks);
      });
    });
    List(version.states, [&](const RankState& state) {
      U(state.rank);
      SaveState(*state.blob);
    });
  }
  void SaveTransaction(const Transaction& transaction) {
    S(transaction.id);
    U(transaction.step);
    U(transaction.attempt);
    U(transaction.world);
    Parent(transaction.parent);
    U(transaction.coverage ? 1 : 0);
    U(static_cast<uint64_t>(transaction.state));
    Ms(transaction.timeout_ms);
    Ms(transaction.began_ms);
    Ms(transaction.first_prepare_ms);
    Ms(transaction.last_prepare_ms);
    Ms(transaction.free_at_ms);
    List(transaction.ranks, [&](const Kept<RankPart>& part) { SavePart(*part); });
  }
  void SavePart(const RankPart& part) {
    U(part.rank);
    U(part.prepared ? 1 : 0);
    U(part.specs.size());
    for (size_t i = 0; i < part.specs.size() && !failed_; ++i) {
      const ShardSpec& spec = *part.specs[i];
      S(spec.name);
      S(spec.group);
      U(static_cast<uint64_t>(spec.dtype));
      Numbers(spec.shape);
      SaveExtent(spec.extent);
      S(spec.alias_of);
      U(spec.index);
      List(part.data[i]->cells(), [&](const Cell& cell) { SaveCell(cell); });
    }
    List(part.states, [&](const Kept<StateBlob>& state) { SaveState(*state); });
  }
  void SaveCell(const Cell& cell) {
    if (cell.chunk) {
      U(1);
      U(numbers_.at(cell.chunk.get()));
    } else if (cell.partial) {
      U(2);
      S(cell.partial->bytes.view());
      List(cell.partial->received, [&](const ByteRange& range) {
        U(range.begin);
        U(range.end);
      });
    } else {
      U(0);
    }
  }

  Module& module_;
  const CairnApi& api_;
  CairnWriter* const writer_;
  bool failed_ = false;
  std::unordered_map<const Chunk*, uint64_t> numbers_;
};

// --- loading ---

/// Reads what Saver wrote. After the first thing that does not fit all reads give nothing.
class Loader {
 public:
  Loader(Module& module, CairnReader* reader, int version)
      : module_(module), reader_(reader), version_(version) {}

  bool LoadRun(CkptRun* run) {
    LoadConfig(run);
    LoadChunks();
    List([&] { LoadVersion(&run->versions.emplace_back()); });
    List([&] { run->transactions.push_back(LoadTransaction()); });
    List([&] {
      Tag& tag = run->tags.emplace_back();
      tag.name = S();
      tag.step = U();
      tag.pinned = Flag();
    });
    List([&] {
      Ended& ended = run->ended.Own().emplace_back();
      ended.tx = S();
      ended.step = U();
      ended.how = static_cast<Ended::How>(Below(3));
      ended.reason = S();
    });
    List([&] {
      LogLine& line = run->log.Own().emplace_back();
      line.at_ms = Ms();
      line.event = S();
      line.step = U();
      line.text = S();
    });
    Require(IsConsistent(*run));
    if (!failed_) CountPromises(run);
    return !failed_;
  }

 private:
  void Require(bool condition) { failed_ = failed_ || !condition; }
  uint64_t U() {
    uint64_t value = 0;
    if (!failed_) Require(module_.api.load_unsigned(reader_, &value) == CAIRN_OK);
    return failed_ ? 0 : value;
  }
  uint64_t Below(uint64_t limit) {
    const uint64_t value = U();
    Require(value < limit);
    return failed_ ? 0 : value;
  }
  bool Flag() { return Below(2) == 1; }
  int64_t Ms() { return static_cast<int64_t>(Below(uint64_t{2} * kMaxTimeMs)); }
  uint32_t World() {
    const uint64_t world = Below(kMaxWorld + 1);
    Require(world > 0);
    return static_cast<uint32_t>(world);
  }
  DType Type() { return static_cast<DType>(Below(kDTypeCount)); }
  /// The next string's blob; empty after a failure.
  BlobRef Bytes() {
    CairnBlob* blob = nullptr;
    if (failed_ || module_.api.load_string(reader_, &blob) != CAIRN_OK) {
      failed_ = true;
      return {};
    }
    return module_.memory.Wrap(blob);
  }
  std::string S() { return std::string(Bytes().view()); }
  /// Ends at the first failure, whatever count a forged value has.
  template <typename Read>
  void List(Read read) {
    const uint64_t count = U();
    for (uint64_t i = 0; i < count && !failed_; ++i) read();
  }
  Shape Numbers() {
    Shape numbers;
    List([&] {
      Require(numbers.size() < kMaxDimensions);
      numbers.push_back(U());
    });
    return numbers;
  }
  std::optional<uint64_t> Parent() {
    if (!Flag()) return std::nullopt;
    return U();
  }
  ChunkRef OneChunk() {
    const uint64_t number = U();
    Require(number < chunks_.size());
    return failed_ ? ChunkRef() : chunks_[number];
  }
  std::vector<ChunkRef> ChunkList() {
    std::vector<ChunkRef> chunks;
    List([&] { chunks.push_back(OneChunk()); });
    return chunks;
  }

  void LoadConfig(CkptRun* run) {
    RunConfig& config = run->config;
    config.world = static_cast<uint32_t>(Below(kMaxWorld + 1));
    List([&] {
      Require(config.require.size() < kMaxRequiredGroups);
      config.require.push_back(S());
    });
    config.timeout_ms = Ms();
    config.max_concurrent = static_cast<uint32_t>(Below(kMaxOpenTransactions + 1));
    config.min_pause_ms = Ms();
    config.keep = U();
    config.durable = static_cast<Durable>(Below(3));
    run->highest_attempt = U();
    run->last_commit_ms = Ms();
  }
  void LoadChunks() {
    List([&] {
      ChunkRef chunk = LoadChunkItem(module_, reader_, version_, chunks_);
      Require(!!chunk);
      if (!failed_) chunks_.push_back(std::move(chunk));
    });
  }
  Kept<StateBlob> LoadState() {
    StateBlob state;
    state.kind = static_cast<StateKind>(Below(kStateKinds));
    state.name = S();
    state.chunks = ChunkList();
    for (size_t i = 0; i < state.chunks.size() && !failed_; ++i) {
      Require(i + 1 == state.chunks.size() || state.chunks[i]->size() == kChunkBytes);
      state.size_bytes += failed_ ? 0 : state.chunks[i]->size();
    }
    return Kept<StateBlob>::Make(std::move(state));
  }
  /// A shard's box and name, everything but what its cells hold.
  void LoadExtent(ShardSpec* spec) {
    spec->extent.off = Numbers();
    spec->extent.len = Numbers();
    Require(spec->extent.off.size() == spec->shape.size() &&
            spec->extent.len.size() == spec->shape.size());
    for (size_t i = 0; i < spec->shape.size() && !failed_; ++i) {
      Require(spec->extent.off[i] <= spec->shape[i] &&
              spec->extent.len[i] <= spec->shape[i] - spec->extent.off[i]);
    }
    if (!failed_) spec->Settle();
  }
  bool FitsCell(const ShardSpec& spec, size_t cell, uint64_t size) const {
    if (cell >= spec.cell_count()) return false;
    const ByteRange range = spec.CellRange(cell);
    return size == range.end - range.begin;
  }
  void LoadHead(ShardSpec* spec) {
    spec->name = S();
    spec->group = S();
    spec->dtype = Type();
    spec->shape = Numbers();
    Require(!failed_ && PayloadBytes(spec->dtype, spec->shape).ok());
  }

  Kept<LogicalTensor> LoadTensor() {
    ShardSpec spec;
    LoadHead(&spec);
    LogicalTensor tensor{spec.name, spec.group, spec.dtype, spec.shape, S(), {}};
    List([&] {
      LoadExtent(&spec);
      StoredShard shard{spec.extent, spec.phase, ChunkList()};
      Require(tensor.alias_of.empty() && !failed_ && shard.chunks.size() == spec.cell_count());
      for (size_t i = 0; i < shard.chunks.size() && !failed_; ++i) {
        Require(FitsCell(spec, i, shard.chunks[i]->size()));
      }
      tensor.shards.push_back(std::move(shard));
    });
    if (!failed_ && tensor.alias_of.empty()) {
      // The question that COMMIT asked: what one takes the other must not refuse.
      std::vector<const Extent*> extents;
      for (const StoredShard& shard : tensor.shards) extents.push_back(&shard.extent);
      const Result<bool> covered = IsCovered(tensor.shape, extents);
      Require(covered.ok() && covered.value());
    }
    return Kept<LogicalTensor>::Make(std::move(tensor));
  }
  void LoadVersion(VersionRow* row) {
    row->rolled_back = Flag();
    Version version;
    version.step = U();
    version.tx = S();
    version.attempt = U();
    version.world = World();
    version.parent = Parent();
    version.began_ms = Ms();
    version.first_prepare_ms = Ms();
    version.last_prepare_ms = Ms();
    version.committed_ms = Ms();
    version.durable = static_cast<Durable>(Below(3));
    List([&] {
      const auto rank = static_cast<uint32_t>(Below(version.world));
      const uint64_t shards = U();
      version.ranks.push_back({rank, shards, U()});
    });
    List([&] { version.tensors.push_back(LoadTensor()); });
    List([&] {
      const auto rank = static_cast<uint32_t>(Below(version.world));
      version.states.push_back({rank, LoadState()});
    });
    // A shape that was refused cannot be counted.
    row->version = failed_ ? Kept<Version>::Make({}) : Freeze(std::move(version));
  }
  Kept<Transaction> LoadTransaction() {
    Transaction transaction;
    transaction.id = S();
    transaction.step = U();
    transaction.attempt = U();
    transaction.world = World();
    transaction.parent = Parent();
    transaction.coverage = Flag();
    transaction.state = static_cast<TxState>(Below(4));
    transaction.timeout_ms = Ms();
    transaction.began_ms = Ms();
    transaction.first_prepare_ms = Ms();
    transaction.last_prepare_ms = Ms();
    transaction.free_at_ms = Ms();
    List([&] {
      RankPart part = LoadPart(transaction.world);
      Require(transaction.ranks.empty() || transaction.ranks.back()->rank < part.rank);
      transaction.ranks.push_back(Kept<RankPart>::Make(std::move(part)));
    });
    return Kept<Transaction>::Make(std::move(transaction));
  }
  RankPart LoadPart(uint32_t world) {
    RankPart part;
    part.rank = static_cast<uint32_t>(Below(world));
    part.prepared = Flag();
    std::vector<Kept<ShardSpec>> specs;
    std::vector<Kept<ShardData>> all;
    List([&] {
      ShardSpec spec;
      LoadHead(&spec);
      LoadExtent(&spec);
      spec.alias_of = S();
      spec.index = static_cast<uint32_t>(Below(kMaxShardsPerRank));
      if (!failed_) spec.Settle();
      std::vector<Cell> cells;
      List([&] { cells.push_back(LoadCell(spec, cells.size())); });
      Require(!failed_ && cells.size() == spec.cell_count());
      if (failed_) return;
      if (!specs.empty()) {
        const ShardSpec& last = *specs.back();
        Require(last.name < spec.name || (last.name == spec.name && last.index < spec.index));
      }
      ShardData data(spec, std::move(cells));
      Require(!part.prepared || data.IsComplete());
      all.push_back(Kept<ShardData>::Make(std::move(data)));
      specs.push_back(Kept<ShardSpec>::Make(std::move(spec)));
    });
    part.SetShards(std::move(specs), std::move(all));
    List([&] { part.states.push_back(LoadState()); });
    return part;
  }
  Cell LoadCell(const ShardSpec& spec, size_t index) {
    const uint64_t kind = Below(3);
    Cell cell;
    if (kind == 1) {
      cell.chunk = OneChunk();
      Require(cell.chunk && FitsCell(spec, index, cell.chunk->size()));
    } else if (kind == 2) {
      const BlobRef bytes = Bytes();
      PartialCell partial;
      List([&] {
        const uint64_t begin = U();
        partial.received.push_back({begin, U()});
      });
      Require(bytes && FitsCell(spec, index, bytes->size()) && !partial.received.empty() &&
              IsValidReceived(partial.received, bytes->size()));
      if (failed_) return cell;
      partial.bytes = {bytes, 0, bytes->size()};
      cell.partial = Kept<PartialCell>::Make(std::move(partial));
    }
    return cell;
  }

  Module& module_;
  CairnReader* const reader_;
  const int version_;
  bool failed_ = false;
  std::vector<ChunkRef> chunks_;
};

int SaveRunValue(const void* value, CairnWriter* writer, void* module) {
  Saver saver(*static_cast<Module*>(module), writer);
  saver.SaveRun(static_cast<const RunValue*>(value)->run());
  return saver.failed() ? CAIRN_FAILED : CAIRN_OK;
}

void* LoadRunValue(CairnReader* reader, int version, void* module) {
  if (version < kFirstVersion || version > kEncodingVersion) return nullptr;
  CkptRun run;
  if (!Loader(*static_cast<Module*>(module), reader, version).LoadRun(&run)) return nullptr;
  auto* value = new RunValue(std::move(run));
  static_cast<Module*>(module)->encoder.Offer(value->run().versions);
  return value;
}

}  // namespace

size_t RunValue::MemoryUsage() const {
  // The background changes how chunks are held; what it was asked before may be no longer true.
  uint64_t epoch = 0;
  bool known = false;
  size_t bytes = sizeof *this;
  std::unordered_set<const Chunk*> seen;
  const auto add = [&](auto& self, const Chunk& chunk) -> void {
    if (!seen.insert(&chunk).second) return;
    bytes += sizeof(Chunk) + chunk.stored_bytes();
    // A base may be nobody else's any more.
    if (const ChunkRef base = chunk.encoded().base) self(self, *base);
  };
  run_.ForEachChunk([&](const Chunk& chunk) {
    if (known) return;
    if (seen.empty()) {
      epoch = chunk.pool_epoch() + 1;
      known = memory_epoch_.load(std::memory_order_acquire) == epoch;
      if (known) return;
    }
    add(add, chunk);
  });
  if (known) return memory_.load(std::memory_order_relaxed);
  bytes += run_.versions.capacity() * sizeof(VersionRow);
  for (const VersionRow& row : run_.versions) bytes += row.version->head_bytes;
  for (const auto& transaction : run_.transactions) {
    for (const auto& part : transaction->ranks) {
      for (const auto& data : part->data) {
        for (const Cell& cell : data->cells()) {
          bytes += sizeof cell + (cell.partial ? cell.partial->bytes.size : 0);
        }
      }
    }
  }
  memory_.store(bytes, std::memory_order_relaxed);
  if (epoch != 0) memory_epoch_.store(epoch, std::memory_order_release);
  return bytes;
}

bool RunValue::MayEvict() const {
  return run_.versions.empty() &&
         std::none_of(run_.transactions.begin(), run_.transactions.end(),
                      [](const auto& transaction) { return transaction->live(); });
}

size_t RunValue::FreeEffort() const {
  size_t effort = 1;
  for (const VersionRow& row : run_.versions) effort += row.version->tensors.size();
  for (const auto& transaction : run_.transactions) {
    for (const auto& part : transaction->ranks) effort += part->specs.size();
  }
  return effort;
}

CairnType* RegisterRunType(Module& module) {
  const CairnTypeSpec spec = {
      .name = "cairnckpt",
      .encoding_version = kEncodingVersion,
      .type_name = "ckptrun",
      .save = SaveRunValue,
      .load = LoadRunValue,
      .free = [](void* value) { static_cast<RunValue*>(value)->DropReference(); },
      .memory_usage =
          [](const void* value) { return static_cast<const RunValue*>(value)->MemoryUsage(); },
      .free_effort =
          [](const void* value) { return static_cast<const RunValue*>(value)->FreeEffort(); },
  };
  CairnType* const type = module.api.register_type(module.self, &spec);
  if (type != nullptr) {
    module.api.guard_type(type, [](const void* value) -> int {
      return static_cast<const RunValue*>(value)->MayEvict();
    });
  }
  return type;
}

}  // namespace cairn::tensor
