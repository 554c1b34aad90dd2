// ReadBuildNumber: the note of a library that is not opened (build_number.h).

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "tensor_module/build_number.h"

namespace cairn::tensor {

namespace {

/// Notes and program headers of a library take a few hundred bytes.
constexpr uint64_t kMostBytes = 1 << 16;

bool ReadAt(int fd, uint64_t offset, uint64_t size, std::string* out) {
  if (size > kMostBytes) return false;
  out->resize(static_cast<size_t>(size));
  return ::pread(fd, out->data(), out->size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(out->size());
}

/// What the note of our name says among `notes`.
std::string FindNumber(std::string_view notes) {
  const auto padded = [](uint64_t size) { return (size + 3) / 4 * 4; };
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr head;
    std::memcpy(&head, notes.data(), sizeof head);
    notes.remove_prefix(sizeof head);
    const uint64_t name = padded(head.n_namesz), size = name + padded(head.n_descsz);
    if (size > notes.size()) return "";
    const std::string_view note = notes.substr(0, static_cast<size_t>(size));
    if (std::string_view(note.data(), strnlen(note.data(), head.n_namesz)) == kBuildNoteName) {
      const char* const number = note.data() + name;
      return {number, strnlen(number, head.n_descsz)};
    }
    notes.remove_prefix(static_cast<size_t>(size));
  }
  return "";
}

std::string ReadNumber(int fd) {
  std::string bytes;
  Elf64_Ehdr head;
  if (!ReadAt(fd, 0, sizeof head, &bytes)) return "";
  std::memcpy(&head, bytes.data(), sizeof head);
  if (std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_phentsize != sizeof(Elf64_Phdr)) {
    return "";
  }
  if (!ReadAt(fd, head.e_phoff, uint64_t{head.e_phnum} * sizeof(Elf64_Phdr), &bytes)) return "";
  std::vector<Elf64_Phdr> parts(head.e_phnum);
  std::memcpy(parts.data(), bytes.data(), bytes.size());
  for (const Elf64_Phdr& part : parts) {
    if (part.p_type != PT_NOTE || !ReadAt(fd, part.p_offset, part.p_filesz, &bytes)) continue;
    if (std::string number = FindNumber(bytes); !number.empty()) return number;
  }
  return "";
}

}  // namespace

std::string ReadBuildNumber(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string number = ReadNumber(fd);
  ::close(fd);
  return number;
}

}  // namespace cairn::tensor
