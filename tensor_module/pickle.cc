#include "tensor_module/pickle.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "tensor_module/tensor.h"

namespace cairn::tensor {

namespace {

using Kind = PickleNode::Kind;

constexpr size_t kMaxTextBytes = 1 << 20;
/// Of a storage's key, which each mention of it copies: torch numbers them.
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxMarks = 1024;

struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr StorageType kStorages[] = {
    {"DoubleStorage", DType::kF64},       {"FloatStorage", DType::kF32},
    {"HalfStorage", DType::kF16},         {"BFloat16Storage", DType::kBF16},
    {"LongStorage", DType::kI64},         {"IntStorage", DType::kI32},
    {"ShortStorage", DType::kI16},        {"CharStorage", DType::kI8},
    {"ByteStorage", DType::kU8},          {"BoolStorage", DType::kBool},
    {"ComplexFloatStorage", DType::kC64}, {"ComplexDoubleStorage", DType::kC128},
};

const StorageType* FindStorage(std::string_view global) {
  constexpr std::string_view kModule = "torch.";
  if (!global.starts_with(kModule)) return nullptr;
  for (const StorageType& type : kStorages) {
    if (type.name == global.substr(kModule.size())) return &type;
  }
  return nullptr;
}

bool IsKnownGlobal(std::string_view global) {
  return global == "collections.OrderedDict" || global == "torch.Size" ||
         global == "torch._utils._rebuild_tensor_v2" ||
         global == "torch._utils._rebuild_parameter" || FindStorage(global) != nullptr;
}

class Machine {
 public:
  Machine(std::string_view bytes, size_t max_nodes) : bytes_(bytes), max_nodes_(max_nodes) {}

  Result<Pickle> Run() {
    while (status_.ok() && !stopped_) Step();
    if (!status_.ok()) return status_;
    return std::move(out_);
  }

 private:
  // --- bytes ---
  void Fail(const std::string& why) {
    if (status_.ok()) {
      status_ = Status::Client("ERR pickle: " + why + " at byte " + std::to_string(at_));
    }
  }
  std::string_view Take(size_t size) {
    if (!status_.ok() || size > bytes_.size() - at_) {
      Fail("the end is missing");
      return {};
    }
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }
  template <typename T>
  T Number() {
    T value = 0;
    const std::string_view raw = Take(sizeof value);
    if (raw.size() == sizeof value) std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::string Line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos || end - at_ > kMaxTextBytes) {
      Fail("a line without end");
      return "";
    }
    std::string line(Take(end - at_));
    ++at_;
    return line;
  }

