#include "tensor_module/ckpt_merge.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace cairn::tensor {

namespace {

/// Cells that are made in one piece of memory, which becomes their chunks.
constexpr size_t kBatchBytes = 16 * kChunkBytes;
constexpr size_t kBatchAlignment = 64;

Status Refused(uint64_t size_bytes) {
  return Status::Client("OOM no memory for " + std::to_string(size_bytes) +
                        " bytes of checkpoint data");
}

std::string Described(const LogicalTensor& tensor, const Version& version) {
  return std::string(DTypeName(tensor.dtype)) + " " + ShapeText(tensor.shape) + " in step " +
         std::to_string(version.step);
}

Status NotIn(const LogicalTensor& tensor, const Version& version) {
  return Status::Client("ERR tensor '" + tensor.name + "' is not in step " +
                        std::to_string(version.step));
}

/// `other` has what `tensor` of `version` is merged with.
Status CheckPair(const LogicalTensor& tensor, const Version& version, const Version& other) {
  const LogicalTensor* same = other.Find(tensor.name);
  if (same == nullptr) return NotIn(tensor, other);
  if (same->dtype != tensor.dtype || same->shape != tensor.shape) {
    return Status::Client("ERR tensor '" + tensor.name + "' is " + Described(tensor, version) +
                          ", but " + Described(*same, other));
  }
  if (same->alias_of == tensor.alias_of) return Status::Ok();
  return Status::Client("ERR tensor '" + tensor.name + "' is not tied alike in steps " +
                        std::to_string(version.step) + " and " + std::to_string(other.step));
}

/// The bytes of one shard, from its first on, in pieces that lie in one run of memory each.
class PieceReader {
 public:
  explicit PieceReader(Chunks bytes) : bytes_(std::move(bytes)) {}
  /// The next `size` bytes. The view ends with the next call.
  std::string_view Next(size_t size) {
    if (bytes_[index_].size - offset_ >= size) {
      const std::string_view view = bytes_[index_].view().substr(offset_, size);
      Advance(size);
      return view;
    }
    copy_.clear();
    while (copy_.size() < size) {
      const size_t take = std::min(size - copy_.size(), bytes_[index_].size - offset_);
      copy_.append(bytes_[index_].view().substr(offset_, take));
      Advance(take);
    }
    return copy_;
  }

 private:
  void Advance(size_t size) {
    offset_ += size;
    if (offset_ == bytes_[index_].size) ++index_, offset_ = 0;
  }
  const Chunks bytes_;
  size_t index_ = 0;
  size_t offset_ = 0;
  std::string copy_;
};

/// What the tensor's shards hold of the extent, by reference where it can be.
Result<Chunks> BytesOf(BlobSource& source, const LogicalTensor& tensor, const Extent& extent) {
  for (const StoredShard& shard : tensor.shards) {
    if (shard.extent == extent && !Overlaps(tensor)) {
      CAIRN_RETURN_IF_ERROR(CheckIntact(tensor, shard));
      return ReadShard(shard, 0, extent.numel() * DTypeSize(tensor.dtype));
    }
  }
  return GatherBox(source, tensor, extent.AsBox());
}

/// Makes the cells of one shard.
class ShardMaker {
 public:
  ShardMaker(ChunkPool& pool, BlobSource& source, const MergePlan& plan, DType dtype)
      : pool_(pool), source_(source), plan_(plan), dtype_(dtype) {}

  /// `like`: the newest version's shard; `bytes`: the shard of each version.
  Result<StoredShard> Make(const StoredShard& like, std::vector<Chunks> bytes) {
    StoredShard out{like.extent, like.phase, like.chunks};
    std::vector<PieceReader> readers;
    readers.reserve(bytes.size());
    for (Chunks& each : bytes) readers.emplace_back(std::move(each));
    std::vector<std::string_view> inputs(readers.size());
    uint64_t left = like.extent.numel() * DTypeSize(dtype_);  // from this cell on
    for (size_t cell = 0; cell < like.chunks.size(); ++cell) {
      const size_t size = like.chunks[cell]->size();
      for (size_t i = 0; i < readers.size(); ++i) inputs[i] = readers[i].Next(size);
      const uint64_t rest = std::exchange(left, left - size);
      const std::string_view first = inputs[0];
      if (std::all_of(inputs.begin(), inputs.end(), [&](std::string_view input) {
            return input.data() == first.data() || input == first;
          })) {
        continue;
      }
      CAIRN_RETURN_IF_ERROR(Room(size, rest, &out));
      Combine(dtype_, plan_.recipe, inputs, batch_->mutable_data() + used_);
      cells_.push_back(cell);
      sizes_.push_back(size);
      used_ += size;
      // A chunk behind this one would not be aligned.
      if (used_ % kBatchAlignment != 0) CAIRN_RETURN_IF_ERROR(Flush(&out));
    }
    CAIRN_RETURN_IF_ERROR(Flush(&out));
    return out;
  }

 private:
  /// Sees to room for a cell behind what is used; `left` bytes are to come, with it.
  Status Room(size_t size, uint64_t left, StoredShard* out) {
    if (batch_ && used_ + size <= batch_->size()) return Status::Ok();
    CAIRN_RETURN_IF_ERROR(Flush(out));
    const auto room = static_cast<size_t>(std::min<uint64_t>(left, kBatchBytes));
    Blob* blob = source_.Allocate(room);
    if (blob == nullptr) return Refused(room);
    batch_ = BlobRef::Adopt(blob);
    return Status::Ok();
  }

