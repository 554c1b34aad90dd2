"""CKPT.EXPORT and IMPORT against real PyTorch, both ways, and against a reader and a writer of safetensors that were written
for this test (e2e/node/safetensors.test.js has Hugging Face's reader); files that lie are refused and leave nothing.
"""

import collections
import json
import math
import os
import struct
import unittest

import redis
import torch

from cairn_server import Server, wait_until

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
          "C64": torch.complex64, "C128": torch.complex128}
OF_TORCH = {kind: name for name, kind in DTYPES.items()}


def raw(tensor):
    """Bytes in C order."""
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def every_dtype():
    generator = torch.Generator().manual_seed(4)
    tensors = {name: (torch.rand(3, 5, generator=generator) * 100).to(kind) for name, kind in DTYPES.items()}
    return tensors | {"scalar": torch.tensor(1.5), "empty": torch.zeros(2, 0, 3), "large": torch.randn(700, 300, generator=generator)}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        bytes_ = raw(tensor)
        header[name] = {"dtype": OF_TORCH[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


# The order of the library's Dtype, which is that of alignment (safetensors/src/tensor.rs of version 0.5).
BY_ALIGNMENT = ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64")
SIZE_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


def as_the_library_writes(tensors, metadata=None):
    """The bytes that the safetensors library makes of {name: (dtype, shape, bytes)}: widest type first, then by name; metadata
    in front; no space in the JSON but up to seven behind it. The four files in that library's own tests come out the same."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name in sorted(tensors, key=lambda name: (-BY_ALIGNMENT.index(tensors[name][0]), name)):
        dtype, shape, bytes_ = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    size, = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + size])
    data, out = content[8 + size:], {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            out[name] = (entry["dtype"], entry["shape"], data[begin:end])
    return out


class CheckpointFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(settings={"appendonly": "yes", "enable-debug-command": "yes"}, tensors=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.client = self.server.client()
        self.client.flushall()

    def path(self, name):
        return os.path.join(self.server.directory, name)

    def command(self, *words):
        return self.client.execute_command(*words)

    def load(self, step, name):
        fields = self.command("CKPT.LOAD", "run", step, name)
        return fields[1].decode(), list(fields[3]), fields[5]

    def check(self, step, tensors):
        for name, tensor in tensors.items():
            self.assertEqual(self.load(step, name), (OF_TORCH[tensor.dtype], list(tensor.shape), raw(tensor)), name)

    def save(self, step, tensors):
        words = []
        for name, tensor in tensors.items():
            words += [name, OF_TORCH[tensor.dtype], "SHAPE", tensor.dim(), *tensor.shape, "BLOB", raw(tensor)]
        self.command("CKPT.SAVE", "run", step, len(tensors), *words)

    def test_pytorch_reads_what_is_exported(self):
        tensors = every_dtype()
        self.save(1, tensors)
        self.command("CKPT.EXPORT", "run", 1, "FORMAT", "pt", "TO", "out.pt")
        loaded = torch.load(self.path("out.pt"))
        self.assertIsInstance(loaded, collections.OrderedDict)
        self.assertEqual(sorted(loaded), sorted(tensors))
        for name, tensor in tensors.items():
            self.assertEqual((loaded[name].dtype, loaded[name].shape), (tensor.dtype, tensor.shape), name)
            self.assertEqual(raw(loaded[name]), raw(tensor), name)
        self.assertFalse([name for name in os.listdir(self.server.directory) if name.startswith("temp-export")])

    def test_tied_weights_stay_tied(self):
        weight = torch.randn(40, 30)
        torch.save({"embed": weight, "head": weight}, self.path("tied.pt"))
        self.command("CKPT.IMPORT", "run", 1, "FORMAT", "pt", "FROM", "tied.pt")
        self.check(1, {"embed": weight, "head": weight})
        manifest = self.command("CKPT.MANIFEST", "run", 1)
        self.assertEqual(manifest[7], weight.numel() * 4)
        self.command("CKPT.EXPORT", "run", 1, "FORMAT", "PT", "TO", "again.pt")
        loaded = torch.load(self.path("again.pt"))
        self.assertEqual(loaded["embed"].data_ptr(), loaded["head"].data_ptr())

    def test_what_pytorch_saved_is_imported(self):
        model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.BatchNorm1d(30), torch.nn.Linear(30, 2))
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.randn(8, 20)).sum().backward()
        optimizer.step()
        base = torch.arange(24.0).reshape(4, 6)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
                 "views": [base.t(), base[1:3, ::2], base[2].expand(5, 6), torch.nn.Parameter(base[3])], "none": None}
        torch.save(state, self.path("in.pt"))
        reply = self.command("CKPT.IMPORT", "run", 7, "FORMAT", "pt", "FROM", "in.pt")
        self.assertGreater(reply[5], 5, "learning rates and such are counted")
        self.check(7, {"model." + name: tensor for name, tensor in model.state_dict().items()})
        self.check(7, {f"views.{i}": view for i, view in enumerate(state["views"])})
        first = optimizer.state_dict()["state"][0]["exp_avg"]
        self.check(7, {"optimizer.state.0.exp_avg": first})
        # The log holds the bytes, not the file.
        before = self.command("CKPT.LIST", "run")
        os.unlink(self.path("in.pt"))
        self.server.stop()
        self.server.start()
        self.client = self.server.client()
        self.assertEqual(self.command("CKPT.LIST", "run"), before)
        self.check(7, {"optimizer.state.0.exp_avg": first})

    def test_a_bare_module_state_dict(self):
        state = torch.nn.LSTM(5, 7).state_dict()
        torch.save(state, self.path("lstm.pt"))
        self.command("CKPT.IMPORT", "run", 1, "FORMAT", "pt", "FROM", "lstm.pt")
        self.check(1, state)

    def test_safetensors_both_ways(self):
        tensors = every_dtype()
        # An odd name first, and lengths that leave the next tensor unaligned.
        tensors = {"ä \"quoted\"\n": torch.tensor([1, 2, 3], dtype=torch.uint8), **tensors}
        write_safetensors(self.path("in.safetensors"), tensors)
        self.command("CKPT.IMPORT", "run", 1, "FORMAT", "safetensors", "FROM", "in.safetensors")
        self.check(1, tensors)
        self.command("CKPT.EXPORT", "run", 1, "FORMAT", "safetensors", "TO", "out.safetensors")
        found = read_safetensors(self.path("out.safetensors"))
        self.assertEqual(found, {name: (OF_TORCH[t.dtype], list(t.shape), raw(t)) for name, t in tensors.items()})

    def test_a_restart_has_an_import_of_tensors_that_are_named_as_options(self):
        tensors = {name: torch.randn(3) for name in ("a", "alias", "SHARD", "b")}
        write_safetensors(self.path("options.safetensors"), tensors)
        self.command("CKPT.IMPORT", "run", 1, "FORMAT", "safetensors", "FROM", "options.safetensors")
        self.command("DEBUG", "LOADAOF")
        self.check(1, tensors)
        self.assertEqual(self.command("CKPT.LIST", "run")[0][5], len(tensors))

    def test_files_as_the_safetensors_library_writes_them(self):
        def some(dtype, *shape):
            count = math.prod(shape)
            values = os.urandom(count * SIZE_BYTES.get(dtype, 1))
            return dtype, list(shape), bytes(byte & 1 for byte in values) if dtype == "BOOL" else values
        tensors = {f"of.{dtype}": some(dtype, 3, 5) for dtype in BY_ALIGNMENT}
        tensors |= {"a": some("U8", 1), "scalar": some("F32"), "empty": some("BF16", 2, 0, 3), "ä \"\n": some("F16", 7),
                    "wide": some("F8_E4M3", 700, 900), "deep": some("I64", *[1] * 20, 2)}
        for step, metadata in enumerate((None, {"format": "pt"}, {"format": "np", "ü\n": "\"", "": ""}), 1):
            with open(self.path("in.safetensors"), "wb") as file:
                file.write(as_the_library_writes(tensors, metadata))
            reply = self.command("CKPT.IMPORT", "run", step, "FORMAT", "safetensors", "FROM", "in.safetensors")
            self.assertEqual(reply[3], len(tensors))
            for name, wanted in tensors.items():
                self.assertEqual(self.load(step, name), wanted, name)
        self.command("CKPT.EXPORT", "run", 3, "FORMAT", "safetensors", "TO", "out.safetensors")
        self.assertEqual(read_safetensors(self.path("out.safetensors")), tensors)

    def test_a_sharded_version_is_exported_whole(self):
        whole = torch.arange(60, dtype=torch.int32).reshape(6, 10)
        tx = self.command("CKPT.BEGIN", "run", 1, "RANK", 0, "WORLD", 2).decode()
        for rank, (begin, end) in enumerate(((0, 7), (7, 10))):
            self.command("CKPT.DECLARE", "run", tx, "RANK", rank, 1, "w", "g", "I32", "SHAPE", 2, 6, 10, "SHARD", "OFF", 2, 0, begin,
                         "LEN", 2, 6, end - begin)
            self.command("CKPT.PUT", "run", tx, "RANK", rank, "w", "AT", 0, "BLOB", raw(whole[:, begin:end]))
            self.command("CKPT.PREPARE", "run", tx, "RANK", rank)
        self.command("CKPT.COMMIT", "run", tx)
        self.command("CKPT.EXPORT", "run", 1, "FORMAT", "pt", "TO", "w.pt")
        self.assertTrue(torch.equal(torch.load(self.path("w.pt"))["w"], whole))

    def refused(self, name, content, form="pt", word=""):
        with open(self.path(name), "wb") as file:
            file.write(content)
        with self.assertRaises(redis.ResponseError) as caught:
            self.command("CKPT.IMPORT", "run", 1, "FORMAT", form, "FROM", name)
        self.assertIn(word, str(caught.exception))
        self.assertEqual(self.command("EXISTS", "run"), 0)

    def test_files_that_lie(self):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {SENTINEL}",)

        SENTINEL = self.path("owned")
        torch.save({"w": torch.ones(2), "x": Evil()}, self.path("evil.pt"))
        with open(self.path("evil.pt"), "rb") as file:
            evil = file.read()
        self.refused("evil.pt", evil, word="system' is not among what a state_dict may hold")
        self.assertFalse(os.path.exists(SENTINEL))
        torch.save(torch.nn.Linear(2, 2), self.path("module.pt"))
        with open(self.path("module.pt"), "rb") as file:
            self.refused("module.pt", file.read(), word="is not among")
        torch.save({"w": torch.randn(300)}, self.path("good.pt"))
        with open(self.path("good.pt"), "rb") as file:
            good = bytearray(file.read())
        self.refused("cut.pt", bytes(good[:-40]))
        at = good.find(raw(torch.load(self.path("good.pt"))["w"])[:16])
        good[at] ^= 1
        self.refused("flipped.pt", bytes(good), word="CRC-32")
        self.refused("empty.pt", b"")
        huge = struct.pack("<Q", 1 << 62) + b"{}"
        self.refused("huge.safetensors", huge, "safetensors", "header")
        header = b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}'
        self.refused("overlap.safetensors", struct.pack("<Q", len(header)) + header + b"abc", "safetensors", "overlap")

    def test_views_that_change_values_are_refused(self):
        class AsTorch2Saves:
            """What torch 1.13 leaves out: of a view whose values are not those of its storage, how they differ."""

            def __init__(self, view, said):
                self.view, self.said = view, said

            def __reduce__(self):
                rebuild, arguments = self.view._reduce_ex_internal(2)
                return rebuild, (*arguments, self.said)

        values = torch.tensor([1 + 2j, 3 - 4j])
        for view, word in ((values.conj(), "conj"), (values.conj().imag, "neg")):
            torch.save({"m": {"v": AsTorch2Saves(view, {word: True})}}, self.path("view.pt"))
            with open(self.path("view.pt"), "rb") as file:
                self.refused("view.pt", file.read(), word=f"'m.v' is a view that changes values ('{word}')")
        for nothing in (None, {}):
            torch.save({"v": AsTorch2Saves(values, nothing)}, self.path("view.pt"))
            self.command("CKPT.IMPORT", "run", 1, "FORMAT", "pt", "FROM", "view.pt")
            self.check(1, {"v": values})

    def test_a_few_bytes_that_are_expanded_far_are_refused(self):
        torch.save({"m": torch.zeros(1, dtype=torch.uint8).expand(2 << 30)}, self.path("far.pt"))
        with open(self.path("far.pt"), "rb") as file:
            self.refused("far.pt", file.read(), word="tensors of 2147483648 bytes repeat what the file's")
        mask = torch.ones(1, 1, 64).expand(4, 32, 64)
        torch.save({"mask": mask}, self.path("near.pt"))
        self.command("CKPT.IMPORT", "run", 1, "FORMAT", "pt", "FROM", "near.pt")
        self.check(1, {"mask": mask})

    def test_names_that_a_format_cannot_have_are_refused(self):
        for name, forms in ((b"__metadata__", ("safetensors",)), (b"a\xffb", ("safetensors", "pt")), (b"\xed\xa0\x80", ("safetensors", "pt"))):
            self.command("CKPT.SAVE", "run", 1, 2, name, "U8", "SHAPE", 1, 4, "BLOB", b"abcd", "x", "U8", "SHAPE", 1, 4, "BLOB", b"efgh")
            for form in ("safetensors", "pt"):
                if form in forms:
                    with self.assertRaisesRegex(redis.ResponseError, "the name"):
                        self.command("CKPT.EXPORT", "run", 1, "FORMAT", form, "TO", "odd." + form)
                    self.assertFalse(os.path.exists(self.path("odd." + form)))
                    continue
                self.command("CKPT.EXPORT", "run", 1, "FORMAT", form, "TO", "good." + form)
                self.assertEqual(sorted(torch.load(self.path("good.pt"))), ["__metadata__", "x"])

    def test_only_exports_are_replaced(self):
        self.save(1, {"w": torch.ones(2)})
        export = "CKPT.EXPORT", "run", 1, "FORMAT"
        for form in ("pt", "safetensors"):
            for _ in range(2):
                self.command(*export, form, "TO", "again." + form)
        header = struct.pack("<Q", 2) + b"{}"
        others = {"notes.txt": b"notes", "empty": b"", "short": header[:8], "zip.zip": b"PK\3\4" + b"x" * 40, "st": header,
                  "long": struct.pack("<Q", 3) + b"{}", "users.acl": b"user default on nopass ~* +@all\n"}
        for name, content in others.items():
            with open(self.path(name), "wb") as file:
                file.write(content)
        os.symlink("again.pt", self.path("link"))
        os.mkdir(self.path("folder"))
        for name in [*others, "link", "folder", "again.pt", "again.safetensors"]:
            for form in ("pt", "safetensors"):
                if (name, form) in (("zip.zip", "pt"), ("st", "safetensors"), ("again." + form, form)):
                    continue
                with self.assertRaisesRegex(redis.ResponseError, f"'{name}' is there and is not replaced: it is no "):
                    self.command(*export, form, "TO", name)
        for name, content in others.items():
            with open(self.path(name), "rb") as file:
                self.assertEqual(file.read(), content)
        self.assertTrue(os.path.islink(self.path("link")))
        self.command(*export, "pt", "TO", "zip.zip")
        self.command(*export, "safetensors", "TO", "st")
        self.assertEqual([name for name in os.listdir(self.path("")) if name.startswith("temp-")], [])

    def test_names_of_the_servers_files_are_refused(self):
        self.save(1, {"w": torch.ones(2)})
        for name in ("dump.rdb", "appendonlydir", "chunklogs", "temp-1.rdb"):
            with self.assertRaisesRegex(redis.ResponseError, f"'{name}' is a name of the server's own files"):
                self.command("CKPT.EXPORT", "run", 1, "FORMAT", "pt", "TO", name)
            self.assertFalse(os.path.isfile(self.path(name)))

    def test_paths_and_formats_are_refused(self):
        self.save(1, {"w": torch.ones(2)})
        for name in ("../x", "/tmp/x", ".x", "a/b"):
            with self.assertRaises(redis.ResponseError):
                self.command("CKPT.EXPORT", "run", 1, "FORMAT", "pt", "TO", name)
        for words in (("pickle", "TO", "x"), ("pt", "FROM", "x")):
            with self.assertRaises(redis.ResponseError):
                self.command("CKPT.EXPORT", "run", 1, "FORMAT", *words)
        with self.assertRaises(redis.ResponseError):
            self.command("CKPT.IMPORT", "run", 2, "FORMAT", "pt", "FROM", "none")
        os.mkfifo(self.path("fifo"))
        with self.assertRaises(redis.ResponseError):
            self.command("CKPT.IMPORT", "run", 2, "FORMAT", "pt", "FROM", "fifo")


class ImportQuota(unittest.TestCase):
    def test_room_is_asked_for_before_it_is_taken(self):
        """The file is read first, so that its bytes and those of its tensors are held for a while."""
        tensor = torch.arange(300_000, dtype=torch.int32)
        size = len(raw(tensor))
        with Server(tensors=True) as server:
            client = server.client()
            call = client.execute_command

            def live():
                return client.info("memory")["blob_arena_in_use_bytes"]

            call("CKPT.SAVE", "run", 1, 1, "w", "I32", "SHAPE", 1, 300_000, "BLOB", raw(tensor))
            for form in ("safetensors", "pt"):
                call("CKPT.EXPORT", "run", 1, "FORMAT", form, "TO", form)
            client.delete("run")
            wait_until(lambda: live() == 0, what="the memory")
            for form in ("safetensors", "pt"):
                file_bytes = os.path.getsize(os.path.join(server.directory, form))
                promised = 1000
                tx = call("CKPT.BEGIN", "promised", 1)
                call("CKPT.DECLARE", "promised", tx, "RANK", 0, 1, "w", "g", "U8", "SHAPE", 1, promised)
                client.config_set("tensor-memory-limit", promised + 2 * file_bytes - 1)
                with self.assertRaisesRegex(redis.ResponseError, f"CKPTQUOTA the {2 * file_bytes} bytes of the file and its tensors would"):
                    call("CKPT.IMPORT", "run", 1, "FORMAT", form, "FROM", form)
                self.assertEqual(live(), 0)
                client.config_set("tensor-memory-limit", promised + 2 * file_bytes)
                call("CKPT.IMPORT", "run", 1, "FORMAT", form, "FROM", form)
                self.assertEqual(call("CKPT.LOAD", "run", 1, "w", "RANGE", 0, size), raw(tensor))
                client.delete("run", "promised")
                client.config_set("tensor-memory-limit", 0)
                wait_until(lambda: live() == 0, what="the memory")
            # Tensors that share a storage are made one by one, and take more than the file has.
            shared = os.path.join(server.directory, "shared")
            torch.save({"a": tensor, "b": tensor.view(1000, 300), "c": tensor.view(300, 1000)}, shared)
            file_bytes = os.path.getsize(shared)
            client.config_set("tensor-memory-limit", file_bytes + 3 * size - 1)
            with self.assertRaisesRegex(redis.ResponseError, f"CKPTQUOTA the {3 * size - file_bytes} bytes of the file's tensors that share"):
                call("CKPT.IMPORT", "run", 1, "FORMAT", "PT", "FROM", "shared")
            client.config_set("tensor-memory-limit", file_bytes + 3 * size)
            call("CKPT.IMPORT", "run", 1, "FORMAT", "PT", "FROM", "shared")


if __name__ == "__main__":
    unittest.main()
