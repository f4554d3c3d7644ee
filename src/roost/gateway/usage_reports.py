"""Reports of usage on their way to the control plane: numbered, kept until they are acknowledged, on disk if need be.

Fed by ``gateway`` once a second, sent by ``control_link``. A report's rows never change once it was sent, so that the
control plane can take each once by its number, however often it is sent; what comes meanwhile is summed up for the
next. A worker that ends, or has waited long, leaves what is not acknowledged in ``run/usage-<gateway>.json``, and a
living one sends it under the same name and numbers. Memory is bounded: minutes are joined to hours, then days, when
there are many rows. It must never be asked to hold more than one report that is on its way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from roost.domain.routing import PROTOCOL
from roost.domain.usage import SUM_NAMES
from roost.gateway.usage import Key, Sums

MOST_ROWS = 20_000
"""Rows of a report; it then has a few megabytes."""
SPOOL_S = 10.0
"""What is not acknowledged is written to disk this often, and left-over files are looked for."""
_SPANS = (60, 3600, 86_400)

Row = tuple[int, Key]
"""The beginning of a minute (later of an hour or day) in seconds since the epoch, and what was counted."""

log = structlog.get_logger(__name__)


class Reports:
    """The reports of one run of a worker, named ``gateway``, and those it has found on disk. Times are in seconds since
    the epoch."""

    def __init__(self, folder: Path, gateway: str) -> None:
        self._folder = folder
        self._gateway = gateway
        self._sequence = 1  # of the next report
        self._rows: dict[Row, Sums] = {}
        self._sent: dict[str, Any] | None = None
        self._found: list[Found] = []
        self._file: int | None = None
        self._looked_at = 0.0
        self._waits_since: float | None = None
        self._complained = False

    # ---- what is counted

    def add(self, sums: Iterable[tuple[Key, Sums]], now: float) -> None:
        """Take in what was counted in the last second or so."""
        minute = int(now) // 60 * 60
        rows = self._rows
        for key, values in sums:
            known = rows.get((minute, key))
            if known is None:
                rows[minute, key] = values
            else:
                for place, value in enumerate(values):
                    known[place] += value
        for span in _SPANS[1:]:
            if len(rows) > MOST_ROWS:
                rows = self._rows = _joined(rows, span)

    # ---- what is sent

    def due(self) -> Mapping[str, Any] | None:
        """The report to send now; the same one until it is ``taken``. None: there is nothing to tell."""
        if self._found:
            return self._found[0].batches[0]
        if self._sent is None and self._rows:
            self._sent = self._next()
            self._sequence += 1
            self._rows = {}
        return self._sent

    def taken(self, report: Mapping[str, Any]) -> None:
        """The control plane has ``report``, or will never take it."""
        if report is self._sent:
            self._sent = None
            self._waits_since = None
            if self._file is not None:
                # A report that comes from the file again has a number that was taken, whatever else is in it.
                self._path.unlink(missing_ok=True)
                os.close(self._file)
                self._file = None
        elif self._found and self._found[0].batches[0] is report:
            found = self._found[0]
            found.batches.pop(0)
            if not found.batches:
                self._found.pop(0).remove()

    def _next(self) -> dict[str, Any]:
        rows = [_row(*row, values) for row, values in self._rows.items()]
        return {"protocol": PROTOCOL, "gateway": self._gateway, "sequence": self._sequence, "rows": rows}

    # ---- the disk

    @property
    def _path(self) -> Path:
        return self._folder / f"usage-{self._gateway}.json"

    def keep(self, now: float) -> None:
        """Once a second: every ``SPOOL_S`` seconds look for what others have left, and write down what waits."""
        if now - self._looked_at < SPOOL_S:
            return
        self._looked_at = now
        self._adopt()
        if self._sent is None and not self._rows:
            return
        if self._waits_since is None:
            self._waits_since = now
        elif now - self._waits_since >= SPOOL_S / 2:
            self._save()

    def close(self) -> None:
        """Leave on disk what is not acknowledged, for another worker."""
        if self._sent is not None or self._rows:
            self._save()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        for found in self._found:
            found.leave()

    def _save(self) -> None:
        batches = [self._sent] if self._sent is not None else []
        if self._rows:
            batches.append(self._next())
        fresh = self._path.with_suffix(".new")
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            # As long as it is held, others leave it alone.
            fcntl.flock(file, fcntl.LOCK_EX)
            with os.fdopen(os.dup(file), "wb") as out:
                out.write(orjson.dumps(batches))
            os.replace(fresh, self._path)
        except OSError as error:
            if not self._complained:
                log.error("usage cannot be written to disk", path=str(self._path), reason=error.strerror)
            self._complained = True
            return
        if self._file is not None:
            os.close(self._file)
        self._file = file

    def _adopt(self) -> None:
        mine = {self._path, *(found.path for found in self._found)}
        for path in sorted(self._folder.glob("usage-*.json")):
            if path not in mine:
                found = _adopted(path)
                if found is not None:
                    log.info("usage that another worker left is taken over", path=path.name)
                    self._found.append(found)


class Found:
    """Reports that another worker has left, in their order; held until they are delivered."""

    def __init__(self, path: Path, file: int, batches: list[dict[str, Any]]) -> None:
        self.path = path
        self.batches = batches
        self._file = file

    def remove(self) -> None:
        """All are delivered."""
        self.path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let another worker have the rest. Those that were delivered are known by their numbers."""
        os.close(self._file)


def _adopted(path: Path) -> Found | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # it was delivered just now
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its holder may have replaced or removed it before it let go.
        if os.path.samestat(os.fstat(file), path.stat()):
            batches = orjson.loads(path.read_bytes())
            if batches:
                return Found(path, file, [dict(batch) for batch in batches])
    except (BlockingIOError, FileNotFoundError):
        pass  # another worker has it
    except (OSError, ValueError, TypeError) as error:
        log.error("usage on disk cannot be read; it is set aside", path=str(path), reason=str(error))
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))
    os.close(file)
    return None


def _joined(rows: Mapping[Row, Sums], span: int) -> dict[Row, Sums]:
    joined: dict[Row, Sums] = {}
    for (minute, key), values in rows.items():
        row = (minute // span * span, key)
        known = joined.get(row)
        joined[row] = values if known is None else [a + b for a, b in zip(known, values, strict=True)]
    return joined


def _row(minute: int, key: Key, values: Sums) -> dict[str, Any]:
    endpoint, owner, replica, key_id, outcome = key
    names = {"minute": minute, "endpoint": endpoint, "owner": owner, "replica": replica, "key": key_id}
    # Zeros need not be told, and most are.
    sums = {name: value for name, value in zip(SUM_NAMES, values, strict=False) if value}
    return {**names, "outcome": outcome, **sums}
