#include "server/data/entry.h"

#include <gtest/gtest.h>

#include <string>

#include "server/data/record_slab.h"

namespace cairn {
namespace {

class EntryTest : public ::testing::Test {
 protected:
  ~EntryTest() override { EXPECT_EQ(slab_.used_bytes(), 0u); }
  void Check(const std::string& key, const std::string& value, int64_t expire_at_ms) {
    Entry* entry = Entry::Create(slab_, key, ValueInput::String(value), expire_at_ms, 12345);
    char scratch[32];
    EXPECT_EQ(entry->key(), key);
    EXPECT_EQ(entry->StringView(scratch), value);
    EXPECT_EQ(entry->StringSize(), value.size());
    EXPECT_EQ(entry->expire_at_ms(), expire_at_ms);
    EXPECT_EQ(entry->access(), 12345u);
    entry->set_access(54321);
    EXPECT_EQ(entry->access(), 54321u);
    EXPECT_EQ(entry->has_expiry(), expire_at_ms != kNoExpiry);
    EXPECT_EQ(entry->key(), key);
    Entry::Destroy(slab_, entry);
  }
  RecordSlab slab_;
};

TEST_F(EntryTest, KeepsKeyValueAndExpiryOfAllSizes) {
  for (size_t key_size : {0u, 1u, 16u, 255u, 65535u, 65536u, 200000u}) {
    for (size_t value_size : {0u, 1u, 16u, 44u, 45u, 4096u, 4097u, 100000u}) {
      for (int64_t at_ms : {kNoExpiry, int64_t{0}, int64_t{1700000000000}}) {
        Check(std::string(key_size, 'k'), std::string(value_size, 'v'), at_ms);
      }
    }
  }
}

TEST_F(EntryTest, SixteenBytesEachTakeForty) {
  Entry* plain = Entry::Create(slab_, std::string(16, 'k'),
                               ValueInput::String(std::string(16, 'v')), kNoExpiry, 0);
  EXPECT_EQ(plain->MemoryUsage(), 40u);
  Entry* timed =
      Entry::Create(slab_, std::string(16, 'k'), ValueInput::String(std::string(16, 'v')), 5, 0);
  EXPECT_EQ(timed->MemoryUsage(), 48u);
  Entry::Destroy(slab_, plain);
  Entry::Destroy(slab_, timed);
}

TEST_F(EntryTest, EncodingsAreThoseOfRedis) {
  const auto encoding = [this](ValueInput value) {
    Entry* entry = Entry::Create(slab_, "k", std::move(value), kNoExpiry, 0);
    const std::string name = entry->EncodingName();
    Entry::Destroy(slab_, entry);
    return name;
  };
  EXPECT_EQ(encoding(ValueInput::String("12")), "int");
  EXPECT_EQ(encoding(ValueInput::String("-9223372036854775808")), "int");
  EXPECT_EQ(encoding(ValueInput::String("012")), "embstr");
  EXPECT_EQ(encoding(ValueInput::String("9223372036854775808")), "embstr");
  EXPECT_EQ(encoding(ValueInput::String(std::string(44, 'a'))), "embstr");
  EXPECT_EQ(encoding(ValueInput::String(std::string(45, 'a'))), "raw");
  EXPECT_EQ(encoding(ValueInput::RawString("12")), "raw");
  EXPECT_EQ(encoding(ValueInput::String(std::string(5000, 'a'))), "raw");
}

TEST_F(EntryTest, OverwritesInPlaceWhatKeepsLayoutAndSizeClass) {
  char scratch[32];
  const auto made = [this](const std::string& value, int64_t at_ms) {
    return Entry::Create(slab_, "key", ValueInput::String(value), at_ms, 1);
  };
  // 8 bytes of header, 3 of key: values of 6 to 13 bytes share a class of 24.
  Entry* entry = made("sixsix", kNoExpiry);
  const uint64_t used = slab_.used_bytes();
  for (const char* value : {"thirteenbytes", "eightxxx", "sixsix"}) {
    EXPECT_TRUE(entry->TryOverwrite(ValueInput::RawString(value), kNoExpiry, 77));
    EXPECT_EQ(entry->StringView(scratch), value);
    EXPECT_EQ(entry->key(), "key");
    EXPECT_EQ(entry->access(), 77u);
    EXPECT_EQ(entry->form(), ValueForm::kInlineRaw);
    EXPECT_EQ(entry->MemoryUsage(), used);
  }
  // Its own bytes, moved by one.
  EXPECT_TRUE(entry->TryOverwrite(
      ValueInput::String(std::string(entry->StringView(scratch)) + "!!"), kNoExpiry, 1));
  ValueInput own;
  own.bytes = entry->StringView(scratch).substr(1);
  EXPECT_TRUE(entry->TryOverwrite(own, kNoExpiry, 1));
  EXPECT_EQ(entry->StringView(scratch), "ixsix!!");
  // Another class, another layout, an expiry that comes: refused, and nothing has changed.
  EXPECT_FALSE(entry->TryOverwrite(ValueInput::String("fourteen bytes"), kNoExpiry, 9));
  EXPECT_FALSE(entry->TryOverwrite(ValueInput::String("five!"), kNoExpiry, 9));
  EXPECT_FALSE(entry->TryOverwrite(ValueInput::Integer(5), kNoExpiry, 9));
  EXPECT_FALSE(entry->TryOverwrite(ValueInput::String("eightxxx"), 12345, 9));
  EXPECT_FALSE(entry->TryOverwrite(ValueInput::String(std::string(5000, 'b')), kNoExpiry, 9));
  EXPECT_EQ(entry->StringView(scratch), "ixsix!!");
  EXPECT_EQ(entry->access(), 1u);
  Entry::Destroy(slab_, entry);

  Entry* counter = made("41", 1000);
  EXPECT_TRUE(counter->TryOverwrite(ValueInput::Integer(42), 2000, 3));
  EXPECT_EQ(counter->integer(), 42);
  EXPECT_EQ(counter->expire_at_ms(), 2000);
  EXPECT_FALSE(counter->TryOverwrite(ValueInput::Integer(43), kNoExpiry, 3));
  EXPECT_FALSE(counter->TryOverwrite(ValueInput::String("eightxxx"), 2000, 3));
  EXPECT_EQ(counter->integer(), 42);
  Entry::Destroy(slab_, counter);

  Entry* blob = made(std::string(5000, 'b'), kNoExpiry);
  EXPECT_FALSE(blob->TryOverwrite(ValueInput::String(std::string(5000, 'c')), kNoExpiry, 3));
  Entry::Destroy(slab_, blob);
}

TEST_F(EntryTest, LongValuesShareTheirBlob) {
  BlobRef blob = BlobRef::Copy(std::string(9000, 'b'));
  Entry* first = Entry::Create(slab_, "a", ValueInput::String(blob.view(), blob), kNoExpiry, 0);
  Entry* second = Entry::Create(slab_, "b", first->ShareValue(), kNoExpiry, 0);
  EXPECT_EQ(first->blob_unchecked(), second->blob_unchecked());
  Entry::Destroy(slab_, first);
  Entry::Destroy(slab_, second);
  EXPECT_TRUE(blob->IsUnique());
}

}  // namespace
}  // namespace cairn
