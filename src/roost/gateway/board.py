"""Numbers that gateway workers show each other through memory: requests in flight per replica, what keys have used.

Each worker writes the cells of its own file ``run/board-<index>-<pid>-<start>`` and reads those of all others; a name
leads to its cell by a 64-bit hash. What a worker has shown counts for nothing once its process is gone. With one
worker ``shared`` is False and nobody needs to call ``put`` or ``others``. It must never be asked for what has to be
exact at every moment: a worker sees a new peer, or that one is gone, with its next ``refresh``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from roost.gateway.counters import started_at

LAYOUT = 0x726F6F7374_01
"""Written last; a file that does not begin with it is not looked at."""
_LAYOUT, _PID, _STARTED, _CAPACITY, _USED, _CHANGES = range(6)
# Then a pair for each name: its hash (0: free) and its value. `_USED` pairs are or were in use; `_CHANGES` counts how
# often one of them was given up or given another name, so that readers find names anew.
_HEADER = 8
_FIRST_CAPACITY = 248


@lru_cache(maxsize=65536)
def _hash(name: str) -> int:
    number: int = struct.unpack("q", blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())[0]
    return number or 1


class Board:
    """This worker's numbers, and a view of the others'.

    ``shared`` tells whether there is anybody to share with; with ``workers`` above 1 that is so from the start.
    """

    def __init__(self, folder: Path, index: int, *, workers: int = 1) -> None:
        pid = os.getpid()
        started = started_at(pid) or 0
        self._folder = folder
        self._expected = workers > 1
        self._path = folder / f"board-{index}-{pid}-{started}"
        self._peers: dict[Path, _Peer] = {}
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._map = self._mapped(_FIRST_CAPACITY)
        self._cells = memoryview(self._map).cast("q")
        # A file of this very process was left by an earlier board of it (in tests).
        self._cells[:] = memoryview(bytes(self._cells.nbytes)).cast("q")
        self._cells[_PID], self._cells[_STARTED] = pid, started
        self._cells[_CAPACITY] = (self._cells.nbytes // 8 - _HEADER) // 2
        self._cells[_LAYOUT] = LAYOUT
        self._closed = False
        self._changed = False  # since the last look that did not fail
        self.shared = self._expected
        self.refresh()

    def put(self, name: str, value: int) -> None:
        """Show a number to the other workers. The first time, this finds a cell for the name."""
        slot = self._slots.get(name)
        if slot is None:
            self._begin(name, value)
        else:
            self._cells[slot + 1] = value

    def has(self, name: str) -> bool:
        """Whether something is shown under the name."""
        return name in self._slots

    def forget(self, name: str) -> None:
        """Give the name's cell back; without effect for a name that has none."""
        slot = self._slots.pop(name, None)
        if slot is None:
            return
        self._cells[slot + 1] = 0
        self._cells[slot] = 0
        self._cells[_CHANGES] += 1
        self._free.append(slot)

    def others(self, name: str) -> int:
        """The sum of what the other workers show under that name."""
        key = _hash(name)
        total = 0
        for peer in self._peers.values():
            total += peer.value(key)
        return total

    def refresh(self) -> bool:
        """Look which workers there are; True when that has changed. To be called about once a second.

        Files of workers that are gone are removed, so that nothing is left behind by one that was killed. Raises
        ``OSError`` where files cannot be opened; what was known before and is there still stays known.
        """
        found = {path for path in self._folder.glob("board-*") if path != self._path}
        gone = [path for path in self._peers if path not in found or not self._peers[path].alive()]
        for path in gone:
            self._peers.pop(path).close()
        self._changed = self._changed or bool(gone)
        for path in sorted(found - self._peers.keys()):
            peer = _opened(path)
            if peer is not None:
                self._peers[path] = peer
                self._changed = True
        self.shared = self._expected or bool(self._peers)
        changed, self._changed = self._changed, False
        return changed

    def close(self) -> None:
        """Take the numbers back. What is shown afterwards is seen by nobody."""
        if self._closed:
            return
        self._closed = True
        self._path.unlink(missing_ok=True)
        self._cells[_LAYOUT] = 0
        self._cells[_HEADER:] = memoryview(bytes(self._cells.nbytes - _HEADER * 8)).cast("q")
        scratch = memoryview(bytearray(self._cells.nbytes)).cast("q")
        self._cells.release()
        self._cells = scratch
        self._map.close()
        os.close(self._file)
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        self.shared = False

    def _begin(self, name: str, value: int) -> None:
        if self._closed:
            return
        cells = self._cells
        reused = bool(self._free)
        if not reused and cells[_USED] == cells[_CAPACITY]:
            self._grow()
            cells = self._cells
        slot = self._free.pop() if reused else _HEADER + 2 * cells[_USED]
        # The value before the name: who finds the name finds its value.
        cells[slot + 1] = value
        cells[slot] = _hash(name)
        cells[_CHANGES if reused else _USED] += 1
        self._slots[name] = slot

    def _grow(self) -> None:
        capacity = 2 * self._cells[_CAPACITY]
        self._cells.release()
        self._map.close()
        self._map = self._mapped(capacity)
        self._cells = memoryview(self._map).cast("q")
        self._cells[_CAPACITY] = capacity

    def _mapped(self, capacity: int) -> mmap.mmap:
        size = max((_HEADER + 2 * capacity) * 8, os.fstat(self._file).st_size)
        # Never shorter: that would kill who reads it.
        os.ftruncate(self._file, size)
        return mmap.mmap(self._file, size)


class _Peer:
    """Another worker's file, for reading."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._map = mmap.mmap(file, 0, prot=mmap.PROT_READ)
        self._cells = memoryview(self._map).cast("q")
        self._slots: dict[int, int] = {}
        self._used = self._changes = 0

    def alive(self) -> bool:
        """Whether the worker that writes it is there. Removes the file of one that is not."""
        cells = self._cells
        if cells[_LAYOUT] != LAYOUT:
            return False
        if (started_at(cells[_PID]) or 0) == cells[_STARTED]:
            return True
        self.path.unlink(missing_ok=True)
        return False

    def value(self, key: int) -> int:
        """What is shown under a hash; 0 for nothing."""
        cells = self._cells
        if cells[_USED] != self._used or cells[_CHANGES] != self._changes:
            self._find_names()
            cells = self._cells
        slot = self._slots.get(key)
        return cells[slot] if slot is not None else 0

    def _find_names(self) -> None:
        cells = self._cells
        changes, used = cells[_CHANGES], cells[_USED]
        if _HEADER + 2 * used > len(cells):
            self._unmap()
            self._map = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
            self._cells = cells = memoryview(self._map).cast("q")
        first = self._used
        if changes != self._changes or used < self._used:
            self._slots.clear()
            first = 0
        for slot in range(_HEADER + 2 * first, _HEADER + 2 * used, 2):
            if cells[slot]:
                self._slots[cells[slot]] = slot + 1
        self._used, self._changes = used, changes

    def close(self) -> None:
        """Unmap the file."""
        self._unmap()
        os.close(self._file)

    def _unmap(self) -> None:
        self._cells.release()
        self._map.close()


def _opened(path: Path) -> _Peer | None:
    """The worker that writes ``path``; None when it is gone, or has not begun."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(file).st_size < _HEADER * 8:
            os.close(file)
            return None
        try:
            peer = _Peer(path, file)
        except OSError:
            os.close(file)
            raise
        try:
            alive = peer.alive()
        except OSError:
            peer.close()
            raise
        if alive:
            return peer
        peer.close()
    return None
