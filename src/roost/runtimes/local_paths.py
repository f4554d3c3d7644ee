"""Where a replica's files are. Used by the local runtime.

Unix socket paths must stay short (the kernel takes 107 bytes), so sockets of a home with a long path live in a private
folder under the system's temporary directory.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from roost.domain.errors import InvalidSettings

MAX_SOCKET_PATH = 100
"""Bytes; some engines append a few of their own."""

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ReplicaPaths:
    """The files of one replica."""

    record: Path
    lock: Path
    log: Path
    engine_socket: Path
    control_socket: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """Everything to remove when the replica is forgotten; the record first."""
        rotated = self.log.with_name(f"{self.log.name}.1")
        return (self.record, self.lock, self.log, rotated, self.engine_socket, self.control_socket)


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """The folders of one home."""

    home: Path

    @property
    def records(self) -> Path:
        """Records, locks and (where the path is short enough) sockets."""
        return self.home / "run" / "replicas"

    @property
    def logs(self) -> Path:
        """Engines' output, and what supervisors have to say."""
        return self.home / "logs"

    @property
    def fallback(self) -> Path:
        """The folder for sockets whose path under ``records`` would be too long."""
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"roost-{os.getuid()}-{digest}"

    def replica(self, replica_id: str) -> ReplicaPaths:
        """The files of ``replica_id``."""
        engine = self.records / f"{replica_id}.sock"
        sockets = self.records if len(os.fsencode(engine)) <= MAX_SOCKET_PATH else self.fallback
        return ReplicaPaths(
            record=self.records / f"{replica_id}.json",
            lock=self.records / f"{replica_id}.lock",
            log=self.logs / f"{replica_id}.log",
            engine_socket=sockets / f"{replica_id}.sock",
            control_socket=sockets / f"{replica_id}.ctl",
        )

    def prepare(self) -> None:
        """Make the folders, mode 0700. Raises ``InvalidSettings`` when one cannot be made or is not private."""
        for folder in (self.home, self.home / "run", self.records, self.logs):
            _make(folder)

    def prepare_fallback(self, paths: ReplicaPaths) -> None:
        """Make the short folder if this replica's sockets need it. Raises ``InvalidSettings``."""
        folder = paths.control_socket.parent
        if folder != self.records:
            if len(os.fsencode(paths.engine_socket)) > MAX_SOCKET_PATH:
                raise InvalidSettings(
                    f"The path {paths.engine_socket} is too long for a socket; choose a shorter home or TMPDIR."
                )
            _make(folder)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise InvalidSettings(f"{folder} is not a private folder of this user; remove it and start again.")


def is_safe_id(replica_id: str) -> bool:
    """Whether ``replica_id`` can be part of a file name."""
    return _SAFE_ID.fullmatch(replica_id) is not None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"Cannot make the folder {folder}: {error.strerror}.") from error
