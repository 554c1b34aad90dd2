// Averages and interpolation against a plain model, one element at a time; what of them must not
// depend on the place of an element or on the processor; and concatenation.

#include "tensor_module/combine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tensor_module/combine_tensors.h"
#include "tensor_module/numeric.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

using Method = Recipe::Method;
constexpr DType kBlended[] = {DType::kF64,  DType::kF32, DType::kF16,
                              DType::kBF16, DType::kC64, DType::kC128};

/// One rounded operation each: what a compiler could fuse is kept apart by volatile.
template <typename Real>
Real Model(const Recipe& recipe, const std::vector<Real>& inputs) {
  volatile Real sum = 0;
  double all = 0;
  for (double weight : recipe.weights) all += weight;
  const auto total = static_cast<Real>(all);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto weight = static_cast<Real>(recipe.weights[i]);
    if (recipe.method == Method::kAverage) {
      volatile Real scaled = inputs[i] * weight;
      sum = i == 0 ? scaled : sum + scaled;
    } else if (i == 0) {
      sum = inputs[0];
    } else {
      volatile Real distance = inputs[i] - sum;
      volatile Real rest = Real{1} - weight;
      volatile Real forth = distance * weight;
      volatile Real back = distance * rest;
      sum = std::abs(weight) < Real{0.5} ? sum + forth : inputs[i] - back;
    }
  }
  if (recipe.method == Method::kAverage) sum = sum / total;
  return sum;
}

/// Number `part` of element `at` of `bytes`.
double NumberAt(DType dtype, const std::string& bytes, size_t at, size_t part) {
  return LoadScalar(dtype, bytes.data() + at * DTypeSize(dtype), part).AsDouble();
}

std::string ModelBytes(DType dtype, const Recipe& recipe, const std::vector<std::string>& inputs) {
  std::string out(inputs[0].size(), '\0');
  const bool wide = dtype == DType::kF64 || dtype == DType::kC128;
  for (size_t at = 0; at < out.size() / DTypeSize(dtype); ++at) {
    for (size_t part = 0; part < ScalarsPerElement(dtype); ++part) {
      std::vector<double> doubles;
      std::vector<float> floats;
      for (const std::string& input : inputs) {
        doubles.push_back(NumberAt(dtype, input, at, part));
        floats.push_back(static_cast<float>(doubles.back()));
      }
      Scalar value;
      value.real = wide ? Model(recipe, doubles) : static_cast<double>(Model(recipe, floats));
      StoreScalar(dtype, value, out.data() + at * DTypeSize(dtype), part);
    }
  }
  return out;
}

std::string Numbers(DType dtype, size_t count, std::mt19937_64& random) {
  std::string bytes(count * DTypeSize(dtype), '\0');
  std::normal_distribution<double> normal;
  for (size_t at = 0; at < count; ++at) {
    for (size_t part = 0; part < ScalarsPerElement(dtype); ++part) {
      Scalar value;
      value.real = normal(random) * std::ldexp(1.0, static_cast<int>(random() % 12) - 6);
      if (random() % 50 == 0) value.real = random() % 2 == 0 ? -0.0 : 6e-8;  // F16: a denormal
      StoreScalar(dtype, value, bytes.data() + at * DTypeSize(dtype), part);
    }
  }
  return bytes;
}

std::string Combined(DType dtype, const Recipe& recipe, const std::vector<std::string>& inputs) {
  const std::vector<std::string_view> views(inputs.begin(), inputs.end());
  std::string out(inputs[0].size(), '\0');
  Combine(dtype, recipe, views, out.data());
  return out;
}

TEST(CombineTest, EveryTypeMatchesThePlainModelToTheBit) {
  std::mt19937_64 random(11);
  const Recipe recipes[] = {{Method::kAverage, {1, 1, 1}},
                            {Method::kAverage, {0.25, 0.5, -0.1}},
                            {Method::kFold, {1, 0.1, 0.9}},
                            {Method::kFold, {1, -0.7, 1.5}}};
  for (DType dtype : kBlended) {
    for (const Recipe& recipe : recipes) {
      for (size_t count : {1, 7, 2047, 2048, 2049, 5000}) {
        std::vector<std::string> inputs;
        for (int i = 0; i < 3; ++i) inputs.push_back(Numbers(dtype, count, random));
        ASSERT_EQ(Combined(dtype, recipe, inputs), ModelBytes(dtype, recipe, inputs))
            << DTypeName(dtype) << " x " << count;
      }
    }
  }
}

