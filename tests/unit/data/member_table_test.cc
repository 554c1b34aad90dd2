// MemberTable against std::map, its pages at their edges, and SCAN and random choice over it.

#include "server/data/member_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "server/base/strings.h"
#include "server/data/member_value.h"

namespace cairn {
namespace {

using Model = std::map<std::string, std::string>;

class MemberTableTest : public testing::Test {
 protected:
  MemberTableTest() : home_{&gate_, &slab_, 99} {}

  MemberValue* NewValue(ValueType type) {
    auto* value = new MemberValue(home_, type);
    held_.push_back(ObjectRef::Adopt(value));
    return value;
  }
  static Model Contents(const MemberTable& table) {
    Model model;
    char key_scratch[kMaxInt64Chars], value_scratch[kMaxInt64Chars];
    table.ForEach([&](const Member& member) {
      EXPECT_TRUE(
          model.emplace(member.key.Text(key_scratch), member.value.Text(value_scratch)).second);
      return true;
    });
    return model;
  }
  static std::string RandomText(std::mt19937_64& random, size_t space) {
    const uint64_t number = random() % space;
    switch (number % 5) {
      case 0:
        return std::to_string(static_cast<int64_t>(number << (number % 50)) - 100);
      case 1:
        return "member:" + std::to_string(number);
      case 2:
        return std::string(number % 40, static_cast<char>('a' + number % 26)) +
               std::to_string(number);
      case 3:
        return "0" + std::to_string(number);
      default:
        return number % 50 == 4 ? std::string(100 + number % 900, 'L') + std::to_string(number)
                                : "m" + std::to_string(number);
    }
  }

  SnapshotGate gate_;
  RecordSlab slab_;
  const ValueHome home_;
  std::vector<ObjectRef> held_;
};

TEST_F(MemberTableTest, AgreesWithAMap) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    MemberTable& table = NewValue(ValueType::kHash)->table();
    Model model;
    const size_t space = seed % 2 ? 200 : 20000;
    for (int step = 0; step < 12000; ++step) {
      // Growing, then shrinking: both ways through splits and merges.
      const bool grow = random() % 8 < (step < 7000 ? 6u : 2u);
      const std::string key = RandomText(random, space);
      if (grow) {
        const std::string value = RandomText(random, 5000);
        const bool is_new = model.insert_or_assign(key, value).second;
        ASSERT_EQ(table.Set(key, value), is_new);
      } else {
        ASSERT_EQ(table.Erase(key), model.erase(key) == 1);
      }
      if (step % 500 == 0) {
        table.CheckInvariants();
        ASSERT_EQ(Contents(table), model);
      }
    }
    for (const auto& [key, value] : model) {
      Member member;
      ASSERT_TRUE(table.Find(key, &member));
      char scratch[kMaxInt64Chars];
      EXPECT_EQ(member.value.Text(scratch), value);
    }
    while (!model.empty()) {
      ASSERT_TRUE(table.Erase(model.begin()->first));
      model.erase(model.begin());
    }
    table.CheckInvariants();
    EXPECT_EQ(table.size(), 0u);
    EXPECT_LT(table.bytes(), 4096u);  // pages merge away with their members
  }
}

TEST_F(MemberTableTest, KeepsEveryLengthAndEveryInteger) {
  MemberTable& table = NewValue(ValueType::kHash)->table();
  Model model;
  for (const size_t size :
       {0, 1, 127, 128, 129, 200, 505, 508, 509, 510, 511, 512, 513, 16383, 16384, 70000}) {
    model["k" + std::to_string(size)] = std::string(size, 'v');
    model[std::string(size, 'k')] = std::to_string(size);
  }
  for (int bits = 0; bits < 63; ++bits) {
    const int64_t power = static_cast<int64_t>(uint64_t{1} << bits);
    for (const int64_t number : {power, -power, power - 1, ~power})
      model[std::to_string(number)] = std::to_string(number);
  }
  for (const char* text :
       {"-9223372036854775808", "-0", "00", "+1", " 1", "9223372036854775808", "\0"})
    model[text] = text;
  for (const auto& [key, value] : model) EXPECT_TRUE(table.Set(key, value));
  for (const auto& [key, value] : model) EXPECT_FALSE(table.Set(key, value));
  table.CheckInvariants();
  EXPECT_EQ(Contents(table), model);
  for (auto& [key, value] : model) table.Set(key, value = "7" + value);
  table.CheckInvariants();
  EXPECT_EQ(Contents(table), model);
}

