#pragma once

// OnBothEnvs: a test that runs on a directory of the machine's disk and on one of FakeEnv.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "server/platform/fake_env.h"

namespace cairn {

/// The parameter: on the machine's disk.
class OnBothEnvs : public testing::TestWithParam<bool> {
 public:
  static std::string NameOf(const testing::TestParamInfo<bool>& posix) {
    return posix.param ? "Posix" : "Fake";
  }

 protected:
  void SetUp() override {
    if (GetParam()) {
      char name[] = "/tmp/cairn_env_test_XXXXXX";
      ASSERT_NE(::mkdtemp(name), nullptr);
      directory_ = name;
      env_ = NewPosixEnv();
    } else {
      env_ = std::make_unique<FakeEnv>(1);
      directory_ = "/data";
      ASSERT_TRUE(env_->CreateDir(directory_).ok());
    }
  }
  void TearDown() override { RemoveTree(directory_); }

  void RemoveTree(const std::string& path) {
    auto names = env_->ListDir(path);
    if (names.ok()) {
      for (const std::string& name : *names) RemoveTree(path + "/" + name);
    }
    EXPECT_TRUE(env_->Remove(path).ok()) << path;
  }

  std::unique_ptr<Env> env_;
  std::string directory_;
};

}  // namespace cairn
