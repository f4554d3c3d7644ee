"""The cache's record of which model's weights are which file: ``models/index.json``.

Called by the cache, in threads. Several processes may share it: every change is read-modify-write under a lock, and
replaces the file atomically. It never looks into weights.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import structlog

from roost.domain.errors import InvalidSettings

FORMAT = 1
Entries = dict[str, "Entry"]
"""Entries by model id."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The weights of one model, as they were when last verified.

    ``source`` is the fingerprint of the catalog's source. ``path`` is absolute (on disk: relative for the cache's own
    blobs, so that its folder can be moved); a file ``in_place`` is the user's own and was only looked at. ``size``
    (bytes) and ``mtime_ns`` tell whether it was touched since. ``kv_bytes_per_token`` is what the file's header
    told of one token of context, None where it told nothing. ``used_at`` is when they were last of use, in seconds
    since the epoch; None where an older release wrote the entry.
    """

    source: str
    digest: str
    path: str
    size: int
    mtime_ns: int
    in_place: bool = False
    kv_bytes_per_token: int | None = None
    used_at: float | None = None

    def intact(self) -> bool:
        """Whether the file is as it was; False where that cannot be told, so that it is read again and says why."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


class Index:
    """``index.json`` in the cache's folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "index.json"
        self._lock = root / "index.lock"

    def read(self) -> Entries:
        """All entries. A damaged file counts as empty (blobs are found again by their digest) and is reported.

        Raises ``InvalidSettings`` for the format of a newer release, ``OSError``.
        """
        try:
            data = json.loads(self._path.read_bytes())
            version = int(data["format"])
            if version <= FORMAT:
                return {model_id: self._load(values) for model_id, values in data["models"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            structlog.get_logger(__name__).warning("models.index_damaged", path=str(self._path), error=str(error))
            return {}
        raise InvalidSettings(f"{self._path} was written by a newer release (format {version}). Use that release.")

    def put(self, model_id: str, entry: Entry) -> None:
        """Add or replace one entry; others with the same file follow its new time. Raises ``OSError``, also when the
        file is gone: another model's removal may have taken it along."""

        def change(entries: Entries) -> None:
            os.stat(entry.path)
            for other, known in entries.items():
                if known.path == entry.path and known.digest == entry.digest:
                    entries[other] = replace(known, size=entry.size, mtime_ns=entry.mtime_ns)
            entries[model_id] = entry

        self._change(change)

    def drop(self, model_id: str) -> int:
        """Remove one entry, if it is there, and its blob unless another entry shares it; the bytes freed.

        A file in place is never touched. Raises ``OSError``.
        """
        freed = 0

        def change(entries: Entries) -> None:
            nonlocal freed
            entry = entries.pop(model_id, None)
            if entry is not None and not any(other.path == entry.path for other in entries.values()):
                freed = self._delete(entry)

        self._change(change)
        return freed

    def touch(self, model_id: str, at: float) -> None:
        """Note that the model's weights are of use at ``at``; nothing where there is no entry. Raises ``OSError``."""

        def change(entries: Entries) -> None:
            if model_id in entries:
                entries[model_id] = replace(entries[model_id], used_at=at)

        self._change(change)

    def evict(self, path: Path) -> tuple[str, ...]:
        """Delete a blob with all entries that name it, and return their models. Raises ``OSError``."""
        gone: tuple[str, ...] = ()

        def change(entries: Entries) -> None:
            nonlocal gone
            gone = tuple(model_id for model_id, entry in entries.items() if entry.path == str(path))
            for model_id in gone:
                del entries[model_id]
            path.unlink(missing_ok=True)

        self._change(change)
        return gone

    def _delete(self, entry: Entry) -> int:
        path = Path(entry.path)
        if entry.in_place or path.parent != self._root / "blobs" or not path.exists():
            return 0
        size = path.stat().st_size
        path.unlink()
        return size

    def _change(self, change: Callable[[Entries], object]) -> None:
        with self._locked():
            entries = self.read()
            change(entries)
            fresh = self._path.with_name("index.json.new")
            with fresh.open("w") as file:
                models = {model_id: self._dump(entry) for model_id, entry in entries.items()}
                json.dump({"format": FORMAT, "models": models}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            sync_folder(self._path.parent)

    def _load(self, values: Mapping[str, Any]) -> Entry:
        known = {f.name for f in fields(Entry)}
        entry = Entry(**{name: value for name, value in values.items() if name in known})
        return replace(entry, path=str(self._root / entry.path))

    def _dump(self, entry: Entry) -> dict[str, Any]:
        path = entry.path if entry.in_place else str(Path(entry.path).relative_to(self._root))
        return {**asdict(entry), "path": path}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
