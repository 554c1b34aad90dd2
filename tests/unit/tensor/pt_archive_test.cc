#include "tensor_module/pt_archive.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "tensor_module/pickle.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

/// A working directory of its own, as files are named without a path.
class PtArchiveTest : public testing::Test {
 protected:
  PtArchiveTest() {
    char name[] = "/tmp/cairn-pt-XXXXXX";
    CAIRN_CHECK(::mkdtemp(name) != nullptr && ::getcwd(before_, sizeof before_) != nullptr);
    directory_ = name;
    CAIRN_CHECK(::chdir(name) == 0);
  }
  ~PtArchiveTest() override {
    ::unlink("f.pt");
    CAIRN_CHECK(::chdir(before_) == 0 && ::rmdir(directory_.c_str()) == 0);
  }
  static std::string Content() {
    std::ifstream file("f.pt", std::ios::binary);
    std::ostringstream out;
    out << file.rdbuf();
    return out.str();
  }
  /// A file of one storage "0" of F32 and a pickle.
  static std::string Make(const std::string& pickle, const std::string& storage) {
    FileWriter file("f.pt");
    ZipWriter zip(file);
    zip.Add("archive/data.pkl", pickle);
    zip.Add("archive/data/0", storage);
    zip.Add("archive/version", "3\n");
    zip.Finish();
    CAIRN_CHECK(file.Publish().ok());
    return Content();
  }
  char before_[4096];
  std::string directory_;
};

std::string Text(const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  return "X" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
}
std::string Storage(const std::string& key) {
  return "(" + Text("storage") + "ctorch\nFloatStorage\n" + Text(key) + Text("cpu") + "K\x06tQ";
}
const std::string kStorage = Storage("0");
const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
const std::string kHooks = "ccollections\nOrderedDict\n)R";

std::string Tensor(const std::string& first, const std::string& sizes, const std::string& strides) {
  return kRebuild + "(" + kStorage + first + sizes + strides + "\x89" + kHooks + "tR";
}
std::string Dict(const std::string& inner) { return "\x80\x02}(" + inner + "u."; }

TEST_F(PtArchiveTest, WhatIsWrittenIsRead) {
  const std::vector<ArchiveTensor> tensors = {{"a.b", DType::kF32, {2, 3}, 0, 24, {}},
                                              {"tied", DType::kF32, {2, 3}, 0, 24, {}},
                                              {"s", DType::kBool, {}, 0, 1, {}},
                                              {"e", DType::kI64, {3, 0, 2}, 0, 0, {}}};
  const std::string pickle = PtPickle(tensors, {0, 0, 1, 2}).value();
  FileWriter file("f.pt");
  ZipWriter zip(file);
  zip.Add("archive/data.pkl", pickle);
  const std::string bytes = Pattern(24);
  zip.Add("archive/data/0", bytes);
  zip.Add("archive/data/1", "\1");
  zip.Add("archive/data/2", "");
  zip.Finish();
  ASSERT_TRUE(file.Publish().ok());
  const std::string content = Content();
  const PtFile read = ReadPt(content).value();
  ASSERT_EQ(read.tensors.size(), 4u);
  EXPECT_EQ(read.tensors[0].name, "a.b");
  EXPECT_EQ(read.tensors[0].shape, (Shape{2, 3}));
  EXPECT_TRUE(read.tensors[0].strides.empty());
  EXPECT_EQ(read.tensors[0].offset % 64, 0u);
  EXPECT_EQ(content.substr(read.tensors[0].offset, 24), bytes);
  EXPECT_EQ(read.tensors[1].offset, read.tensors[0].offset) << "one storage";
  EXPECT_EQ(content[read.tensors[2].offset], '\1');
  EXPECT_FALSE(PtPickle({{"x", DType::kU32, {}, 0, 4, {}}}, {0}).ok()) << "torch has none";
  EXPECT_EQ(PtPickle({{"a\xff", DType::kU8, {}, 0, 1, {}}}, {0}).status().message(),
            "ERR pt: the name \"a\\xff\" is not UTF-8");
}

/// "K" and the byte: one small number.
std::string Small(int value) { return std::string("K") + static_cast<char>(value); }
std::string Pair(int a, int b) { return Small(a) + Small(b) + "\x86"; }

