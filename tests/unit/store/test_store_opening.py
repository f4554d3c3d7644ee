"""Opening a SQL store: what it refuses, in one sentence, and what it survives."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError, OperationalError

from roost.domain.errors import InvalidSettings, NotReady
from roost.store import connections, registry, rows, tables
from roost.store.sql import SqlStore
from roost.testing.builders import make_endpoint, make_event, make_replica


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "roost.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{path}", busy_timeout=timedelta(milliseconds=20))
    await store.open()
    yield store
    await store.close()


async def refusal(url: str) -> str:
    """The message with which a store refuses to open."""
    with pytest.raises(InvalidSettings) as raised:
        await registry.store(url).open()
    message = raised.value.message
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:relative.db"])
async def test_sqlite_needs_a_file(url: str) -> None:
    assert "names no file" in await refusal(url)


@pytest.mark.parametrize("url", ["postgresql+asyncpg://host/db", "postgresql+psycopg2://host/db"])
async def test_another_driver_is_refused(url: str) -> None:
    assert "use postgresql+psycopg" in await refusal(url)


@pytest.mark.parametrize("url", ["postgresql:host", "postgresql://host:port/db"])
async def test_what_is_no_url_is_refused(url: str) -> None:
    assert "cannot be read as a URL" in await refusal(url)


async def test_an_unknown_scheme_lists_the_known_ones() -> None:
    assert "memory, postgresql, sqlite" in await refusal("mysql://host/db")


@pytest.mark.parametrize("place", ["missing/roost.db", "file/roost.db", "folder"])
async def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    message = await refusal(f"sqlite:///{tmp_path / place}")
    assert str(tmp_path / place) in message
    assert "choose a writable folder" in message


async def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    assert "is not a SQLite database" in await refusal(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear diary")


async def test_a_damaged_database(path: Path, store: SqlStore) -> None:
    await store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "is damaged" in await refusal(f"sqlite:///{path}")


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    assert "tables of another program (bookmarks)" in await refusal(f"sqlite:///{path}")
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]


async def test_a_newer_schema_is_refused(path: Path, store: SqlStore) -> None:
    await store.close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE roost_schema SET version_num = '9999'")
    message = await refusal(f"sqlite:///{path}")
    assert "upgrade Roost" in message
    assert "9999" in message


async def test_a_database_that_another_program_locks(path: Path, store: SqlStore) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReady, match="locked by another program") as raised:
        await store.append_events([make_event(1)])
    assert raised.value.code == "store_unavailable"
    second = SqlStore(f"sqlite:///{path}", busy_timeout=timedelta(milliseconds=20))
    with pytest.raises(InvalidSettings, match="locked by another program"):
        await second.open()
    # Readers go on meanwhile, and writers once the other program is done.
    assert await store.events() == []
    other.execute("ROLLBACK")
    other.close()
    await store.append_events([make_event(1)])
    assert len(await store.events()) == 1


async def test_a_full_disk_loses_one_write_and_nothing_else(path: Path, store: SqlStore) -> None:
    await store.insert_endpoint(make_endpoint(1), [make_event(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = [make_event(n, reason="x" * 10_000) for n in range(2, 202)]
    # A file that may not grow fails like a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(NotReady, match="full"):
            await store.insert_endpoint(make_endpoint(2), large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.endpoints() == [make_endpoint(1)]
    await store.insert_endpoint(make_endpoint(2), large)
    assert len(await store.events()) == 201


async def test_many_may_open_an_empty_database_at_once(path: Path) -> None:
    stores = [SqlStore(f"sqlite:///{path}") for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    terms = await asyncio.gather(*(store.next_term() for store in stores))
    assert sorted(terms) == [1, 2, 3, 4]
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c=d#e%20 100% 🐓"
    folder.mkdir()
    store = registry.store(f"sqlite:///{folder / 'roost.db'}")
    await store.open()
    await store.close()
    assert (folder / "roost.db").stat().st_size > 0


async def test_the_file_is_its_owners_alone(path: Path, store: SqlStore) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_vanishes_ends_all_work_and_never_comes_back_empty(
    path: Path, store: SqlStore, replaced: bool
) -> None:
    await store.append_events([make_event(1)])
    path.rename(path.with_name("aside.db"))
    if replaced:
        path.touch()
    # More calls at once than there are open connections.
    calls = [store.events() for _ in range(8)] + [store.append_events([make_event(n)]) for n in range(2, 10)]
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(result, NotReady) for result in results), results
    assert "was removed or replaced" in str(results[0])
    assert path.exists() == replaced
    path.with_name("aside.db").rename(path)
    assert [event.id for event in await store.events()] == [make_event(1).id]


async def test_a_connection_never_makes_the_file(path: Path) -> None:
    engine = connections.connect(connections.locate(f"sqlite:///{path}"), timedelta(0))
    path.unlink()
    with pytest.raises(OperationalError):
        async with engine.connect():
            pass
    await engine.dispose()
    assert not path.exists()


async def test_a_database_that_vanished_in_use_is_not_begun_anew(path: Path, store: SqlStore) -> None:
    await store.append_events([make_event(1)])
    path.unlink()
    await store.close()

    assert "is gone, but its log roost.db-wal is there" in await refusal(f"sqlite:///{path}")
    assert not path.exists()


async def test_closing_waits_for_writes_under_way(path: Path) -> None:
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    writer = asyncio.ensure_future(store.append_events([make_event()]))
    await asyncio.sleep(0)
    await store.close()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM events").fetchone() == (1,)
    await writer


async def test_a_write_ends_though_its_caller_is_cancelled(path: Path) -> None:
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    writer = asyncio.ensure_future(store.append_events([make_event(n) for n in range(100)]))
    await asyncio.sleep(0)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    await store.append_events([make_event(100)])
    assert [event.id for event in await store.events()] == [make_event(n).id for n in range(101)]
    await store.close()


async def test_writers_wait_for_each_other_however_many(path: Path) -> None:
    # SQLite itself would give up at once: writers queue before they reach it.
    store = SqlStore(f"sqlite:///{path}", busy_timeout=timedelta(0))
    await store.open()
    await asyncio.gather(*(store.append_events([make_event(n)]) for n in range(100)))
    assert len(await store.events()) == 100
    await store.close()


async def test_readers_and_writers_do_not_wait_for_each_other(path: Path, store: SqlStore) -> None:
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_current_database_opens_without_alembic(path: Path) -> None:
    # Its import takes longer than all the rest of opening.
    program = (
        "import asyncio, sys; from roost.store.registry import store; s = store(sys.argv[1]);"
        "asyncio.run(s.open()); sys.exit('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{path}"]
    assert subprocess.run(command, timeout=30, check=False).returncode == 1
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


async def test_no_replica_without_its_endpoint(path: Path, store: SqlStore) -> None:
    engine = connections.connect(connections.locate(f"sqlite:///{path}"), timedelta(0))
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            await connection.execute(insert(tables.replicas).values(rows.replica_values(make_replica())))
    await engine.dispose()
