#include "tensor_module/args.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tensor_module/stats.h"

namespace cairn::tensor {
namespace {

/// The words of a line as a command's arguments.
class Words {
 public:
  explicit Words(const std::string& line) {
    std::istringstream in(line);
    for (std::string word; in >> word;) owned_.push_back(word);
    views_.assign(owned_.begin(), owned_.end());
  }
  operator Args() const { return views_; }

 private:
  std::vector<std::string> owned_;
  std::vector<std::string_view> views_;
};

template <typename T>
std::string ErrorOf(const Result<T>& result) {
  return result.ok() ? "" : std::string(result.status().message());
}

TEST(ParseSetTest, OptionsComeInAnyOrderAndLetterCase) {
  const Words words(
      "tensor.set k bf16 shape 2 3 4 blob x xxh3 00112233445566778899aabbccddeeff guard finite px "
      "1500 NX");
  const Result<SetArgs> set = ParseSet(words);
  ASSERT_TRUE(set.ok()) << ErrorOf(set);
  EXPECT_EQ(set->head.dtype, DType::kBF16);
  EXPECT_EQ(set->head.shape, (Shape{3, 4}));
  EXPECT_EQ(set->head.size_bytes, 24u);
  EXPECT_EQ(set->payload, SetArgs::Payload::kBlob);
  EXPECT_EQ(set->payload_at, 8u);
  EXPECT_TRUE(set->nx && set->guard_finite && !set->xx && !set->keep_ttl);
  EXPECT_EQ(set->ttl_ms, 1500);
  EXPECT_EQ(Hash128Hex(*set->hash), "00112233445566778899aabbccddeeff");
}

TEST(ParseSetTest, ValuesTakeAsManyNumbersAsElementsTwoForComplex) {
  EXPECT_TRUE(ParseSet(Words("tensor.set k F32 SHAPE 1 2 VALUES 2 1 2")).ok());
  EXPECT_TRUE(ParseSet(Words("tensor.set k C64 SHAPE 0 VALUES 2 1 2 EX 5")).ok());
  EXPECT_TRUE(ParseSet(Words("tensor.set k F32 SHAPE 1 0 VALUES 0")).ok());
  EXPECT_EQ(ErrorOf(ParseSet(Words("tensor.set k F32 SHAPE 1 2 VALUES 1 1"))),
            "ERR VALUES has 1 numbers, but F32 [2] takes 2");
  EXPECT_EQ(ErrorOf(ParseSet(Words("tensor.set k F32 SHAPE 1 2 VALUES 2 1"))), "ERR syntax error");
}

TEST(ParseSetTest, RefusesWhatContradictsItself) {
  const std::string head = "tensor.set k F32 SHAPE 1 1 ZEROS ";
  for (const char* bad : {"NX XX", "XX NX", "EX 1 PX 1", "EX 1 KEEPTTL", "KEEPTTL PX 1", "EX",
                          "BOGUS", "GUARD", "GUARD NAN", "XXH3", "NX NX", "PXAT 5 EX 5"}) {
    EXPECT_FALSE(ParseSet(Words(head + bad)).ok()) << bad;
  }
  EXPECT_EQ(ErrorOf(ParseSet(Words(head + "EX 0"))),
            "ERR invalid expire time in 'tensor.set' command");
  EXPECT_EQ(ErrorOf(ParseSet(Words(head + "EX 9223372036854775807"))),
            "ERR invalid expire time in 'tensor.set' command");
  EXPECT_EQ(ErrorOf(ParseSet(Words(head + "XXH3 123"))), "ERR XXH3 takes 32 hexadecimal digits");
}

TEST(ParseSetTest, HeadsThatAreNone) {
  EXPECT_EQ(ErrorOf(ParseSet(Words("tensor.set k F99 SHAPE 0 ZEROS"))), "ERR unknown dtype 'F99'");
  EXPECT_EQ(ErrorOf(ParseSet(Words("tensor.set k F32 SHAPE -1 ZEROS"))),
            "ERR value is not an integer or out of range");
  EXPECT_EQ(ErrorOf(ParseSet(Words("tensor.set k F32 SHAPE 2 4294967296 4294967296 ZEROS")))
                .substr(0, 21),
            "ERR a tensor of shape");
  std::string deep = "tensor.set k U8 SHAPE 65";
  for (int i = 0; i < 65; ++i) deep += " 1";
  EXPECT_EQ(ErrorOf(ParseSet(Words(deep + " ZEROS"))), "ERR a tensor has at most 64 dimensions");
  EXPECT_FALSE(ParseSet(Words("tensor.set k F32 SHAPE 18446744073709551615 ZEROS")).ok());
  EXPECT_FALSE(ParseSet(Words("tensor.set k F32 SHAPE 3 1 2 ZEROS")).ok());
  EXPECT_FALSE(ParseSet(Words("tensor.set k F32 2 1 2 ZEROS")).ok());
}

TEST(ParseGetTest, RangeHasNoShapeAndNoOtherType) {
  EXPECT_TRUE(ParseGet(Words("tensor.get k")).ok());
  EXPECT_TRUE(ParseGet(Words("tensor.get k META BLOB AS F16 SLICE 1 0 -1 2")).ok());
  EXPECT_TRUE(ParseGet(Words("tensor.get k BLOB RANGE 0 10")).ok());
  for (const char* bad : {"META RANGE 0 1", "VALUES RANGE 0 1", "RANGE 0 1 AS F32", "BLOB VALUES",
                          "SLICE 1 0 1 1 RANGE 0 1", "RANGE 0", "RANGE -1 1", "SLICE 2 0 1 1", "AS",
                          "AS F32 AS F16", "NONSENSE", "SLICE 65"}) {
    EXPECT_FALSE(ParseGet(Words(std::string("tensor.get k ") + bad)).ok()) << bad;
  }
  const Result<GetArgs> far = ParseGet(Words("tensor.get k RANGE 5 18446744073709551615"));
  ASSERT_TRUE(far.ok());
  EXPECT_EQ(far->range->end, UINT64_MAX);
}

TEST(ParseMSetTest, CountsItsTensors) {
  const Result<std::vector<KeyedTensor>> two =
      ParseMSet(Words("tensor.mset 2 a U8 SHAPE 0 BLOB x b U8 SHAPE 1 2 BLOB xy"));
  ASSERT_TRUE(two.ok()) << ErrorOf(two);
  EXPECT_EQ((*two)[1].key_at, 8u);
  EXPECT_EQ((*two)[1].blob_at, 14u);
  EXPECT_FALSE(ParseMSet(Words("tensor.mset 3 a U8 SHAPE 0 BLOB x b U8 SHAPE 0 BLOB x")).ok());
  EXPECT_FALSE(ParseMSet(Words("tensor.mset 1 a U8 SHAPE 0 BLOB x extra")).ok());
  EXPECT_FALSE(ParseMSet(Words("tensor.mset 0 a U8 SHAPE 0 BLOB x")).ok());
  EXPECT_EQ(ErrorOf(ParseMSet(Words("tensor.mset 1 a U16 SHAPE 0 BLOB x"))),
            "ERR the blob has 1 bytes, but U16 [] takes 2");
}

TEST(ParseOthersTest, TakeWhatTheirGrammarSays) {
  EXPECT_EQ(ParseMGet(Words("tensor.mget 2 a b AS f16"))->keys.size(), 2u);
  EXPECT_FALSE(ParseMGet(Words("tensor.mget 3 a b")).ok());
  EXPECT_FALSE(ParseMGet(Words("tensor.mget 1 a b")).ok());
  EXPECT_TRUE(ParseSetSlice(Words("tensor.setslice k SLICE 1 0 1 1 BLOB x")).ok());
  EXPECT_FALSE(ParseSetSlice(Words("tensor.setslice k SLICE 1 0 1 BLOB x")).ok());
  EXPECT_EQ(ParseWrite(Words("tensor.write k u 17 BLOB x"))->offset, 17u);
  EXPECT_FALSE(ParseWrite(Words("tensor.write k u -1 BLOB x")).ok());
  EXPECT_EQ(ParseBegin(Words("tensor.beginset k F32 SHAPE 0 UPLOAD id PXAT 99"))->upload, "id");
  EXPECT_EQ(ParseStats(Words("tensor.stats k")).value(), 0u);
  EXPECT_EQ(ParseStats(Words("tensor.stats k HIST 4096")).value(), kMaxHistogramBins);
  EXPECT_FALSE(ParseStats(Words("tensor.stats k HIST 4097")).ok());
  EXPECT_FALSE(ParseStats(Words("tensor.stats k HIST 0")).ok());
  EXPECT_TRUE(ParseEqual(Words("tensor.equal a b ATOL 1 RTOL 0.5"))->tolerant);
  EXPECT_FALSE(ParseEqual(Words("tensor.equal a b RTOL -1")).ok());
  EXPECT_FALSE(ParseEqual(Words("tensor.equal a b RTOL nan")).ok());
  EXPECT_FALSE(ParseEqual(Words("tensor.equal a b RTOL 1 RTOL 1")).ok());
}

}  // namespace
}  // namespace cairn::tensor
