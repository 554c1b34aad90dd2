"""A reader and a writer for torch.distributed.checkpoint (torch.distributed._shard.checkpoint in torch 1.13, which is what this was
written for and is tested with): its files are versions of a run.

    from cairnkv import dcp
    dcp.checkpoint.save_state_dict(state_dict, dcp.RunWriter("runs:gpt", step, client=client))
    dcp.checkpoint.load_state_dict(state_dict, dcp.RunReader("runs:gpt", client=client))        # in place, any number of ranks

The tensors of a state_dict, sharded or not, become tensors of the version under their names, so that every other reader reads
them too (CKPT.LOAD, EXPORT, Run.tensors), and RunReader reads what others saved: a version of any sharding is one whole to it,
and each rank asks for the boxes that it wants. What is not a tensor is what the planner makes of it: bytes, kept as a state; the
default planner pickles, so that loading such entries unpickles. Nothing else is ever unpickled.

All ranks vote: the coordinator begins the transaction, every rank sends and prepares its part, and the coordinator commits once
torch tells it that all are through. A rank that fails or dies leaves no version; one that fails ends the transaction, too.
"""

import contextlib
import io
import json

import redis
import torch
from torch.futures import Future

from cairnkv import dtypes, hashing, packed, reading
from cairnkv.progress import Bar
from cairnkv.run import WAIT_MS, attempt_of
from cairnkv.torch_checkpoint import checkpoint, sharded_tensor
from cairnkv.upload import Part, SaveFailed, Upload, is_passing
from cairnkv.wire import Wire

TensorProperties = sharded_tensor.metadata.TensorProperties
_planner = checkpoint.planner
_LAYOUTS = {"contiguous_format": torch.contiguous_format, "preserve_format": torch.preserve_format,
            "channels_last": torch.channels_last}


class RunWriter(checkpoint.StorageWriter):
    def __init__(self, run: str, step: int, *, client: redis.Redis, attempt: int | None = None, group: str = "weights",
                 reuse: bool = True, durable: str | None = None, tag: str | None = None, wait_ms: int = WAIT_MS, progress=None):
        """One save: the version `step` of `run`. Every rank makes one, with a client of its own. Options as in Run.save;
        attempt as in Run: the restart count from the environment when not given. The coordinator's is the one that counts.

        Errors of the saving: torch's CheckpointException with SaveFailed of each rank that failed.
        """
        super().__init__()
        self._run, self._step, self._client, self._attempt, self._group = run, step, client, attempt_of(attempt), group
        self._reuse, self._durable, self._tag, self._wait_ms, self._progress = reuse, durable, tag, wait_ms, progress
        self._is_coordinator = False
        self._tx, self._rank = None, 0

    def init(self, is_coordinator: bool) -> None:
        self._is_coordinator = is_coordinator

    def prepare_local_plan(self, plan):
        return plan

    def prepare_global_plan(self, plans):
        with self._uploading() as upload:
            self._tx = upload.begin(self._step, len(plans), self._attempt)
        return [_replaced(plan, storage_data=(self._tx, rank)) for rank, plan in enumerate(plans)]

    def write_data(self, plan, planner):
        self._tx, self._rank = plan.storage_data
        with self._uploading() as upload:
            parts, blobs, results = self._resolved(plan, planner)
            upload.declare(parts)
            total = sum(len(part.memory) for part in parts)
            with Bar(self._progress, total, f"save {self._run} {self._step}", self._rank) as bar:
                upload.send(parts, reuse=self._reuse and hashing.available(), bar=bar)
            for name, blob in blobs:
                upload.state(name, "user", blob)
            if not self._is_coordinator:  # whose last word is the metadata, in finish
                upload.prepare()
        done = Future()
        done.set_result(results)
        return done

    def finish(self, metadata, results) -> None:
        with self._uploading() as upload:
            heads = {name: _properties_of(entry.properties) for name, entry in metadata.state_dict_metadata.items()
                     if isinstance(entry, checkpoint.metadata.TensorStorageMetadata)}
            upload.state("dcp", "trainer", json.dumps(heads, separators=(",", ":")).encode())
            if metadata.planner_data is not None:
                upload.state("planner", "trainer", packed.pack(metadata.planner_data))
            upload.prepare()
            upload.commit(wait_ms=self._wait_ms, durable=self._durable, tag=self._tag)

    @contextlib.contextmanager
    def _uploading(self):
        """An Upload into the transaction, which ends for all ranks with what ends this one. Errors: the server's as SaveFailed;
        they travel between ranks as text."""
        try:
            with Upload(self._client, self._run, self._rank) as upload:
                upload.tx = self._tx
                yield upload
        except BaseException as error:
            if self._tx is not None and not is_passing(error):
                self._abort(error)
            if isinstance(error, redis.ResponseError):
                raise SaveFailed(error) from error
            raise

    def _abort(self, error):
        try:
            with Upload(self._client, self._run, self._rank) as upload:
                upload.tx = self._tx
                upload.abort(error)
        except redis.RedisError:  # another rank was faster, or the server is gone
            pass

    def _resolved(self, plan, planner):
        """What a plan's items are: parts, [(name, bytes)] and torch's results."""
        parts, blobs, results, counts = [], [], [], {}
        for item in plan.items:
            data = planner.resolve_data(item)
            if isinstance(data, io.BytesIO):
                blobs.append((item.index.fqn, data.getbuffer()))
                results.append(checkpoint.storage.WriteResult(item.index, len(data.getbuffer()), None))
                continue
            part = self._part(item, data, counts)
            parts.append(part)
            results.append(checkpoint.storage.WriteResult(item.index, len(part.memory), None))
        return parts, blobs, results

    def _part(self, item, tensor, counts):
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        name, chunk = item.index.fqn, item.tensor_data.chunk
        index = counts[name] = counts.get(name, -1) + 1
        whole = tuple(item.tensor_data.size)
        box = {} if tuple(chunk.sizes) == whole else {"shape": whole, "offset": tuple(chunk.offsets), "index": index}
        return Part(name, self._group, dtypes.name_of_torch(plain.dtype), tuple(plain.shape), dtypes.memory_of_torch(plain), **box)