TEST_F(MemberTableTest, TakesTheBytesOfItsMembersAndLittleMore) {
  MemberTable& set = NewValue(ValueType::kSet)->table();
  MemberTable& integers = NewValue(ValueType::kSet)->table();
  MemberTable& hash = NewValue(ValueType::kHash)->table();
  constexpr uint64_t kMembers = 100000;
  for (uint64_t i = 0; i < kMembers; ++i) {
    std::string text = "member:" + std::to_string(100000000 + i);
    ASSERT_EQ(text.size(), 16u);
    set.Insert(text);
    integers.Insert(std::to_string(i * 7919));
    hash.Set(text, text);
  }
  EXPECT_LT(set.bytes() / kMembers, 24u);
  EXPECT_LT(integers.bytes() / kMembers, 10u);
  EXPECT_LT(hash.bytes() / kMembers, 46u);
}

TEST_F(MemberTableTest, ScanSeesWhatStaysOnceWhateverChanges) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    MemberTable& table = NewValue(ValueType::kSet)->table();
    std::set<std::string> staying;
    for (int i = 0; i < 3000; ++i) {
      table.Insert("stays" + std::to_string(i));
      staying.insert("stays" + std::to_string(i));
    }
    std::multiset<std::string> seen;
    uint64_t cursor = 0, calls = 0;
    do {
      uint64_t in_call = 0;
      cursor = table.Scan(cursor, 10, [&](const Member& member) {
        ++in_call;
        if (member.key.bytes.starts_with("stays")) seen.emplace(member.key.bytes);
      });
      EXPECT_LT(in_call, 40u);
      ++calls;
      const int wave = static_cast<int>(calls / 50 % 2);
      for (int i = 0; i < 30; ++i) {
        const std::string text = "comes" + std::to_string(random() % 5000);
        if (wave == 0) table.Insert(text);
        if (wave == 1) table.Erase(text);
      }
    } while (cursor != 0);
    EXPECT_GT(calls, 100u);
    EXPECT_EQ(seen.size(), staying.size());
    EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()), staying);
    table.CheckInvariants();
  }
}

TEST_F(MemberTableTest, ScanOfAnyCursorEnds) {
  MemberTable& table = NewValue(ValueType::kSet)->table();
  const auto ignore = [](const Member&) {};
  EXPECT_EQ(table.Scan(0, 10, ignore), 0u);
  for (int i = 0; i < 500; ++i) table.Insert(std::to_string(i));
  EXPECT_EQ(table.Scan(UINT64_MAX, 10, ignore), 0u);
  EXPECT_EQ(table.Scan(uint64_t{1} << 52, 10, ignore), 0u);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) table.Scan(random() >> 12, 1 + random() % 30, ignore);
}

TEST_F(MemberTableTest, RandomIsFair) {
  MemberTable& table = NewValue(ValueType::kSet)->table();
  constexpr int kMembers = 400, kDraws = 80000;
  for (int i = 0; i < kMembers; ++i) table.Insert("m" + std::to_string(i));
  std::mt19937_64 random(17);
  std::map<std::string, int> drawn;
  for (int i = 0; i < kDraws; ++i) ++drawn[std::string(table.Random(random()).key.bytes)];
  EXPECT_EQ(drawn.size(), static_cast<size_t>(kMembers));
  for (const auto& [member, times] : drawn) {
    EXPECT_GT(times, kDraws / kMembers / 2) << member;
    EXPECT_LT(times, kDraws / kMembers * 2) << member;
  }
}

TEST_F(MemberTableTest, CloneSharesNothing) {
  MemberValue* value = NewValue(ValueType::kHash);
  for (int i = 0; i < 1000; ++i) value->table().Set("f" + std::to_string(i), std::string(600, 'x'));
  auto* copy = static_cast<MemberValue*>(value->Clone());
  held_.push_back(ObjectRef::Adopt(copy));
  value->table().Erase("f1");
  value->table().Set("f2", "changed");
  copy->CheckInvariants();
  value->CheckInvariants();
  EXPECT_EQ(copy->table().size(), 1000u);
  Member member;
  ASSERT_TRUE(copy->table().Find("f2", &member));
  EXPECT_EQ(member.value.bytes, std::string(600, 'x'));
}

}  // namespace
}  // namespace cairn
