#include "persistence/save_rules.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(SaveRulesTest, ParsesAndShowsAsRedis) {
  EXPECT_EQ(SaveRules::Default().Format(), "3600 1 300 100 60 10000");
  EXPECT_EQ(SaveRules::Parse("900 1 300 10").value().Format(), "900 1 300 10");
  EXPECT_EQ(SaveRules::Parse("0900 +1").value().Format(), "900 1");
  EXPECT_EQ(SaveRules::Parse("9 0").value().Format(), "9 0");
  EXPECT_EQ(SaveRules::Parse("99999999999999999999 1").value().Format(), "9223372036854775807 1");
  EXPECT_TRUE(SaveRules::Parse("").value().empty());
}

TEST(SaveRulesTest, RefusesWhatRedisRefuses) {
  for (const char* value : {"900", "900 1 300", "0 1", "-5 1", "9 -1", "a 1", "9 b", "900  1",
                            " 900 1", "900 1 ", "9.5 1", "+ 1", " "}) {
    const auto rules = SaveRules::Parse(value);
    ASSERT_FALSE(rules.ok()) << value;
    EXPECT_EQ(rules.status().message(), "Invalid save parameters");
  }
}

TEST(SaveRulesTest, LinesAddUpAndAnEmptyOneClears) {
  SaveRules rules;
  EXPECT_TRUE(rules.Add("900 1").ok());
  EXPECT_TRUE(rules.Add("60 5").ok());
  EXPECT_EQ(rules.Format(), "900 1 60 5");
  EXPECT_FALSE(rules.Add("60 x").ok());
  EXPECT_EQ(rules.Format(), "900 1 60 5");
  EXPECT_TRUE(rules.Add("").ok());
  EXPECT_TRUE(rules.Add("300 10").ok());
  EXPECT_EQ(rules.Format(), "300 10");
}

TEST(SaveRulesTest, AnyDueTierSaves) {
  const SaveRules rules = SaveRules::Parse("900 1 300 10").value();
  EXPECT_FALSE(rules.ShouldSave(0, 100000, false, 100000));
  EXPECT_FALSE(rules.ShouldSave(1, 900, false, 900));
  EXPECT_TRUE(rules.ShouldSave(1, 901, false, 901));
  EXPECT_FALSE(rules.ShouldSave(9, 301, false, 301));
  EXPECT_TRUE(rules.ShouldSave(10, 301, false, 301));
  EXPECT_FALSE(SaveRules().ShouldSave(1 << 30, 1 << 30, false, 1 << 30));
}

TEST(SaveRulesTest, AFailureWaitsFiveSeconds) {
  const SaveRules rules = SaveRules::Parse("1 1").value();
  EXPECT_FALSE(rules.ShouldSave(5, 100, true, 5));
  EXPECT_TRUE(rules.ShouldSave(5, 100, true, 6));
  EXPECT_TRUE(rules.ShouldSave(5, 100, false, 0));
}

}  // namespace
}  // namespace cairn
