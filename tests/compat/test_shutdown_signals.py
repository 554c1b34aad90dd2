"""Signals that come while a server shuts down already, beside redis-server: a SIGINT does not wait for the save, a SIGTERM
asks for nothing more.
"""

import os
import signal
import unittest

from scenes import Scenes

from cairn_server import wait_until  # pylint: disable=wrong-import-order

KEY_DELAY_US = 1000
SHORT, LONG = 500, 5000             # keys: saves of half a second, and of five


class ShutdownSignals(Scenes):
    def scene(self, binary, first, second, keys):
        server = self.server(binary, save="3600 1000000", **{"enable-debug-command": "yes", "rdb-key-save-delay": str(KEY_DELAY_US)})
        server.client().execute_command("DEBUG", "POPULATE", str(keys))
        temporary = os.path.join(server.directory, f"temp-{server.pid}.rdb")
        os.kill(server.pid, first)
        wait_until(lambda: os.path.exists(temporary), what="the save")
        os.kill(server.pid, second)
        status = server.wait_end()
        return status, [os.path.exists(path) for path in (temporary, os.path.join(server.directory, "dump.rdb"))]

    def test_an_interrupt_ends_it(self):
        for first in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(first=first):
                self.both(lambda binary, first=first: self.scene(binary, first, signal.SIGINT, LONG), (1, [False, False]))

    def test_to_be_told_again_changes_nothing(self):
        for first in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(first=first):
                self.both(lambda binary, first=first: self.scene(binary, first, signal.SIGTERM, SHORT), (0, [False, True]))

    def test_one_that_failed_is_over(self):
        """The interrupt after it asks for another."""
        def scene(binary):
            server = self.server(binary, save="3600 1000000", **{"enable-protected-configs": "yes"})
            client = server.client()
            client.set("k", "v")
            gone = os.path.join(server.directory, "gone")
            os.mkdir(gone)
            client.config_set("dir", gone)
            os.rmdir(gone)
            os.kill(server.pid, signal.SIGINT)
            wait_until(lambda: "can't exit" in server.log(), what="the failure")
            client.config_set("dir", server.directory)
            os.kill(server.pid, signal.SIGINT)
            return server.wait_end(), os.path.exists(os.path.join(server.directory, "dump.rdb"))
        self.both(scene, (0, True))


if __name__ == "__main__":
    unittest.main()
