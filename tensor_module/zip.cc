#include "tensor_module/zip.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace cairn::tensor {

namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56;
constexpr size_t kLocatorBytes = 20, kMaxComment = 65535;
constexpr uint16_t kExtra64 = 1, kExtraPadding = 0x4246;
constexpr uint32_t kSee64 = 0xffffffff;
constexpr uint16_t kSee64Count = 0xffff;
constexpr size_t kAlignment = 64;

Status Bad(const std::string& why) { return Status::Client("ERR zip: " + why); }

/// Requires: [at, at + sizeof(T)) within bytes.
template <typename T>
T Read(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <typename T>
void Write(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    tables[0][i] = crc;
  }
  for (size_t t = 1; t < 8; ++t) {
    for (size_t i = 0; i < 256; ++i) {
      tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
    }
  }
  return tables;
}();

/// Where the central directory is.
struct Directory {
  uint64_t offset = 0, size = 0, count = 0;
};

bool Agree(uint64_t narrow, uint64_t wide, uint64_t see_wide) {
  return narrow == see_wide || narrow == wide;
}

Result<Directory> FindDirectory(std::string_view file) {
  if (file.size() < kEndBytes) return Bad("too short to be one");
  size_t end = file.size() - kEndBytes;
  const size_t least = end > kMaxComment ? end - kMaxComment : 0;
  // The record is the last of its kind whose comment ends with the file.
  while (Read<uint32_t>(file, end) != kEnd ||
         Read<uint16_t>(file, end + 20) != file.size() - end - kEndBytes) {
    if (end-- == least) return Bad("no end of a central directory");
  }
  Directory out{Read<uint32_t>(file, end + 16), Read<uint32_t>(file, end + 12),
                Read<uint16_t>(file, end + 10)};
  uint64_t behind = end;
  if (end >= kLocatorBytes && Read<uint32_t>(file, end - kLocatorBytes) == kLocator64) {
    const uint64_t at = Read<uint64_t>(file, end - kLocatorBytes + 8);
    if (end - kLocatorBytes < kEnd64Bytes || at > end - kLocatorBytes - kEnd64Bytes ||
        Read<uint32_t>(file, static_cast<size_t>(at)) != kEnd64) {
      return Bad("a ZIP64 locator that points nowhere");
    }
    const auto record = static_cast<size_t>(at);
    const Directory wide{Read<uint64_t>(file, record + 48), Read<uint64_t>(file, record + 40),
                         Read<uint64_t>(file, record + 32)};
    // Or readers of the one and of the other would see two archives in one file.
    if (!Agree(out.offset, wide.offset, kSee64) || !Agree(out.size, wide.size, kSee64) ||
        !Agree(out.count, wide.count, kSee64Count)) {
      return Bad("a ZIP64 record that contradicts the end of the central directory");
    }
    out = wide;
    behind = at;
  }
  if (out.offset > behind || out.size > behind - out.offset ||
      out.count > out.size / kCentralBytes || out.count > kMaxArchiveTensors) {
    return Bad("a central directory that is not within the file");
  }
  return out;
}

/// The ZIP64 values stand in the order of the fields that point to them.
bool ReadExtra64(std::string_view extra, uint64_t* size, uint64_t* packed, uint64_t* offset) {
  size_t at = 0;
  while (extra.size() - at >= 4) {
    const uint16_t id = Read<uint16_t>(extra, at), length = Read<uint16_t>(extra, at + 2);
    at += 4;
    if (length > extra.size() - at) return false;
    if (id == kExtra64) {
      std::string_view rest = extra.substr(at, length);
      for (uint64_t* value : {size, packed, offset}) {
        if (*value != kSee64) continue;
        if (rest.size() < sizeof *value) return false;
        *value = Read<uint64_t>(rest, 0);
        rest.remove_prefix(sizeof *value);
      }
      return true;
    }
    at += length;
  }
  return *size != kSee64 && *packed != kSee64 && *offset != kSee64;
}