  // --- stack ---
  PickleNode& At(uint32_t id) { return out_.nodes[id]; }
  PickleNode& Push(Kind kind) {
    if (out_.nodes.size() == max_nodes_) Fail("too many values");
    stack_.push_back(static_cast<uint32_t>(out_.nodes.size()));
    PickleNode& node = out_.nodes.emplace_back();
    node.kind = kind;
    return node;
  }
  /// The place of the last mark; what lies below it is not touched by Pop.
  size_t Floor() const { return marks_.empty() ? 0 : marks_.back(); }
  bool Has(size_t count) {
    if (status_.ok() && stack_.size() - Floor() >= count) return true;
    Fail("an empty stack");
    return false;
  }
  uint32_t Pop() {
    const uint32_t id = stack_.back();
    stack_.pop_back();
    return id;
  }
  /// What was pushed since the last mark, which goes.
  std::vector<uint32_t> PopToMark() {
    if (marks_.empty()) {
      Fail("no mark");
      return {};
    }
    const auto from = static_cast<ptrdiff_t>(marks_.back());
    marks_.pop_back();
    std::vector<uint32_t> items(stack_.begin() + from, stack_.end());
    stack_.resize(static_cast<size_t>(from));
    return items;
  }
  void PushInteger(int64_t value) { Push(Kind::kInteger).integer = value; }
  void PushText(size_t size) {
    if (size > kMaxTextBytes) return Fail("a string that is too long");
    const std::string_view text = Take(size);
    Push(Kind::kString).text = text;
  }
  void PushTuple(size_t count) {
    if (!Has(count)) return;
    std::vector<uint32_t> items(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    Push(Kind::kSequence).items = std::move(items);
  }
  void Extend(Kind kind, const std::vector<uint32_t>& items) {
    if (!Has(1)) return;
    PickleNode& target = At(stack_.back());
    if (target.kind != kind) return Fail("items for what takes none");
    if (kind == Kind::kDict && items.size() % 2 != 0) return Fail("a key without value");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  // --- objects ---
  void PushGlobal(const std::string& global) {
    if (!IsKnownGlobal(global)) {
      return Fail("'" + global.substr(0, 128) + "' is not among what a state_dict may hold");
    }
    Push(Kind::kGlobal).text = global;
  }
  void Reduce() {
    if (!Has(2)) return;
    const uint32_t args_id = Pop();
    const PickleNode& args = At(args_id);
    const PickleNode& callee = At(Pop());
    if (callee.kind != Kind::kGlobal || args.kind != Kind::kSequence)
      return Fail("a call of no global");
    if (callee.text == "collections.OrderedDict") return MakeDict(args);
    if (callee.text == "torch.Size" && args.items.size() == 1 &&
        At(args.items[0]).kind == Kind::kSequence) {
      return stack_.push_back(args.items[0]);
    }
    if (callee.text == "torch._utils._rebuild_parameter" && !args.items.empty() &&
        At(args.items[0]).kind == Kind::kTensor) {
      return stack_.push_back(args.items[0]);
    }
    if (callee.text == "torch._utils._rebuild_tensor_v2") return MakeTensor(args);
    Fail("a call of " + callee.text + " with arguments it does not take");
  }
  void MakeDict(const PickleNode& args) {
    std::vector<uint32_t> items;
    if (!args.items.empty()) {
      const PickleNode& pairs = At(args.items[0]);
      if (pairs.kind != Kind::kSequence) return Fail("an OrderedDict of no list");
      for (uint32_t id : pairs.items) {
        const PickleNode& pair = At(id);
        if (pair.kind != Kind::kSequence || pair.items.size() != 2) return Fail("no pair");
        items.insert(items.end(), pair.items.begin(), pair.items.end());
      }
    }
    // One list may be recalled for many: what that copies is bounded by the bytes, as all else is.
    copied_ += items.size();
    if (copied_ > bytes_.size()) return Fail("more items than bytes");
    Push(Kind::kDict).items = std::move(items);
  }
  bool IsNaturalSequence(uint32_t id) {
    // A long one may be recalled for many tensors.
    if (At(id).kind != Kind::kSequence || At(id).items.size() > kMaxDimensions) return false;
    for (uint32_t item : At(id).items) {
      if (At(item).kind != Kind::kInteger || At(item).integer < 0) return false;
    }
    return true;
  }
  void MakeTensor(const PickleNode& args) {
    // storage, first element, sizes, strides; then whether it has a gradient, hooks, and what is
    // said of it beside.
    if (args.items.size() < 4 || At(args.items[0]).kind != Kind::kStorage ||
        At(args.items[1]).kind != Kind::kInteger || At(args.items[1]).integer < 0 ||
        !IsNaturalSequence(args.items[2]) || !IsNaturalSequence(args.items[3]) ||
        At(args.items[2]).items.size() != At(args.items[3]).items.size()) {
      return Fail("a tensor of arguments that make none");
    }
    const int64_t first = At(args.items[1]).integer;
    const DType dtype = At(args.items[0]).dtype;
    std::vector<uint32_t> items = {args.items[0], args.items[2], args.items[3]};
    if (args.items.size() > 6 && At(args.items[6]).kind != Kind::kNone) {
      items.push_back(args.items[6]);
    }
    PickleNode& tensor = Push(Kind::kTensor);
    tensor.dtype = dtype;
    tensor.integer = first;
    tensor.items = std::move(items);
  }
  void PersistentId() {
    if (!Has(1)) return;
    const PickleNode& id = At(Pop());
    // ("storage", torch.FloatStorage, key, location, elements)
    const bool fits = id.kind == Kind::kSequence && id.items.size() >= 5 &&
                      At(id.items[0]).text == "storage" && At(id.items[1]).kind == Kind::kGlobal &&
                      At(id.items[2]).kind == Kind::kString &&
                      At(id.items[2]).text.size() <= kMaxKeyBytes &&
                      At(id.items[4]).kind == Kind::kInteger && At(id.items[4]).integer >= 0;
    const StorageType* type = fits ? FindStorage(At(id.items[1]).text) : nullptr;
    if (type == nullptr) return Fail("a persistent id of no storage");
    const std::string key = At(id.items[2]).text;
    const int64_t count = At(id.items[4]).integer;
    PickleNode& storage = Push(Kind::kStorage);
    storage.text = key;
    storage.integer = count;
    storage.dtype = type->dtype;
  }
  void Build() {
    // The attributes of an OrderedDict (_metadata) are not read.
    if (!Has(2)) return;
    Pop();
    if (At(stack_.back()).kind != Kind::kDict) Fail("attributes for what has none");
  }
  void PushLong(size_t size) {
    const std::string_view raw = Take(size);
    if (raw.size() > sizeof(int64_t)) return Fail("an integer beyond 64 bits");
    uint64_t value = !raw.empty() && (raw.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
    if (!raw.empty()) std::memcpy(&value, raw.data(), raw.size());
    PushInteger(static_cast<int64_t>(value));
  }
  void Remember(uint32_t slot) {
    if (!Has(1)) return;
    memo_[slot] = stack_.back();
    if (memo_.size() > max_nodes_) Fail("too many values");
  }
  void Recall(uint32_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) return Fail("nothing remembered under that number");
    stack_.push_back(found->second);
  }

  void Step() {
    const std::string_view opcode = Take(1);
    if (opcode.empty()) return;
    switch (static_cast<unsigned char>(opcode[0])) {
      case 0x80:  // PROTO
        if (const auto version = Number<uint8_t>(); version < 2 || version > 5) {
          Fail("protocol " + std::to_string(version));
        }
        return;
      case 0x95:  // FRAME
        Number<uint64_t>();
        return;
      case '.':
        if (Has(1) && marks_.empty()) out_.root = Pop();
        stopped_ = true;
        return;
      case '(':
        if (marks_.size() == kMaxMarks) return Fail("too many marks");
        return marks_.push_back(stack_.size());
      case '}':
        Push(Kind::kDict);
        return;
      case ']':
      case ')':
        Push(Kind::kSequence);
        return;
      case 't': {
        std::vector<uint32_t> items = PopToMark();
        if (status_.ok()) Push(Kind::kSequence).items = std::move(items);
        return;
      }
      case 0x85:
      case 0x86:
      case 0x87:
        return PushTuple(static_cast<size_t>(static_cast<unsigned char>(opcode[0]) - 0x84));
      case 'e': {
        const std::vector<uint32_t> items = PopToMark();
        return Extend(Kind::kSequence, items);
      }
      case 'u': {
        const std::vector<uint32_t> items = PopToMark();
        return Extend(Kind::kDict, items);
      }
      case 'a': {
        if (!Has(2)) return;
        const uint32_t item = Pop();
        return Extend(Kind::kSequence, {item});
      }
      case 's': {
        if (!Has(3)) return;
        const uint32_t value = Pop(), key = Pop();
        return Extend(Kind::kDict, {key, value});
      }
      case 'N':
        Push(Kind::kNone);
        return;
      case 0x88:
      case 0x89:
        Push(Kind::kBool).integer = opcode[0] == '\x88';
        return;
      case 'K':
        return PushInteger(Number<uint8_t>());
      case 'M':
        return PushInteger(Number<uint16_t>());
      case 'J':
        return PushInteger(Number<int32_t>());
      case 0x8a:
        return PushLong(Number<uint8_t>());
      case 'G': {
        const uint64_t bits = __builtin_bswap64(Number<uint64_t>());
        Push(Kind::kFloat).real = std::bit_cast<double>(bits);
        return;
      }
      case 'X':
        return PushText(Number<uint32_t>());
      case 0x8c:
        return PushText(Number<uint8_t>());
      case 'q':
        return Remember(Number<uint8_t>());
      case 'r':
        return Remember(Number<uint32_t>());
      case 0x94:  // MEMOIZE
        return Remember(static_cast<uint32_t>(memo_.size()));
      case 'h':
        return Recall(Number<uint8_t>());
      case 'j':
        return Recall(Number<uint32_t>());
      case 'c': {
        const std::string module = Line();
        return PushGlobal(module + "." + Line());
      }
      case 0x93: {  // STACK_GLOBAL
        if (!Has(2)) return;
        const std::string name = At(Pop()).text;
        return PushGlobal(At(Pop()).text + "." + name);
      }
      case 'Q':
        return PersistentId();
      case 'R':
        return Reduce();
      case 'b':
        return Build();
      default:
        --at_;
        Fail("opcode " + std::to_string(static_cast<unsigned char>(opcode[0])) + " is not allowed");
    }
  }

  const std::string_view bytes_;
  const size_t max_nodes_;
  size_t at_ = 0;
  size_t copied_ = 0;
  bool stopped_ = false;
  Status status_;
  Pickle out_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, uint32_t> memo_;
};

}  // namespace

Result<Pickle> ReadPickle(std::string_view bytes, size_t max_nodes) {
  return Machine(bytes, max_nodes).Run();
}

std::string_view StorageName(DType dtype) {
  for (const StorageType& type : kStorages) {
    if (type.dtype == dtype) return type.name;
  }
  return {};
}

}  // namespace cairn::tensor