TEST(CombineTest, AnElementIsTheSameWhereverItStands) {
  std::mt19937_64 random(12);
  const Recipe recipe{Method::kAverage, {0.3, 0.7}};
  for (DType dtype : kBlended) {
    const std::string a = Numbers(dtype, 300, random), b = Numbers(dtype, 300, random);
    const std::string whole = Combined(dtype, recipe, {a, b});
    const size_t size = DTypeSize(dtype);
    for (size_t at = 0; at < 300; at += 17) {
      EXPECT_EQ(Combined(dtype, recipe, {a.substr(at * size), b.substr(at * size)}),
                whole.substr(at * size));
    }
  }
}

TEST(CombineTest, TheEndsOfALerpAreTheTensorsThemselves) {
  std::mt19937_64 random(13);
  for (DType dtype : kBlended) {
    const std::string a = Numbers(dtype, 999, random), b = Numbers(dtype, 999, random);
    const std::string begin = Combined(dtype, {Method::kFold, {1, 0}}, {a, b});
    const std::string end = Combined(dtype, {Method::kFold, {1, 1}}, {a, b});
    for (size_t at = 0; at < 999; ++at) {
      // Numbers, not bits: -0.0 may become 0.0.
      ASSERT_EQ(NumberAt(dtype, begin, at, 0), NumberAt(dtype, a, at, 0));
      ASSERT_EQ(NumberAt(dtype, end, at, 0), NumberAt(dtype, b, at, 0));
    }
    EXPECT_TRUE(Combined(dtype, {Method::kAverage, {1}}, {a}) == a);
  }
}

TEST(CombineTest, SumsAreInF32AndRoundedOnce) {
  // In BF16 1 + 1/256 is 1: only the F32 sum of 256 of them shows.
  std::vector<std::string> inputs = {Raw<uint16_t>({FloatToBFloat16(1)})};
  for (int i = 0; i < 128; ++i) inputs.push_back(Raw<uint16_t>({FloatToBFloat16(1.0f / 256)}));
  Recipe recipe{Method::kAverage, std::vector<double>(inputs.size(), 1)};
  recipe.weights[0] = -127;  // the weights add up to 1
  const std::string out = Combined(DType::kBF16, recipe, inputs);
  EXPECT_EQ(LoadScalar(DType::kBF16, out.data()).real, -126.5);
  // Past F16's largest number a sum is still a number.
  const std::string most = Raw<uint16_t>({FloatToHalf(65504)});
  EXPECT_EQ(Combined(DType::kF16, {Method::kAverage, {1, 1}}, {most, most}), most);
}

/// Everything F16 can hold, moved by nothing and by a third of its last bit to either side.
TEST(CombineTest, F16RoundsAsItsConversionsDo) {
  std::string all, tiny;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00u) == 0x7c00u && (bits & 0x3ffu) != 0) continue;
    all += Raw<uint16_t>({static_cast<uint16_t>(bits)});
    tiny += Raw<uint16_t>({static_cast<uint16_t>(bits ^ (bits * 7u % 5u))});
  }
  for (const std::vector<double>& weights :
       {std::vector<double>{1, 0}, {1, 2}, {5, -2}, {1, 1}, {1e-3, 1e-3}, {3, 4}}) {
    const Recipe recipe{Method::kAverage, weights};
    const std::string made = Combined(DType::kF16, recipe, {all, tiny});
    const std::string model = ModelBytes(DType::kF16, recipe, {all, tiny});
    for (size_t at = 0; at < made.size(); at += 2) {
      const double a = NumberAt(DType::kF16, made, at / 2, 0);
      const double b = NumberAt(DType::kF16, model, at / 2, 0);
      ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << at / 2;
    }
  }
}

