"""The access log: one JSON line per request, buffered, in a file of its own that is rotated by size.

Written by the gateway at the end of each request. While a worker hands over, it and its successor write the same file.
It must never hold a prompt, an answer or a key.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

import orjson

MAX_BYTES = 64 * 1024 * 1024
"""The file is renamed to ``<name>.1`` beyond this size."""
MAX_BUFFERED = 2000
"""Lines kept before they should be written without waiting for the next sweep."""

Place = tuple[bytes, bytes, int, str | None, str | None, str | None, str]
"""Method, path, status (499: the client hung up), endpoint, replica, key id, outcome: what many lines share."""
Entry = tuple[float, bytes, Place, float, float | None, int, int, tuple[int | None, int | None, int | None]]
"""Time (epoch seconds), request id, place, seconds, seconds to the first byte, bytes sent, tries on replicas, and the
prompt, cached and completion tokens (None: unknown, or none)."""


class AccessLog:
    """The log of one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.max_bytes = MAX_BYTES
        self._file = self._open()
        self._lines: list[bytes] = []

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, entry: Entry) -> None:
        """Log one request."""
        self._lines.append(_line(entry))

    @property
    def full(self) -> bool:
        """Whether it should be written now."""
        return len(self._lines) >= MAX_BUFFERED

    def flush(self) -> None:
        """Write what is buffered. Raises ``OSError`` (a full disk) after dropping the lines: requests go on."""
        if not self._lines:
            return
        data = b"".join(self._lines)
        self._lines = []
        if not self._current():
            # The other worker of this index, or an administrator, has set it aside.
            self._reopen()
        elif os.fstat(self._file).st_size + len(data) > self.max_bytes:
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            self._reopen()
        os.write(self._file, data)

    def _current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        os.close(self._file)
        self._file = self._open()

    def close(self) -> None:
        """Write the rest and close the file. Raises ``OSError`` like ``flush``."""
        try:
            self.flush()
        finally:
            os.close(self._file)


_LINE = b'{"at":"%b.%03dZ","request_id":"%b",%b,"seconds":%.6f,"first_byte_seconds":%b,"sent_bytes":%d,"tries":%d,%b}\n'
_TOKENS = b'"prompt_tokens":%d,"cached_tokens":%d,"completion_tokens":%d'


def _line(entry: Entry) -> bytes:
    at, request_id, place, seconds, first, sent, tries, tokens = entry
    whole = int(at)
    return _LINE % (
        _second(whole),
        (at - whole) * 1000,
        request_id,
        _fixed(place),
        seconds,
        b"%.6f" % first if first is not None else b"null",
        sent,
        tries,
        _TOKENS % tokens if tokens[0] is not None else _unknown(tokens[2]),
    )


def _unknown(completion: int | None) -> bytes:
    # Only the tokens that were generated may be known alone.
    return b'"prompt_tokens":null,"cached_tokens":null,"completion_tokens":%b' % (
        b"null" if completion is None else b"%d" % completion
    )


@lru_cache(maxsize=4096)
def _fixed(place: Place) -> bytes:
    method, path, status, endpoint, replica, key, outcome = place
    return orjson.dumps(
        {
            "method": method.decode("latin-1"),
            "path": path.decode("latin-1"),
            "status": status,
            "endpoint": endpoint,
            "replica": replica,
            "key": key,
            "outcome": outcome,
        }
    )[1:-1]


@lru_cache(maxsize=4)
def _second(whole: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)).encode()
