"""Alembic's environment: runs migrations on the connection that ``store.schema`` gives, or, from Alembic's own command
line, on the database of ``-x url=...``::

    alembic -c src/roost/store/migrations/alembic.ini -x url=sqlite:////home/me/.roost/roost.db current
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, make_url

from roost.store.tables import VERSION_TABLE, metadata


def run(connection: Connection) -> None:
    """Migrate on ``connection``; the caller's transaction, where there is one, stays open."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        compare_type=True,
        # SQLite cannot alter most of a table: later migrations copy it in a batch.
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_from_command_line() -> None:
    """Connect to the database of ``-x url=...`` and migrate."""
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("Name the database: alembic -x url=sqlite:////path/to/roost.db ...")
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        run(connection)
    engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    run_from_command_line()