TEST(CombineTest, NansAreOneNanAndInfinitiesPropagate) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::string a = Raw<uint32_t>({0xffc12345u, 0x7f812345u, 0x7f800000u, 0x7f800000u});
  const std::string b = Raw<float>({1, 2, 3, -infinity});
  const std::string out = Combined(DType::kF32, {Method::kAverage, {1, 1}}, {a, b});
  EXPECT_EQ(out, Raw<uint32_t>({0x7fc00000u, 0x7fc00000u, 0x7f800000u, 0x7fc00000u}));
  EXPECT_EQ(Combined(DType::kF32, {Method::kAverage, {1, 1}}, {b, a}), out);
  EXPECT_EQ(Combined(DType::kBF16, {Method::kFold, {1, 0.5}}, {"\xc1\xff", "\x80\x3f"}),
            "\xc0\x7f");
  EXPECT_EQ(Combined(DType::kF16, {Method::kFold, {1, 0.5}},
                     {std::string("\x01\xfe"), std::string("\0\x3c", 2)}),
            std::string("\0\x7e", 2));
}

TEST(CombineTest, WeightsAreBoundedAndAnAverageNeedsASum) {
  const auto good = [](Method method, std::vector<double> weights) {
    return CheckRecipe({method, std::move(weights)}).ok();
  };
  EXPECT_TRUE(good(Method::kAverage, {1e30, -1e-30}));
  EXPECT_FALSE(good(Method::kAverage, {1.1e30}));
  EXPECT_FALSE(good(Method::kAverage, {1, 0.9e-30}));
  EXPECT_FALSE(good(Method::kAverage, {1, -1}));
  EXPECT_FALSE(good(Method::kAverage, {0}));
  EXPECT_TRUE(good(Method::kFold, {1, -1}));
  EXPECT_FALSE(good(Method::kFold, {1, std::numeric_limits<double>::infinity()}));
  EXPECT_FALSE(good(Method::kFold, {1, std::numeric_limits<double>::quiet_NaN()}));
}

TEST(CombineTest, EveryTypeHasItsPlace) {
  int blended = 0, newest = 0, none = 0;
  for (int i = 0; i < static_cast<int>(kDTypeCount); ++i) {
    const Combining how = HowCombined(static_cast<DType>(i));
    blended += how == Combining::kBlend;
    newest += how == Combining::kNewest;
    none += how == Combining::kNone;
  }
  EXPECT_EQ(blended, 6);
  EXPECT_EQ(newest, 9);
  EXPECT_EQ(none, 2);
}

// --- tensors ---

Ref<Tensor> Make(TestMemory& memory, DType dtype, Shape shape, std::string_view bytes) {
  const auto* tensor = new Tensor(dtype, std::move(shape), memory.Cut(bytes));
  const Ref<Tensor> ref(*tensor);
  tensor->DropReference();
  return ref;
}

TEST(CombineTensorsTest, ChunksThatAreTheSameAreShared) {
  TestMemory memory;
  std::string a(3 * kChunkBytes, '\0');
  std::string b = a;
  const float one = 1;
  std::memcpy(b.data() + kChunkBytes, &one, sizeof one);
  const TensorList tensors = {Make(memory, DType::kF32, {a.size() / 4}, a),
                              Make(memory, DType::kF32, {b.size() / 4}, b)};
  ASSERT_TRUE(CheckAlike(tensors).ok());
  const int before = memory.allocations;
  const Result<Chunks> made = BlendTensors(memory, tensors, {Method::kAverage, {1, 3}});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(memory.allocations, before + 1);
  EXPECT_EQ((*made)[0].blob.get(), tensors[1]->chunks()[0].blob.get());
  std::string expected = a;
  const float value = 0.75;
  std::memcpy(expected.data() + kChunkBytes, &value, sizeof value);
  EXPECT_TRUE(BytesOf(*made) == expected);
  memory.refuse = true;
  EXPECT_FALSE(BlendTensors(memory, tensors, {Method::kAverage, {1, 3}}).ok());
}

TEST(CombineTensorsTest, CountsAreTheNewest) {
  TestMemory memory;
  const TensorList tensors = {Make(memory, DType::kI64, {2}, std::string(16, '\1')),
                              Make(memory, DType::kI64, {2}, std::string(16, '\7'))};
  memory.refuse = true;
  EXPECT_EQ(BytesOf(*BlendTensors(memory, tensors, {Method::kAverage, {1, 1}})),
            std::string(16, '\7'));
}

