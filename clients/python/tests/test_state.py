"""flatten and unflatten without a server: what goes in comes out bit for bit, and shares memory as it did."""

import collections
import json
import math
import os
import pickle
import struct
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy  # noqa: E402
import torch  # noqa: E402

from cairnkv import capture_rng, dtypes, restore_rng, state as states  # noqa: E402


def round_trip(value):
    """Through JSON text and bytes, as a server would return them."""
    tree, blocks = states.flatten(value)
    copies = [(block.dtype, list(block.shape), bytearray(block.memory)) for block in blocks]
    return states.unflatten(json.loads(json.dumps(tree, allow_nan=False)), copies)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


class Plain(unittest.TestCase):
    def test_values_and_their_types(self):
        state = {"none": None, "true": True, "int": -(2 ** 70), "float": 0.1, "minus zero": -0.0, "text": "ü\n",
                 "bytes": b"\0\xff", "long": bytes(10000), "list": [1, [2, (3, "x")]], "tuple": (), "empty": {},
                 7: "seven", (1, "a"): 2, None: 3, 2.5: 4, True: 5, "size": torch.Size([2, 3])}
        back = round_trip(state)
        self.assertEqual(back, state)
        self.assertEqual(list(map(type, back.values())), list(map(type, state.values())))
        self.assertEqual([type(key) for key in back], [type(key) for key in state])
        self.assertEqual(math.copysign(1, back["minus zero"]), -1)

    def test_nan_payloads_and_infinities(self):
        odd = struct.unpack("<d", bytes.fromhex("0100000000f8f87f"))[0]
        back = round_trip([odd, math.inf, -math.inf])
        self.assertEqual(struct.pack("<d", back[0]), struct.pack("<d", odd))
        self.assertEqual(back[1:], [math.inf, -math.inf])

    def test_ordered_dicts_keep_order_and_metadata(self):
        model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        state = model.state_dict()
        back = round_trip(state)
        self.assertIs(type(back), collections.OrderedDict)
        self.assertEqual(list(back), list(state))
        self.assertEqual(back._metadata, state._metadata)
        torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).load_state_dict(back)

    def test_counters(self):
        counted = round_trip({"milestones": collections.Counter([2, 2, 5])})["milestones"]
        self.assertEqual((type(counted), counted), (collections.Counter, {2: 2, 5: 1}))

    def test_what_has_no_place_is_refused_with_its_path(self):
        class Odd:
            pass
        for value, path in (({"a": [1, Odd()]}, "state\\['a'\\]\\[1\\]"), ({"f": len}, "state\\['f'\\]"),
                            ({"a": torch.zeros(2, 2).to_sparse()}, "state\\['a'\\]"),
                            ({"o": numpy.array([object()])}, "state\\['o'\\]"), ({"s": {1, 2}}, "state\\['s'\\]")):
            with self.assertRaisesRegex(TypeError, path):
                states.flatten(value)

    def test_cycles_end_in_an_error(self):
        loop = []
        loop.append(loop)
        with self.assertRaises(ValueError):
            states.flatten(loop)


