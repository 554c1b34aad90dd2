#include "persistence/packed_value.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "persistence/rdb_format.h"
#include "server/base/checksum.h"
#include "server/base/intset.h"
#include "server/base/listpack.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

using Texts = std::vector<std::string>;

std::string FromHex(std::string_view hex) {
  std::string bytes;
  EXPECT_TRUE(HexDecode(hex, &bytes));
  return bytes;
}

Texts Elements(const std::string& listpack) {
  EXPECT_TRUE(ListpackView::Validate(listpack));
  const ListpackView view(listpack);
  Texts texts;
  char scratch[kMaxInt64Chars];
  for (uint32_t at = view.begin(); at != view.end(); at = view.Next(at))
    texts.emplace_back(view.Get(at).Text(scratch));
  return texts;
}

/// Writes the events down as text.
class NoteSink final : public ValueSink {
 public:
  std::string notes;
  Status String(std::string_view) override { return Refused("string"); }
  Status Integer(int64_t) override { return Refused("string"); }
  Status Begin(ValueKind kind, uint64_t count) override {
    notes += "begin" + std::to_string(static_cast<int>(kind)) + ":" + std::to_string(count);
    return Status::Ok();
  }
  Status Item(std::string_view element) override {
    notes += " " + std::string(element);
    return Status::Ok();
  }
  Status Field(std::string_view field, std::string_view value) override {
    notes += " " + std::string(field) + "=" + std::string(value);
    return Status::Ok();
  }
  Status Scored(std::string_view member, double score) override {
    notes += " " + std::string(member) + "@" + FormatDouble(score);
    return Status::Ok();
  }
  Status Packed(uint8_t, std::string_view) override { return Refused("packed"); }
  Status BeginModule(uint64_t) override { return Refused("module"); }
  Status ModuleUnsigned(uint64_t) override { return Refused("module"); }
  Status ModuleSigned(int64_t) override { return Refused("module"); }
  Status ModuleDouble(double) override { return Refused("module"); }
  Status ModuleFloat(float) override { return Refused("module"); }
  Status ModuleString(std::string_view) override { return Refused("module"); }
  Status End() override {
    notes += " end";
    return Status::Ok();
  }
};

const char kZiplist[] = "150000001000000003000002686904f602c00004ff";
const char kZipmap[] =
    "020161010031"
    "026263030278797a0000"
    "ff";

TEST(PackedValueTest, ZiplistBecomesAListpack) {
  Result<std::string> listpack = ListpackOfZiplist(FromHex(kZiplist));
  ASSERT_TRUE(listpack.ok());
  EXPECT_EQ(Elements(*listpack), (Texts{"hi", "5", "1024"}));
}

TEST(PackedValueTest, EveryEncodingOfAZiplist) {
  // 14-bit and 32-bit string lengths, i8, i24, i32, i64, the smallest and largest immediate.
  std::string entries;
  size_t previous = 0;
  const auto add = [&](const std::string& entry) {
    std::string whole;
    if (previous < 254) {
      whole.push_back(static_cast<char>(previous));
    } else {
      whole.push_back(static_cast<char>(0xfe));
      for (int i = 0; i < 4; ++i) whole.push_back(static_cast<char>(previous >> 8 * i));
    }
    whole += entry;
    previous = whole.size();
    entries += whole;
  };
  add(FromHex("4064") + std::string(100, 'a'));
  add(FromHex("8000000140") + std::string(320, 'b'));
  add(FromHex("fe80"));
  add(FromHex("f0000080"));
  add(FromHex("d0ffffff7f"));
  add(FromHex("e00000000000000080"));
  add(FromHex("f1"));
  const size_t last_at = 10 + entries.size();
  add(FromHex("fd"));
  std::string ziplist(10, '\0');
  const uint32_t bytes = static_cast<uint32_t>(11 + entries.size());
  const uint32_t tail = static_cast<uint32_t>(last_at);
  std::memcpy(ziplist.data(), &bytes, 4);
  std::memcpy(ziplist.data() + 4, &tail, 4);
  ziplist[8] = 8;
  ziplist += entries + '\xff';
  Result<std::string> listpack = ListpackOfZiplist(ziplist);
  ASSERT_TRUE(listpack.ok());
  EXPECT_EQ(Elements(*listpack),
            (Texts{std::string(100, 'a'), std::string(320, 'b'), "-128", "-8388608", "2147483647",
                   "-9223372036854775808", "0", "12"}));
}

TEST(PackedValueTest, ZipmapBecomesAListpack) {
  Result<std::string> listpack = ListpackOfZipmap(FromHex(kZipmap));
  ASSERT_TRUE(listpack.ok());
  EXPECT_EQ(Elements(*listpack), (Texts{"a", "1", "bc", "xyz"}));
}

TEST(PackedValueTest, EveryTypePlaysItsEvents) {
  std::string pairs = NewListpack(), intset = NewIntset();
  for (const char* text : {"a", "1", "b", "2.5"}) ListpackAppend(&pairs, text);
  IntsetInsert(&intset, 7);
  IntsetInsert(&intset, -3);
  const auto play = [](uint8_t type, const std::string& blob) {
    NoteSink sink;
    const Status status = UnpackValue(type, blob, sink);
    return status.ok() ? sink.notes : std::string(status.message());
  };
  EXPECT_EQ(play(rdb::kHashListpack, pairs), "begin4:2 a=1 b=2.5 end");
  EXPECT_EQ(play(rdb::kSortedSetListpack, pairs), "begin3:2 a@1 b@2.5 end");
  EXPECT_EQ(play(rdb::kSetListpack, pairs), "begin2:4 a 1 b 2.5 end");
  EXPECT_EQ(play(rdb::kListQuicklist2, pairs), "begin1:4 a 1 b 2.5 end");
  EXPECT_EQ(play(rdb::kSetIntset, intset), "begin2:2 -3 7 end");
  EXPECT_EQ(play(rdb::kHashZipmap, FromHex(kZipmap)), "begin4:2 a=1 bc=xyz end");
  EXPECT_EQ(play(rdb::kListZiplist, FromHex(kZiplist)), "begin1:3 hi 5 1024 end");
  EXPECT_EQ(play(rdb::kHashZiplist, FromHex(kZiplist)), "a list of pairs is broken");
  EXPECT_EQ(play(rdb::kHashListpackExpiring, pairs), "packed type 25 is not supported");
  ListpackAppend(&pairs, "c");
  ListpackAppend(&pairs, "nan");
  EXPECT_EQ(play(rdb::kSortedSetListpack, pairs), "a packed score is broken");
}

TEST(PackedValueTest, BrokenBytesAreRefusedNotRead) {
  std::mt19937_64 random(9);
  for (const char* hex : {kZiplist, kZipmap}) {
    const std::string good = FromHex(hex);
    for (int round = 0; round < 20000; ++round) {
      // An allocation of its own, so that a read beyond the end is seen.
      std::string bytes = good.substr(0, random() % 4 ? good.size() : random() % good.size());
      for (uint64_t i = 1 + random() % 3; i > 0 && !bytes.empty(); --i)
        bytes[random() % bytes.size()] = static_cast<char>(random());
      const std::vector<char> exact(bytes.begin(), bytes.end());
      const std::string_view view(exact.data(), exact.size());
      for (Result<std::string> listpack : {ListpackOfZiplist(view), ListpackOfZipmap(view)}) {
        EXPECT_TRUE(!listpack.ok() || ListpackView::Validate(*listpack));
      }
    }
  }
}

}  // namespace
}  // namespace cairn
