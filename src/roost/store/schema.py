"""The schema's version: brings a database to the newest one, refuses what is not Roost's or is newer than this code.

Called by ``sql`` when a store opens, inside one transaction, so that a migration that fails leaves nothing behind.
Alembic is imported only when there is something to migrate: opening a current database must be fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Text, column, inspect, select, table

from roost.domain.errors import InvalidSettings
from roost.store.tables import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0005"
"""The newest version that this code knows; a test holds it against the migrations."""

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: Connection, shown: str) -> None:
    """Bring the database to ``HEAD``. ``shown`` names it in messages.

    Raises ``InvalidSettings`` when it belongs to another program or to a newer Roost.
    """
    found = version(connection, shown)
    if found == HEAD:
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise InvalidSettings(
            f"{shown} was written by a newer Roost (schema {found}, this one knows up to {HEAD}); upgrade Roost."
        )
    command.upgrade(config, "head")


def version(connection: Connection, shown: str) -> str | None:
    """The schema's version, None for an empty database. Raises ``InvalidSettings`` when another program's tables are
    in it."""
    present = inspect(connection).get_table_names()
    if VERSION_TABLE in present:
        number = column("version_num", Text())
        return connection.execute(select(number).select_from(table(VERSION_TABLE, number))).scalar_one_or_none()
    if present:
        raise InvalidSettings(
            f"{shown} holds tables of another program ({', '.join(sorted(present)[:3])}); give Roost an empty one."
        )
    return None


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for running the packaged migrations on ``connection``."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