class Tensors(unittest.TestCase):
    def test_every_dtype_bit_for_bit(self):
        for name, dtype in dtypes.TORCH.items():
            with self.subTest(name):
                count = 12 * dtypes.SIZE_BYTES[name]
                raw = bytearray(numpy.random.default_rng(1).bytes(count))
                if name == "BOOL":
                    raw = bytearray(b"\0\1" * (count // 2))
                tensor = torch.frombuffer(raw, dtype=dtype).reshape(3, 4)
                back = round_trip({"t": tensor})["t"]
                self.assertEqual((back.dtype, back.shape), (tensor.dtype, tensor.shape))
                self.assertEqual(bytes(back.reshape(-1).contiguous().view(torch.uint8).numpy())
                                 if dtype is not torch.bool and not dtype.is_complex else back.numpy().tobytes(), bytes(raw))

    def test_scalars_and_empty_tensors(self):
        back = round_trip([torch.tensor(2.5), torch.zeros(2, 0, 3, dtype=torch.bfloat16)])
        self.assertEqual((back[0].shape, back[0].item()), (torch.Size([]), 2.5))
        self.assertEqual((back[1].shape, back[1].dtype), (torch.Size([2, 0, 3]), torch.bfloat16))

    def test_not_contiguous_tensors_store_their_own_elements_only(self):
        base = torch.arange(1000.0).reshape(10, 100)
        part = base[::3, 5:95:7].t()
        tree, blocks = states.flatten({"t": part})
        self.assertEqual(len(blocks[0].memory), part.numel() * 4)
        self.assertTrue(torch.equal(round_trip({"t": part})["t"], part))

    def test_contiguous_memory_is_not_copied(self):
        tensor = torch.zeros(1000)
        _, blocks = states.flatten({"t": tensor})
        tensor[7] = 1.0
        self.assertEqual(struct.unpack_from("<f", blocks[0].memory, 28)[0], 1.0)

    def test_tied_weights_are_stored_once_and_stay_tied(self):
        class Tied(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = torch.nn.Embedding(7, 5)
                self.head = torch.nn.Linear(5, 7, bias=False)
                self.head.weight = self.embedding.weight
        state = Tied().state_dict()
        _, blocks = states.flatten(state)
        self.assertEqual(len(blocks), 1)
        back = round_trip(state)
        self.assertEqual(back["head.weight"].data_ptr(), back["embedding.weight"].data_ptr())

    def test_views_share_memory_again(self):
        base = torch.arange(24.0).reshape(4, 6)
        back = round_trip({"all": base, "row": base[1], "column": base[:, 2], "transposed": base.t()})
        back["all"][1, 2] = -1
        self.assertEqual((back["row"][2], back["column"][1], back["transposed"][2, 1]), (-1, -1, -1))

    def test_conjugates_and_gradients(self):
        value = torch.tensor([1 + 2j]).conj()
        self.assertTrue(torch.equal(round_trip(value), value))
        parameter = torch.nn.Parameter(torch.ones(2))
        back = round_trip({"p": parameter})["p"]
        self.assertFalse(back.requires_grad)

    def test_numpy_arrays_and_scalars(self):
        state = {"a": numpy.arange(6, dtype=numpy.uint16).reshape(2, 3)[:, ::2], "s": numpy.float32(1.5),
                 "f": numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3))}
        back = round_trip(state)
        numpy.testing.assert_array_equal(back["a"], state["a"])
        numpy.testing.assert_array_equal(back["f"], state["f"])
        self.assertEqual((back["s"], type(back["s"])), (1.5, numpy.float32))

    def test_an_optimizer_goes_on_as_if_nothing_had_happened(self):
        def make():
            torch.manual_seed(3)
            model = torch.nn.Linear(4, 2)
            return model, torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)

        def step(model, optimizer, times):
            for _ in range(times):
                optimizer.zero_grad()
                model(torch.ones(3, 4)).square().sum().backward()
                optimizer.step()
        model, optimizer = make()
        step(model, optimizer, 3)
        back = round_trip({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        other, second = make()
        other.load_state_dict(back["model"])
        second.load_state_dict(back["optimizer"])
        step(model, optimizer, 4)
        step(other, second, 4)
        self.assertEqual(bits(other.weight.detach()), bits(model.weight.detach()))

    def test_random_generators_go_on(self):
        import random
        state = round_trip(capture_rng())
        drawn = torch.rand(3).tolist(), numpy.random.rand(3).tolist(), random.random()
        restore_rng(state)
        self.assertEqual((torch.rand(3).tolist(), numpy.random.rand(3).tolist(), random.random()), drawn)


class Hostile(unittest.TestCase):
    """Trees that flatten() does not make: errors, never anything executed and never memory out of bounds."""

    def test_nothing_is_unpickled(self):
        class Bomb:
            def __reduce__(self):
                return os.abort, ()
        payload = pickle.dumps(Bomb())
        self.assertEqual(round_trip({"x": payload})["x"], payload)

    def test_views_out_of_their_block(self):
        block = ("F32", [4], bytearray(16))
        for view in ({"view": 0, "offset": 3, "shape": [2], "stride": [1]},
                     {"view": 0, "offset": -1, "shape": [1], "stride": [1]},
                     {"view": 0, "offset": 0, "shape": [2, 2], "stride": [4, 1]},
                     {"view": 0, "offset": 3, "shape": [3], "stride": [-2]},
                     {"view": 0, "offset": 0, "shape": [2], "stride": [1, 1]}):
            with self.subTest(view), self.assertRaises((ValueError, IndexError, RuntimeError)):
                states.unflatten(view, [block])

    def test_unknown_nodes(self):
        for tree in ({}, {"what": 1}, {"dict": [], "tuple": []}):
            with self.subTest(tree), self.assertRaises(ValueError):
                states.unflatten(tree, [])


if __name__ == "__main__":
    unittest.main()
