"""Weights that are on this machine already: ``location`` is a path or ``file:`` URL. Built by ``models.sources``.

The file is used where it lies, never copied and never changed.
"""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models.base import Report


class FileSource:
    """Source kind ``file``: a regular, readable file."""

    kind = "file"

    def check(self, source: Source) -> None:
        """Raise ``BadRequest`` unless ``location`` is absolute and there is no ``member``."""
        path_of(source)
        if source.member is not None:
            raise BadRequest(
                "source.member is not for file sources: the path names the file itself.", param="source.member"
            )

    async def fetch(self, source: Source, partial: Path, report: Report) -> Path:
        """The path itself, once it is known to be a regular file that can be read. Raises ``ModelUnavailable``."""
        self.check(source)
        path = path_of(source)
        size = await asyncio.to_thread(size_of, path)
        report(0, size)
        return path


def path_of(source: Source) -> Path:
    """The path that ``location`` names. Raises ``BadRequest``."""
    location = source.location
    if location.startswith("file:"):
        parts = urlsplit(location)
        location = unquote(parts.path) if parts.netloc in {"", "localhost"} else ""
    if not location.startswith("/") or "\0" in location:
        raise BadRequest(
            f"source.location must be an absolute path or a file:/// URL on this machine, not "
            f"{source.location[:200]!r}.",
            param="source.location",
        )
    return Path(location)


def size_of(path: Path) -> int:
    """The bytes of a regular file that can be read. Blocks. Raises ``ModelUnavailable``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelUnavailable(f"{path} is not a regular file. Name the weights file itself.", code="wrong_format")
        with path.open("rb"):
            return status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelUnavailable(
            f"There is no file {path}. Put the weights there, or correct the location.", code="source_missing"
        ) from error
    except PermissionError as error:
        raise ModelUnavailable(
            f"No permission to read {path}. Let the user that runs the server read it.", code="permission"
        ) from error
    except OSError as error:
        raise ModelUnavailable(
            f"Cannot read {path}: {error.strerror}. Check the disk or the mount, then start again.", code="disk_error"
        ) from error
