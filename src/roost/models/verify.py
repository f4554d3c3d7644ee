"""Whether weights are what they should be: when they arrive, and when they may have been touched since.

Called by the cache, which takes no weights without asking here. It changes nothing but the cache's own blobs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import structlog

from roost.domain.errors import ModelUnavailable
from roost.domain.model import Source
from roost.models import gguf
from roost.models.base import Report
from roost.models.blocking import in_thread
from roost.models.digest import sha256_of
from roost.models.index import Entry, sync_folder


async def arrival(path: Path, source: Source, mark: str, in_place: bool, report: Report) -> Entry:
    """The verified entry of the file that ``source`` gave; ``mark`` is the source's fingerprint.

    Raises ``ModelUnavailable`` (``wrong_format``, ``digest_mismatch``), ``OSError``.
    """
    if path.suffix.lower() == ".gguf":
        await in_thread(lambda _: gguf.read_header(path))
    size = path.stat().st_size
    if source.size_bytes is not None and size != source.size_bytes:
        raise _mismatch(path, in_place, f"it has {size} bytes, {source.size_bytes} are expected")
    # The user's own file is read here for the first time; what was downloaded has shown its progress already.
    found = await _entry(path, mark, in_place, report if in_place else _untold)
    if source.sha256 is not None and found.digest != source.sha256.lower():
        raise _mismatch(path, in_place, f"its SHA-256 is {found.digest}, {source.sha256} is expected")
    return found


async def unchanged(entry: Entry, report: Report) -> Entry | None:
    """The entry of a user's own file that was touched since, if its content is the same; None if it is gone.

    Raises ``ModelUnavailable`` (``digest_mismatch``) when the content is another.
    """
    path = Path(entry.path)
    if not path.exists():
        return None
    found = await _entry(path, entry.source, True, report)
    if found.digest != entry.digest:
        raise ModelUnavailable(
            f"{path} changed since it was first used: its SHA-256 was {entry.digest} and is {found.digest} now. "
            "Put the old file back, or remove the entry from the catalog and add it again.",
            code="digest_mismatch",
        )
    return found


async def blob(path: Path, digest: str, mark: str, report: Report) -> Entry | None:
    """The entry of a blob of the cache after reading it anew; None (and the blob removed) if it is not ``digest``."""
    if not path.exists():
        return None
    found = await _entry(path, mark, False, report)
    if found.digest == digest:
        return found
    structlog.get_logger(__name__).warning("models.blob_damaged", path=str(path), found=found.digest)
    path.unlink()
    return None


def keep(entry: Entry, blobs: Path) -> Entry:
    """Move a verified file to its place among ``blobs``, durably. Blocks; raises ``OSError``."""
    path = blobs / f"sha256-{entry.digest}"
    with open(entry.path, "rb") as file:
        os.fsync(file.fileno())
    os.replace(entry.path, path)
    sync_folder(blobs)
    return replace(entry, path=str(path))


async def _entry(path: Path, mark: str, in_place: bool, report: Report) -> Entry:
    before = path.stat()
    digest = await in_thread(lambda stop: sha256_of(path, lambda done: report(done, before.st_size), stop))
    told = await in_thread(lambda _: gguf.kv_bytes_per_token(path))
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ModelUnavailable(
            f"{path} changed while it was read. Start again when nobody writes to it any more.", code="digest_mismatch"
        )
    return Entry(mark, digest, str(path), after.st_size, after.st_mtime_ns, in_place, told)


def _untold(done: int, total: int | None) -> None:
    """Progress that nobody is told."""


def _mismatch(path: Path, in_place: bool, what: str) -> ModelUnavailable:
    if in_place:
        text = f"{path} is not the file that the catalog describes: {what}. Correct the file or the entry."
    else:
        text = (
            f"What arrived is not the file that the catalog describes: {what}. "
            "It was removed; start again to fetch it anew, or correct the entry."
        )
    return ModelUnavailable(text, code="digest_mismatch")
