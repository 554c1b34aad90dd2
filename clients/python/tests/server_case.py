"""A test case with a server of its own, which is empty before each test. Not a test by itself."""

import unittest

from cairn_server import Server


class ServerCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(tensors=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.client = self.server.client()
        self.client.flushall()
