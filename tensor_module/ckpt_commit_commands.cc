// CKPT.COMMIT, STATUS, LIST, LOG, WAITFOR, SWEEP, DEL: from the votes to the version, and what
// there is. A COMMIT without enough votes and a WAITFOR wait for the run's key to change
// (module_api.h, wait_for_key and wait_and_look), as BLPOP waits for a list.

#include <algorithm>

#include "tensor_module/ckpt_durable.h"
#include "tensor_module/ckpt_edit.h"
#include "tensor_module/ckpt_whole.h"

namespace cairn::tensor {

namespace {

void ReplyTags(CommandRun& run, const CkptRun& state, uint64_t step) {
  std::vector<const Tag*> tags;
  for (const Tag& tag : state.tags) {
    if (tag.step == step) tags.push_back(&tag);
  }
  run.Array(tags.size());
  for (const Tag* tag : tags) run.Bulk(tag->name);
}

/// One version in one map.
void ReplyVersion(CommandRun& run, const CkptRun& state, const Version& version) {
  const VersionRow* row = state.FindStep(version.step);
  run.Map(15);
  run.Bulk("step");
  run.Unsigned(version.step);
  run.Bulk("tx");
  run.Bulk(version.tx);
  run.Bulk("tensors");
  run.Unsigned(version.tensors.size());
  run.Bulk("states");
  run.Unsigned(version.states.size());
  run.Bulk("bytes");
  run.Unsigned(version.size_bytes);
  run.Bulk("world");
  run.Unsigned(version.world);
  run.Bulk("attempt");
  run.Unsigned(version.attempt);
  run.Bulk("parent");
  if (version.parent) {
    run.Unsigned(*version.parent);
  } else {
    run.Null();
  }
  run.Bulk("committed_ms");
  run.Integer(version.committed_ms);
  run.Bulk("durable");
  run.Bulk(DurableName(version.durable));
  run.Bulk("tags");
  ReplyTags(run, state, version.step);
  run.Bulk("state");
  run.Bulk(row != nullptr && row->rolled_back ? "rolledback"
           : &version == state.Latest()       ? "latest"
                                              : "committed");
  // A log of before PREPARE's AT has it replayed by the clock of the replay, behind the end.
  const auto between = [&](std::string_view name, int64_t from_ms, int64_t to_ms) {
    run.Bulk(name);
    run.Integer(std::max<int64_t>(std::min(to_ms, version.committed_ms) - from_ms, 0));
  };
  between("upload_ms", version.began_ms, version.first_prepare_ms);
  between("prepare_ms", version.first_prepare_ms, version.last_prepare_ms);
  between("commit_ms", version.last_prepare_ms, version.committed_ms);
}

/// A deadline that was loaded from a file begins to count at the next change: it shall at this
/// look, for each further one would begin it anew. Nothing is swept: a run that waits or hands work
/// over has had no effect.
Status StartLoadedDeadline(CommandRun& run) {
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  Result<const Transaction*> transaction = FindLive(found.value()->run(), run.args()[2]);
  if (!transaction.ok() || transaction.value()->deadline_ms != 0) return Status::Ok();
  CkptRun armed = found.value()->run();
  if (ArmDeadlines(&armed, {run.now_ms(), run.is_loading()}))
    run.SetRunQuietly(run.key(), new RunValue(armed));
  return Status::Ok();
}

/// Parks a COMMIT that lacks something. False: it goes on, to its version or to its error.
Result<bool> ParkUntilWhole(CommandRun& run, const CommitArgs& args) {
  CAIRN_RETURN_IF_ERROR(StartLoadedDeadline(run));
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  const CkptRun& state = found.value()->run();
  Result<const Transaction*> transaction = FindLive(state, run.args()[2]);
  if (!transaction.ok() || args.wait_ms == 0) return false;
  const Transaction& open = *transaction.value();
  const int64_t left_ms = open.deadline_ms - run.now_ms();  // in a replay nobody waits
  if (left_ms <= 0 || !DurabilityFor(run, state, args.durable).ok()) return false;
  Result<std::string> missing = WhatIsMissing(state, open);
  if (!missing.ok()) return missing.status();
  if (missing->empty()) return false;
  // The pieces of other ranks move the deadline, and nobody tells when it has passed.
  return run.WaitAndLook(run.key(), args.wait_ms, left_ms + 1);
}

bool IsWhole(CommandRun& run) {
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return false;
  const CkptRun& state = found.value()->run();
  Result<const Transaction*> transaction = FindLive(state, run.args()[2]);
  if (!transaction.ok()) return false;
  Result<std::string> missing = WhatIsMissing(state, *transaction.value());
  return missing.ok() && missing->empty();
}

/// Nothing for a commit that is about to be refused.
ToLog FindUnloggedOfWhole(CommandRun& run, const std::optional<Durable>& asked) {
  ToLog what = FindUnlogged(run, run.args()[2], std::nullopt, asked);
  return what.chunks.empty() || IsWhole(run) ? std::move(what) : ToLog();
}

using Votes = std::vector<Kept<RankPart>>;

bool IsBefore(const Kept<RankPart>& a, const Kept<RankPart>& b) { return a.get() < b.get(); }

/// What ranks of the transaction have prepared, in order of address; none when it is over.
Votes FindVotes(CommandRun& run) {
  Votes votes;
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return votes;
  Result<const Transaction*> transaction = FindLive(found.value()->run(), run.args()[2]);
  if (!transaction.ok()) return votes;
  for (const auto& part : transaction.value()->ranks) {
    if (part->prepared) votes.push_back(part);
  }
  std::sort(votes.begin(), votes.end(), IsBefore);
  return votes;
}

bool Include(const Votes& logged, const Votes& now) {
  return std::includes(logged.begin(), logged.end(), now.begin(), now.end(), IsBefore);
}

/// Commits what is prepared when all of that is `logged`; first logs what has been brought since
/// (COVERAGE, or another transaction of the same name). A vote is for good: there are as many turns
/// as ranks at most. What others declare meanwhile may be missing then: it waits, as it would have
/// before. WAIT counts from `since_ms`.
Status CommitLogged(CommandRun& run, const Votes& logged, int64_t since_ms) {
  Result<CommitArgs> args = ParseCommit(run.args());
  if (!args.ok()) return args.status();
  args->wait_ms = std::max<int64_t>(args->wait_ms - (run.now_ms() - since_ms), 0);
  Result<bool> parked = ParkUntilWhole(run, *args);
  if (!parked.ok()) return parked.status();
  if (*parked) return Status::Ok();
  if (Votes now = FindVotes(run); !Include(logged, now)) {
    return AfterLogging(run, FindUnloggedOfWhole(run, args->durable),
                        [votes = std::move(now), since_ms](CommandRun& late) {
                          return CommitLogged(late, votes, since_ms);
                        });
  }
  const std::string_view tx = run.args()[2];
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  if (const Version* version = FindCommitted(edit->run, tx)) {
    // C5: the first answer again.
    ReplyVersion(run, edit->run, *version);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(edit->CheckOpenTo(tx));
  Result<Durable> durable = DurabilityFor(run, edit->run, args->durable);
  if (!durable.ok()) return durable.status();
  Result<const Transaction*> transaction = FindLive(edit->run, tx);
  if (!transaction.ok()) return transaction.status();
  const uint64_t step = transaction.value()->step;
  Moment moment = edit->moment();
  moment.now_ms = args->at_ms.value_or(moment.now_ms);
  Result<std::vector<uint64_t>> gone = Commit(&edit->run, tx, durable.value(), args->tag, moment);
  if (!gone.ok()) return gone.status();
  const std::string at = std::to_string(moment.now_ms);
  const std::string word(DurableName(durable.value()));
  std::vector<std::string_view> words = {"CKPT.COMMIT", run.key(), tx, "DURABLE", word, "AT", at};
  if (!args->tag.empty()) words.insert(words.end(), {"TAG", args->tag});
  edit->StoreAs("ckpt.commit", words);
  edit->TellCommitted(step, tx, *gone);
  const VersionRow* row = edit->run.FindStep(step);
  CAIRN_CHECK(row != nullptr);
  ReplyVersion(run, edit->run, *row->version);
  return Status::Ok();
}

Status CommitCommand(CommandRun& run) { return CommitLogged(run, {}, run.now_ms()); }

// --- STATUS ---

void ReplyMissingRanks(CommandRun& run, const Transaction& transaction) {
  const std::vector<uint32_t> missing = FirstMissingRanks(transaction);
  run.Array(missing.size());
  for (uint32_t rank : missing) run.Unsigned(rank);
}

Status ReplyTransaction(CommandRun& run, const CkptRun& state, const Transaction& transaction) {
  Result<std::string> missing = WhatIsMissing(state, transaction);
  if (!missing.ok()) return missing.status();
  uint64_t declared = 0, received = 0;
  for (const auto& part : transaction.ranks) {
    for (size_t i = 0; i < part->specs.size(); ++i) {
      declared += part->specs[i]->size_bytes;
      received += part->data[i]->received_bytes();
    }
  }
  const int64_t now_ms = run.now_ms();
  const bool late =
      transaction.live() && transaction.deadline_ms != 0 && transaction.deadline_ms <= now_ms;
  const int64_t first_ms = transaction.first_prepare_ms, last_ms = transaction.last_prepare_ms;
  run.Map(13);
  run.Bulk("tx");
  run.Bulk(transaction.id);
  run.Bulk("step");
  run.Unsigned(transaction.step);
  run.Bulk("attempt");
  run.Unsigned(transaction.attempt);
  run.Bulk("world");
  run.Unsigned(transaction.world);
  run.Bulk("mode");
  run.Bulk(transaction.coverage ? "coverage" : "allranks");
  run.Bulk("state");
  run.Bulk(late ? "expired" : TxStateName(transaction.state));
  run.Bulk("declared_bytes");
  run.Unsigned(declared);
  run.Bulk("received_bytes");
  run.Unsigned(received);
  run.Bulk("ranks_missing");
  ReplyMissingRanks(run, transaction);
  run.Bulk("missing");
  run.Bulk(*missing);
  run.Bulk("upload_ms");
  run.Integer((first_ms > 0 ? first_ms : now_ms) - transaction.began_ms);
  run.Bulk("prepare_ms");
  run.Integer(first_ms > 0 ? last_ms - first_ms : 0);
  run.Bulk("expires_in_ms");
  run.Integer(transaction.deadline_ms == 0
                  ? transaction.timeout_ms
                  : std::max<int64_t>(transaction.deadline_ms - now_ms, 0));
  return Status::Ok();
}

Status ReplyRun(CommandRun& run, const CkptRun& state) {
  const Version* latest = state.Latest();
  run.Map(6);
  run.Bulk("versions");
  run.Unsigned(state.versions.size());
  run.Bulk("latest");
  if (latest != nullptr) {
    run.Unsigned(latest->step);
  } else {
    run.Null();
  }
  run.Bulk("attempt");
  run.Unsigned(state.highest_attempt);
  run.Bulk("world");
  run.Unsigned(state.config.world);
  run.Bulk("keep");
  run.Unsigned(state.config.keep);
  run.Bulk("open");
  run.Array(state.transactions.size());
  for (const auto& transaction : state.transactions) {
    CAIRN_RETURN_IF_ERROR(ReplyTransaction(run, state, *transaction));
  }
  return Status::Ok();
}

Status StatusCommand(CommandRun& run) {
  if (run.args().size() > 3) return Status::Client("ERR syntax error");
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const CkptRun& state = found.value()->run();
  if (run.args().size() == 2) return ReplyRun(run, state);
  const std::string_view tx = run.args()[2];
  for (const auto& transaction : state.transactions) {
    if (transaction->id == tx) return ReplyTransaction(run, state, *transaction);
  }
  if (const Version* version = FindCommitted(state, tx)) {
    ReplyVersion(run, state, *version);
    return Status::Ok();
  }
  return FindLive(state, tx).status();
}

// --- LIST, LOG, WAITFOR, DEL ---

Status ListCommand(CommandRun& run) {
  Result<uint64_t> limit = ParseLimit(run.args(), 2);
  if (!limit.ok()) return limit.status();
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const CkptRun& state = found.value()->run();
  const size_t count = static_cast<size_t>(std::min<uint64_t>(*limit, state.versions.size()));
  run.Array(count);
  for (size_t i = 0; i < count; ++i) {
    ReplyVersion(run, state, *state.versions[state.versions.size() - 1 - i].version);
  }
  return Status::Ok();
}

Status LogCommand(CommandRun& run) {
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const std::vector<LogLine>& log = *found.value()->run().log;
  run.Array(log.size());
  for (size_t i = log.size(); i-- > 0;) {
    run.Array(4);
    run.Integer(log[i].at_ms);
    run.Bulk(log[i].event);
    run.Unsigned(log[i].step);
    run.Bulk(log[i].text);
  }
  return Status::Ok();
}

Status WaitForCommand(CommandRun& run) {
  Result<WaitArgs> args = ParseWaitFor(run.args());
  if (!args.ok()) return args.status();
  Result<const RunValue*> found = run.FindRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const Version* latest = found.value() == nullptr ? nullptr : found.value()->run().Latest();
  if (latest != nullptr && latest->step > args->after) {
    ReplyVersion(run, found.value()->run(), *latest);
    return Status::Ok();
  }
  if (args->timeout_ms > 0 && run.WaitForKey(run.key(), args->timeout_ms)) return Status::Ok();
  return Status::Client("CKPTTIMEOUT no version after step " + std::to_string(args->after));
}

/// What OnTick (module.h) asks for; Open does it for every command that changes the run.
Status SweepCommand(CommandRun& run) {
  const Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  run.Unsigned(edit->ended_by_clock);
  return Status::Ok();
}

Status DelCommand(CommandRun& run) {
  Result<std::optional<int64_t>> at_ms = ParseAt(run.args(), 3);
  if (!at_ms.ok()) return at_ms.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  Result<const Version*> version = ResolveVersion(edit->run, run.args()[2]);
  if (!version.ok()) return version.status();
  const uint64_t step = version.value()->step;
  CAIRN_RETURN_IF_ERROR(DeleteVersion(&edit->run, step, edit->MomentAt(*at_ms)));
  edit->StoreWithTime("ckpt.del", *at_ms);
  edit->Tell("deleted", step, "");
  run.Integer(1);
  return Status::Ok();
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.commit",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_BLOCKING,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N*R) in the tensors and the ranks that declared them.",
        .summary = "Makes a prepared transaction the version of its step, or waits until it can.",
        .synopsis = "key#0 tx [DURABLE=durable(MEM|AOF|DISK)] [WAIT=wait:integer] [TAG=tag] "
                    "[AT=unix-time-milliseconds:unix-time]",
        .run = Run<CommitCommand>,
    },
    {
        .name = "ckpt.status",
        .arity = -2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks and shards declared.",
        .summary = "Tells how far the transactions of a run, or one of them, have come.",
        .synopsis = "key#0 [tx]",
        .run = Run<StatusCommand>,
    },
    {
        .name = "ckpt.list",
        .arity = -2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the versions listed.",
        .summary = "Lists the committed versions, newest step first.",
        .synopsis = "key#0 [LIMIT=limit:integer]",
        .run = Run<ListCommand>,
    },
    {
        .name = "ckpt.log",
        .arity = 2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(1): the last 256 events.",
        .summary = "Returns what happened to a run, newest first.",
        .synopsis = "key#0",
        .run = Run<LogCommand>,
    },
    {
        .name = "ckpt.waitfor",
        .arity = -4,
        .flags = CAIRN_CMD_READONLY | CAIRN_CMD_BLOCKING,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(1)",
        .summary = "Waits until a version after a step is committed.",
        .synopsis = "key#0 AFTER=step:integer [TIMEOUT=timeout:integer]",
        .run = Run<WaitForCommand>,
    },
    {
        .name = "ckpt.sweep",
        .arity = 2,
        .flags = CAIRN_CMD_WRITE,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the transactions and versions of the run.",
        .summary =
            "Ends what the clock has ended of a run's transactions, as the server does itself.",
        .synopsis = "key#0",
        .run = Run<SweepCommand>,
    },
    {
        .name = "ckpt.del",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the tensors of the version.",
        .summary = "Removes a version and its tags.",
        .synopsis = "key#0 version [AT=unix-time-milliseconds:unix-time]",
        .run = Run<DelCommand>,
    },
};

}  // namespace

int RegisterCkptCommitCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
