"""The migrations make the tables that the code uses, forwards and backwards."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Integer, Table, create_engine, inspect, select

from roost.store import rows, schema, tables
from roost.testing.builders import make_key


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'roost.db'}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    """What an automatically written migration would change."""
    options = {"version_table": tables.VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata))


def test_the_migrations_make_exactly_the_tables(connection: Connection) -> None:
    schema.migrate(connection, "it")
    assert differences(connection) == []


def test_the_comparison_sees_a_missing_table(connection: Connection) -> None:
    schema.migrate(connection, "it")
    extra = Table("extra", tables.metadata, Column("id", Integer, primary_key=True))
    try:
        assert [difference[0] for difference in differences(connection)] == ["add_table"]  # type: ignore[index]
    finally:
        tables.metadata.remove(extra)


def test_the_statements_are_those_of_the_tables(connection: Connection) -> None:
    # The comparison above does not see constraints' names, uniqueness within CREATE TABLE, or AUTOINCREMENT.
    schema.migrate(connection, "it")
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name"
    migrated = {name: _columns(sql) for name, sql in connection.exec_driver_sql(query) if name != tables.VERSION_TABLE}
    other = create_engine("sqlite://")
    with other.connect() as fresh:
        tables.metadata.create_all(fresh)
        assert migrated == {name: _columns(sql) for name, sql in fresh.exec_driver_sql(query)}
    other.dispose()


def _columns(sql: str) -> list[str]:
    # Columns that were added later stand behind the constraints, all in one line.
    head, _, inside = sql.partition("(")
    return [
        head.strip(),
        *sorted(" ".join(part.split()) for part in re.split(r",(?![^(]*\))", inside.rpartition(")")[0])),
    ]


def test_the_newest_version_is_the_one_the_code_expects(connection: Connection) -> None:
    script = ScriptDirectory.from_config(schema.alembic_config(connection))
    assert script.get_heads() == [schema.HEAD]
    schema.migrate(connection, "it")
    assert schema.version(connection, "it") == schema.HEAD


def test_migrating_twice_changes_nothing(connection: Connection) -> None:
    for _ in range(2):
        schema.migrate(connection, "it")
        assert connection.execute(tables.installation.select()).all() == [(1, None, 0)]


def test_the_way_back_leaves_nothing(connection: Connection) -> None:
    schema.migrate(connection, "it")
    command.downgrade(schema.alembic_config(connection), "base")
    assert inspect(connection).get_table_names() == [tables.VERSION_TABLE]
    schema.migrate(connection, "it")
    assert differences(connection) == []


def test_keys_of_the_first_schema_open_all_of_their_owners_endpoints(connection: Connection) -> None:
    config = schema.alembic_config(connection)
    command.upgrade(config, "0001")
    connection.exec_driver_sql(
        "INSERT INTO api_keys (id, digest, owner, role, created_at) VALUES ('key-1', 'd', 'a', 'member', '2026-01-01')"
    )
    command.upgrade(config, "0002")
    assert connection.execute(select(tables.api_keys.c.name, tables.api_keys.c.endpoints)).all() == [(None, None)]


def test_going_back_takes_away_keys_that_would_open_more_than_before(connection: Connection) -> None:
    schema.migrate(connection, "it")
    for key in (make_key(1), make_key(2, endpoints=("endpoint-1",))):
        connection.execute(tables.api_keys.insert().values(rows.key_values(key)))
    command.downgrade(schema.alembic_config(connection), "0001")
    assert connection.exec_driver_sql("SELECT id FROM api_keys").scalars().all() == [make_key(1).id]


def test_alembics_command_line_works(tmp_path: Path) -> None:
    def alembic(*arguments: str) -> str:
        place = ["-c", str(schema.MIGRATIONS / "alembic.ini"), "-x", f"url=sqlite:///{tmp_path / 'roost.db'}"]
        program = [sys.executable, "-m", "alembic", *place, *arguments]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    alembic("upgrade", "head")
    assert schema.HEAD in alembic("current")
    assert "No new upgrade operations detected" in alembic("check")
