// SORT and SORT_RO: the elements of a list, set or sorted set in order, by themselves or by what
// stands under names made of them, replied or stored as a list.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "server/base/strings.h"
#include "server/data/member_value.h"
#include "server/engine/key_access.h"
#include "server/engine/list_access.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

// --- patterns --------------------------------------------------------------------------------

/// What a pattern of BY or GET leads to: a string, the value of a field, or the element itself.
struct Found {
  const Entry* entry = nullptr;
  std::optional<Member> field;
  const std::string* element = nullptr;

  explicit operator bool() const { return entry != nullptr || field || element != nullptr; }
  std::string Text() const {
    if (element != nullptr) return *element;
    char scratch[kMaxInt64Chars + 3];
    if (field) return std::string(field->value.Text(scratch));
    std::string copy;
    return std::string(StringBytes(entry).Whole(&copy));
  }
};

/// "weight_*", "object_*->field" or "#". Up to a zero byte, as the C strings that Redis reads it
/// as; what follows one belongs to the name all the same.
class SortPattern {
 public:
  explicit SortPattern(std::string_view text) {
    const std::string_view head = text.substr(0, text.find('\0'));
    is_element_ = head == "#";
    const size_t star = head.find('*');
    if (star == std::string_view::npos) return;
    has_place_ = true;
    before_ = text.substr(0, star);
    after_ = text.substr(star + 1);
    const size_t arrow = head.find("->", star + 1);
    if (arrow == std::string_view::npos || arrow + 2 == head.size()) return;
    after_ = text.substr(star + 1, arrow - star - 1);
    field_ = text.substr(arrow + 2);
  }

  /// There is a place for the element: without one BY means "do not sort".
  bool has_place() const { return has_place_; }

  /// Borrows the keyspace until its next look-up.
  Found LookUp(CommandContext& ctx, const std::string& element) const {
    Found found;
    if (is_element_) {
      found.element = &element;
      return found;
    }
    if (!has_place_) return found;
    name_.assign(before_).append(element).append(after_);
    const Entry* entry = ReadKey(ctx, ctx.db().MakeKey(name_));
    if (entry == nullptr) return found;
    if (field_.empty()) {
      if (entry->is_string()) found.entry = entry;
    } else if (Member member;
               entry->type() == ValueType::kHash && MembersView(*entry).Find(field_, &member)) {
      found.field = member;
    }
    return found;
  }

 private:
  bool is_element_ = false;
  bool has_place_ = false;
  std::string_view before_, after_;
  std::string_view field_;    // empty: the key is a string
  mutable std::string name_;  // kept for its memory
};

// --- options ---------------------------------------------------------------------------------

struct SortOptions {
  bool descending = false;
  bool alpha = false;
  bool unsorted = false;  ///< BY without a place for the element
  std::optional<SortPattern> by;
  std::vector<SortPattern> get;
  int64_t offset = 0;
  int64_t count = -1;
  size_t store_at = 0;  ///< 0: the elements are replied
};

/// Patterns reach keys that no key spec names, so they are for those who may read every key.
bool MayReadEveryKey(CommandContext& ctx) {
  const AclUser* user = ctx.engine().running_session->acl;  // in a script its caller's
  if (user == nullptr || user->unrestricted()) return true;
  const Command* command = ctx.engine().commands.Find(ctx.arg(0));
  if (command == nullptr) return false;
  AclRequest request(*command, ctx.args());
  return user->AllowsEveryKey(request, kAclReadKey);
}

Status RefusePattern(std::string_view option) {
  return Status::Client("ERR " + std::string(option) +
                        " option of SORT denied due to insufficient ACL permissions.");
}

