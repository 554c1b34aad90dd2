#include "server/base/lzf.h"

#include <gtest/gtest.h>
#include <lzf.h>

#include <random>
#include <string>
#include <vector>

namespace cairn {
namespace {

// liblzf does not clear its table, which lies on the stack. That it takes what an earlier call left
// there was never seen: it would have to be a place in this input with the same three bytes.
std::string ByLibrary(const std::string& bytes, size_t room) {
  std::string out(room + 1, '\0');
  out.resize(lzf_compress(bytes.data(), static_cast<unsigned>(bytes.size()), out.data(),
                          static_cast<unsigned>(room)));
  return out;
}

std::string Ours(const std::string& bytes, size_t room) {
  std::string out(room + 1, '\x5A');
  const size_t size = LzfCompress(bytes, out.data(), room);
  EXPECT_EQ(out[room], '\x5A') << "wrote beyond its room";
  out.resize(size);
  return out;
}

std::string Unpacked(const std::string& packed, size_t room) {
  std::string out(room + 1, '\x5A');
  const size_t size = LzfDecompress(packed, out.data(), room);
  EXPECT_EQ(out[room], '\x5A') << "wrote beyond its room";
  out.resize(size);
  return out;
}

/// Texts with few letters, with repeats near and far, of one letter, of none.
std::string AnyText(std::mt19937_64& random, size_t size) {
  std::string text;
  const size_t letters = std::vector<size_t>{1, 2, 3, 10, 26, 256}[random() % 6];
  while (text.size() < size) {
    if (!text.empty() && random() % 4 == 0) {
      const size_t from = random() % text.size();
      text += text.substr(from, 1 + random() % 300);
    } else {
      const size_t count = 1 + random() % 80;
      for (size_t i = 0; i < count; ++i) text += static_cast<char>(random() % letters);
    }
  }
  text.resize(size);
  return text;
}

TEST(LzfTest, MakesWhatTheLibraryMakes) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    const size_t most = std::vector<size_t>{40, 300, kLzfSmallBytes + 100}[random() % 3];
    const std::string text = AnyText(random, 1 + random() % most);
    const size_t room = text.size() <= 4 ? text.size() : text.size() - 4;
    const std::string ours = Ours(text, room);
    ASSERT_EQ(ours, ByLibrary(text, room)) << "size " << text.size() << ", round " << round;
    if (!ours.empty()) ASSERT_EQ(Unpacked(ours, text.size()), text);
  }
}

TEST(LzfTest, GivesUpAtTheSameRoomAsTheLibrary) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 300; ++round) {
    const std::string text = AnyText(random, 1 + random() % 200);
    for (size_t room = 1; room < text.size() + 12; ++room) {
      ASSERT_EQ(Ours(text, room), ByLibrary(text, room))
          << "size " << text.size() << ", room " << room << ", round " << round;
    }
  }
}

TEST(LzfTest, EdgesOfLengthAndDistance) {
  for (size_t size = 1; size <= 600; ++size) {
    const std::string text(size, 'x');
    ASSERT_EQ(Ours(text, size + 4), ByLibrary(text, size + 4)) << size;
  }
  std::mt19937_64 random(3);
  for (const size_t apart : {31, 32, 33, 255, 256, 257, 263, 264, 265, 800, 2000, 4000}) {
    for (size_t same = 2; same < 90; ++same) {
      std::string text;
      while (text.size() < apart) text += static_cast<char>(random());
      text += text.substr(1, same);
      ASSERT_EQ(Ours(text, text.size() + 200), ByLibrary(text, text.size() + 200))
          << apart << " apart, " << same;
    }
  }
}

TEST(LzfTest, NothingAndNoRoom) {
  EXPECT_EQ(LzfCompress("", nullptr, 0), 0U);
  char out[8];
  EXPECT_EQ(LzfCompress("", out, sizeof out), 0U);
  EXPECT_EQ(LzfCompress("aaaaaaaaaaaaaaaa", out, 0), 0U);
  EXPECT_EQ(LzfDecompress("", out, sizeof out), 0U);
}

TEST(LzfTest, MalformedTextIsRefusedAsByTheLibrary) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 50000; ++round) {
    const std::string text = AnyText(random, 1 + random() % 200);
    std::string packed = ByLibrary(text, text.size() + 20);
    for (uint64_t change = random() % 4; change > 0 && !packed.empty(); --change) {
      packed[random() % packed.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) packed.resize(random() % (packed.size() + 1));
    const size_t room = random() % 2 == 0 ? text.size() : random() % 300 + 1;
    std::string expected(room, '\0');
    expected.resize(packed.empty()
                        ? 0
                        : lzf_decompress(packed.data(), static_cast<unsigned>(packed.size()),
                                         expected.data(), static_cast<unsigned>(room)));
    ASSERT_EQ(Unpacked(packed, room), expected) << "round " << round;
  }
}

}  // namespace
}  // namespace cairn
