"""Starts CairnKV and redis-server with the same settings for a comparison."""

import os
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

from cairn_server import BINARIES, SOURCE_DIR, Server  # noqa: E402  pylint: disable=wrong-import-position

SETTINGS = {"enable-debug-command": "yes", "enable-protected-configs": "yes"}


class BothServers:
    """`ours` and `theirs`, on free ports, in temporary directories; ended at the end of the block."""

    def __init__(self, settings=None):
        chosen = {**SETTINGS, **(settings or {})}
        self.ours = Server("cairn", chosen)
        self.theirs = Server("redis", chosen)

    @property
    def ports(self):
        return self.ours.port, self.theirs.port

    def __enter__(self):
        try:
            self.ours.start()
            self.theirs.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for server in (self.ours, self.theirs):
            server.close()
