// CKPT.TAG, UNTAG, ROLLBACK, RETAIN: which versions stay, and which is LATEST (C8).

#include "tensor_module/ckpt_edit.h"

namespace cairn::tensor {

namespace {

Status TagCommand(CommandRun& run) {
  Result<TagArgs> args = ParseTag(run.args());
  if (!args.ok()) return args.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  const std::string_view name = run.args()[2];
  Result<const Version*> version = ResolveVersion(edit->run, run.args()[3]);
  if (!version.ok()) return version.status();
  if (args->if_version) {
    // Compare and set: the tag must name that version now.
    Result<const Version*> wanted = ResolveVersion(edit->run, *args->if_version);
    const Tag* tag = edit->run.FindTag(name);
    if (!wanted.ok() || tag == nullptr || tag->step != wanted.value()->step) {
      run.Integer(0);
      return Status::Ok();
    }
  }
  const uint64_t step = version.value()->step;
  CAIRN_RETURN_IF_ERROR(SetTag(&edit->run, name, step, args->pin));
  edit->Store("ckpt.tag");
  edit->Tell("tagged", step, name);
  run.Integer(1);
  return Status::Ok();
}

Status UntagCommand(CommandRun& run) {
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  const std::string_view name = run.args()[2];
  const Tag* tag = edit->run.FindTag(name);
  run.Integer(tag != nullptr ? 1 : 0);
  if (tag == nullptr) return Status::Ok();
  const uint64_t step = tag->step;
  RemoveTag(&edit->run, name);
  edit->Store("ckpt.untag");
  edit->Tell("untagged", step, name);
  return Status::Ok();
}

Status RollbackCommand(CommandRun& run) {
  Result<std::optional<int64_t>> at_ms = ParseAt(run.args(), 3);
  if (!at_ms.ok()) return at_ms.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  Result<const Version*> version = ResolveVersion(edit->run, run.args()[2]);
  if (!version.ok()) return version.status();
  const uint64_t step = version.value()->step;
  CAIRN_RETURN_IF_ERROR(Rollback(&edit->run, step, edit->MomentAt(*at_ms)));
  edit->StoreWithTime("ckpt.rollback", *at_ms);
  edit->Tell("rolledback", step, "");
  run.Unsigned(step);
  return Status::Ok();
}

Status RetainCommand(CommandRun& run) {
  Result<RetainArgs> args = ParseRetain(run.args());
  if (!args.ok()) return args.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  const std::vector<uint64_t> gone = NotRetained(edit->run, args->rule, run.now_ms());
  run.Array(gone.size());
  for (uint64_t step : gone) run.Unsigned(step);
  if (gone.empty() || args->dry_run) return Status::Ok();
  RemoveVersions(&edit->run, gone, edit->moment());
  // WITHIN was judged by this clock: what went is written down, one DEL each.
  const std::string first = std::to_string(gone[0]), at = std::to_string(run.now_ms());
  edit->StoreAs("ckpt.retain", {"CKPT.DEL", run.key(), first, "AT", at});
  for (size_t i = 1; i < gone.size(); ++i) {
    const std::string step = std::to_string(gone[i]);
    run.PropagateAs({"CKPT.DEL", run.key(), step, "AT", at});
  }
  for (uint64_t step : gone) edit->Tell("deleted", step, "");
  return Status::Ok();
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.tag",
        .arity = -4,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_FAST,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the tags.",
        .summary = "Names a version; a pinned name keeps it.",
        .synopsis = "key#0 tag version [PIN] [IF=version]",
        .run = Run<TagCommand>,
    },
    {
        .name = "ckpt.untag",
        .arity = 3,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_FAST,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the tags.",
        .summary = "Removes a tag.",
        .synopsis = "key#0 tag",
        .run = Run<UntagCommand>,
    },
    {
        .name = "ckpt.rollback",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_FAST,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the versions.",
        .summary = "Makes a version LATEST again: later ones stay, but are passed over.",
        .synopsis = "key#0 version [AT=unix-time-milliseconds:unix-time]",
        .run = Run<RollbackCommand>,
    },
    {
        .name = "ckpt.retain",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N*T) in the versions and tags.",
        .summary = "Removes the versions that no rule keeps, and returns their steps.",
        .synopsis = "key#0 [KEEP=keep:integer] [EVERY=every:integer] [WITHIN=within:integer] "
                    "[DRYRUN]",
        .run = Run<RetainCommand>,
    },
};

}  // namespace

int RegisterCkptKeepCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
