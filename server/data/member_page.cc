#include "server/data/member_page.h"

#include <algorithm>
#include <iterator>

#include "server/base/hash.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

// Size classes of the allocator (jemalloc 5: four steps to each power of two).
constexpr uint16_t kBlocks[] = {128, 160,  192,  224,  256,  320,  384,  448,  512,  640, 768,
                                896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096};
static_assert(kBlocks[std::size(kBlocks) - 1] == kMaxPageBytes);

constexpr size_t kShortBytes = 127;
constexpr size_t kMaxIntegerText = 20;

size_t IntegerBytes(int64_t value) {
  // Bits that differ from the sign, and the sign's.
  const uint64_t bits = static_cast<uint64_t>(value < 0 ? ~value : value);
  return bits == 0 ? 1 : static_cast<size_t>(64 - __builtin_clzll(bits)) / 8 + 1;
}

/// Adds `more` to those of `count` offsets that are below `limit`. None is above kMaxPageBytes.
void RaiseBelow(uint16_t* offsets, size_t count, uint16_t limit, uint16_t more) {
  size_t i = 0;
#if defined(__SSE2__)
  const __m128i limits = _mm_set1_epi16(static_cast<int16_t>(limit));
  const __m128i mores = _mm_set1_epi16(static_cast<int16_t>(more));
  for (; i + 8 <= count; i += 8) {
    auto* at = reinterpret_cast<__m128i*>(offsets + i);
    const __m128i line = _mm_loadu_si128(at);
    _mm_storeu_si128(at, _mm_add_epi16(line, _mm_and_si128(_mm_cmplt_epi16(line, limits), mores)));
  }
#endif
  for (; i < count; ++i)
    offsets[i] = static_cast<uint16_t>(offsets[i] + (offsets[i] < limit ? more : 0));
}

}  // namespace

MemberElement::MemberElement(std::string_view text) {
  int64_t integer = 0;
  if (text.size() <= kMaxIntegerText && ParseInt64(text, &integer)) {
    const size_t bytes = IntegerBytes(integer);
    header[0] = static_cast<char>(member_record::kInteger + bytes);
    std::memcpy(header + 1, &integer, sizeof integer);
    header_bytes = static_cast<uint8_t>(1 + bytes);
    return;
  }
  payload = text;
  if (text.size() <= kShortBytes) {
    header[0] = static_cast<char>(text.size());
    header_bytes = 1;
  } else {  // longer ones than two bytes can say are never written: their record is external
    header[0] = static_cast<char>(member_record::kLong | (text.size() >> 8 & 0x3f));
    header[1] = static_cast<char>(text.size());
    header_bytes = 2;
  }
}

MemberKey::MemberKey(std::string_view key_text, uint64_t seed)
    : text(key_text),
      element(key_text),
      hash(HashBytes(element.payload.empty()
                         ? std::string_view(element.header, element.header_bytes)
                         : element.payload,
                     seed)) {}

