#include "server/base/listpack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "server/base/checksum.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

std::vector<std::string> Elements(std::string_view listpack) {
  const ListpackView view(listpack);
  std::vector<std::string> elements;
  char scratch[kMaxInt64Chars];
  for (uint32_t at = view.begin(); at != view.end(); at = view.Next(at))
    elements.emplace_back(view.Get(at).Text(scratch));
  return elements;
}

std::vector<std::string> ElementsBackwards(std::string_view listpack) {
  const ListpackView view(listpack);
  std::vector<std::string> elements;
  char scratch[kMaxInt64Chars];
  for (uint32_t at = view.end(); at != view.begin();) {
    at = view.Previous(at);
    elements.emplace_back(view.Get(at).Text(scratch));
  }
  std::reverse(elements.begin(), elements.end());
  return elements;
}

void ExpectHolds(const std::string& listpack, const std::vector<std::string>& model) {
  ASSERT_TRUE(ListpackView::Validate(listpack));
  EXPECT_EQ(ListpackView(listpack).count(), model.size());
  EXPECT_EQ(Elements(listpack), model);
  EXPECT_EQ(ElementsBackwards(listpack), model);
}

std::string RandomText(std::mt19937_64& random) {
  switch (random() % 8) {
    case 0:
      return std::to_string(static_cast<int64_t>(random()));
    case 1:
      return std::to_string(static_cast<int32_t>(random()));
    case 2:
      return std::to_string(static_cast<int16_t>(random()));
    case 3:
      return std::to_string(random() % 300);
    case 4:
      return std::string(random() % 200, static_cast<char>(random()));
    case 5:
      return random() % 16 ? "0" + std::to_string(random() % 9)
                           : std::string(random() % 20000, 'x');
    case 6:
      return "";
    default:
      return "f" + std::to_string(random() % 20);
  }
}

TEST(ListpackTest, WorkedExample) {
  std::string listpack = NewListpack();
  EXPECT_EQ(HexEncode(listpack), "070000000000ff");
  ListpackAppend(&listpack, "hi");
  ListpackAppend(&listpack, "1024");
  EXPECT_EQ(HexEncode(listpack),
            "0e0000000200"
            "82686903"
            "c40002"
            "ff");
}

TEST(ListpackTest, IntegersTakeTheWidthRedisGivesThem) {
  const auto element = [](const char* text) {
    std::string listpack = NewListpack();
    ListpackAppend(&listpack, text);
    EXPECT_EQ(Elements(listpack), std::vector<std::string>{text});
    return HexEncode(std::string_view(listpack).substr(6, listpack.size() - 7));
  };
  EXPECT_EQ(element("0"), "0001");
  EXPECT_EQ(element("127"), "7f01");
  EXPECT_EQ(element("128"), "c08002");
  EXPECT_EQ(element("-1"), "dfff02");
  EXPECT_EQ(element("4095"), "cfff02");
  EXPECT_EQ(element("-4096"), "d00002");
  EXPECT_EQ(element("4096"), "f1001003");
  EXPECT_EQ(element("-32768"), "f1008003");
  EXPECT_EQ(element("32768"), "f200800004");
  EXPECT_EQ(element("-8388608"), "f200008004");
  EXPECT_EQ(element("8388608"), "f30000800005");
  EXPECT_EQ(element("-2147483648"), "f30000008005");
  EXPECT_EQ(element("2147483648"), "f4000000800000000009");
  EXPECT_EQ(element("-9223372036854775808"), "f4000000000000008009");
  EXPECT_EQ(element("9223372036854775808"), "93" + HexEncode("9223372036854775808") + "14");
  EXPECT_EQ(element("-0"), "822d3003");
  EXPECT_EQ(element("007"), "8330303704");
}

TEST(ListpackTest, HeadersAndBackLengthsGrowAtTheirLimits) {
  for (const size_t size : {size_t{0}, size_t{63}, size_t{64}, size_t{124}, size_t{125},
                            size_t{126}, size_t{4095}, size_t{4096}, size_t{16377}, size_t{16378},
                            size_t{16379}, size_t{2097145}, size_t{2097146}}) {
    std::string listpack = NewListpack();
    const std::string text(size, 'a');
    ListpackAppend(&listpack, "first");
    ListpackAppend(&listpack, text);
    ListpackAppend(&listpack, "last");
    ExpectHolds(listpack, {"first", text, "last"});
    EXPECT_EQ(ListpackElementBytes(text), listpack.size() - 7 - 7 - 6);
  }
}

TEST(ListpackTest, EditsAgreeWithAVector) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string listpack = NewListpack();
    std::vector<std::string> model;
    for (int step = 0; step < 300; ++step) {
      const std::string text = RandomText(random);
      const size_t index = random() % (model.size() + 1);
      const uint32_t at = ListpackView(listpack).Seek(static_cast<int64_t>(index));
      const auto place = model.begin() + static_cast<std::ptrdiff_t>(index);
      switch (random() % 5) {
        case 0:
          ListpackAppend(&listpack, text);
          model.push_back(text);
          break;
        case 1:
        case 2:
          ListpackInsert(&listpack, at, text);
          model.insert(place, text);
          break;
        case 3:
          if (index == model.size()) break;
          ListpackReplace(&listpack, at, text);
          *place = text;
          break;
        default: {
          const auto count = static_cast<std::ptrdiff_t>(random() % 4);
          ListpackErase(&listpack, at, static_cast<uint32_t>(count));
          model.erase(place, place + std::min(count, model.end() - place));
          break;
        }
      }
      ASSERT_NO_FATAL_FAILURE(ExpectHolds(listpack, model));
    }
  }
}