Status ParseSort(CommandContext& ctx, bool may_store, SortOptions* out) {
  const bool any_key = MayReadEveryKey(ctx);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    const size_t left = ctx.argc() - i - 1;
    if (ctx.ArgIs(i, "asc")) {
      out->descending = false;
    } else if (ctx.ArgIs(i, "desc")) {
      out->descending = true;
    } else if (ctx.ArgIs(i, "alpha")) {
      out->alpha = true;
    } else if (ctx.ArgIs(i, "limit") && left >= 2) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &out->offset));
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 2, &out->count));
      i += 2;
    } else if (may_store && ctx.ArgIs(i, "store") && left >= 1) {
      out->store_at = ++i;
    } else if (ctx.ArgIs(i, "by") && left >= 1) {
      out->by.emplace(ctx.arg(++i));
      if (!out->by->has_place()) {
        out->unsorted = true;
      } else if (!any_key) {
        return RefusePattern("BY");
      }
    } else if (ctx.ArgIs(i, "get") && left >= 1) {
      if (!any_key) return RefusePattern("GET");
      out->get.emplace_back(ctx.arg(++i));
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

// --- elements --------------------------------------------------------------------------------

/// One element and what it is sorted by.
struct Element {
  std::string text;
  double score = 0;                   ///< numeric sort
  std::optional<std::string> weight;  ///< BY with ALPHA
};

uint64_t SizeOf(const Entry& entry) {
  switch (entry.type()) {
    case ValueType::kList:
      return ListReader(entry).size();
    case ValueType::kSet:
      return MembersView(entry).size();
    default:
      return SortedSetReader(entry).size();
  }
}

/// Elements `from`.. `from + n` of an ordered value, from its end backwards with `reverse`; all of
/// a set.
std::vector<Element> LoadElements(const Entry& entry, uint64_t from, uint64_t n, bool reverse) {
  std::vector<Element> elements;
  elements.reserve(n);
  char scratch[kMaxInt64Chars];
  const auto add = [&elements](std::string_view text) {
    elements.emplace_back().text = text;
    return true;
  };
  if (n == 0) return elements;
  if (entry.type() == ValueType::kList) {
    const ListReader list(entry);
    list.Visit(reverse ? list.size() - 1 - from : from, n, reverse,
               [&](const ListpackValue& item) { return add(item.Text(scratch)); });
  } else if (entry.type() == ValueType::kSortedSet) {
    const SortedSetReader set(entry);
    set.Visit(reverse ? set.size() - 1 - from : from, n, reverse,
              [&](std::string_view member, double) { return add(member); });
  } else {
    MembersView(entry).ForEach([&](const Member& member) { return add(member.key.Text(scratch)); });
  }
  return elements;
}

/// Redis turns a sorted set that it sorts into its big form, and so do we: DUMP shows it.
const Entry* InBigForm(CommandContext& ctx, KeyRef key, const Entry* entry) {
  if (entry->type() != ValueType::kSortedSet || !entry->is_packed()) return entry;
  SortedSetEdit set(ctx, key, entry);
  set.Unpack();
  set.Commit();
  return ctx.db().Peek(key);
}

/// As C reads a double: spaces before it, hexadecimal and "inf" too, up to a zero byte. False when
/// that is not all of it.
bool ParseWeight(const std::string& text, double* out) {
  char* end = nullptr;
  errno = 0;
  *out = std::strtod(text.c_str(), &end);
  return *end == '\0' && errno != ERANGE && !std::isnan(*out);
}

/// Fills in what each element is sorted by. False when a number is none.
bool Weigh(CommandContext& ctx, const SortOptions& options, bool by_pattern,
           std::vector<Element>* elements) {
  if (options.alpha && !by_pattern) return true;
  bool all_numbers = true;
  for (Element& element : *elements) {
    if (!by_pattern) {
      all_numbers &= ParseWeight(element.text, &element.score);
      continue;
    }
    const Found found = options.by->LookUp(ctx, element.text);
    if (!found) continue;
    if (options.alpha) {
      element.weight = found.Text();
    } else {
      all_numbers &= ParseWeight(found.Text(), &element.score);
    }
  }
  return all_numbers;
}

struct SortOrder {
  bool descending;
  bool alpha;
  bool by_pattern;
  bool bytewise;  ///< not by the locale: what is stored must not depend on it
  bool total;     ///< elements of equal weight in the order of their bytes: their own order is
                  ///< that of a hash table, which differs from server to server

  int CompareTexts(const std::string& a, const std::string& b) const {
    return bytewise ? a.compare(b) : std::strcoll(a.c_str(), b.c_str());
  }
  int Compare(const Element& a, const Element& b) const {
    if (!alpha) {
      if (a.score != b.score) return a.score > b.score ? 1 : -1;
      return a.text.compare(b.text);
    }
    if (!by_pattern) return CompareTexts(a.text, b.text);
    if (a.weight && b.weight) return CompareTexts(*a.weight, *b.weight);
    return static_cast<int>(a.weight.has_value()) - static_cast<int>(b.weight.has_value());
  }
};

/// Positions of the elements in order; exact up to `needed` of them.
std::vector<size_t> InOrder(const std::vector<Element>& elements, const SortOrder& order,
                            size_t needed) {
  // The score beside the position: most comparisons need not look at the elements.
  struct Ranked {
    double score;
    size_t position;
  };
  std::vector<Ranked> ranked(elements.size());
  for (size_t i = 0; i < ranked.size(); ++i) ranked[i] = {elements[i].score, i};
  const auto before = [&](const Ranked& a, const Ranked& b) {
    if (!order.alpha && a.score != b.score) return (a.score < b.score) != order.descending;
    const Element &left = elements[a.position], &right = elements[b.position];
    int difference = order.Compare(left, right);
    if (order.descending) difference = -difference;
    if (difference == 0 && order.total) difference = left.text.compare(right.text);
    return difference != 0 ? difference < 0 : a.position < b.position;
  };
  const auto end = ranked.begin() + static_cast<ptrdiff_t>(needed);
  // A heap of the few that are wanted is cheap, one of all of them jumps about in them.
  constexpr size_t kHeapBelow = 8;  // one in so many
  if (needed < elements.size() / kHeapBelow) {
    std::partial_sort(ranked.begin(), end, ranked.end(), before);
  } else {
    std::sort(ranked.begin(), ranked.end(), before);
  }
  std::vector<size_t> positions(needed);
  for (size_t i = 0; i < needed; ++i) positions[i] = ranked[i].position;
  return positions;
}

// --- results ---------------------------------------------------------------------------------

void ReplyFound(CommandContext& ctx, const Found& found) {
  if (!found) return ctx.reply().Null();
  if (found.element != nullptr) return ctx.reply().Bulk(*found.element);
  if (found.field) return ReplyElement(ctx, found.field->value, found.field->blob);
  ReplyString(ctx, found.entry);
}

void ReplyElements(CommandContext& ctx, const SortOptions& options,
                   const std::vector<Element>& elements, std::span<const size_t> chosen) {
  ctx.reply().ArrayHeader(chosen.size() * std::max<size_t>(options.get.size(), 1));
  for (size_t at : chosen) {
    if (options.get.empty()) ctx.reply().Bulk(elements[at].text);
    for (const SortPattern& pattern : options.get)
      ReplyFound(ctx, pattern.LookUp(ctx, elements[at].text));
  }
}

void StoreElements(CommandContext& ctx, const SortOptions& options,
                   const std::vector<Element>& elements, std::span<const size_t> chosen) {
  const KeyRef key = ctx.Key(options.store_at);
  const size_t count = chosen.size() * std::max<size_t>(options.get.size(), 1);
  // The reply comes last: a client that listens to its own events sees them first.
  if (count == 0) {
    RemoveTarget(ctx, key, /*lazy=*/false);
    return ctx.reply().Integer(0);
  }
  // Nodes as Redis fills them here, whatever list-max-listpack-size and list-compress-depth say.
  const ListShape now = CurrentListShape(ctx);
  const ListShape shape{.packed_threshold = now.packed_threshold};
  auto* list = new QuickList(*ctx.keyspace().value_home(), shape);
  const ObjectRef holder = ObjectRef::Adopt(list);
  for (size_t at : chosen) {
    if (options.get.empty()) list->Push(/*at_head=*/false, elements[at].text);
    for (const SortPattern& pattern : options.get) {
      const Found found = pattern.LookUp(ctx, elements[at].text);
      list->Push(/*at_head=*/false, found ? found.Text() : std::string());
    }
  }
  const std::string_view packed = list->SoleListpack();
  // A listpack by itself takes its shape from the settings with the next write.
  const bool keeps_shape = now.fill == shape.fill && now.compress_depth == shape.compress_depth;
  const bool inline_fits = !packed.empty() && packed.size() <= kMaxInlinePackedBytes;
  SetKey(ctx, ctx.db(), key,
         keeps_shape && inline_fits ? ValueInput::Packed(ValueType::kList, packed)
                                    : ValueInput::FromObject(ValueType::kList, holder));
  ctx.Changed(key, NotifyClass::kList, "sortstore");
  ctx.AddDirty(count - 1);
  ctx.reply().Integer(static_cast<int64_t>(count));
}

/// The part of `size` elements that LIMIT asks for.
struct Window {
  uint64_t start, count;
};
Window LimitTo(const SortOptions& options, uint64_t size) {
  const uint64_t start =
      std::min(static_cast<uint64_t>(std::max<int64_t>(options.offset, 0)), size);
  const uint64_t rest = size - start;
  if (options.count < 0) return {start, rest};
  return {start, std::min(static_cast<uint64_t>(options.count), rest)};
}

Status SortKey(CommandContext& ctx, bool may_store) {
  SortOptions options;
  CAIRN_RETURN_IF_ERROR(ParseSort(ctx, may_store, &options));
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ReadKey(ctx, key);
  if (entry != nullptr && entry->type() != ValueType::kList && entry->type() != ValueType::kSet &&
      entry->type() != ValueType::kSortedSet)
    return RespError(resp_errors::kWrongType);

  // What is stored, or seen by a script, must come out the same on every server: the order of a
  // set does not.
  const bool is_set = entry != nullptr && entry->type() == ValueType::kSet;
  const bool must_agree = options.store_at != 0 || ctx.engine().script != nullptr;
  const bool unsorted = options.unsorted && !(is_set && must_agree);
  if (options.unsorted && !unsorted) options.alpha = true;
  const bool by_pattern = options.by.has_value() && !options.unsorted;

  const uint64_t size = entry != nullptr ? SizeOf(*entry) : 0;
  Window window = LimitTo(options, size);
  std::vector<Element> elements;
  std::vector<size_t> positions;
  if (entry != nullptr) {
    entry = InBigForm(ctx, key, entry);
    const bool in_place = unsorted && !is_set;
    elements = in_place ? LoadElements(*entry, window.start, window.count, options.descending)
                        : LoadElements(*entry, 0, size, false);
    if (in_place) window.start = 0;
  }
  if (unsorted) {
    for (size_t i = 0; i < elements.size(); ++i) positions.push_back(i);
  } else {
    if (!Weigh(ctx, options, by_pattern, &elements))
      return Status::Client("ERR One or more scores can't be converted into double");
    positions = InOrder(elements,
                        {.descending = options.descending,
                         .alpha = options.alpha,
                         .by_pattern = by_pattern,
                         .bytewise = options.store_at != 0,
                         .total = is_set && must_agree},
                        window.start + window.count);
  }
  const std::span<const size_t> chosen(positions.data() + window.start, window.count);
  if (options.store_at != 0) {
    StoreElements(ctx, options, elements, chosen);
  } else {
    ReplyElements(ctx, options, elements, chosen);
  }
  return Status::Ok();
}

// --- commands --------------------------------------------------------------------------------

constexpr std::string_view kPatternNotes =
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the "
    "content of the key we sort";
constexpr std::string_view kStoreNotes =
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear "
    "anywhere "
    "in the argument array";

constexpr KeySpec UnknownKeys(uint32_t flags, std::string_view notes) {
  return {KeySpec::Begin::kUnknown, flags, 0, {}, KeySpec::Find::kUnknown, 0, 0, 0, notes};
}

/// The key, and the one that the last STORE names.
Status FindSortKeys(const CommandSpec&, std::span<const std::string_view> args,
                    std::vector<KeyPosition>* out) {
  out->push_back({1, kKeyRO | kKeyAccess});
  std::optional<size_t> store_at;
  for (size_t i = 2; i < args.size(); ++i) {
    if (EqualsIgnoreCase(args[i], "limit")) {
      i += 2;
    } else if (EqualsIgnoreCase(args[i], "get") || EqualsIgnoreCase(args[i], "by")) {
      i += 1;
    } else if (EqualsIgnoreCase(args[i], "store") && i + 1 < args.size()) {
      store_at = i + 1;
    }
  }
  if (store_at) out->push_back({*store_at, kKeyOW | kKeyUpdate});
  return Status::Ok();
}

Status Sort(CommandContext& ctx) { return SortKey(ctx, /*may_store=*/true); }
constexpr CommandSpec kSortSpec{
    .name = "sort",
    .arity = -2,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclSet | kAclSortedSet | kAclList | kAclDangerous,
    .keys = {OneKey(1, kKeyRO | kKeyAccess), UnknownKeys(kKeyRO | kKeyAccess, kPatternNotes),
             UnknownKeys(kKeyOW | kKeyUpdate, kStoreNotes)},
    .find_keys = FindSortKeys,
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(N+M*log(M)) for N elements of which M are returned; O(N) when not sorted.",
    .summary = "Returns or stores the elements of a list, set or sorted set in order.",
    .synopsis =
        "key#0 [BY=pattern:pattern#1] [LIMIT=offset_count{offset:integer count:integer}] "
        "[GET=pattern:pattern#1+...] [order(ASC|DESC)] [ALPHA=sorting:pure-token] "
        "[STORE=destination#2]",
    .handler = Sort,
};

Status SortRo(CommandContext& ctx) { return SortKey(ctx, /*may_store=*/false); }
constexpr CommandSpec kSortRoSpec{
    .name = "sort_ro",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclSet | kAclSortedSet | kAclList | kAclDangerous,
    .keys = {OneKey(1, kKeyRO | kKeyAccess), UnknownKeys(kKeyRO | kKeyAccess, kPatternNotes)},
    .group = "generic",
    .since = "7.0.0",
    .complexity = "O(N+M*log(M)) for N elements of which M are returned; O(N) when not sorted.",
    .summary = "Returns the elements of a list, set or sorted set in order.",
    .synopsis =
        "key#0 [BY=pattern:pattern#1] [LIMIT=offset_count{offset:integer count:integer}] "
        "[GET=pattern:pattern#1+...] [order(ASC|DESC)] [ALPHA=sorting:pure-token]",
    .handler = SortRo,
};

constexpr std::array kSortSpecs = {
    kSortSpec,
    kSortRoSpec,
};
static_assert(ValidSpecs(kSortSpecs));

}  // namespace

CommandFamily SortCommands() { return kSortSpecs; }

}  // namespace cairn
