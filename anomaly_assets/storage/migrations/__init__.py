"""Alembic's environment; run it through :mod:`anomaly_assets.storage.migrate`."""