TEST_F(PtArchiveTest, ViewsAreBoundByTheirStorage) {
  const std::string storage = Raw<float>({0, 1, 2, 3, 4, 5});
  const auto read = [&](const std::string& tensor) {
    return ReadPt(Make(Dict(Text("w") + tensor), storage));
  };
  const PtFile whole = read(Tensor(Small(0), Pair(2, 3), Pair(3, 1))).value();
  EXPECT_TRUE(whole.tensors[0].strides.empty());
  const PtFile transposed = read(Tensor(Small(0), Pair(3, 2), Pair(1, 3))).value();
  EXPECT_EQ(transposed.tensors[0].strides, (std::vector<uint64_t>{1, 3}));
  EXPECT_TRUE(read(Tensor(Small(5), Pair(1, 1), Pair(200, 200))).ok());
  EXPECT_TRUE(read(Tensor(Small(0), Pair(100, 100), Pair(0, 0))).ok()) << "an expanded scalar";
  EXPECT_FALSE(read(Tensor(Small(1), Pair(2, 3), Pair(3, 1))).ok());
  EXPECT_FALSE(read(Tensor(Small(6), Pair(1, 1), Pair(1, 1))).ok());
  EXPECT_FALSE(read(Tensor(Small(0), Pair(2, 3), Pair(4, 1))).ok());
  const std::string huge = std::string("\x8a\x08") + std::string(7, '\xff') + "\x7f";
  EXPECT_FALSE(read(Tensor(huge, Pair(2, 3), Pair(3, 1))).ok());
  EXPECT_FALSE(read(Tensor(Small(0), Pair(2, 3), huge + huge + "\x86")).ok()) << "no overflow";
  EXPECT_FALSE(read(Tensor(Small(0), huge + huge + "\x86", Pair(0, 0))).ok());
  EXPECT_FALSE(read(Tensor(Small(0), Pair(2, 3), Small(1) + "\x85")).ok());
  EXPECT_FALSE(
      ReadPt(Make(Dict(Text("w") + Tensor(Small(0), Pair(2, 3), Pair(3, 1))), "short")).ok());
}

TEST_F(PtArchiveTest, ViewsThatChangeValuesAreRefused) {
  const auto read = [](const std::string& said) {
    const std::string tensor = Tensor(Small(0), Pair(2, 3), Pair(3, 1));
    const std::string with = tensor.substr(0, tensor.size() - 2) + said + "tR";
    const Result<PtFile> file =
        ReadPt(Make(Dict(Text("w") + with), Raw<float>({0, 1, 2, 3, 4, 5})));
    return file.ok() ? "" : std::string(file.status().message());
  };
  EXPECT_EQ(read("N"), "");
  EXPECT_EQ(read("}"), "");
  for (const std::string view : {"conj", "neg"}) {
    EXPECT_EQ(read("}" + Text(view) + "\x88s"),
              "ERR pt: 'w' is a view that changes values ('" + view +
                  "'): save it with resolve_conj() and resolve_neg()");
  }
  EXPECT_NE(read("K\x01"), "");
  EXPECT_NE(read("}K\x01\x88s"), "");
}

