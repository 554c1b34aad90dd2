#pragma once

// What the simulated worlds keep: strings by database and key, with the ends that the formats of
// the disk are held to. SimLoader takes what a log says, SimRdbLoader what an RDB file says, and
// SimSource is walked by a SnapshotJob. For tests; one thread.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "persistence/aof_reader.h"
#include "persistence/snapshot_source.h"
#include "tests/support/collecting_sink.h"

namespace cairn {

/// "<database>:<key>" to value.
using SimState = std::map<std::string, std::string>;

inline std::string RespCommand(const std::vector<std::string>& args) {
  std::string out = "*" + std::to_string(args.size()) + "\r\n";
  for (const std::string& arg : args) {
    out += "$" + std::to_string(arg.size()) + "\r\n" + arg + "\r\n";
  }
  return out;
}

/// Applies what a log says; a transaction when its EXEC arrives.
class SimLoader final : public CommandSink {
 public:
  Status BeginFile(std::string_view) override {
    database_ = "0";
    in_transaction_ = false;
    waiting_.clear();
    return Status::Ok();
  }
  Status Command(std::span<const std::string_view> args) override {
    if (args[0] == "MULTI") {
      in_transaction_ = true;
    } else if (args[0] == "EXEC") {
      in_transaction_ = false;
      for (const auto& [key, value] : waiting_) state[key] = value;
      waiting_.clear();
    } else if (args[0] == "SELECT") {
      database_ = args[1];
    } else if (args[0] == "SET" && args.size() == 3) {
      const std::string key = database_ + ":" + std::string(args[1]);
      if (in_transaction_) {
        waiting_.emplace_back(key, args[2]);
      } else {
        state[key] = args[2];
      }
    } else {
      return Status::Corruption("unexpected command " + std::string(args[0]));
    }
    return Status::Ok();
  }

  SimState state;

 private:
  std::string database_ = "0";
  bool in_transaction_ = false;
  std::vector<std::pair<std::string, std::string>> waiting_;
};

/// Takes an RDB file of strings without a time to live.
class SimRdbLoader final : public CollectingSink {
 public:
  Status Aux(std::string_view, std::string_view) override { return Status::Ok(); }
  /// Puts what was taken into *state.
  void MoveTo(SimState* state) const {
    for (const auto& [place, value] : keys) {
      (*state)[std::to_string(place.first) + ":" + place.second] = value.value;
    }
  }
};

/// Emits a state, a few keys a step.
class SimSource final : public SnapshotSource {
 public:
  explicit SimSource(SimState state) : state_(std::move(state)), next_(state_.begin()) {}
  uint64_t key_count() const override { return state_.size(); }
  Result<bool> Step(DatasetSink& sink, size_t) override {
    for (int i = 0; i < 3 && next_ != state_.end(); ++i, ++next_) {
      const size_t colon = next_->first.find(':');
      const std::string database = next_->first.substr(0, colon);
      if (database != database_) {
        CAIRN_RETURN_IF_ERROR(
            sink.SelectDatabase(static_cast<uint32_t>(std::stoul(database)), KeysOf(database), 0));
        database_ = database;
      }
      Result<ValueSink*> value = sink.Key(std::string_view(next_->first).substr(colon + 1), {});
      if (!value.ok()) return value.status();
      CAIRN_RETURN_IF_ERROR((*value)->String(next_->second));
    }
    return next_ != state_.end();
  }
  void Abandon() override {}

 private:
  uint64_t KeysOf(const std::string& database) const {
    uint64_t keys = 0;
    for (const auto& [name, value] : state_) keys += name.starts_with(database + ":");
    return keys;
  }

  const SimState state_;
  SimState::const_iterator next_;
  std::string database_;
};

}  // namespace cairn
