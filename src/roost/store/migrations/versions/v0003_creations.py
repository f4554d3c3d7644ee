"""Creates whose answers may not have arrived, so that repetitions of them are known after a restart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "creations",
        sa.Column("endpoint_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", name="pk_creations"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name="fk_creations_endpoint_id_endpoints"),
    )


def downgrade() -> None:
    """Back to 0002."""
    op.drop_table("creations")
