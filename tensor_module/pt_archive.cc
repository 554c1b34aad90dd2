#include "tensor_module/pt_archive.h"

#include <algorithm>
#include <set>

#include "server/base/strings.h"
#include "tensor_module/ckpt_model.h"
#include "tensor_module/pickle.h"

namespace cairn::tensor {

namespace {

using Kind = PickleNode::Kind;

constexpr size_t kMaxNesting = 64;

Status Bad(const std::string& why) { return Status::Client("ERR pt: " + why); }

class Reader {
 public:
  Reader(std::string_view file, const ZipEntries& entries, std::string root, const Pickle& pickle)
      : file_(file), entries_(entries), root_(std::move(root)), pickle_(pickle) {}

  Status Walk(uint32_t id, size_t depth) {
    const PickleNode& node = pickle_.nodes[id];
    if (depth > kMaxNesting) return Bad("nested deeper than " + std::to_string(kMaxNesting));
    // Nodes may be shared: without a bound a few of them would name as many tensors as one likes.
    if (++visits_ > 2 * kMaxArchiveTensors) return Bad("too many values");
    switch (node.kind) {
      case Kind::kTensor:
        return AddTensor(node);
      case Kind::kDict:
        for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
          const PickleNode& key = pickle_.nodes[node.items[i]];
          if (key.kind == Kind::kString) {
            CAIRN_RETURN_IF_ERROR(Enter(key.text, node.items[i + 1], depth));
          } else if (key.kind == Kind::kInteger) {
            CAIRN_RETURN_IF_ERROR(Enter(std::to_string(key.integer), node.items[i + 1], depth));
          } else {
            return Bad("a key of " + Quoted() + " is neither a string nor an integer");
          }
        }
        return Status::Ok();
      case Kind::kSequence:
        for (size_t i = 0; i < node.items.size(); ++i) {
          CAIRN_RETURN_IF_ERROR(Enter(std::to_string(i), node.items[i], depth));
        }
        return Status::Ok();
      default:
        ++out.skipped;
        return Status::Ok();
    }
  }

  PtFile out;

 private:
  /// Walks what stands under `word` at the path. A path is never long: each value that is looked at
  /// costs no more than a name may have.
  Status Enter(std::string_view word, uint32_t id, size_t depth) {
    const size_t before = path_.size();
    if (before + 1 + word.size() > kMaxNameBytes + (before == 0 ? 1 : 0)) {
      return Bad("a name under " + Quoted() + " has more than " + std::to_string(kMaxNameBytes) +
                 " bytes");
    }
    if (before > 0) path_ += '.';
    path_ += word;
    const Status status = Walk(id, depth + 1);
    path_.resize(before);
    return status;
  }
  std::string Quoted() const { return "'" + path_.substr(0, 64) + "'"; }

  /// The bytes of a storage, their CRC looked at once.
  Result<ZipEntry> Storage(const PickleNode& storage) {
    const auto found = entries_.find(root_ + "/data/" + storage.text);
    if (found == entries_.end()) return Bad("no storage '" + storage.text.substr(0, 64) + "'");
    const ZipEntry& entry = found->second;
    const size_t element = DTypeSize(storage.dtype);
    if (entry.size_bytes % element != 0 ||
        entry.size_bytes / element != static_cast<uint64_t>(storage.integer)) {
      return Bad("storage '" + storage.text.substr(0, 64) + "' has another size than it should");
    }
    if (checked_.insert(entry.offset).second &&
        Crc32(0, file_.substr(entry.offset, entry.size_bytes)) != entry.crc) {
      return Bad("storage '" + storage.text.substr(0, 64) + "' has another CRC-32");
    }
    return ZipEntry(entry);
  }

  Status AddTensor(const PickleNode& node) {
    ArchiveTensor tensor;
    tensor.name = path_;
    tensor.dtype = node.dtype;
    const std::string quoted = Quoted();
    if (path_.empty() || out.tensors.size() == kMaxArchiveTensors || !names_.insert(path_).second) {
      return Bad("a name that is empty, or stands twice: " + quoted);
    }
    if (node.items.size() > 3) CAIRN_RETURN_IF_ERROR(CheckPlain(pickle_.nodes[node.items[3]]));
    // What names and shapes take is the file's to have, as it is for the bytes: they are shared
    // too.
    described_bytes_ += path_.size() + pickle_.nodes[node.items[1]].items.size() * sizeof(uint64_t);
    if (described_bytes_ > kMaxPtRepeatedBytes + file_.size()) {
      return Bad("names that repeat what the file's " + std::to_string(file_.size()) +
                 " bytes have");
    }
    for (uint32_t id : pickle_.nodes[node.items[1]].items) {
      tensor.shape.push_back(static_cast<uint64_t>(pickle_.nodes[id].integer));
    }
    const Result<uint64_t> bytes = PayloadBytes(tensor.dtype, tensor.shape);
    if (!bytes.ok()) return bytes.status();
    tensor.size_bytes = bytes.value();
    std::vector<uint64_t> strides;
    for (uint32_t id : pickle_.nodes[node.items[2]].items) {
      strides.push_back(static_cast<uint64_t>(pickle_.nodes[id].integer));
    }
    const PickleNode& storage = pickle_.nodes[node.items[0]];
    Result<ZipEntry> entry = Storage(storage);
    if (!entry.ok()) return entry.status();
    const size_t element = DTypeSize(tensor.dtype);
    if (tensor.size_bytes > 0) {
      // One past the last element that the view touches.
      __extension__ unsigned __int128 end = static_cast<uint64_t>(node.integer);
      bool in_order = true;
      uint64_t expected = 1;
      for (size_t i = tensor.shape.size(); i-- > 0;) {
        end += static_cast<decltype(end)>(tensor.shape[i] - 1) * strides[i];
        in_order = in_order && (tensor.shape[i] == 1 || strides[i] == expected);
        expected *= tensor.shape[i];
      }
      if (end >= static_cast<uint64_t>(storage.integer))
        return Bad(quoted + " is not within its storage");
      tensor.offset = entry->offset + static_cast<uint64_t>(node.integer) * element;
      if (!in_order) tensor.strides = std::move(strides);
    }
    out.tensors.push_back(std::move(tensor));
    return Status::Ok();
  }

