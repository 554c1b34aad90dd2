#include "server/platform/page_choice.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

using Pages = AddressSpace::Pages;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kPiece = 4 * kMiB;

/// A machine whose pages come at so many nanoseconds a KiB.
struct Machine {
  PageChoice choice;
  int64_t huge_ns = 100, small_ns = 100;

  Pages Fetch(size_t bytes = kPiece) {
    const Pages pages = choice.Next(bytes);
    choice.Fetched(
        pages, bytes,
        static_cast<int64_t>(bytes >> 10) * (pages == Pages::kHuge ? huge_ns : small_ns));
    return pages;
  }
  /// How many of `pieces` were huge.
  int HugeOf(int pieces) {
    int huge = 0;
    for (int i = 0; i < pieces; ++i) huge += Fetch() == Pages::kHuge ? 1 : 0;
    return huge;
  }
};

TEST(PageChoiceTest, EachKindIsTriedUntilBothAreKnown) {
  PageChoice choice;
  EXPECT_EQ(choice.Next(kPiece), Pages::kHuge);
  EXPECT_EQ(choice.Next(kPiece), Pages::kSmall);
  choice.Fetched(Pages::kSmall, kPiece, 1);
  EXPECT_EQ(choice.Next(kPiece), Pages::kHuge);
  EXPECT_EQ(choice.Next(kPiece), Pages::kSmall);
  choice.Fetched(Pages::kHuge, kPiece, 2);
  EXPECT_EQ(choice.Next(kPiece), Pages::kSmall);
  EXPECT_EQ(choice.Next(kPiece), Pages::kSmall);
}

TEST(PageChoiceTest, TheFasterKindIsTaken) {
  Machine huge{.huge_ns = 150, .small_ns = 400}, small{.huge_ns = 3500, .small_ns = 400};
  EXPECT_EQ(huge.HugeOf(60), 59);
  EXPECT_EQ(small.HugeOf(60), 1);
}

TEST(PageChoiceTest, EquallyFastIsHuge) {
  Machine machine;
  EXPECT_EQ(machine.HugeOf(60), 59);
}

TEST(PageChoiceTest, WhereNothingCanBeToldAllAreHuge) {
  PageChoice choice;
  choice.Forgo();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(choice.Next(kPiece), Pages::kHuge);
}

TEST(PageChoiceTest, TheSlowerKindIsAskedForLessAndLess) {
  Machine machine{.huge_ns = 3500, .small_ns = 400};
  machine.HugeOf(2);
  int huge = 0, asked = 0;
  for (int probes = 1; probes <= 5; ++probes) {
    asked = 0;
    while (machine.Fetch() != Pages::kHuge) ++asked;
    EXPECT_EQ(asked, static_cast<int>(PageChoice::kPatience) << (probes - 1)) << probes;
    ++huge;
  }
  // A region is asked for less often the larger it is.
  EXPECT_EQ(machine.choice.Next(1024 * kMiB), Pages::kSmall);
}

TEST(PageChoiceTest, AChangeIsFoundWithOneLook) {
  Machine machine{.huge_ns = 3500, .small_ns = 400};
  machine.HugeOf(32);
  machine.huge_ns = 150;  // another process gave back what it had
  EXPECT_GE(machine.HugeOf(200), 100);
  machine.huge_ns = 3500;
  EXPECT_LE(machine.HugeOf(100), 12);  // its own speed is seen at once
  machine.small_ns = 8000;             // the last small pieces are gone
  EXPECT_GE(machine.HugeOf(100), 80);
}

}  // namespace
}  // namespace cairn
