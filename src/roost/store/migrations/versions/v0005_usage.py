"""What was used: requests and tokens by the minute, and which reports of the gateways are in the sums."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNTS = (
    "requests",
    "estimated",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "wasted_tokens",
    "first_tokens",
    "gaps",
)
SECONDS = ("first_token_s", "gap_s", "duration_s")


def _key() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "usage",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, _key(), nullable=False) for name in ("endpoint_id", "replica_id", "key_id", "outcome")),
        sa.Column("owner", _key(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        *(sa.Column(name, sa.Double(), nullable=False) for name in SECONDS),
        sa.PrimaryKeyConstraint("minute", "endpoint_id", "replica_id", "key_id", "outcome", name="pk_usage"),
    )
    op.create_index("ix_usage_owner_minute", "usage", ["owner", "minute"])
    op.create_table(
        "usage_reports",
        sa.Column("gateway", _key(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("gateway", name="pk_usage_reports"),
    )


def downgrade() -> None:
    """Back to 0004."""
    op.drop_table("usage_reports")
    op.drop_index("ix_usage_owner_minute", table_name="usage")
    op.drop_table("usage")
