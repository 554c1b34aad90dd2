#pragma once

// TensorFixture: a CommandHarness with the tensor module linked in, PlainCompute in LibTorch's
// place.

#include <gtest/gtest.h>

#include "server/base/check.h"
#include "server/engine/job_runner.h"
#include "server/engine/module_host.h"
#include "tensor_module/module.h"
#include "tests/support/command_harness.h"
#include "tests/support/fake_client.h"

namespace cairn {

CommandFamily CommandCommands();
CommandFamily DatabaseCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily MemoryCommands();
CommandFamily PubsubCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

using Lines = std::vector<std::string>;

/// The bytes of values one after the other.
template <typename T>
std::string Raw(std::initializer_list<T> values) {
  std::string out;
  for (const T& value : values) out.append(reinterpret_cast<const char*>(&value), sizeof value);
  return out;
}

/// The module that was linked in last.
inline tensor::Module*& LinkedInModule() {
  static tensor::Module* module = nullptr;
  return module;
}

/// PlainCompute that can be told to take its time.
struct LinkedInCompute final : tensor::PlainCompute {
  bool IsReady() const override { return ready; }
  bool ready = true;
};
inline LinkedInCompute& TheCompute() {
  static LinkedInCompute compute;
  return compute;
}

inline int LinkedInTensorModule(const CairnApi* api, CairnModule* self, int, const char* const*) {
  auto* module = new tensor::Module(*api, self, TheCompute());
  LinkedInModule() = module;
  api->module_describe(self, "tensor", 100, module,
                       [](void* data) { delete static_cast<tensor::Module*>(data); });
  return module->Register();
}

class TensorFixture : public testing::Test {
 protected:
  TensorFixture() {
    host_.Attach(harness_.engine());
    CAIRN_CHECK(host_.LoadEntryPoint(LinkedInTensorModule, "linked in", {}).ok());
    harness_.engine().jobs = jobs_.get();
  }
  ~TensorFixture() override {
    jobs_.reset();
    harness_.engine().jobs = nullptr;
  }
  std::string Run(const Lines& args) { return harness_.Run(args); }
  RespValue Call(const Lines& args) { return harness_.Call(args); }
  /// Runs what was posted, and the client, until it has a reply.
  std::string Wait(FakeClient& client) {
    std::string replies = client.TakeReplies();
    while (replies.empty()) {
      if (!client.input_ready) CAIRN_CHECK(harness_.RunPosted());
      if (client.input_ready) client.RunTurn();
      replies = client.TakeReplies();
    }
    return replies;
  }
  /// The bytes of a tensor.
  std::string Blob(const std::string& key) { return Call({"TENSOR.GET", key, "BLOB"}).text; }

  ModuleHost host_;  // before the keyspace, whose values it frees
  CommandHarness harness_{CommandCommands(),   KeyCommands(),     KeyDumpCommands(),
                          KeyExpireCommands(), KeyScanCommands(), MemoryCommands(),
                          SessionCommands(),   StringCommands(),  PubsubCommands(),
                          DatabaseCommands()};
  std::unique_ptr<JobRunner> jobs_ = std::make_unique<JobRunner>(harness_.engine());
};

}  // namespace cairn