/// What stands in a pickle once may be recalled as often as it has bytes: no more comes of that
/// than the file is long, or so.
TEST_F(PtArchiveTest, WhatIsRecalledOftenCostsLittle) {
  const auto why = [](const std::string& pickle) {
    const Result<PtFile> file =
        ReadPt(Make("\x80\x02" + pickle + ".", Raw<float>({0, 1, 2, 3, 4, 5})));
    return file.ok() ? "" : std::string(file.status().message());
  };
  const std::string tensor = Tensor(Small(0), Pair(2, 3), Pair(3, 1));
  const auto names = [&](size_t bytes) {
    return why("}" + Text(std::string(bytes, 'n')) + tensor + "s");
  };
  EXPECT_EQ(names(1024), "");
  EXPECT_EQ(names(1025), "ERR pt: a name under '' has more than 1024 bytes");
  const std::string key = Text(std::string(600, 'k'));
  EXPECT_EQ(why("}" + key + "}" + key + "Nss"),
            "ERR pt: a name under '" + std::string(64, 'k') + "' has more than 1024 bytes")
      << "whatever stands there";

  const auto repeated = [&](size_t times) {
    std::string list = "](" + tensor + "q\x01";
    for (size_t i = 1; i < times; ++i) list += "h\x01";
    return why("}" + Text(std::string(1000, 'n')) + list + "es");
  };
  EXPECT_EQ(repeated(1000), "");
  EXPECT_EQ(repeated(80'000).substr(0, 44), "ERR pt: names that repeat what the file's 16");

  EXPECT_EQ(why("}" + Text("w") + Storage(std::string(256, '0')) + "s").substr(0, 7), "");
  EXPECT_NE(why("}" + Text("w") + Storage(std::string(257, '0')) + "s").find("no storage"),
            std::string::npos);
  std::string sides = "](";
  for (int i = 0; i < 65; ++i) sides += Small(1);
  EXPECT_NE(ReadPickle("\x80\x02" + Tensor(Small(0), sides + "e", sides + "e") + ".")
                .status()
                .message()
                .find("arguments that make none"),
            std::string::npos);
}

TEST_F(PtArchiveTest, ValuesAreBounded) {
  const auto why = [](const std::string& opcodes) {
    const Result<Pickle> read = ReadPickle("\x80\x02" + opcodes + ".", /*max_nodes=*/100);
    return read.ok() ? "" : std::string(read.status().message());
  };
  EXPECT_EQ(why(std::string(100, 'N')), "");
  EXPECT_EQ(why(std::string(101, 'N')), "ERR pickle: too many values at byte 103");
  EXPECT_EQ(why("N" + std::string(100, '\x94')), "") << "remembered";
  EXPECT_EQ(why("N" + std::string(101, '\x94')), "ERR pickle: too many values at byte 104");
  const auto marks = [&](size_t count) {
    return std::string(count, '(') + std::string(count, 't');
  };
  EXPECT_EQ(ReadPickle("\x80\x02" + marks(1024) + ".").status().message(), "");
  EXPECT_EQ(ReadPickle("\x80\x02" + marks(1025) + ".").status().message(),
            "ERR pickle: too many marks at byte 1027");
}

TEST(PtRepeatsTest, TensorsTakeSoMuchMoreThanTheirFile) {
  for (const uint64_t file : {uint64_t{0}, uint64_t{665}, uint64_t{1} << 40}) {
    const uint64_t most = kMaxPtRepeatedBytes + kMaxPtRepeats * file;
    EXPECT_TRUE(CheckPtRepeats(0, file).ok());
    EXPECT_TRUE(CheckPtRepeats(most, file).ok());
    EXPECT_FALSE(CheckPtRepeats(most + 1, file).ok());
    EXPECT_FALSE(CheckPtRepeats(UINT64_MAX, file).ok());
  }
}

TEST_F(PtArchiveTest, OnlyWhatStateDictsHoldIsRead) {
  const auto why = [](const std::string& pickle) {
    const Result<Pickle> read = ReadPickle(pickle);
    return read.ok() ? "" : std::string(read.status().message());
  };
  EXPECT_EQ(why("\x80\x02}."), "");
  EXPECT_NE(why("\x80\x02"
                "cos\nsystem\n(" +
                Text("true") + "tR.")
                .find("'os.system' is not among"),
            std::string::npos);
  EXPECT_NE(why("\x80\x04"
                "\x8c\x02os\x8c\x06system\x93.")
                .find("'os.system'"),
            std::string::npos);
  EXPECT_NE(why("\x80\x02"
                "cbuiltins\neval\n."),
            "");
  EXPECT_NE(why("\x80\x02(lp0\n."), "") << "protocol 0 opcodes";
  EXPECT_NE(why("\x80\x01}."), "");
  EXPECT_NE(why("\x80\x02"), "");
  EXPECT_NE(why("\x80\x02."), "");
  EXPECT_NE(why("\x80\x02}(K\x01u."), "") << "a key without value";
  EXPECT_NE(why("\x80\x02K\x01(K\x02"
                "a."),
            "")
      << "below the mark";
  EXPECT_NE(why("\x80\x02h\x07."), "");
  EXPECT_NE(why("\x80\x02X\xff\xff\xff\x7fx."), "");
  EXPECT_NE(why("\x80\x02\x8a\x08."), "") << "a long that ends early";
  EXPECT_NE(why("\x80\x02"
                "ctorch\nFloatStorage\n)R."),
            "")
      << "storages are not called";
  // A list of itself, and one list recalled for ever: bounded.
  const Result<Pickle> self = ReadPickle(
      "\x80\x02]q\x01h\x01"
      "a.");
  ASSERT_TRUE(self.ok());
  EXPECT_FALSE(ReadPt(Make("\x80\x02]q\x01h\x01"
                           "a.",
                           ""))
                   .ok());
}

TEST_F(PtArchiveTest, NestedStatesBecomeNamesWithDots) {
  const std::string tensor = Tensor(Small(0), Pair(2, 3), Pair(3, 1));
  const std::string inner =
      "}(" + Text("w") + tensor + Text("lr") + "G?\xf0" + std::string(6, '\0') + "u";
  const std::string list = "](" + inner + tensor + "e";
  const PtFile file = ReadPt(Make(Dict(Text("m") + list), Raw<float>({0, 1, 2, 3, 4, 5}))).value();
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "m.0.w");
  EXPECT_EQ(file.tensors[1].name, "m.1");
  EXPECT_EQ(file.skipped, 1u);
}

TEST_F(PtArchiveTest, BrokenArchivesAreRefused) {
  const std::string tensor = Tensor(Small(0), Pair(2, 3), Pair(3, 1));
  const std::string good = Make(Dict(Text("w") + tensor), Raw<float>({0, 1, 2, 3, 4, 5}));
  ASSERT_TRUE(ReadPt(good).ok());
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(ReadPt(good.substr(0, size)).ok());
  // Any single byte changed: refused, or the same tensor within the file.
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x41);
    const Result<PtFile> read = ReadPt(bad);
    if (!read.ok()) continue;
    for (const ArchiveTensor& each : read->tensors) {
      EXPECT_LE(each.offset + each.size_bytes, bad.size());
      EXPECT_EQ(bad.substr(each.offset, 24), good.substr(read->tensors[0].offset, 24));
    }
  }
}

