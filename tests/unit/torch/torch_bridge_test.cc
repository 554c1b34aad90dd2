// LibTorch behind torch_bridge, held against the module's own plain arithmetic.

#include "tensor_module/torch_bridge.h"

#include <gtest/gtest.h>

#include <random>

#include "tensor_module/numeric.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

/// Elements that every type can hold, fractions for floats, so that no conversion overflows: what
/// an integer makes of a value out of its range differs between the two.
std::string Elements(DType dtype, size_t count, std::mt19937_64& random) {
  std::string bytes(count * DTypeSize(dtype), '\0');
  for (size_t i = 0; i < count * ScalarsPerElement(dtype); ++i) {
    const size_t element = i / ScalarsPerElement(dtype), part = i % ScalarsPerElement(dtype);
    Scalar value;
    value.real = static_cast<double>(random() % 126) + static_cast<double>(random() % 8) / 8;
    StoreScalar(dtype, value, bytes.data() + element * DTypeSize(dtype), part);
  }
  return bytes;
}

class CastFrom : public testing::TestWithParam<int> {};

TEST_P(CastFrom, AgreesWithPlainCastsToEveryType) {
  StartTorch();
  std::mt19937_64 random(5);
  TestMemory memory;
  const auto from = static_cast<DType>(GetParam());
  for (int i = 0; i < static_cast<int>(kDTypeCount); ++i) {
    const auto to = static_cast<DType>(i);
    SCOPED_TRACE(DTypeName(to));
    const BlobSlice bytes = memory.Slice(Elements(from, 1000, random));
    const Result<BlobSlice> torch = TorchCompute().Cast(memory, from, bytes, to);
    const Result<BlobSlice> plain = PlainCompute().Cast(memory, from, bytes, to);
    ASSERT_TRUE(torch.ok()) << torch.status().message();
    ASSERT_EQ(std::string(torch->view()), std::string(plain->view()));
  }
}

INSTANTIATE_TEST_SUITE_P(All, CastFrom, testing::Range(0, static_cast<int>(kDTypeCount)),
                         [](const auto& each) {
                           return std::string(DTypeName(static_cast<DType>(each.param)));
                         });

TEST(TorchBridgeTest, EveryFloatBitPatternRoundsToHalfAndBackAsOursDoes) {
  StartTorch();
  TestMemory memory;
  std::mt19937_64 random(6);
  std::string bytes(4 * 200000, '\0');
  for (size_t i = 0; i < bytes.size(); i += 4) {
    uint32_t bits = static_cast<uint32_t>(random());
    // NaN payloads are for bit-exact copies, not for casts: conversions may change them.
    if ((bits & 0x7f800000u) == 0x7f800000u) bits &= 0xff800000u;
    std::memcpy(bytes.data() + i, &bits, 4);
  }
  const BlobSlice in = memory.Slice(bytes);
  for (DType to : {DType::kF16, DType::kBF16, DType::kF64}) {
    EXPECT_EQ(TorchCompute().Cast(memory, DType::kF32, in, to)->view(),
              PlainCompute().Cast(memory, DType::kF32, in, to)->view())
        << DTypeName(to);
  }
}

TEST(TorchBridgeTest, StridedSlicesAgreeForEveryWidth) {
  StartTorch();
  TestMemory memory;
  std::mt19937_64 random(7);
  for (DType dtype : {DType::kU8, DType::kBF16, DType::kF32, DType::kF64, DType::kC128,
                      DType::kF8E4M3, DType::kU64}) {
    for (int round = 0; round < 50; ++round) {
      const Shape shape = {1 + random() % 6, 1 + random() % 7, 1 + random() % 8};
      const BlobSlice bytes = memory.Slice(Pattern(PayloadBytes(dtype, shape).value()));
      std::vector<SliceWords> words;
      for (uint64_t dim : shape) {
        const auto start = static_cast<int64_t>(random() % dim);
        words.push_back({start, static_cast<int64_t>(dim), 1 + static_cast<int64_t>(random() % 3)});
      }
      const Box box = ResolveSlice(shape, words).value();
      ASSERT_EQ(TorchCompute().Slice(memory, dtype, shape, bytes, box)->view(),
                PlainCompute().Slice(memory, dtype, shape, bytes, box)->view());
    }
  }
}

TEST(TorchBridgeTest, RefusedMemoryIsAnErrorNotAnException) {
  TestMemory memory;
  const BlobSlice bytes = memory.Slice(std::string(16, '\1'));
  memory.refuse = true;
  EXPECT_FALSE(TorchCompute().Cast(memory, DType::kF32, bytes, DType::kF64).ok());
  EXPECT_FALSE(TorchCompute()
                   .Slice(memory, DType::kF32, {4}, bytes, ResolveSlice({4}, {{0, 4, 2}}).value())
                   .ok());
}

}  // namespace
}  // namespace cairn::tensor
