"""Keys may have limits: requests and tokens per minute, and requests at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = ("requests_per_minute", "tokens_per_minute", "concurrency")


def upgrade() -> None:
    """To this version: keys that are there have no limits."""
    for name in COLUMNS:
        op.add_column("api_keys", sa.Column(name, sa.BigInteger()))


def downgrade() -> None:
    """Back to 0003. Keys with limits go on without them: they open nothing more than before."""
    with op.batch_alter_table("api_keys") as keys:
        for name in reversed(COLUMNS):
            keys.drop_column(name)