TEST(CombineTensorsTest, WhatDiffersIsNamed) {
  TestMemory memory;
  const auto zeros = [&](DType dtype, Shape shape) {
    return Make(memory, dtype, shape, std::string(PayloadBytes(dtype, shape).value(), '\0'));
  };
  EXPECT_EQ(CheckAlike({zeros(DType::kF32, {2, 3}), zeros(DType::kF32, {3, 2})}).message(),
            "ERR the tensors differ: F32 [2,3] and F32 [3,2]");
  EXPECT_EQ(CheckAlike({zeros(DType::kF32, {2}), zeros(DType::kBF16, {2})}).message(),
            "ERR the tensors differ: F32 [2] and BF16 [2]");
  EXPECT_EQ(CheckAlike({zeros(DType::kF8E4M3, {2})}).message(),
            "ERR there is no arithmetic of F8_E4M3: cast the tensors first");
}

TEST(CombineTensorsTest, CatIsThePlainLoops) {
  TestMemory memory;
  std::mt19937_64 random(14);
  for (int round = 0; round < 200; ++round) {
    const size_t rank = 1 + random() % 4, dim = random() % rank;
    Shape base;
    for (size_t i = 0; i < rank; ++i)
      base.push_back(round % 10 == 0 ? random() % 2 : 1 + random() % 5);
    if (round == 7) base = Shape(rank, 60);
    TensorList tensors;
    uint64_t along = 0;
    for (size_t i = 0; i < 1 + random() % 4; ++i) {
      Shape shape = base;
      shape[dim] = random() % 4;
      along += shape[dim];
      std::string bytes(PayloadBytes(DType::kI16, shape).value(), '\0');
      for (char& c : bytes) c = static_cast<char>(random());
      tensors.push_back(Make(memory, DType::kI16, shape, bytes));
    }
    int64_t at = static_cast<int64_t>(dim) - (round % 2 == 0 ? static_cast<int64_t>(rank) : 0);
    const Result<Shape> shape = CatShape(tensors, &at);
    ASSERT_TRUE(shape.ok());
    ASSERT_EQ(at, static_cast<int64_t>(dim));
    ASSERT_EQ((*shape)[dim], along);
    std::string expected;
    uint64_t rows = 1;
    for (size_t i = 0; i < dim; ++i) rows *= base[i];
    std::vector<std::string> payloads;
    for (const auto& tensor : tensors) payloads.push_back(BytesOf(tensor->chunks()));
    for (uint64_t row = 0; row < rows; ++row) {
      for (const std::string& bytes : payloads) {
        expected += bytes.substr(row * (bytes.size() / rows), bytes.size() / rows);
      }
    }
    EXPECT_TRUE(BytesOf(*CatTensors(memory, tensors, *shape, dim)) == expected) << round;
  }
}

TEST(CombineTensorsTest, WhatDoesNotFitBehindIsRefused) {
  TestMemory memory;
  const auto empty = [&](DType dtype, Shape shape) { return Make(memory, dtype, shape, ""); };
  const auto cat = [](const TensorList& tensors, int64_t dim) {
    return std::string(CatShape(tensors, &dim).status().message());
  };
  EXPECT_EQ(cat({empty(DType::kF32, {0, 2}), empty(DType::kF32, {0, 3})}, 0),
            "ERR the tensors differ: F32 [0,2] and F32 [0,3]");
  EXPECT_EQ(cat({empty(DType::kF32, {0}), empty(DType::kF16, {0})}, 0),
            "ERR the tensors differ: F32 [0] and F16 [0]");
  EXPECT_EQ(cat({empty(DType::kF32, {0}), empty(DType::kF32, {0, 0})}, 0),
            "ERR the tensors differ: F32 [0] and F32 [0,0]");
  EXPECT_EQ(cat({empty(DType::kF32, {0})}, 1), "ERR DIM 1 is none of a tensor of 1 dimensions");
  EXPECT_EQ(cat({empty(DType::kF32, {0})}, -2), "ERR DIM -2 is none of a tensor of 1 dimensions");
  EXPECT_EQ(cat({Make(memory, DType::kU8, {}, "x")}, 0),
            "ERR DIM 0 is none of a tensor of 0 dimensions");
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(cat({empty(DType::kF32, {most, 0}), empty(DType::kF32, {1, 0})}, 0),
            "ERR the tensors are too long to stand one behind the other");
}

}  // namespace
}  // namespace cairn::tensor
