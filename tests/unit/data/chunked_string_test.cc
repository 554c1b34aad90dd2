// ChunkedString against a plain string: written, grown, copied, read by replies that stay, and
// shared with the header that a view reads (C1 to C3, F1 to F5).

#include "server/data/chunked_string.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "persistence/rdb_writer.h"
#include "server/data/string_bytes.h"

namespace cairn {
namespace {

constexpr size_t kChunk = 16;

std::string Bytes(std::mt19937_64& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string Read(const ChunkedString& string) {
  std::string all;
  while (all.size() < string.size()) all += string.RunAt(all.size());
  return all;
}

std::string ReadSlices(const ChunkedString& string, size_t at, size_t size) {
  std::string all;
  while (all.size() < size) all += string.SliceAt(at + all.size(), size - all.size()).view();
  return all;
}

/// Takes pieces as they come.
class PieceSink final : public RdbEncoder {
 public:
  explicit PieceSink(ByteSink* unused) : RdbEncoder(unused, false, false, 1024) {}
  Status StringPieces(std::span<const std::string_view> pieces) override {
    for (std::string_view piece : pieces) all += piece;
    return Status::Ok();
  }
  std::string all;
};

/// What a view reads of the string.
std::string Emitted(const ChunkedString& string) {
  std::string unused;
  StringByteSink bytes(&unused);
  PieceSink sink(&bytes);
  EXPECT_TRUE(string.Emit(sink).ok());
  return sink.all;
}

class ChunkedStringTest : public testing::Test {
 protected:
  ~ChunkedStringTest() override { EXPECT_EQ(slab_.used_bytes(), 0u); }

  ChunkedString* Make(std::string_view bytes) {
    return new ChunkedString(home_, BlobRef::Copy(bytes), kChunk);
  }
  /// Frees what was retired, as the walker does once it has passed the value.
  void Drain(ViewLane* lane) {
    for (Retired item; lane->Pop(&item);) {
      if (item.Release()) {
        if (item.kind == Retired::Kind::kBlob) {
          static_cast<Blob*>(item.object)->Unref();
        } else {
          ASSERT_EQ(item.kind, Retired::Kind::kBlock);
          std::free(item.object);
        }
        gate_.Released(item.kind, item.size_bytes);
      }
    }
  }
  void End(ViewLane* lane) {
    lane->PublishWatermark(kWatermarkEnd);
    Drain(lane);
    gate_.Close(*lane);
  }

  SnapshotGate gate_;
  RecordSlab slab_;
  const ValueHome home_{&gate_, &slab_, 1};
};

TEST_F(ChunkedStringTest, IsWrittenInItsBlockWhileNobodySharesIt) {
  std::string model = "0123456789abcdefGHIJKLMNOPQRSTUVwxyz";
  ObjectRef owner = ObjectRef::Adopt(Make(model));
  auto* string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(owner.get()));
  const char* block = string->RunAt(0).data();
  string->Write(14, "----");
  model.replace(14, 4, "----");
  EXPECT_EQ(Read(*string), model);
  EXPECT_EQ(string->RunAt(0).data(), block);
  EXPECT_EQ(string->SliceAt(3, 30).view(), model.substr(3, 30)) << "one piece";
  EXPECT_TRUE(string->WholeBlock());
  string->CheckInvariants();
}

TEST_F(ChunkedStringTest, AReplyKeepsTheBytesItTook) {
  std::string model(5 * kChunk, 'a');
  ObjectRef owner = ObjectRef::Adopt(Make(model));
  auto* string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(owner.get()));
  {
    const BlobSlice reply = string->SliceAt(0, model.size());
    string->Write(20, "xy");
    model.replace(20, 2, "xy");
    EXPECT_EQ(reply.view(), std::string(5 * kChunk, 'a'));
    EXPECT_EQ(Read(*string), model);
    EXPECT_EQ(string->SliceAt(0, model.size()).size, kChunk);
    EXPECT_FALSE(string->WholeBlock());
    string->PutOneBack();  // cannot: the reply still reads the block
    EXPECT_EQ(string->SliceAt(0, model.size()).size, kChunk);
    // The chunk's own blob is held by a reply now.
    const BlobSlice second = string->SliceAt(kChunk, kChunk);
    string->Write(21, "z");
    model[21] = 'z';
    EXPECT_EQ(second.view(), "aaaaxyaaaaaaaaaa");
    EXPECT_EQ(ReadSlices(*string, 5, 40), model.substr(5, 40));
  }
  string->PutOneBack();
  EXPECT_EQ(string->SliceAt(0, model.size()).view(), model) << "one block again";
  EXPECT_TRUE(string->WholeBlock());
  string->CheckInvariants();
}

TEST_F(ChunkedStringTest, GrowsByChunksAndZeroesWhatIsAskedFor) {
  std::string model(kChunk + 3, 'a');
  ObjectRef owner = ObjectRef::Adopt(Make(model));
  auto* string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(owner.get()));
  for (size_t more : {size_t{1}, size_t{12}, size_t{1}, kChunk, 5 * kChunk + 7, size_t{1}}) {
    string->Grow(model.size() + more, SIZE_MAX);
    model.resize(model.size() + more);
    EXPECT_EQ(Read(*string), model);
    string->CheckInvariants();
  }
  const size_t before = model.size();
  string->Grow(before + 100, before + 60);
  string->Write(before + 60, std::string(40, 'e'));
  EXPECT_EQ(Read(*string), model + std::string(60, '\0') + std::string(40, 'e'));
  // Four whole chunks of the block can go nowhere else; what grew stays in chunks.
  string->PutOneBack();
  EXPECT_FALSE(string->WholeBlock());
  string->CheckInvariants();
}