class RunReader(checkpoint.StorageReader):
    def __init__(self, run: str, version="LATEST", *, client: redis.Redis, progress=None):
        """Reads one version: a step, "@tag" or LATEST, which is looked up once, by the rank that coordinates.

        Errors of the loading: torch's CheckpointException with KeyError when there is no such version, with
        reading.VersionReplaced when its step is saved again meanwhile.
        """
        super().__init__()
        self._run, self._version, self._client, self._progress = run, version, client, progress
        self._metadata = None

    def read_metadata(self):
        with Wire(self._client) as wire:
            found = reading.Version(wire, self._run, self._version)
            heads = json.loads(bytes(found.state(0, "trainer", "dcp") or b"{}"))
            planner_data = found.state(0, "trainer", "planner")
            entries = {}
            for name in found.names:
                dtype, shape = found.head(name)
                if dtype not in dtypes.TORCH:
                    continue
                size = torch.Size(shape)
                # One box: the server has put the shards together, and cuts what is asked for.
                chunk = checkpoint.metadata.ChunkStorageMetadata(offsets=torch.Size([0] * len(size)), sizes=size)
                entries[name] = checkpoint.metadata.TensorStorageMetadata(
                    _properties(dtypes.TORCH[dtype], heads.get(name, {})), size, [chunk])
            owners = {name: rank for rank, kind, name in found.states if kind == "user"}
            entries.update((name, checkpoint.metadata.BytesStorageMetadata()) for name in owners)
        return checkpoint.metadata.Metadata(entries, None if planner_data is None else packed.unpack(planner_data),
                                            {"step": found.step, "tx": found.tx, "owners": owners})

    def init(self, metadata, is_coordinator: bool) -> None:
        self._metadata = metadata

    def prepare_local_plan(self, plan):
        # Each rank looked LATEST up by itself: the coordinator's answer is everybody's.
        plan.storage_data = self._metadata.storage_data
        return plan

    def prepare_global_plan(self, plans):
        return [_replaced(plan, storage_data=self._metadata.storage_data) for plan in plans]

    def read_data(self, plan, planner):
        step, owners = plan.storage_data["step"], plan.storage_data["owners"]
        tensors = [item for item in plan.items if item.type == _planner.LoadItemType.TENSOR]
        with Wire(self._client) as wire:
            found = reading.Version(wire, self._run, step)
            if found.tx != plan.storage_data["tx"]:
                raise reading.VersionReplaced(f"{self._run} {step} was saved again since the coordinator looked it up")
            for item in plan.items:
                if item.type == _planner.LoadItemType.BYTE_IO:
                    name = item.storage_index.fqn
                    planner.load_bytes(item, io.BytesIO(found.state(owners[name], "user", name)))
            total = sum(found.box_bytes(item.storage_index.fqn, item.lengths) for item in tensors)
            with Bar(self._progress, total, f"load {self._run} {step}") as bar:
                for item in tensors:
                    _read_tensor(found, item, planner, bar)
            found.check()
        done = Future()
        done.set_result(None)
        return done


def _read_tensor(found, item, planner, bar):
    name = item.storage_index.fqn
    first = item.storage_index.offset or [0] * len(item.lengths)
    offset = [at + more for at, more in zip(first, item.storage_offsets)]
    block = found.read_box(name, offset, item.lengths, bar)
    target = planner.resolve_tensor(item).detach()
    if target.size() != torch.Size(item.lengths):
        raise ValueError(f"{name}: a box of {tuple(item.lengths)} for a tensor of {tuple(target.size())}")
    target.copy_(reading.as_torch(name, block))
    planner.commit_tensor(item, target)


def _replaced(plan, **changes):
    """A copy of a plan: LoadPlan and SavePlan are dataclasses, the second frozen."""
    return type(plan)(**{**vars(plan), **changes})


def _properties_of(properties):
    layout = next((name for name, value in _LAYOUTS.items() if value == properties.memory_format), "contiguous_format")
    return {"requires_grad": bool(properties.requires_grad), "memory_format": layout, "pin_memory": bool(properties.pin_memory)}


def _properties(dtype, saved):
    return TensorProperties(dtype=dtype, layout=torch.strided, requires_grad=saved.get("requires_grad", False),
                            memory_format=_LAYOUTS[saved.get("memory_format", "contiguous_format")],
                            pin_memory=saved.get("pin_memory", False))