namespace member_record {

namespace {

constexpr size_t kExternalHeaderBytes = sizeof(uint64_t) + sizeof(uint32_t);

std::string_view ExternalKey(const Blob& blob) {
  uint32_t key_bytes;
  std::memcpy(&key_bytes, blob.data() + sizeof(uint64_t), sizeof key_bytes);
  return blob.view().substr(kExternalHeaderBytes, key_bytes);
}

}  // namespace

ListpackValue Element(const char* at) {
  const uint8_t tag = static_cast<uint8_t>(*at);
  ListpackValue value;
  if (tag < kLong) {
    value.bytes = {at + 1, tag};
  } else if (tag < kInteger) {
    value.bytes = {at + 2, size_t{tag & 0x3fu} << 8 | static_cast<uint8_t>(at[1])};
  } else {
    const size_t bytes = tag & 0x0fu;
    uint64_t bits = 0;
    std::memcpy(&bits, at + 1, bytes);
    const unsigned shift = static_cast<unsigned>(64 - 8 * bytes);
    value.is_integer = true;
    value.integer = static_cast<int64_t>(bits << shift) >> shift;
  }
  return value;
}

Member Read(const char* record, bool has_value) {
  Member member;
  if (IsExternal(record)) {
    member.blob = ExternalBlob(record);
    member.key.bytes = ExternalKey(*member.blob);
    member.value.bytes = member.blob->view().substr(kExternalHeaderBytes + member.key.bytes.size());
    return member;
  }
  member.key = Element(record);
  if (has_value) member.value = Element(record + ElementBytes(record));
  return member;
}

bool HasKey(const char* record, const MemberKey& key) {
  if (IsExternal(record)) return ExternalKey(*ExternalBlob(record)) == key.text;
  const MemberElement& element = key.element;
  // An equal first byte says that the record's key has the rest of the header, too.
  return *record == element.header[0] && element.bytes() <= kMaxPageRecordBytes &&
         std::memcmp(record, element.header, element.header_bytes) == 0 &&
         (element.payload.empty() ||
          std::memcmp(record + element.header_bytes, element.payload.data(),
                      element.payload.size()) == 0);
}

uint64_t Hash(const char* record, uint64_t seed) {
  if (IsExternal(record)) return ExternalHash(*ExternalBlob(record), seed);
  const ListpackValue key = Element(record);
  // As MemberKey: integers, and the empty string, by all their bytes.
  if (key.is_integer || key.bytes.empty()) return HashBytes({record, ElementBytes(record)}, seed);
  return HashBytes(key.bytes, seed);
}

Blob* NewExternal(std::string_view key, std::string_view value, uint64_t generation) {
  const uint32_t key_bytes = static_cast<uint32_t>(key.size());
  Blob* blob = Blob::Create(kExternalHeaderBytes + key.size() + value.size());
  char* out = blob->mutable_data();
  std::memcpy(out, &generation, sizeof generation);
  std::memcpy(out + sizeof generation, &key_bytes, sizeof key_bytes);
  out += kExternalHeaderBytes;
  if (!key.empty()) std::memcpy(out, key.data(), key.size());
  if (!value.empty()) std::memcpy(out + key.size(), value.data(), value.size());
  return blob;
}

uint64_t ExternalGeneration(const Blob& blob) {
  uint64_t generation;
  std::memcpy(&generation, blob.data(), sizeof generation);
  return generation;
}

uint64_t ExternalHash(const Blob& blob, uint64_t seed) {
  return MemberKey(ExternalKey(blob), seed).hash;
}

void WriteExternal(char* out, Blob* blob) {
  *out = static_cast<char>(kExternal);
  std::memcpy(out + 1, &blob, sizeof blob);
}

}  // namespace member_record

size_t MemberPage::BlockFor(size_t bytes) {
  return *std::lower_bound(std::begin(kBlocks), std::end(kBlocks), bytes);
}

char* MemberPage::Append(uint8_t fingerprint, size_t bytes) {
  if (count % 16 == 0) {
    uint16_t* old = offsets();
    std::memmove(old + 8, old, sizeof(uint16_t) * count);
  }
  heap_at = static_cast<uint16_t>(heap_at - bytes);
  const size_t at = count++;
  fingerprints()[at] = fingerprint;
  offsets()[at] = heap_at;
  return record(at);
}

void MemberPage::Erase(size_t i, size_t bytes) {
  const uint16_t at = offsets()[i];
  char* heap = reinterpret_cast<char*>(this) + heap_at;
  std::memmove(heap + bytes, heap, at - heap_at);
  heap_at = static_cast<uint16_t>(heap_at + bytes);
  uint16_t* all = offsets();
  RaiseBelow(all, count, at, static_cast<uint16_t>(bytes));
  const size_t last = count - 1u;
  fingerprints()[i] = fingerprints()[last];
  all[i] = all[last];
  --count;
  if (count % 16 == 0) std::memmove(all - 8, all, sizeof(uint16_t) * count);
}

}  // namespace cairn
