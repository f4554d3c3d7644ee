"""Alembic migrations, run by ``store.schema``. A migration is never changed once released."""
