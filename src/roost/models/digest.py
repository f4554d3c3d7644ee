"""SHA-256 of files. Called by the sources and the cache, in threads: it blocks for as long as reading takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Event

BLOCK = 1 << 20


def sha256_of(path: Path, seen: Callable[[int], None] = lambda _: None, stop: Event | None = None) -> str:
    """The lower-case hex SHA-256 of a file; ``seen`` is told the bytes read so far.

    Raises ``OSError``, and ``InterruptedError`` soon after ``stop`` is set.
    """
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            if stop is not None and stop.is_set():
                raise InterruptedError(f"reading {path} was called off")
            digest.update(block)
            done += len(block)
            seen(done)
    return digest.hexdigest()