TEST_F(ChunkedStringTest, AForkLeavesTheOldHeaderAsItWas) {
  std::mt19937_64 random(1);
  const std::string cut = Bytes(random, 40 * kChunk + 5);
  ObjectRef first = ObjectRef::Adopt(Make(cut));
  auto* old = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(first.get()));
  ViewLane* lane = gate_.Open();
  ObjectRef second = ObjectRef::Adopt(old->Fork(1000));
  auto* string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(second.get()));
  std::string model = cut;
  string->Write(100, "hello");
  model.replace(100, 5, "hello");
  const uint64_t after_one = gate_.retained_bytes();
  EXPECT_LE(after_one, 41 * 16 + 16 + kChunk + 2 * sizeof(Retired)) << "the table and one chunk";
  string->Write(101, "H");
  model[101] = 'H';
  EXPECT_EQ(gate_.retained_bytes(), after_one) << "what was copied is private";
  string->Grow(cut.size() + 3 * kChunk, SIZE_MAX);
  model.resize(cut.size() + 3 * kChunk);
  EXPECT_EQ(Emitted(*old), cut);
  EXPECT_EQ(Read(*string), model);
  EXPECT_EQ(old->MemoryUsage(), sizeof(ChunkedString));
  string->CheckInvariants();
  // Behind W everything may be written where it stands.
  lane->PublishWatermark(1000);
  string->PutOneBack();
  const char* place = string->RunAt(kChunk * 2).data();
  string->Write(kChunk * 2, "in place");
  EXPECT_EQ(string->RunAt(kChunk * 2).data(), place);
  End(lane);
}

TEST_F(ChunkedStringTest, ACopyLivesOnItsOwn) {
  std::string model(6 * kChunk, 'a');
  ObjectRef first = ObjectRef::Adopt(Make(model));
  auto* string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(first.get()));
  string->Grow(8 * kChunk, SIZE_MAX);
  model.resize(8 * kChunk);
  const std::string before = model;
  ObjectRef second = ObjectRef::Adopt(string->Clone());
  auto* copy = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(second.get()));
  string->Write(7 * kChunk, "1");
  string->Write(0, "2");
  copy->Write(1, "3");
  EXPECT_EQ(Read(*copy), "a3" + before.substr(2));
  model[7 * kChunk] = '1';
  model[0] = '2';
  EXPECT_EQ(Read(*string), model);
  first = ObjectRef();
  copy->PutOneBack();
  EXPECT_EQ(Read(*copy), "a3" + before.substr(2));
  copy->CheckInvariants();
}

