# Writes OUT, the source of BuildNumber() (build_number.h): the first 32 digits of the SHA-256 of HOW and of the names and
# hashes of FILES.
set(text "${HOW}")
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME)
  file(SHA256 "${file}" hash)
  string(APPEND text "\n${name} ${hash}")
endforeach()
string(SHA256 number "${text}")
string(SUBSTRING "${number}" 0 32 number)
file(WRITE "${OUT}" "#include \"tensor_module/build_number.h\"

#include <cstdint>

namespace {

// As ELF has a note: sizes of the name and of what it says, a type of the name's own, and both, padded to four bytes.
struct Note {
  uint32_t name_bytes, number_bytes, type;
  char name[8];
  char number[36];
};
[[gnu::used, gnu::section(\".note.cairn\")]] alignas(4) const Note note = {
    sizeof(\"cairn\"), sizeof(Note::number), 1, \"cairn\", \"${number}\"};

}  // namespace

const char* cairn::tensor::BuildNumber() { return note.number; }
")
