"""Files in shared memory that have one writer each, though a worker and its successor live at the same time.

Used by what keeps numbers of a worker in a mapped file (``counters``). While a worker hands over to its successor, two
processes have one index: the second one takes the next file beside the first. It must never give a file to two writers.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path


def claim(path: Path) -> tuple[Path, int]:
    """``path``, or the first of ``<path>.1``, ``<path>.2``, … that no living process has claimed, and its open
    descriptor (mode 0600, created when missing).

    It is held as long as the descriptor is open, at most until this process ends. What the last holder left is still in
    it, so that numbers go on.
    """
    for name in _names(path):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        return name, file
    raise AssertionError("there is always one more name")


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(1):
        yield path.with_name(f"{path.name}.{number}")
