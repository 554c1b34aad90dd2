#include "server/base/intset.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "server/base/checksum.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

void ExpectHolds(const std::string& intset, const std::set<int64_t>& model) {
  ASSERT_TRUE(IntsetView::Validate(intset));
  const IntsetView view(intset);
  ASSERT_EQ(view.count(), model.size());
  uint32_t index = 0;
  for (const int64_t value : model) {
    EXPECT_EQ(view.Get(index++), value);
    EXPECT_TRUE(view.Contains(value));
  }
}

TEST(IntsetTest, WorkedExample) {
  std::string intset = NewIntset();
  EXPECT_EQ(HexEncode(intset), "0200000000000000");
  EXPECT_TRUE(IntsetInsert(&intset, 5));
  EXPECT_TRUE(IntsetInsert(&intset, 1));
  EXPECT_FALSE(IntsetInsert(&intset, 5));
  EXPECT_EQ(HexEncode(intset),
            "0200000002000000"
            "01000500");
}

TEST(IntsetTest, WidensForTheWidestAndStaysSo) {
  std::string intset = NewIntset();
  IntsetInsert(&intset, -1);
  IntsetInsert(&intset, 32767);
  EXPECT_EQ(HexEncode(intset),
            "0200000002000000"
            "ffffff7f");
  IntsetInsert(&intset, 32768);
  EXPECT_EQ(HexEncode(intset),
            "0400000003000000"
            "ffffffff"
            "ff7f0000"
            "00800000");
  IntsetInsert(&intset, -2147483649);
  EXPECT_EQ(HexEncode(std::string_view(intset).substr(0, 24)),
            "0800000004000000"
            "ffffff7fffffffff"
            "ffffffffffffffff");
  EXPECT_TRUE(IntsetErase(&intset, -2147483649));
  EXPECT_EQ(HexEncode(std::string_view(intset).substr(0, 8)), "0800000003000000");
}

TEST(IntsetTest, EditsAgreeWithASet) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string intset = NewIntset();
    std::set<int64_t> model;
    for (int step = 0; step < 400; ++step) {
      const uint64_t bits = random();
      const uint64_t kind = random() % 40;
      const int64_t value = kind == 0   ? static_cast<int64_t>(bits)
                            : kind == 1 ? static_cast<int32_t>(bits)
                            : kind == 2 ? INT64_MIN + static_cast<int64_t>(bits % 2)
                                        : static_cast<int64_t>(bits % 100) - 50;
      if (random() % 3) {
        EXPECT_EQ(IntsetInsert(&intset, value), model.insert(value).second);
      } else {
        EXPECT_EQ(IntsetErase(&intset, value), model.erase(value) == 1);
        EXPECT_FALSE(IntsetView(intset).Contains(value));
      }
      ASSERT_NO_FATAL_FAILURE(ExpectHolds(intset, model));
    }
  }
}

TEST(IntsetTest, ValidateRefusesWhatIsBroken) {
  std::string intset = NewIntset();
  for (int64_t i = 0; i < 4; ++i) IntsetInsert(&intset, i * 10);
  ASSERT_TRUE(IntsetView::Validate(intset));
  EXPECT_FALSE(IntsetView::Validate(std::string_view(intset).substr(0, 7)));
  EXPECT_FALSE(IntsetView::Validate(std::string_view(intset).substr(0, intset.size() - 1)));
  EXPECT_FALSE(IntsetView::Validate(intset + "x"));
  std::string broken = intset;
  broken[0] = 3;
  EXPECT_FALSE(IntsetView::Validate(broken));
  broken = intset;
  broken[7] = static_cast<char>(0x80);  // a count whose bytes overflow 32 bits
  EXPECT_FALSE(IntsetView::Validate(broken));
  broken = intset;
  std::swap(broken[8], broken[10]);  // out of order
  EXPECT_FALSE(IntsetView::Validate(broken));
  broken = intset;
  broken[10] = broken[8];  // twice
  EXPECT_FALSE(IntsetView::Validate(broken));
}

}  // namespace
}  // namespace cairn
