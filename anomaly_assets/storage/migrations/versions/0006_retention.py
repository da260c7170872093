"""Retention and privacy: hourly values of dropped readings, and who was forgotten when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT = sa.Text()
_FLOAT = sa.Float(precision=53)
_MOMENT = postgresql.TIMESTAMP(timezone=True)
_REASONS = (
    "wrong_time",
    "future_time",
    "unknown_stream",
    "not_a_number",
    "not_finite",
    "out_of_range",
    "empty_value",
    "missing_entity",
    "malformed_row",
)
_ADDED_REASON = "past_retention"


def upgrade() -> None:
    """Make the two tables, and let a reading be refused for its age."""
    _create_readings_hourly()
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "subject",
            _TEXT,
            nullable=False,
            comment="HMAC-SHA-256 of the identifier, under the deployment's signing key",
        ),
        sa.Column("erased_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("erased_by", _TEXT, nullable=False),
        sa.Column(
            "counts",
            postgresql.JSONB(none_as_null=True),
            nullable=False,
            comment="rows deleted, by table",
        ),
        sa.CheckConstraint("subject ~ '^[0-9a-f]{64}$'", name="subject_is_a_digest"),
        sa.PrimaryKeyConstraint("erasure_id"),
    )
    op.add_column(
        "entities",
        sa.Column(
            "raw_from",
            _MOMENT,
            nullable=True,
            comment="readings before it have been aggregated by the hour and dropped; NULL: none",
        ),
    )
    _set_reasons((*_REASONS, _ADDED_REASON))


def downgrade() -> None:
    """Drop the two tables, and the refusals for age: the hourly values are lost."""
    op.execute(f"DELETE FROM rejected_readings WHERE reason = '{_ADDED_REASON}'")  # noqa: S608 - ours
    _set_reasons(_REASONS)
    op.drop_column("entities", "raw_from")
    op.drop_table("erasures")
    op.drop_table("readings_hourly")


def _create_readings_hourly() -> None:
    # As the first tables were made: what decided then is asked of them.
    kind = sa.text("SELECT relkind::text FROM pg_class WHERE oid = 'readings'::regclass")
    partitioned = op.get_bind().execute(kind).scalar() == "p"
    op.create_table(
        "readings_hourly",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("hour", _MOMENT, nullable=False, comment="its start"),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("readings", sa.BigInteger(), nullable=False, comment="how many there were"),
        sa.Column(
            "late",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="of them, beyond the replay horizon",
        ),
        sa.Column("mean", _FLOAT, nullable=False),
        sa.Column("min", _FLOAT, nullable=False),
        sa.Column("max", _FLOAT, nullable=False),
        sa.Column("sum", _FLOAT, nullable=False),
        sa.Column("last", _FLOAT, nullable=False, comment="value of the newest"),
        sa.Column("first_event", _MOMENT, nullable=False),
        sa.Column("last_event", _MOMENT, nullable=False),
        sa.CheckConstraint(
            "readings > 0 AND late BETWEEN 0 AND readings", name="readings_are_counts"
        ),
        sa.CheckConstraint(
            "hour <= first_event AND first_event <= last_event "
            "AND last_event < hour + interval '1 hour'",
            name="events_in_the_hour",
        ),
        sa.PrimaryKeyConstraint("entity_id", "hour", "stream_id"),
        postgresql_partition_by="RANGE (hour)" if partitioned else None,
    )
    if not partitioned:
        op.execute(
            "SELECT create_hypertable('readings_hourly', 'hour', "
            "chunk_time_interval => interval '1 month', create_default_indexes => false)"
        )


def _set_reasons(reasons: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{reason}'" for reason in reasons)
    op.drop_constraint("reason_known", "rejected_readings", type_="check")
    op.create_check_constraint("reason_known", "rejected_readings", f"reason IN ({listed})")