/// The entry whose central record stands at `at`; moves `at` behind it.
Status ReadEntry(std::string_view file, const Directory& directory, uint64_t* at,
                 ZipEntries* entries) {
  const uint64_t end = directory.offset + directory.size;
  const auto here = static_cast<size_t>(*at);
  if (end - *at < kCentralBytes || Read<uint32_t>(file, here) != kCentral) {
    return Bad("a central directory that breaks off");
  }
  const uint16_t flags = Read<uint16_t>(file, here + 8), method = Read<uint16_t>(file, here + 10);
  const size_t name_size = Read<uint16_t>(file, here + 28);
  const size_t extra_size = Read<uint16_t>(file, here + 30);
  const size_t comment_size = Read<uint16_t>(file, here + 32);
  if (end - *at - kCentralBytes < name_size + extra_size + comment_size) {
    return Bad("a central directory that breaks off");
  }
  std::string name(file.substr(here + kCentralBytes, name_size));
  const std::string quoted = "'" + name.substr(0, 64) + "'";
  ZipEntry entry;
  entry.crc = Read<uint32_t>(file, here + 16);
  uint64_t packed = Read<uint32_t>(file, here + 20), local = Read<uint32_t>(file, here + 42);
  entry.size_bytes = Read<uint32_t>(file, here + 24);
  if (!ReadExtra64(file.substr(here + kCentralBytes + name_size, extra_size), &entry.size_bytes,
                   &packed, &local)) {
    return Bad(quoted + " has broken ZIP64 fields");
  }
  if (method != 0 || packed != entry.size_bytes) return Bad(quoted + " is compressed");
  if ((flags & 1) != 0) return Bad(quoted + " is encrypted");
  if (local > directory.offset || directory.offset - local < kLocalBytes ||
      Read<uint32_t>(file, static_cast<size_t>(local)) != kLocal) {
    return Bad(quoted + " has no local header");
  }
  const auto start = static_cast<size_t>(local);
  const size_t local_name = Read<uint16_t>(file, start + 26);
  const size_t skip = kLocalBytes + local_name + Read<uint16_t>(file, start + 28);
  if (directory.offset - local < skip || entry.size_bytes > directory.offset - local - skip ||
      file.substr(start + kLocalBytes, local_name) != name) {
    return Bad(quoted + " is not where the directory says");
  }
  entry.offset = local + skip;
  *at += kCentralBytes + name_size + extra_size + comment_size;
  if (!entries->emplace(std::move(name), entry).second) return Bad(quoted + " stands twice");
  return Status::Ok();
}

}  // namespace

uint32_t Crc32(uint32_t crc, std::string_view bytes) {
  crc = ~crc;
  size_t at = 0;
  for (; bytes.size() - at >= 8; at += 8) {
    const uint64_t word = Read<uint64_t>(bytes, at) ^ crc;
    crc = 0;
    for (size_t i = 0; i < 8; ++i) crc ^= kCrcTables[7 - i][word >> (8 * i) & 255];
  }
  for (; at < bytes.size(); ++at) {
    crc = crc >> 8 ^ kCrcTables[0][(crc ^ static_cast<unsigned char>(bytes[at])) & 255];
  }
  return ~crc;
}

Result<ZipEntries> ReadZip(std::string_view file) {
  Result<Directory> directory = FindDirectory(file);
  if (!directory.ok()) return directory.status();
  ZipEntries entries;
  uint64_t at = directory->offset;
  for (uint64_t i = 0; i < directory->count; ++i) {
    CAIRN_RETURN_IF_ERROR(ReadEntry(file, *directory, &at, &entries));
  }
  if (at != directory->offset + directory->size) {
    return Bad("a central directory with more than its entries");
  }
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : entries) {
    if (entry.size_bytes > 0) ranges.emplace_back(entry.offset, entry.offset + entry.size_bytes);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) return Bad("entries that overlap");
  }
  return entries;
}

