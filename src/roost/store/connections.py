"""Connections of a SQL store: the URL, the engine, SQLite's pragmas, and drivers' errors as sentences.

Called by ``sql`` only. The one place that knows which database it is; never runs a statement on the store's tables.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from roost.domain.errors import InvalidSettings, NotReady

WRITING = "roost_writing"
"""Execution option of connections that are about to write."""

_SQLITE_SENTENCES = {
    "SQLITE_NOTADB": "is not a SQLite database; name another file, or move this one away",
    "SQLITE_CORRUPT": "is damaged; restore it from a backup",
    "SQLITE_READONLY": "or its folder is not writable; make both writable, or choose another home",
    "SQLITE_CANTOPEN": "cannot be opened; its folder must exist and be writable",
    "SQLITE_PERM": "cannot be opened; this user lacks the permission",
    "SQLITE_FULL": "cannot grow: the disk is full; free some space",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error or is full",
    "SQLITE_BUSY": "is locked by another program; end that program",
    "SQLITE_LOCKED": "is locked by another program; end that program",
}


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is: SQLAlchemy's URL, and the file when it is SQLite."""

    url: URL
    file: Path | None

    @property
    def shown(self) -> str:
        """How messages name it; never with a password."""
        return f"The database file {self.file}" if self.file else f"The database {self.url.render_as_string()}"


def locate(url: str) -> Location:
    """Read a database URL. Raises ``InvalidSettings`` for one that cannot be used; opens nothing."""
    scheme, _, rest = url.partition(":")
    if scheme.split("+")[0] == "sqlite":
        # Not parsed as a URL: a home folder's name may hold any character.
        path = rest.removeprefix("///")
        if path == rest or not path or path == ":memory:" or "\0" in path:
            raise InvalidSettings(f"database_url {url!r} names no file; write sqlite:////absolute/path/roost.db.")
        # mode=rw: a connection never makes a file; one that is gone must not come back as an empty database.
        uri = f"file:{quote(os.fsencode(Path(path).absolute()))}"
        return Location(URL.create("sqlite+aiosqlite", database=uri, query={"uri": "true", "mode": "rw"}), Path(path))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        example = "postgresql+psycopg://user:password@host/database"
        raise InvalidSettings(f"database_url cannot be read as a URL; write {example}.") from error
    if parsed.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise InvalidSettings(f"database_url starts with {parsed.drivername!r}; use postgresql+psycopg.")
    return Location(parsed.set(drivername="postgresql+psycopg"), None)


def connect(location: Location, busy_timeout: timedelta) -> AsyncEngine:
    """An engine; its connections open when first used. A missing SQLite file is created now, readable by its owner
    only, unless it was there before; connections never create it.

    ``busy_timeout`` is how long SQLite waits for other processes. Raises ``InvalidSettings``.
    """
    if location.file is None:
        try:
            # Whatever the environment says: without an encoding the driver gives bytes for text.
            return create_async_engine(location.url, pool_pre_ping=True, connect_args={"client_encoding": "UTF8"})
        except (ImportError, NoSuchModuleError) as error:
            needs = "PostgreSQL needs the package psycopg; run: pip install 'roost[postgres]'."
            raise InvalidSettings(needs) from error
    _create_file(location, location.file)
    # isolation_level None: the driver begins no transaction by itself, so that ``begin`` below does.
    engine = create_async_engine(location.url, connect_args={"isolation_level": None}, pool_size=4, max_overflow=4)
    pragmas = (
        f"PRAGMA busy_timeout = {int(busy_timeout.total_seconds() * 1000)}",
        "PRAGMA synchronous = NORMAL",
        "PRAGMA foreign_keys = ON",
    )

    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # Readers run single statements, which need no transaction. Writers take the lock before they read: a
        # transaction that begins by reading and then writes can fail when another process wrote in between.
        if connection.get_execution_options().get(WRITING):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file an open SQLite database is; ``device`` and ``inode`` are None for other databases."""

    device: int | None = None
    inode: int | None = None


def identify(location: Location) -> Identity:
    """The file that is at the location now; one that is not there is like no other."""
    if location.file is None:
        return Identity()
    try:
        found = location.file.stat()
    except OSError:
        return Identity(-1, -1)
    return Identity(found.st_dev, found.st_ino)


def require_same(location: Location, opened: Identity) -> None:
    """Raise ``NotReady`` when the file is not the one that was opened: open connections would go on with a file that
    nobody else sees, and what they write would be lost."""
    if identify(location) != opened:
        raise NotReady(
            f"{location.shown} was removed or replaced while the server runs; stop the server, put the file back "
            "(or restore it from a backup), and start again.",
            code="store_unavailable",
        )


async def use_write_ahead_log(location: Location, engine: AsyncEngine, patience: timedelta) -> None:
    """Let SQLite's readers go on while a writer writes; the file keeps this mode. A file system that cannot do it
    leaves SQLite with its older, slower journal, which is as safe. Raises ``DBAPIError``."""
    if location.file is None:
        return
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience.total_seconds()
    while True:
        try:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            # Here, SQLite does not wait for other connections by itself.
            if _sqlite_code(error) != "SQLITE_BUSY" or clock() > deadline:
                raise
            await asyncio.sleep(0.01)
        else:
            return


def require_unicode(location: Location, connection: Connection) -> None:
    """Raise ``InvalidSettings`` when the database cannot hold all text that is Unicode; SQLite always can."""
    if location.file is not None:
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        name = location.url.database
        raise InvalidSettings(
            f"{location.shown} has the encoding {encoding}, in which not all text can be kept; create it with UTF8: "
            f"createdb --template=template0 --encoding=UTF8 {name}"
        )


def _create_file(location: Location, path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    # In this order: whoever makes the database at this moment makes it before its log.
    if log.exists() and not path.exists():
        raise InvalidSettings(
            f"{location.shown} is gone, but its log {log.name} is there: put the file back (or restore it from a "
            f"backup), or, to begin anew without its data, remove {log.name}."
        )
    try:
        # Only a file that nobody has open yet: closing another handle of an open one would drop SQLite's locks on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.is_file() and os.access(path, os.R_OK | os.W_OK):
            return
        message = f"{location.shown} is no file that this user can write; choose a writable folder."
        raise InvalidSettings(message) from None
    except OSError as error:
        message = f"{location.shown} cannot be opened for writing: {error.strerror}; choose a writable folder."
        raise InvalidSettings(message) from error


def unusable(location: Location, error: DBAPIError) -> InvalidSettings:
    """Why the database could not be opened, as one sentence and what to do."""
    return InvalidSettings(f"{location.shown} {_sentence(location, error)}.")


def unavailable(location: Location, error: DBAPIError) -> NotReady:
    """Why an open database stopped working, as one sentence; nothing of the transaction was written."""
    return NotReady(f"{location.shown} {_sentence(location, error)}.", code="store_unavailable")


def _sentence(location: Location, error: DBAPIError) -> str:
    if location.file is None:
        lines = str(error.orig).strip().splitlines()
        return f"cannot be used ({lines[0] if lines else 'no reason given'}); check that it runs and the URL is right"
    return _SQLITE_SENTENCES.get(_sqlite_code(error), f"cannot be used ({error.orig})")


def _sqlite_code(error: DBAPIError) -> str:
    # Extended codes such as SQLITE_IOERR_WRITE begin with the plain one.
    return "_".join(str(getattr(error.orig, "sqlite_errorname", "")).split("_")[:2])
