#include "tensor_module/pt_archive.h"

#include <gtest/gtest.h>
#include <unistd.h>

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
  return std::string("X") + static_cast<char>(text.size()) + std::string(3, '\0') + text;
}
const std::string kStorage =
    "(" + Text("storage") + "ctorch\nFloatStorage\n" + Text("0") + Text("cpu") + "K\x06tQ";
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

TEST(ZipTest, Crc32IsThatOfZip) {
  EXPECT_EQ(Crc32(0, "123456789"), 0xcbf43926u);
  const std::string bytes = Pattern(1000);
  EXPECT_EQ(Crc32(Crc32(0, bytes.substr(0, 333)), bytes.substr(333)), Crc32(0, bytes));
}

TEST(FileWriterTest, NamesArePlain) {
  TestMemory memory;
  for (const char* name : {"", ".", "..", "a/b", "/etc/passwd", ".hidden"}) {
    EXPECT_FALSE(IsPlainFileName(name)) << name;
    EXPECT_FALSE(ReadWholeFile(memory, name, 100).ok());
    EXPECT_FALSE(FileWriter(name).Publish().ok());
  }
  EXPECT_FALSE(ReadWholeFile(memory, "no such file here", 100).ok());
}

}  // namespace
}  // namespace cairn::tensor