  /// torch says {'conj': True} of a view whose values are not those that its storage has.
  Status CheckPlain(const PickleNode& said) const {
    if (said.kind == Kind::kDict && said.items.empty()) return Status::Ok();
    const bool named =
        said.kind == Kind::kDict && pickle_.nodes[said.items[0]].kind == Kind::kString;
    return Bad(Quoted() + " is a view that changes values ('" +
               (named ? pickle_.nodes[said.items[0]].text.substr(0, 64) : "?") +
               "'): save it with resolve_conj() and resolve_neg()");
  }

  const std::string_view file_;
  const ZipEntries& entries_;
  const std::string root_;
  const Pickle& pickle_;
  std::string path_;
  uint64_t described_bytes_ = 0;
  std::set<std::string> names_;
  std::set<uint64_t> checked_;
  size_t visits_ = 0;
};

// --- writing ---

/// Emits the opcodes of pickle.h.
class Emitter {
 public:
  std::string bytes;
  void Op(char opcode) { bytes += opcode; }
  void Global(std::string_view module, std::string_view name) {
    bytes += 'c';
    bytes += module;
    bytes += '\n';
    bytes += name;
    bytes += '\n';
  }
  void Text(std::string_view text) {
    const auto size = static_cast<uint32_t>(text.size());
    bytes += 'X';
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
    bytes += text;
  }
  void Naturals(const std::vector<uint64_t>& values) {
    Op('(');
    for (uint64_t value : values) SmallNatural(value);
    Op('t');
  }
  void SmallNatural(uint64_t value) {
    if (value > INT32_MAX) {
      bytes += "\x8a\x08";
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
      return;
    }
    const auto number = static_cast<int32_t>(value);
    bytes += 'J';
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void EmptyOrderedDict() {
    Global("collections", "OrderedDict");
    bytes += ")R";
  }
};

}  // namespace

Status CheckPtRepeats(uint64_t size_bytes, uint64_t file_bytes) {
  if (size_bytes <= kMaxPtRepeatedBytes ||
      (size_bytes - kMaxPtRepeatedBytes - 1) / kMaxPtRepeats < file_bytes) {
    return Status::Ok();
  }
  return Bad("tensors of " + std::to_string(size_bytes) + " bytes repeat what the file's " +
             std::to_string(file_bytes) + " have: save them as contiguous()");
}

Result<PtFile> ReadPt(std::string_view file) {
  Result<ZipEntries> entries = ReadZip(file);
  if (!entries.ok()) return entries.status();
  std::string root;
  const ZipEntry* found = nullptr;
  for (const auto& [name, entry] : *entries) {
    constexpr std::string_view kPickle = "/data.pkl";
    if (!name.ends_with(kPickle)) continue;
    if (found != nullptr) return Bad("two pickles");
    root = name.substr(0, name.size() - kPickle.size());
    found = &entry;
  }
  if (found == nullptr) return Bad("no data.pkl: not written by torch.save");
  if (const auto order = entries->find(root + "/byteorder"); order != entries->end()) {
    if (file.substr(order->second.offset, order->second.size_bytes) != "little") {
      return Bad("bytes of another order than little-endian");
    }
  }
  const std::string_view bytes = file.substr(found->offset, found->size_bytes);
  if (Crc32(0, bytes) != found->crc) return Bad("data.pkl has another CRC-32");
  Result<Pickle> pickle = ReadPickle(bytes);
  if (!pickle.ok()) return pickle.status();
  Reader reader(file, *entries, root, *pickle);
  CAIRN_RETURN_IF_ERROR(reader.Walk(pickle->root, 0));
  return std::move(reader.out);
}

Result<std::string> PtPickle(const std::vector<ArchiveTensor>& tensors,
                             const std::vector<uint64_t>& keys) {
  Emitter out;
  out.bytes = "\x80\x02";
  out.EmptyOrderedDict();
  out.Op('(');
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ArchiveTensor& tensor = tensors[i];
    const std::string_view storage = StorageName(tensor.dtype);
    if (storage.empty()) {
      return Bad("torch 1.13 has no " + std::string(DTypeName(tensor.dtype)) + ", the type of '" +
                 tensor.name + "'");
    }
    if (!IsUtf8(tensor.name)) return Bad("the name " + QuoteRepr(tensor.name) + " is not UTF-8");
    std::vector<uint64_t> strides(tensor.shape.size(), 1);
    for (size_t side = tensor.shape.size(); side-- > 1;) {
      strides[side - 1] = strides[side] * std::max<uint64_t>(tensor.shape[side], 1);
    }
    out.Text(tensor.name);
    out.Global("torch._utils", "_rebuild_tensor_v2");
    out.Op('(');
    out.Op('(');
    out.Text("storage");
    out.Global("torch", storage);
    out.Text(std::to_string(keys[i]));
    out.Text("cpu");
    out.SmallNatural(tensor.size_bytes / DTypeSize(tensor.dtype));
    out.Op('t');
    out.Op('Q');
    out.SmallNatural(0);
    out.Naturals(tensor.shape);
    out.Naturals(strides);
    out.Op('\x89');
    out.EmptyOrderedDict();
    out.bytes += "tR";
  }
  out.bytes += "u.";
  return std::move(out.bytes);
}

}  // namespace cairn::tensor
