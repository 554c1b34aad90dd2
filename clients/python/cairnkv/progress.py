"""Progress bars in bytes: tqdm's when it is installed, or any that works like it.

`progress` of save and load: None, a bar of tqdm if it is installed and standard error is a terminal, on rank 0 only; False, never;
True, always (ImportError without tqdm); or a callable that makes the bar, called as tqdm is: progress(total=bytes, desc=text,
unit="B", unit_scale=True, unit_divisor=1024), and the bar has update(bytes) and close().
"""

import sys


class _None:
    def update(self, count):
        pass

    def close(self):
        pass


class Bar:
    """One bar, as a context: closed whatever happens."""

    def __init__(self, progress, total: int, description: str, rank: int = 0):
        make = _maker(progress, rank)
        self._bar = _None() if make is None else make(total=total, desc=description, unit="B", unit_scale=True, unit_divisor=1024)
        self.update = self._bar.update

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()


def _maker(progress, rank):
    if callable(progress):
        return progress
    if progress is False or (progress is None and (rank != 0 or not sys.stderr.isatty())):
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        if progress is None:
            return None
        raise
    return tqdm