// --- forged ZIP64 ---

constexpr uint64_t kHuge = ~uint64_t{0};
constexpr uint32_t kSee64 = 0xffffffff;

template <typename T>
void Poke(std::string* file, size_t at, T value) {
  CAIRN_CHECK(at + sizeof value <= file->size());
  std::memcpy(file->data() + at, &value, sizeof value);
}
template <typename T>
T Peek(const std::string& file, size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

/// What the end of a ZIP64 file says of its central directory.
struct End64 {
  uint64_t offset = 0, size = 0, count = 0;
  uint64_t record = 0;  ///< where the locator says that this stands
};
End64 TrueEnd(const std::string& file) {
  const size_t end = file.size() - 22;
  return {Peek<uint32_t>(file, end + 16), Peek<uint32_t>(file, end + 12),
          Peek<uint16_t>(file, end + 10), end};
}
/// A file without ZIP64 as one with it. `deferred`: the old fields point to the new ones.
std::string WithEnd64(const std::string& file, const End64& says, bool deferred = true) {
  std::string end = file.substr(file.size() - 22);
  if (deferred) {
    Poke<uint16_t>(&end, 8, 0xffff);
    Poke<uint16_t>(&end, 10, 0xffff);
    Poke<uint32_t>(&end, 12, kSee64);
    Poke<uint32_t>(&end, 16, kSee64);
  }
  const std::string record = Raw<uint32_t>({0x06064b50}) + Raw<uint64_t>({44}) +
                             Raw<uint16_t>({45, 45}) + Raw<uint32_t>({0, 0}) +
                             Raw<uint64_t>({says.count, says.count, says.size, says.offset});
  const std::string locator =
      Raw<uint32_t>({0x07064b50, 0}) + Raw<uint64_t>({says.record}) + Raw<uint32_t>({1});
  return file.substr(0, file.size() - 22) + record + locator + end;
}
/// The first central record with an extra field, its sizes and offset left to that.
std::string WithExtra64(const std::string& file, const std::string& extra) {
  const End64 end = TrueEnd(file);
  const auto at = static_cast<size_t>(end.offset);
  std::string out = file;
  for (size_t field : {20, 24, 42}) Poke<uint32_t>(&out, at + field, kSee64);
  Poke<uint16_t>(&out, at + 30, static_cast<uint16_t>(extra.size()));
  Poke<uint32_t>(&out, out.size() - 22 + 12, static_cast<uint32_t>(end.size + extra.size()));
  return out.insert(at + 46 + Peek<uint16_t>(file, at + 28), extra);
}
std::string Extra64(std::initializer_list<uint64_t> values) {
  const auto bytes = static_cast<uint16_t>(values.size() * 8);
  return Raw<uint16_t>({1, bytes}) + Raw(values);
}
std::string WhyNot(const std::string& file) {
  const Result<PtFile> read = ReadPt(file);
  return read.ok() ? "" : std::string(read.status().message());
}

class Zip64Test : public PtArchiveTest {
 protected:
  const std::string good_ = Make(Dict(Text("w") + Tensor(Small(0), Pair(2, 3), Pair(3, 1))),
                                 Raw<float>({0, 1, 2, 3, 4, 5}));
  const End64 true_ = TrueEnd(good_);
};

TEST_F(Zip64Test, ForgedLocatorsAreRefused) {
  EXPECT_EQ(WhyNot(WithEnd64(good_, true_)), "") << "an honest one is read";
  for (uint64_t at : {uint64_t{0}, true_.record - 1, true_.record + 1, true_.record + 56,
                      uint64_t{1} << 32, kHuge, kHuge - 55, uint64_t{1} << 63}) {
    End64 says = true_;
    says.record = at;
    EXPECT_EQ(WhyNot(WithEnd64(good_, says)), "ERR zip: a ZIP64 locator that points nowhere") << at;
  }
  // Nothing but a locator and an end: no room for what it points to.
  const std::string whole = WithEnd64(good_, {0, 0, 0, 0});
  EXPECT_EQ(WhyNot(whole.substr(whole.size() - 42)),
            "ERR zip: a ZIP64 locator that points nowhere");
}

TEST_F(Zip64Test, ForgedEndRecordsAreRefused) {
  const auto why = [&](uint64_t offset, uint64_t size, uint64_t count) {
    return WhyNot(WithEnd64(good_, {offset, size, count, true_.record}));
  };
  const std::string outside = "ERR zip: a central directory that is not within the file";
  EXPECT_EQ(why(true_.record + 1, 0, 0), outside);
  EXPECT_EQ(why(kHuge, true_.size, true_.count), outside);
  EXPECT_EQ(why(true_.offset, true_.size + 1, true_.count), outside);
  EXPECT_EQ(why(true_.offset, kHuge, true_.count), outside);
  EXPECT_EQ(why(true_.offset, uint64_t{0} - true_.offset, true_.count), outside) << "the sum is 0";
  EXPECT_EQ(why(true_.offset, true_.size, kHuge), outside);
  EXPECT_EQ(why(true_.offset, true_.size, kHuge / 46 + 2), outside) << "46 times that is 46";
  EXPECT_EQ(why(true_.offset, true_.size, true_.count + 1), outside) << "46 bytes each at least";
  EXPECT_EQ(why(true_.offset, true_.size - 1, true_.count),
            "ERR zip: a central directory that breaks off");
  EXPECT_EQ(why(true_.offset, true_.size, true_.count - 1),
            "ERR zip: a central directory with more than its entries");
  EXPECT_EQ(why(true_.offset + 1, true_.size - 1, true_.count),
            "ERR zip: a central directory that breaks off");
}

TEST_F(Zip64Test, TwoEndsThatContradictAreRefused) {
  EXPECT_EQ(WhyNot(WithEnd64(good_, true_, false)), "") << "both say the same";
  const std::string two =
      "ERR zip: a ZIP64 record that contradicts the end of the central directory";
  for (const End64& says : {End64{true_.offset - 1, true_.size, true_.count, true_.record},
                            End64{true_.offset, true_.size - 46, true_.count, true_.record},
                            End64{true_.offset, true_.size, true_.count - 1, true_.record}}) {
    EXPECT_EQ(WhyNot(WithEnd64(good_, says, false)), two);
  }
}

TEST_F(Zip64Test, ForgedExtraFieldsAreRefused) {
  const auto at = static_cast<size_t>(true_.offset);
  const uint64_t size = Peek<uint32_t>(good_, at + 24), local = Peek<uint32_t>(good_, at + 42);
  const auto why = [&](const std::string& extra) { return WhyNot(WithExtra64(good_, extra)); };
  const std::string name = "ERR zip: 'archive/data.pkl' ";
  EXPECT_EQ(why(Extra64({size, size, local})), "") << "an honest one is read";
  EXPECT_EQ(why(Raw<uint16_t>({7, 2, 0}) + Extra64({size, size, local})), "") << "behind another";
  // Too few values, none at all, a length behind the field's end, a field of another kind.
  EXPECT_EQ(why(Extra64({size, size})), name + "has broken ZIP64 fields");
  EXPECT_EQ(why(""), name + "has broken ZIP64 fields");
  EXPECT_EQ(why(Raw<uint16_t>({1, 32}) + Raw<uint64_t>({size, size, local})),
            name + "has broken ZIP64 fields");
  EXPECT_EQ(why(Raw<uint16_t>({2, 24}) + Raw<uint64_t>({size, size, local})),
            name + "has broken ZIP64 fields");
  EXPECT_EQ(why(Raw<uint16_t>({1, 23}) + Raw<uint64_t>({size, size, local})),
            name + "has broken ZIP64 fields");
  // Sizes that lie, also those whose sum with the offset is small.
  EXPECT_EQ(why(Extra64({size, size + 1, local})), name + "is compressed");
  for (uint64_t lie : {true_.offset, kHuge, kHuge - local, uint64_t{1} << 63}) {
    EXPECT_EQ(why(Extra64({lie, lie, local})), name + "is not where the directory says") << lie;
  }
  for (uint64_t lie : {true_.offset, true_.offset - 1, local + 1, kHuge, kHuge - 29}) {
    EXPECT_EQ(why(Extra64({size, size, lie})), name + "has no local header") << lie;
  }
  // Into the next entry: each is within the file.
  const auto next = at + 46 + Peek<uint16_t>(good_, at + 28);
  const uint64_t far = Peek<uint32_t>(good_, next + 42) + 64 - local;
  EXPECT_EQ(why(Extra64({far, far, local})), "ERR zip: entries that overlap");
  EXPECT_EQ(why(Extra64({size, size, Peek<uint32_t>(good_, next + 42)})),
            name + "is not where the directory says")
      << "another entry's bytes under this name";
}

TEST(ZipTest, Crc32IsThatOfZip) {
  EXPECT_EQ(Crc32(0, "123456789"), 0xcbf43926u);
  const std::string bytes = Pattern(1000);
  EXPECT_EQ(Crc32(Crc32(0, bytes.substr(0, 333)), bytes.substr(333)), Crc32(0, bytes));
}

TEST_F(PtArchiveTest, TwoWritersOfOneNameEachWriteAFileOfTheirOwn) {
  FileWriter first("f.pt"), second("f.pt");
  first.Append(std::string(3 << 20, 'a'));
  second.Append(std::string(2 << 20, 'b'));
  first.Append("a");
  second.Append("b");
  ASSERT_TRUE(second.Publish().ok());
  EXPECT_EQ(Content(), std::string((2 << 20) + 1, 'b'));
  ASSERT_TRUE(first.Publish().ok());
  EXPECT_EQ(Content(), std::string((3 << 20) + 1, 'a'));
}

TEST_F(PtArchiveTest, ANameMayBeAsLongAsTheFileSystemTakes) {
  const std::string name(255, 'n');
  EXPECT_TRUE(FileWriter(name).Publish().ok());
  EXPECT_EQ(::unlink(name.c_str()), 0);
}

TEST(FileWriterTest, NamesArePlain) {
  TestMemory memory;
  const auto take = [](uint64_t) { return Status::Ok(); };
  for (const char* name : {"", ".", "..", "a/b", "/etc/passwd", ".hidden"}) {
    EXPECT_FALSE(IsPlainFileName(name)) << name;
    EXPECT_FALSE(ReadWholeFile(memory, name, take).ok());
    EXPECT_FALSE(FileWriter(name).Publish().ok());
  }
  EXPECT_FALSE(ReadWholeFile(memory, "no such file here", take).ok());
}

}  // namespace
}  // namespace cairn::tensor