/// One string under up to four views, with replies that stay for a while; every step is compared.
TEST_F(ChunkedStringTest, RandomWritesUnderViewsAndReplies) {
  struct Reading {
    ViewLane* lane;
    ObjectRef header;
    std::string cut;
  };
  struct Reply {
    BlobSlice slice;
    std::string bytes;
  };
  constexpr uint64_t kPlace = 500;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::string model = Bytes(random, 1 + random() % 400);
    ObjectRef owner = ObjectRef::Adopt(Make(model));
    std::vector<Reading> views;
    std::vector<Reply> replies;
    bool frozen = false;  // a view was opened since the last fork
    for (int step = 0; step < 400 && !HasFailure(); ++step) {
      auto* string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(owner.get()));
      const uint64_t kind = random() % 16;
      if (kind < 9) {
        if (frozen) {  // what Database::MutableContainer does
          owner = ObjectRef::Adopt(string->Fork(kPlace));
          string = const_cast<ChunkedString*>(static_cast<const ChunkedString*>(owner.get()));
          frozen = false;
        } else if (owner->IsUnique()) {
          string->Thaw();
        }
        string->PutOneBack();
        if (kind < 3) {
          const size_t size = model.size() + random() % 40;
          string->Grow(size, SIZE_MAX);
          model.resize(size);
        }
        const size_t at = random() % model.size();
        const std::string bytes = Bytes(random, random() % (model.size() - at + 1));
        string->Write(at, bytes);
        model.replace(at, bytes.size(), bytes);
      } else if (kind < 11) {
        const size_t at = random() % model.size();
        const BlobSlice slice = string->SliceAt(at, model.size() - at);
        replies.push_back({slice, std::string(slice.view())});
      } else if (kind < 13 && !replies.empty()) {
        replies.erase(replies.begin() + static_cast<ptrdiff_t>(random() % replies.size()));
      } else if (kind == 13 && views.size() < SnapshotGate::kMaxViews) {
        views.push_back({gate_.Open(), owner, model});
        frozen = true;
      } else if (kind == 14 && !views.empty()) {
        const size_t i = random() % views.size();
        Reading& view = views[i];
        EXPECT_EQ(Emitted(static_cast<const ChunkedString&>(*view.header.get())), view.cut);
        view.lane->PublishWatermark(kPlace);
        view.header = ObjectRef();
        End(view.lane);
        views.erase(views.begin() + static_cast<ptrdiff_t>(i));
        if (views.empty()) frozen = false;
      }
      ASSERT_EQ(Read(*static_cast<const ChunkedString*>(owner.get())), model);
      static_cast<const ChunkedString*>(owner.get())->CheckInvariants();
      for (const Reply& reply : replies) ASSERT_EQ(reply.slice.view(), reply.bytes);
      for (const Reading& view : views)
        ASSERT_EQ(Emitted(static_cast<const ChunkedString&>(*view.header.get())), view.cut);
    }
    for (Reading& view : views) End(view.lane);
    EXPECT_EQ(gate_.retained_bytes(), 0u);
  }
}

TEST_F(ChunkedStringTest, PiecesAreWrittenAsTheWholeWouldBe) {
  std::mt19937_64 random(5);
  for (const bool compressible : {true, false}) {
    for (size_t size : {size_t{100}, size_t{70'000}, size_t{300'000}}) {
      const std::string whole = compressible ? std::string(size, 'c') : Bytes(random, size);
      std::vector<std::string_view> pieces;
      for (size_t at = 0; at < size;) {
        pieces.push_back(std::string_view(whole).substr(at, 1 + random() % 5000));
        at += pieces.back().size();
      }
      DumpWriter one, several;
      ASSERT_TRUE(one.sink().String(whole).ok());
      ASSERT_TRUE(several.sink().StringPieces(pieces).ok());
      EXPECT_EQ(*one.Finish(), *several.Finish()) << size << (compressible ? " c" : " i");
    }
  }
}

TEST_F(ChunkedStringTest, StringBytesReadsChunksAndPlainStringsAlike) {
  std::mt19937_64 random(9);
  const std::string model = Bytes(random, 9 * kChunk + 4);
  auto* string = Make(model);
  const BlobSlice reply = string->SliceAt(0, 1);
  for (size_t i = 0; i < 9; i += 2) string->Write(i * kChunk, model.substr(i * kChunk, 1));
  Entry* chunked = Entry::Create(
      slab_, "k", ValueInput::FromObject(ValueType::kString, ObjectRef::Adopt(string)), kNoExpiry,
      0);
  Entry* plain = Entry::Create(slab_, "k", ValueInput::RawString(model), kNoExpiry, 0);
  EXPECT_EQ(chunked->StringSize(), model.size());
  EXPECT_STREQ(chunked->EncodingName(), "raw");
  EXPECT_STREQ(chunked->TypeName(), "string");
  for (const Entry* entry : {chunked, plain}) {
    const StringBytes bytes(entry);
    std::string copy;
    EXPECT_EQ(bytes.Whole(&copy), model);
    for (size_t at = 0; at < model.size() + 3; ++at) {
      for (size_t size : {size_t{1}, size_t{9}, size_t{40}}) {
        char out[40];
        const std::string expected = at < model.size() ? model.substr(at, size) : "";
        EXPECT_EQ(bytes.Window(at, size, out), expected) << at;
      }
    }
  }
  Entry::Destroy(slab_, chunked);
  Entry::Destroy(slab_, plain);
}

}  // namespace
}  // namespace cairn