TEST(ListpackTest, FindLooksAtEveryOtherElement) {
  std::string listpack = NewListpack();
  for (const char* text : {"a", "b", "b", "7", "7", "x", "", "y"}) ListpackAppend(&listpack, text);
  const ListpackView view(listpack);
  EXPECT_EQ(view.Find("b", view.begin(), 0), view.Seek(1));
  EXPECT_EQ(view.Find("b", view.begin(), 1), view.Seek(2));
  EXPECT_EQ(view.Find("7", view.begin(), 1), view.Seek(4));
  EXPECT_EQ(view.Find("", view.begin(), 1), view.Seek(6));
  EXPECT_EQ(view.Find("07", view.begin(), 0), view.end());
  EXPECT_EQ(view.Find("y", view.begin(), 1), view.end());
  EXPECT_EQ(view.Seek(-1), view.Seek(7));
  EXPECT_EQ(view.Seek(8), view.end());
  EXPECT_EQ(view.Seek(-9), view.end());
}

TEST(ListpackTest, FindSeesIntegersThatStandAsStrings) {
  // Redis never writes "12" so, but a payload may hold it.
  const std::string listpack = FromHex(
      "0b0000000100"
      "82313203"
      "ff");
  ASSERT_TRUE(ListpackView::Validate(listpack));
  EXPECT_EQ(ListpackView(listpack).Find("12", 6, 0), 6u);
}

TEST(ListpackTest, FindTellsApartWhatDiffersInOneByte) {
  // Lengths on both sides of a word and of the short encoding, at the end and inside.
  for (size_t size : {1u, 2u, 6u, 7u, 8u, 9u, 15u, 16u, 17u, 63u, 64u, 65u}) {
    for (size_t differs = 0; differs < size; ++differs) {
      std::string text(size, 'a'), other = text;
      other[differs] = 'b';
      std::string listpack = NewListpack();
      ListpackAppend(&listpack, other);
      ASSERT_EQ(ListpackView(listpack).Find(text, 6, 0), ListpackView(listpack).end());
      const uint32_t last = ListpackView(listpack).end();
      ListpackAppend(&listpack, text);
      ASSERT_EQ(ListpackView(listpack).Find(text, 6, 0), last);
      ListpackAppend(&listpack, std::string(100, 'x'));
      ASSERT_EQ(ListpackView(listpack).Find(text, 6, 0), last);
      ASSERT_EQ(ListpackView(listpack).Find(other, 6, 0), 6u);
      ASSERT_EQ(ListpackView(listpack).Find(text + "a", 6, 0), ListpackView(listpack).end());
      ASSERT_EQ(ListpackView(listpack).Find(text.substr(1), 6, 0), ListpackView(listpack).end());
    }
  }
}

TEST(ListpackTest, CountsBeyondItsField) {
  std::string listpack = NewListpack();
  for (int i = 0; i < 70000; ++i) ListpackAppend(&listpack, "1");
  EXPECT_EQ(ListpackView(listpack).count(), 70000u);
  EXPECT_EQ(HexEncode(std::string_view(listpack).substr(4, 2)), "ffff");
  ListpackErase(&listpack, ListpackView(listpack).begin(), 60000);
  EXPECT_EQ(ListpackView(listpack).count(), 10000u);
  EXPECT_TRUE(ListpackView::Validate(listpack));
}

TEST(ListpackTest, ValidateRefusesWhatIsBroken) {
  for (const char* hex : {
           "",
           "0600000000ff",      // shorter than an empty one
           "080000000000ff",    // total beyond the end
           "06000000000000ff",  // total before the end
           "070000000000fe",    // no terminator
           "070000000100ff",    // a count of what is not there
           "0d0000000300"
           "82686903"
           "0101"
           "ff",  // three counted, two there
           "0b0000000100"
           "83686903"
           "ff",  // a string over the back length
           "0b0000000100"
           "bf686903"
           "ff",  // a string over the end
           "0b0000000100"
           "82686904"
           "ff",  // a wrong back length
           "090000000100"
           "e1ff"
           "ff",  // cut in the second byte of a length
           "0c0000000100"
           "f0ffffffff"
           "ff",  // 4 GiB promised
           "0a0000000100"
           "f10001"
           "ff",  // an integer without back length
           "090000000100"
           "f501"
           "ff",  // no such encoding
           "0c0000000100"
           "8268698003"
           "ff",  // a back length longer than needed
       }) {
    EXPECT_FALSE(ListpackView::Validate(FromHex(hex))) << hex;
  }
}

TEST(ListpackTest, WhatValidateAcceptsCanBeWalked) {
  std::mt19937_64 random(5);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string listpack = NewListpack();
    for (uint64_t i = random() % 8; i > 0; --i)
      ListpackAppend(&listpack, RandomText(random).substr(0, 80));
    for (uint64_t i = random() % 3; i > 0; --i)
      listpack[random() % listpack.size()] = static_cast<char>(random());
    if (!ListpackView::Validate(listpack)) continue;
    ++accepted;
    const std::vector<std::string> elements = Elements(listpack);
    ExpectHolds(listpack, elements);
  }
  EXPECT_GT(accepted, 5000);
}

}  // namespace
}  // namespace cairn
