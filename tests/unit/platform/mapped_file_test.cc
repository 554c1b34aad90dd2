// A handler of SIGBUS learns which mapped file a touch failed on. A file that is shortened under
// its map stands for a disk that refuses a page: the kernel answers both with the same signal.

#include "server/platform/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "server/base/mapped_bytes.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

constexpr int kKnown = 3, kUnknown = 4;

void OnBusError(int, siginfo_t* info, void*) {
  const char* path = UnreadableFile(*info);
  if (path != nullptr) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, path, std::strlen(path));
  }
  ::_exit(path != nullptr ? kKnown : kUnknown);
}

void HandleBusErrors() {
  struct sigaction action = {};
  action.sa_sigaction = &OnBusError;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaction(SIGBUS, &action, nullptr);
}

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(directory_), nullptr); }
  void TearDown() override {
    std::remove(Path().c_str());
    ::rmdir(directory_);
  }
  std::string Path() const { return std::string(directory_) + "/a file of ours"; }

  /// Maps it, has all of it said to be readable, and shortens it to a page.
  std::string_view MapAndShorten() {
    {
      auto writer = env_->OpenTruncate(Path());
      CAIRN_CHECK(writer.ok() && (*writer)->Append(std::string(4 * kPageBytes, 'x')).ok());
    }
    auto file = env_->OpenRead(Path());
    CAIRN_CHECK(file.ok());
    file_ = std::move(*file);
    const std::string_view map = *file_->Map();
    CAIRN_CHECK(file_->MakeReadable(0, map.size()).ok());
    CAIRN_CHECK(::truncate(Path().c_str(), kPageBytes) == 0);
    return map;
  }
  static char Touch(const char* at) { return *static_cast<const volatile char*>(at); }

  char directory_[32] = "/tmp/cairn_mapped_XXXXXX";
  const std::unique_ptr<Env> env_ = NewPosixEnv();
  std::unique_ptr<RandomAccessFile> file_;
};

TEST_F(MappedFileTest, APageThatWentBetweenTheAskAndTheTouchIsNamed) {
  EXPECT_EXIT(
      {
        HandleBusErrors();
        // So many mappings that the list is read in many pieces.
        for (int i = 0; i < 2000; ++i) {
          ::mmap(nullptr, kPageBytes, i % 2 == 0 ? PROT_READ : PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        }
        const std::string_view map = MapAndShorten();
        if (Touch(map.data()) == 'x') Touch(map.data() + 3 * kPageBytes);
        ::_exit(0);
      },
      testing::ExitedWithCode(kKnown), "^/tmp/cairn_mapped_[^/]*/a file of ours$");
}

TEST_F(MappedFileTest, ManyThreadsThatMeetItEndTheProcessOnce) {
  EXPECT_EXIT(
      {
        HandleBusErrors();
        const std::string_view map = MapAndShorten();
        std::atomic<bool> go{false};
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; ++i) {
          threads.emplace_back([&] {
            while (!go) std::this_thread::yield();
            Touch(map.data() + 2 * kPageBytes);
          });
        }
        go = true;
        for (std::thread& thread : threads) thread.join();
        ::_exit(0);
      },
      testing::ExitedWithCode(kKnown), "^/tmp/cairn_mapped_[^/]*/a file of ours$");
}

TEST_F(MappedFileTest, OtherBusErrorsAreAboutNoFile) {
  EXPECT_EXIT(
      {
        HandleBusErrors();
        ::raise(SIGBUS);
      },
      testing::ExitedWithCode(kUnknown), "^$");
  siginfo_t info{};
  info.si_signo = SIGBUS;
  info.si_code = BUS_ADRERR;
  std::string heap(3, 'h');
  info.si_addr = heap.data();
  EXPECT_EQ(UnreadableFile(info), nullptr);
  EXPECT_EQ(UnreadableFile(info), nullptr) << "what was taken for the first look was given back";
  info.si_addr = nullptr;
  EXPECT_EQ(UnreadableFile(info), nullptr);
  info.si_signo = SIGSEGV;
  info.si_addr = const_cast<void*>(static_cast<const void*>(MapAndShorten().data()));
  EXPECT_EQ(UnreadableFile(info), nullptr);
}

}  // namespace
}  // namespace cairn
