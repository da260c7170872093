"""A year of one person through Dagster, and what the database answers then."""
