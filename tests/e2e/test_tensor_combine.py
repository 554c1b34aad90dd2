"""TENSOR.DIST, LERP, AVG, CAT and CKPT.MERGE in the real server, with torch as the oracle: bit for bit where torch does one
rounded operation after another, within a rounding where it fuses them. And what a restart, a replica and the loop see of it.
"""

import unittest

import torch

from cairn_server import Server, wait_until

AOF = {"appendonly": "yes", "appendfsync": "always"}
BLENDED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
           "C128": torch.complex128}
COUNTS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
EVERY = BLENDED | COUNTS


def raw(tensor):
    """Bytes in C order."""
    parts = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return bytes(parts.contiguous().reshape(-1).view(torch.uint8).numpy())


def of(data, dtype, shape):
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def random(dtype, shape, seed):
    """Normal numbers of many magnitudes, a few zeros, denormals and infinities among them."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    if dtype in COUNTS.values():
        return torch.randint(0, 100, shape, generator=generator).to(dtype)
    if dtype.is_complex:
        part = torch.float32 if dtype == torch.complex64 else torch.float64
        return torch.complex(random(part, shape, seed), random(part, shape, seed + 1000))
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * \
        2.0 ** torch.randint(-8, 8, shape, generator=generator)
    flat = values.reshape(-1)
    flat[::97] = 0
    flat[1::97] = -0.0
    flat[2::97] = float(torch.finfo(dtype).tiny) / 4
    flat[3::197] = float("inf")
    return values.to(dtype)


def wide(tensor):
    """As the type that sums are in."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def narrow(values, like):
    if like.is_complex():
        return torch.view_as_complex(values.contiguous())
    return values.to(like.dtype)


def average(tensors, weights):
    total = wide(tensors[0]) * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:]):
        total = total + wide(tensor) * weight
    return narrow(total / sum(weights), tensors[0])


def lerp(a, b, weight):
    a, b, like = wide(a), wide(b), a
    # A weight is rounded to the type of the sum first, as torch.lerp rounds it.
    rounded = torch.tensor(weight, dtype=a.dtype)
    return narrow(a + (b - a) * rounded if abs(rounded) < 0.5 else b - (b - a) * (1 - rounded), like)


