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
Counted = tuple[int | None, int | None, int | None]
"""Prompt, cached and completion tokens of an answer as they are known; None: unknown, or none."""


class AccessLog:
    """The log of one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.max_bytes = MAX_BYTES
        self._file = self._open()
        self._lines: list[bytes] = []
        self._whole, self._second = 0, b""  # the latest line's

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(
        self,
        at: float,
        request_id: bytes,
        place: bytes,
        seconds: float,
        first: float | None,
        sent: int,
        tries: int,
        tokens: Counted,
    ) -> None:
        """Log one request that ended ``at`` (epoch seconds): the ``place`` that ``written`` made, how long it took, the
        seconds to the first byte of its answer, the bytes sent, the tries on replicas, and its tokens."""
        prompt, cached, completion = tokens
        whole = int(at)
        if whole != self._whole:
            self._whole, self._second = whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)).encode()
        second, milli = self._second, (at - whole) * 1000
        began = b"%.6f" % first if first is not None else b"null"
        if prompt is not None:
            line = _LINE % (
                second, milli, request_id, place, seconds, began, sent, tries, prompt, cached, completion
            )  # fmt: skip
        else:
            generated = b"null" if completion is None else b"%d" % completion
            line = _UNKNOWN % (second, milli, request_id, place, seconds, began, sent, tries, generated)
        self._lines.append(line)

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
        # In this order: a number that is closed may soon be a client's connection.
        before, self._file = self._file, self._open()
        os.close(before)

    def close(self) -> None:
        """Write the rest and close the file. Raises ``OSError`` like ``flush``."""
        try:
            self.flush()
        finally:
            os.close(self._file)


_START = b'{"at":"%b.%03dZ","request_id":"%b",%b,"seconds":%.6f,"first_byte_seconds":%b,"sent_bytes":%d,"tries":%d,'
_LINE = _START + b'"prompt_tokens":%d,"cached_tokens":%d,"completion_tokens":%d}\n'
_UNKNOWN = _START + b'"prompt_tokens":null,"cached_tokens":null,"completion_tokens":%b}\n'
"""Only the tokens that were generated may be known alone."""


@lru_cache(maxsize=4096)
def written(place: Place) -> bytes:
    """The part of a line that many share."""
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
