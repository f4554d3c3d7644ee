"""Keys have a name for people, and may be for some endpoints only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version: keys that are there have neither."""
    op.add_column("api_keys", sa.Column("name", sa.Text()))
    op.add_column("api_keys", sa.Column("endpoints", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Back to 0001. Keys with a list are taken away: without it they would open all of their owner's endpoints."""
    listed = sa.table("api_keys", sa.column("endpoints", sa.JSON(none_as_null=True)))
    op.execute(sa.delete(listed).where(listed.c.endpoints.is_not(None)))
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_column("endpoints")
        keys.drop_column("name")