void ZipWriter::BeginEntry(const std::string& name, uint64_t size_bytes, uint32_t crc) {
  const uint64_t local = file_.position();
  const bool wide = size_bytes >= kSee64 || local >= kSee64;
  const uint32_t size32 = wide ? kSee64 : static_cast<uint32_t>(size_bytes);
  std::string extra;
  if (wide) {
    Write<uint16_t>(&extra, kExtra64);
    Write<uint16_t>(&extra, 16);
    Write<uint64_t>(&extra, size_bytes);
    Write<uint64_t>(&extra, size_bytes);
  }
  const uint64_t begin = local + kLocalBytes + name.size() + extra.size() + 4;
  const auto padding = static_cast<uint16_t>((kAlignment - begin % kAlignment) % kAlignment);
  Write<uint16_t>(&extra, kExtraPadding);
  Write<uint16_t>(&extra, padding);
  extra.append(padding, 'Z');

  // What both headers have: version, flags, method, time, date, CRC, sizes, length of the name.
  std::string common;
  for (uint16_t word : {wide ? 45 : 20, 0, 0, 0, 0x21}) Write<uint16_t>(&common, word);
  Write<uint32_t>(&common, crc);
  Write<uint32_t>(&common, size32);
  Write<uint32_t>(&common, size32);
  Write<uint16_t>(&common, static_cast<uint16_t>(name.size()));
  std::string header;
  Write<uint32_t>(&header, kLocal);
  header += common;
  Write<uint16_t>(&header, static_cast<uint16_t>(extra.size()));
  file_.Append(header + name + extra);

  std::string far;
  if (wide) {
    Write<uint16_t>(&far, kExtra64);
    Write<uint16_t>(&far, 24);
    for (uint64_t value : {size_bytes, size_bytes, local}) Write<uint64_t>(&far, value);
  }
  Write<uint32_t>(&directory_, kCentral);
  Write<uint16_t>(&directory_, 45);
  directory_ += common;
  Write<uint16_t>(&directory_, static_cast<uint16_t>(far.size()));
  for (int i = 0; i < 3; ++i) Write<uint16_t>(&directory_, 0);  // comment, disk, attributes
  Write<uint32_t>(&directory_, 0);
  Write<uint32_t>(&directory_, wide ? kSee64 : static_cast<uint32_t>(local));
  directory_ += name + far;
  ++count_;
}

void ZipWriter::Add(const std::string& name, std::string_view bytes) {
  BeginEntry(name, bytes.size(), Crc32(0, bytes));
  file_.Append(bytes);
}

void ZipWriter::Finish() {
  const uint64_t offset = file_.position(), size = directory_.size();
  file_.Append(directory_);
  std::string tail;
  if (offset >= kSee64 || size >= kSee64 || count_ >= kSee64Count) {
    const uint64_t record = file_.position();
    Write<uint32_t>(&tail, kEnd64);
    Write<uint64_t>(&tail, kEnd64Bytes - 12);
    Write<uint16_t>(&tail, 45);
    Write<uint16_t>(&tail, 45);
    Write<uint32_t>(&tail, 0);
    Write<uint32_t>(&tail, 0);
    for (uint64_t value : {count_, count_, size, offset}) Write<uint64_t>(&tail, value);
    Write<uint32_t>(&tail, kLocator64);
    Write<uint32_t>(&tail, 0);
    Write<uint64_t>(&tail, record);
    Write<uint32_t>(&tail, 1);
  }
  const auto count16 = static_cast<uint16_t>(std::min<uint64_t>(count_, kSee64Count));
  Write<uint32_t>(&tail, kEnd);
  Write<uint32_t>(&tail, 0);
  Write<uint16_t>(&tail, count16);
  Write<uint16_t>(&tail, count16);
  Write<uint32_t>(&tail, static_cast<uint32_t>(std::min<uint64_t>(size, kSee64)));
  Write<uint32_t>(&tail, static_cast<uint32_t>(std::min<uint64_t>(offset, kSee64)));
  Write<uint16_t>(&tail, 0);
  file_.Append(tail);
}

}  // namespace cairn::tensor
