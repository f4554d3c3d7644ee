"""The first schema: endpoints, replicas, API keys, models, events, the installation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def upgrade() -> None:
    """To this version."""
    installation = op.create_table(
        "installation",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("installation_id", sa.Text()),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("singleton", name="pk_installation"),
    )
    op.bulk_insert(installation, [{"singleton": 1, "installation_id": None, "term": 0}])
    _create_endpoints()
    op.create_table(
        "api_keys",
        sa.Column("id", _key(), nullable=False),
        sa.Column("digest", _key(), nullable=False),
        sa.Column("owner", _key(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("expires_at", _time()),
        sa.Column("revoked_at", _time()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_table(
        "models",
        sa.Column("id", _key(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
    )
    _create_events()


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", _key(), nullable=False),
        sa.Column("name", _key(), nullable=False),
        sa.Column("owner", _key(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("spec_version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.JSON(), nullable=False),
        sa.Column("status_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("updated_at", _time(), nullable=False),
        sa.Column("deleted_at", _time()),
        sa.Column("purged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
        sa.UniqueConstraint("name", name="uq_endpoints_name"),
    )
    op.create_index("ix_endpoints_owner_created_at", "endpoints", ["owner", "created_at"])
    op.create_table(
        "replicas",
        sa.Column("id", _key(), nullable=False),
        sa.Column("endpoint_id", _key(), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name="fk_replicas_endpoint_id_endpoints"),
    )
    op.create_index("ix_replicas_endpoint_id", "replicas", ["endpoint_id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", _key(), nullable=False),
        sa.Column("at", _time(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("endpoint_id", _key()),
        sa.Column("replica_id", _key()),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_endpoint_id_sequence", "events", ["endpoint_id", "sequence"])


def downgrade() -> None:
    """Back to an empty database."""
    for table in ("events", "models", "api_keys", "replicas", "endpoints", "installation"):
        op.drop_table(table)
