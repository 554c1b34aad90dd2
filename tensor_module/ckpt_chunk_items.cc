#include "tensor_module/ckpt_chunk_items.h"

#include <string>
#include <unordered_set>

#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

enum Form : uint64_t { kPlain = 0, kNamed = 1, kEncoded = 2, kLost = 3 };
constexpr uint64_t kForms = 4;

/// One chunk as it is going to be emitted. What is encoded is held as it was found: the background
/// may change it meanwhile.
struct Item {
  const Chunk* chunk = nullptr;
  bool named = false;
  EncodedChunk encoded;
};

/// Puts bases in front of what decodes against them.
class ItemOrder {
 public:
  ItemOrder(const std::vector<const Chunk*>& distinct, const std::vector<bool>& named,
            bool with_encoded)
      : with_encoded_(with_encoded) {
    for (size_t i = 0; i < distinct.size(); ++i) {
      if (named[i]) named_.insert(distinct[i]);
    }
    items_.reserve(distinct.size());
    for (const Chunk* chunk : distinct) Place(chunk);
  }
  const std::vector<Item>& items() const { return items_; }
  /// Of payloads.
  uint64_t emitted_bytes() const {
    uint64_t bytes = 0;
    for (const Item& item : items_) {
      if (item.named) continue;
      bytes += item.encoded ? item.encoded.bytes.view().size() : item.chunk->size();
    }
    return bytes;
  }
  const std::unordered_map<const Chunk*, uint64_t>& places() const { return places_; }

 private:
  /// The links of the chunk's chain here; kNoChain: nothing may be linked to it.
  static constexpr unsigned kNoChain = UINT32_MAX;
  unsigned Place(const Chunk* chunk) {
    const auto [known, fresh] = links_.try_emplace(chunk, kNoChain);
    // What is being placed, further up, has kNoChain too: chains may have changed since it was
    // looked at, and must not lead back.
    if (!fresh) return known->second;
    Item item{chunk, named_.contains(chunk), {}};
    unsigned links = item.named ? kNoChain : 0;
    if (with_encoded_ && !item.named) item.encoded = chunk->encoded();
    if (item.encoded && item.encoded.base) {
      // What only the log has is read when somebody wants it: nothing is to need it earlier.
      const unsigned behind = Place(item.encoded.base.get());
      links = behind == kNoChain ? 0 : behind + 1;
      if (behind == kNoChain || links > ChunkPool::kMaxChain) item.encoded = EncodedChunk();
      if (!item.encoded) links = 0;
    }
    links_[chunk] = links;
    places_.emplace(chunk, items_.size());
    items_.push_back(std::move(item));
    return links;
  }

  const bool with_encoded_;
  std::unordered_set<const Chunk*> named_;
  std::unordered_map<const Chunk*, unsigned> links_;
  std::unordered_map<const Chunk*, uint64_t> places_;
  std::vector<Item> items_;
};

}  // namespace

