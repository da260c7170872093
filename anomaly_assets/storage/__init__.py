"""PostgreSQL: tables, migrations, bulk writes, queries, and the embedded server.

Nothing in here knows Dagster or how a score comes about; it moves rows, exactly and idempotently.
"""