  /// The cells that lie in the batch become chunks.
  Status Flush(StoredShard* out) {
    if (cells_.empty()) return Status::Ok();
    const BlobSlice piece{batch_, 0, used_};
    Result<std::vector<ChunkRef>> chunks = pool_.Intern(piece, sizes_, dtype_);
    if (!chunks.ok()) return chunks.status();
    for (size_t i = 0; i < cells_.size(); ++i) out->chunks[cells_[i]] = std::move((*chunks)[i]);
    cells_.clear();
    sizes_.clear();
    used_ = 0;
    batch_ = BlobRef();
    return Status::Ok();
  }

  ChunkPool& pool_;
  BlobSource& source_;
  const MergePlan& plan_;
  const DType dtype_;
  BlobRef batch_;
  size_t used_ = 0;
  std::vector<size_t> cells_, sizes_;  // in the batch
};

Result<Kept<LogicalTensor>> MergeTensor(ChunkPool& pool, BlobSource& source, const MergePlan& plan,
                                        const LogicalTensor& like) {
  LogicalTensor out{like.name, like.group, like.dtype, like.shape, "", {}};
  for (const StoredShard& shard : like.shards) {
    if (shard.chunks.empty()) {
      out.shards.push_back(shard);
      continue;
    }
    std::vector<Chunks> bytes;
    for (const auto& version : plan.versions) {
      const LogicalTensor* tensor = version->Find(like.name);
      CAIRN_CHECK(tensor != nullptr);
      Result<Chunks> each = BytesOf(source, *tensor, shard.extent);
      if (!each.ok()) return each.status();
      bytes.push_back(std::move(*each));
    }
    Result<StoredShard> made =
        ShardMaker(pool, source, plan, like.dtype).Make(shard, std::move(bytes));
    if (!made.ok()) return made.status();
    out.shards.push_back(std::move(*made));
  }
  return Kept<LogicalTensor>::Make(std::move(out));
}

bool IsBlended(const LogicalTensor& tensor) {
  return tensor.alias_of.empty() && HowCombined(tensor.dtype) == Combining::kBlend;
}

}  // namespace

Result<MergePlan> PlanMerge(std::vector<Kept<Version>> versions, Recipe recipe) {
  MergePlan plan{std::move(versions), std::move(recipe), 0, 0};
  for (size_t i = 1; i < plan.versions.size(); ++i) {
    if (plan.versions[i]->step > plan.versions[plan.newest]->step) plan.newest = i;
  }
  const Version& newest = *plan.versions[plan.newest];
  for (const auto& tensor : newest.tensors) {
    for (const auto& other : plan.versions) {
      CAIRN_RETURN_IF_ERROR(CheckPair(*tensor, newest, *other));
    }
    if (tensor->alias_of.empty() && HowCombined(tensor->dtype) == Combining::kNone) {
      return Status::Client("ERR there is no arithmetic of " +
                            std::string(DTypeName(tensor->dtype)) + ", which tensor '" +
                            tensor->name + "' is");
    }
    if (IsBlended(*tensor)) plan.fresh_bytes += tensor->size_bytes();
  }
  for (const auto& other : plan.versions) {
    for (const auto& tensor : other->tensors) {
      if (newest.Find(tensor->name) == nullptr) return NotIn(*tensor, newest);
    }
  }
  return plan;
}

Result<std::vector<Kept<LogicalTensor>>> MergeTensors(ChunkPool& pool, BlobSource& source,
                                                      const MergePlan& plan) {
  std::vector<Kept<LogicalTensor>> out;
  for (const auto& tensor : plan.versions[plan.newest]->tensors) {
    if (!IsBlended(*tensor)) {
      out.push_back(tensor);
      continue;
    }
    Result<Kept<LogicalTensor>> made = MergeTensor(pool, source, plan, *tensor);
    if (!made.ok()) return made.status();
    out.push_back(std::move(*made));
  }
  return out;
}

std::vector<ChunkRef> BlendedChunks(const std::vector<Kept<LogicalTensor>>& tensors) {
  std::vector<ChunkRef> chunks;
  for (const auto& tensor : tensors) {
    if (!IsBlended(*tensor)) continue;
    for (const StoredShard& shard : tensor->shards) {
      chunks.insert(chunks.end(), shard.chunks.begin(), shard.chunks.end());
    }
  }
  return chunks;
}

std::vector<Kept<LogicalTensor>> WithBlendedChunks(const MergePlan& plan,
                                                   const std::vector<ChunkRef>& chunks) {
  std::vector<Kept<LogicalTensor>> out;
  size_t next = 0;
  for (const auto& like : plan.versions[plan.newest]->tensors) {
    if (!IsBlended(*like)) {
      out.push_back(like);
      continue;
    }
    LogicalTensor tensor{like->name, like->group, like->dtype, like->shape, "", {}};
    for (const StoredShard& old : like->shards) {
      StoredShard shard = old;
      for (ChunkRef& chunk : shard.chunks) chunk = chunks[next++];
      tensor.shards.push_back(std::move(shard));
    }
    out.push_back(Kept<LogicalTensor>::Make(std::move(tensor)));
  }
  return out;
}

Version MergedVersion(const MergePlan& plan, uint64_t step,
                      std::vector<Kept<LogicalTensor>> tensors) {
  const Version& newest = *plan.versions[plan.newest];
  Version version;
  version.step = step;
  version.world = newest.world;
  if (newest.step != step) version.parent = newest.step;
  version.ranks = newest.ranks;
  version.tensors = std::move(tensors);
  version.states = newest.states;
  return version;
}

}  // namespace cairn::tensor