bool SaveChunkItems(Module& module, CairnWriter* writer, const std::vector<const Chunk*>& distinct,
                    std::unordered_map<const Chunk*, uint64_t>* numbers) {
  const CairnApi& api = module.api;
  bool failed = false;
  const auto number = [&](uint64_t value) {
    failed = failed || api.save_unsigned(writer, value) != CAIRN_OK;
  };
  const auto text = [&](std::string_view bytes) {
    failed = failed || api.save_string(writer, {bytes.data(), bytes.size()}) != CAIRN_OK;
  };
  CairnSaveTarget target{};
  const bool to_file = api.save_target(writer, &target) == CAIRN_OK;
  uint64_t room = UINT64_MAX;
  const ItemOrder order(distinct, module.logs.KeepFor(writer, distinct, &room), to_file);
  if (order.emitted_bytes() > room) {
    // The file would take the disk's last byte from the append-only file before it failed.
    module.logs.Say("a save is given up: " + std::to_string(order.emitted_bytes()) +
                    " bytes of checkpoints have no room in the chunk log, and its disk has " +
                    std::to_string(room) + " left");
    return false;
  }
  *numbers = order.places();
  number(order.items().size());
  uint64_t lost = 0;
  Hash128 lost_hash;
  for (const Item& item : order.items()) {
    if (failed) return false;
    const Chunk& chunk = *item.chunk;
    number(static_cast<uint64_t>(chunk.dtype()));
    number(chunk.hash().low);
    number(chunk.hash().high);
    if (item.named) {
      number(kNamed);
      number(chunk.size());
    } else if (item.encoded) {
      number(kEncoded);
      number(chunk.size());
      number(item.encoded.base ? numbers->at(item.encoded.base.get()) + 1 : 0);
      text(item.encoded.bytes.view());
    } else if (chunk.IsIntact()) {
      number(kPlain);
      text(chunk.bytes().view());
    } else if (to_file) {
      number(kLost);
      number(chunk.size());
      if (lost++ == 0) lost_hash = chunk.hash();
    } else {
      module.logs.Say("a damaged chunk of the chunk log cannot be copied: hash " +
                      Hash128Hex(chunk.hash()));
      return false;
    }
  }
  // Each save says it again.
  if (lost > 0) {
    module.logs.Say(std::to_string(lost) +
                    " damaged chunks of a checkpoint are saved as lost, the first with hash " +
                    Hash128Hex(lost_hash));
  }
  return !failed;
}

ChunkRef LoadChunkItem(Module& module, CairnReader* reader, int version,
                       const std::vector<ChunkRef>& before) {
  const CairnApi& api = module.api;
  uint64_t type = 0, form = kPlain, size = 0, base = 0;
  Hash128 hash;
  if (api.load_unsigned(reader, &type) != CAIRN_OK || type >= kDTypeCount ||
      api.load_unsigned(reader, &hash.low) != CAIRN_OK ||
      api.load_unsigned(reader, &hash.high) != CAIRN_OK) {
    return {};
  }
  const auto dtype = static_cast<DType>(type);
  if (version >= 2 && (api.load_unsigned(reader, &form) != CAIRN_OK || form >= kForms)) return {};
  if (form >= kEncoded && version < 3) return {};
  if (form != kPlain) {
    if (api.load_unsigned(reader, &size) != CAIRN_OK || size == 0 || size > kChunkBytes ||
        size % DTypeSize(dtype) != 0) {
      return {};
    }
  }
  if (form == kNamed) {
    // From a client it would be a value that no file brings back once the log has forgotten it.
    if (api.load_is_file(reader) == 0) return {};
    return module.logs.Load(module.pool, module.memory, hash, static_cast<size_t>(size));
  }
  if (form == kLost) {
    if (api.load_is_file(reader) == 0) return {};
    ChunkRef again = module.logs.Look(module.pool, module.memory, hash, static_cast<size_t>(size));
    return again ? again : module.pool.Lost(hash, static_cast<size_t>(size), dtype);
  }
  if (form == kEncoded && (api.load_unsigned(reader, &base) != CAIRN_OK || base > before.size())) {
    return {};
  }
  CairnBlob* blob = nullptr;
  if (api.load_string(reader, &blob) != CAIRN_OK) return {};
  const BlobRef bytes = module.memory.Wrap(blob);
  Result<ChunkRef> chunk = ChunkRef();
  if (form == kEncoded) {
    EncodedChunk encoded{{bytes, 0, bytes->size()}, base == 0 ? ChunkRef() : before[base - 1]};
    chunk = module.pool.InternEncoded(std::move(encoded), hash, static_cast<size_t>(size), dtype);
  } else {
    if (bytes->size() == 0 || bytes->size() > kChunkBytes ||
        bytes->size() % DTypeSize(dtype) != 0) {
      return {};
    }
    chunk = module.pool.InternOne({bytes, 0, bytes->size()}, dtype);
  }
  if (chunk.ok() && (*chunk)->hash() == hash) return std::move(*chunk);
  module.logs.Say("a chunk of a checkpoint cannot be loaded: " +
                  (chunk.ok() ? "its bytes do not have the hash they were saved with"
                              : std::string(chunk.status().message())));
  return {};
}

}  // namespace cairn::tensor
