"""Runs migrations on the connection that :mod:`anomaly_assets.storage.migrate` hands over."""

from __future__ import annotations

from alembic import context

from anomaly_assets.storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=False,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