class Combine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(tensors=True).start()
        cls.client = cls.server.client()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.client.flushall()

    def command(self, *words):
        return self.client.execute_command(*words)

    def put(self, key, tensor):
        name = next(name for name, dtype in EVERY.items() if dtype == tensor.dtype)
        self.command("TENSOR.SET", key, name, "SHAPE", tensor.dim(), *tensor.shape, "BLOB", raw(tensor))

    def get(self, key, like, shape=None):
        return of(self.command("TENSOR.GET", key, "BLOB"), like.dtype, like.shape if shape is None else shape)

    def check_same(self, actual, expected):
        """Bit for bit; all NaN are one."""
        self.assertEqual(actual.dtype, expected.dtype)
        a, b = wide(actual).double(), wide(expected).double()
        self.assertTrue(torch.equal(torch.isnan(a), torch.isnan(b)))
        numbers = ~torch.isnan(a)
        self.assertTrue(torch.equal(a[numbers], b[numbers]))
        self.assertTrue(torch.equal(torch.signbit(a[numbers]), torch.signbit(b[numbers])))

    def test_averages_are_torchs(self):
        for name, dtype in BLENDED.items():
            for shape in ((1,), (301, 1001)):
                with self.subTest(name, shape=shape):
                    tensors = [random(dtype, shape, seed) for seed in (1, 2, 3)]
                    for key, tensor in zip("abc", tensors):
                        self.put(key, tensor)
                    self.command("TENSOR.AVG", "d", 3, "a", "b", "c")
                    self.check_same(self.get("d", tensors[0]), average(tensors, [1, 1, 1]))
                    self.command("TENSOR.AVG", "d", 3, "a", "b", "c", "WEIGHTS", 3, "0.5", "0.75", "-0.125")
                    self.check_same(self.get("d", tensors[0]), average(tensors, [0.5, 0.75, -0.125]))

    def test_an_average_is_torch_mean_within_a_rounding(self):
        tensors = [torch.randn(100000, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
        for number, tensor in enumerate(tensors):
            self.put(f"t{number}", tensor)
        self.command("TENSOR.AVG", "d", 5, *(f"t{number}" for number in range(5)))
        torch.testing.assert_close(self.get("d", tensors[0]), torch.stack(tensors).mean(0), rtol=2e-7, atol=1e-7)

    def test_lerps_are_torchs(self):
        for name, dtype in BLENDED.items():
            for weight in (0, 0.1, 0.5, 0.875, 1, -0.25, 1.5):
                with self.subTest(name, weight=weight):
                    a, b = random(dtype, (513, 600), 4), random(dtype, (513, 600), 5)
                    self.put("a", a)
                    self.put("b", b)
                    self.command("TENSOR.LERP", "a", "b", weight)
                    made = self.get("a", a)
                    self.check_same(made, lerp(a, b, weight))
                    if dtype in (torch.float32, torch.float64):
                        numbers = torch.isfinite(a) & torch.isfinite(b)
                        torch.testing.assert_close(made[numbers], torch.lerp(a, b, weight)[numbers], rtol=1e-6, atol=1e-5)

    def test_counts_are_the_last(self):
        for name, dtype in COUNTS.items():
            with self.subTest(name):
                a, b = random(dtype, (1000,), 6), random(dtype, (1000,), 7)
                self.put("a", a)
                self.put("b", b)
                self.command("TENSOR.AVG", "d", 2, "a", "b")
                self.assertTrue(torch.equal(self.get("d", b), b))

    def test_cats_are_torchs(self):
        for name, dtype in EVERY.items():
            for dim in (0, 1, 2, -1):
                with self.subTest(name, dim=dim):
                    shapes = [[40, 50, 60] for _ in range(3)]
                    for shape, size in zip(shapes, (7, 0, 90)):
                        shape[dim] = size
                    tensors = [random(dtype, tuple(shape), seed) if 0 not in shape else torch.zeros(shape, dtype=dtype)
                               for seed, shape in enumerate(shapes)]
                    for key, tensor in zip("abc", tensors):
                        self.put(key, tensor)
                    expected = torch.cat(tensors, dim)
                    self.command("TENSOR.CAT", "d", "DIM", dim, 3, "a", "b", "c")
                    self.assertEqual(self.command("TENSOR.GET", "d", "META")[3], list(expected.shape))
                    self.assertTrue(self.command("TENSOR.GET", "d", "BLOB") == raw(expected))

    def test_distances_are_torchs(self):
        for name, dtype in EVERY.items():
            with self.subTest(name):
                a, b = random(dtype, (300, 500), 8), random(dtype, (300, 500), 9)
                if dtype not in COUNTS.values():
                    a[torch.isinf(a)] = 0
                    b[torch.isinf(b)] = 0
                b[::2] = a[::2]
                self.put("a", a)
                self.put("b", b)
                reply = self.command("TENSOR.DIST", "a", "b")
                figures = {word.decode(): float(value) for word, value in zip(reply[::2], reply[1::2])}
                x, y = wide(a).double().reshape(-1), wide(b).double().reshape(-1)
                for figure, expected in (("l2", (x - y).norm()), ("max", (x - y).abs().max()),
                                         ("cosine", torch.dot(x, y) / x.norm() / y.norm())):
                    self.assertAlmostEqual(figures[figure], float(expected), delta=1e-9 * max(1, abs(float(expected))), msg=figure)
                # +0 and -0 differ in their bits.
                changed = ((x != y) | (torch.signbit(x) != torch.signbit(y))).double().mean() * 100
                self.assertAlmostEqual(figures["changed_percent"], float(changed), delta=1e-9)

    def test_a_histogram_is_torchs(self):
        values = torch.randn(300000, generator=torch.Generator().manual_seed(10))
        self.put("k", values)
        reply = self.command("TENSOR.STATS", "k", "HIST", 20)
        bins = reply[reply.index(b"hist") + 1]
        expected = torch.histc(values.double(), 20).long().tolist()
        self.assertEqual(sum(bins), 300000)
        self.assertLessEqual(max(abs(a - b) for a, b in zip(bins, expected)), 2, "an edge may round the other way")


class Merge(unittest.TestCase):
    @staticmethod
    def save(client, step, tensors, count):
        words = ["CKPT.SAVE", "run", step, len(tensors) + 1, "count", "I64", "SHAPE", 0, "BLOB", raw(torch.tensor(count))]
        for name, tensor in tensors.items():
            dtype = next(word for word, kind in EVERY.items() if kind == tensor.dtype)
            words += [name, dtype, "SHAPE", tensor.dim(), *tensor.shape, "BLOB", raw(tensor)]
        client.execute_command(*words)

    @staticmethod
    def load(client, step, name):
        return client.execute_command("CKPT.LOAD", "run", step, name)[5]

    def fill(self, client):
        versions = {}
        for step in (1, 2, 3):
            versions[step] = {name: random(dtype, (130, 1000), step) for name, dtype in BLENDED.items()}
            versions[step]["frozen"] = random(torch.float32, (70000,), 99)
            self.save(client, step, versions[step], step * 10)
        return versions

    def merge_all(self, client):
        client.execute_command("CKPT.MERGE", "run", 11, 3, 1, 1, 2, 1, 3, 1)
        client.execute_command("CKPT.MERGE", "run", 12, 2, 1, 0.25, 2, 0.75, "METHOD", "lerp")
        client.execute_command("CKPT.MERGE", "run", 13, 3, 1, 1, 2, 0.1, "LATEST", 0.1, "METHOD", "ema")

    def contents(self, client):
        return [client.dump("run"), *client.execute_command("CKPT.LIST", "run")]

    def test_merges_are_torchs(self):
        with Server(tensors=True) as server:
            client = server.client()
            versions = self.fill(client)
            client.execute_command("CKPT.TAG", "run", "t", 3)
            client.execute_command("CKPT.MERGE", "run", 11, 3, 1, 1, 2, 1, 3, 1)
            client.execute_command("CKPT.MERGE", "run", 12, 2, 1, 0.25, 2, 0.75, "METHOD", "lerp")
            client.execute_command("CKPT.MERGE", "run", 13, 3, 1, 1, 2, 0.1, "@t", 0.1, "METHOD", "ema")
            for name in BLENDED:
                with self.subTest(name):
                    one, two, three = (versions[step][name] for step in (1, 2, 3))
                    self.check(client, 11, name, average([one, two, three], [1, 1, 1]))
                    self.check(client, 12, name, lerp(one, two, 0.75))
                    # One rounding at the end: the steps between are in the type of the sum.
                    self.check(client, 13, name, narrow(lerp(lerp(wide(one), wide(two), 0.1), wide(three), 0.1), one))
            for step, newest in ((11, 30), (12, 20), (13, 30)):
                self.assertEqual(self.load(client, step, "count"), raw(torch.tensor(newest)))
                self.assertTrue(self.load(client, step, "frozen") == raw(versions[1]["frozen"]))
                self.assertEqual(client.execute_command("CKPT.VERIFY", "run", step, "DEEP")[1], 1)

    check_same = Combine.check_same

    def check(self, client, step, name, expected):
        self.check_same(of(self.load(client, step, name), expected.dtype, expected.shape), expected)

    def test_a_restart_and_a_replica_make_the_same_bits(self):
        with Server(tensors=True, settings=AOF) as server:
            client = server.client()
            self.fill(client)
            with Server(tensors=True, settings={"replicaof": f"127.0.0.1 {server.port}"}) as replica:
                wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
                self.merge_all(client)
                before = self.contents(client)
                self.assertEqual(client.wait(1, 30000), 1)
                self.assertTrue(self.contents(replica.client()) == before)
            server.restart()
            self.assertTrue(self.contents(server.client()) == before)

    def test_a_log_replayed_from_the_first_command(self):
        with Server(tensors=True, settings={**AOF, "auto-aof-rewrite-percentage": "0"}) as server:
            client = server.client()
            self.fill(client)
            self.merge_all(client)
            client.execute_command("CKPT.DEL", "run", 2)  # a source that is gone when the log ends

            def bytes_of():
                return [self.load(server.client(), step, name) for step in (11, 12, 13) for name in BLENDED]

            listed, before = client.execute_command("CKPT.LIST", "run"), bytes_of()
            server.restart()
            self.assertEqual(server.client().execute_command("CKPT.LIST", "run"), listed)
            self.assertTrue(bytes_of() == before)


if __name__ == "__main__":
    unittest.main()
