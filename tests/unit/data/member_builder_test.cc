// MemberBuilder against a plain map, through all its forms.

#include "server/data/member_builder.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "server/base/strings.h"
#include "server/data/record_slab.h"
#include "server/data/snapshot_gate.h"

namespace cairn {
namespace {

using Model = std::map<std::string, std::string>;

class MemberBuilderTest : public testing::Test {
 protected:
  static Model Contents(const MembersView& view) {
    Model model;
    char key_scratch[kMaxInt64Chars], value_scratch[kMaxInt64Chars];
    view.ForEach([&](const Member& member) {
      EXPECT_TRUE(
          model.emplace(member.key.Text(key_scratch), member.value.Text(value_scratch)).second);
      return true;
    });
    return model;
  }

  SnapshotGate gate_;
  RecordSlab slab_;
  const ValueHome home_{&gate_, &slab_, 99};
  const PackedLimits limits_;
};

TEST_F(MemberBuilderTest, AgreesWithAMap) {
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < 200; ++round) {
    const bool is_hash = round % 2 == 0;
    MemberBuilder builder(home_, is_hash ? ValueType::kHash : ValueType::kSet, limits_);
    Model model;
    const uint64_t space = 2 + random() % 700;
    for (uint64_t i = 0; i < 2 * space; ++i) {
      const uint64_t number = random() % space;
      const std::string member =
          number % 3 == 0 ? std::to_string(number) : "member:" + std::to_string(number);
      if (random() % 50 == 0) {
        ASSERT_EQ(builder.Erase(member), model.erase(member) == 1);
        continue;
      }
      const std::string value = is_hash ? std::string(random() % 60, 'v') : "";
      ASSERT_EQ(builder.Set(member, value), !model.contains(member));
      model[member] = value;
    }
    ASSERT_EQ(builder.size(), model.size());
    Model contents = Contents(builder.View());
    if (!is_hash) {
      for (auto& [member, value] : contents) value.clear();
    }
    ASSERT_EQ(contents, model);
  }
}

TEST_F(MemberBuilderTest, AListpackKeepsTheOrderOfItsMembers) {
  MemberBuilder builder(home_, ValueType::kSet, limits_);
  std::string expected = NewListpack();
  for (uint64_t i = 0; i < MemberBuilder::kMaxConvertedMembers; ++i) {
    for (int twice = 0; twice < 2; ++twice)
      ASSERT_EQ(builder.Insert("m" + std::to_string(i)), twice == 0);
    ListpackAppend(&expected, "m" + std::to_string(i));
  }
  ASSERT_FALSE(builder.is_table());
  EXPECT_EQ(builder.TakeValue().bytes, expected);
}

}  // namespace
}  // namespace cairn
