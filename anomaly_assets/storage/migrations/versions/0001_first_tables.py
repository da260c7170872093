"""The first tables.

The server is asked whether it has TimescaleDB: a partitioned table cannot become a hypertable
later, nor the other way round, so this is decided once, here.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text()
_FLOAT = sa.Float(precision=53)
_MOMENT = postgresql.TIMESTAMP(timezone=True)
_JSON = postgresql.JSONB(none_as_null=True)
_NOW = sa.text("now()")

#: Tables cut by time, with the column that decides.
_BY_TIME = {
    "readings": "event_time",
    "time_series_data": "timestamp",
    "anomaly_scores": "timestamp",
    "causal_explanations": "timestamp",
    "stream_health": "timestamp",
    "gap_patterns": "timestamp",
}
_OTHERS = (
    "entities",
    "labels",
    "rejected_readings",
    "ingest_progress",
    "model_snapshots",
    "late_windows",
)


def upgrade() -> None:
    """Make all tables."""
    hypertables = _has_timescale()
    op.execute("CREATE SCHEMA IF NOT EXISTS partitions")
    by = {} if hypertables else {table: f"RANGE ({column})" for table, column in _BY_TIME.items()}
    _create_entities()
    _create_readings(by)
    _create_time_series_data(by)
    _create_anomaly_scores(by)
    _create_causal_explanations(by)
    _create_stream_health(by)
    _create_gap_patterns(by)
    _create_labels()
    _create_rejected_readings()
    _create_ingest_progress()
    _create_model_snapshots()
    _create_late_windows()
    if hypertables:
        for table, column in _BY_TIME.items():
            op.execute(
                f"SELECT create_hypertable('{table}', '{column}', "
                "chunk_time_interval => interval '1 month', create_default_indexes => false)"
            )


def downgrade() -> None:
    """Drop all tables and what is in them."""
    for table in (*_OTHERS, *_BY_TIME):
        op.drop_table(table)
    op.execute("DROP SCHEMA partitions")


def _has_timescale() -> bool:
    connection = op.get_bind()
    installed = connection.execute(
        sa.text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
    ).scalar()
    if installed:
        return True
    available = connection.execute(
        sa.text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'")
    ).scalar()
    preloaded = connection.execute(
        sa.text("SELECT current_setting('shared_preload_libraries')")
    ).scalar()
    if not available or "timescaledb" not in str(preloaded):
        return False
    op.execute("CREATE EXTENSION timescaledb")
    return True


def _create_entities() -> None:
    op.create_table(
        "entities",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("catalogue", _TEXT, nullable=True, comment="name or path; NULL: the default one"),
        sa.Column("time_zone", _TEXT, nullable=True, comment="NULL: the catalogue's"),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("first_window", _MOMENT, nullable=True),
        sa.Column("last_reading_at", _MOMENT, nullable=True),
        sa.Column(
            "aggregated_until",
            _MOMENT,
            nullable=True,
            comment=(
                "end of the last window taken into time_series_data; readings before it are late"
            ),
        ),
        sa.Column("quarantined_reason", _TEXT, nullable=True),
        sa.Column("quarantined_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("entity_id"),
    )


def _create_readings(by: dict[str, str]) -> None:
    op.create_table(
        "readings",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("event_time", _MOMENT, nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("value", _FLOAT, nullable=False),
        sa.Column("received_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column(
            "late",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="beyond the replay horizon: not in the aggregate",
        ),
        sa.PrimaryKeyConstraint("entity_id", "event_time", "stream_id"),
        postgresql_partition_by=by.get("readings"),
    )


def _create_time_series_data(by: dict[str, str]) -> None:
    op.create_table(
        "time_series_data",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("value", _FLOAT, nullable=True),
        sa.Column("is_missing", sa.Boolean(), nullable=False),
        sa.Column("missing_reason", _TEXT, nullable=True),
        sa.CheckConstraint(
            "missing_reason IN ('absent', 'late', 'stuck', 'off', 'rejected')",
            name="missing_reason_known",
        ),
        sa.CheckConstraint("is_missing = (value IS NULL)", name="missing_means_no_value"),
        sa.PrimaryKeyConstraint("entity_id", "timestamp", "stream_id"),
        postgresql_partition_by=by.get("time_series_data"),
    )


def _create_anomaly_scores(by: dict[str, str]) -> None:
    op.create_table(
        "anomaly_scores",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("method", _TEXT, nullable=False),
        sa.Column("anomaly_score", _FLOAT, nullable=True, comment="0 to 1; NULL: unknown"),
        sa.Column(
            "confidence",
            _FLOAT,
            nullable=True,
            comment="of a stream: its health score; of the entity: share of streams available",
        ),
        sa.Column("expected", _FLOAT, nullable=True, comment="forecast, in the stream's unit"),
        sa.Column("deviation", _FLOAT, nullable=True, comment="signed studentised residual"),
        sa.Column("metadata", _JSON, nullable=True),
        sa.CheckConstraint(
            "method IN ('river_individual', 'river_multivariate', 'ensemble')", name="method_known"
        ),
        sa.CheckConstraint("anomaly_score BETWEEN 0 AND 1", name="anomaly_score_is_a_share"),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_share"),
        sa.PrimaryKeyConstraint("entity_id", "timestamp", "stream_id", "method"),
        postgresql_partition_by=by.get("anomaly_scores"),
    )
    op.create_index(
        "ix_anomaly_scores_final",
        "anomaly_scores",
        ["entity_id", "timestamp", "anomaly_score"],
        unique=False,
        postgresql_where=sa.text("method = 'ensemble'"),
    )
    op.create_index(
        "ix_anomaly_scores_high",
        "anomaly_scores",
        ["timestamp", "anomaly_score"],
        unique=False,
        postgresql_where=sa.text("method = 'ensemble' AND anomaly_score > 0.7"),
    )


def _create_causal_explanations(by: dict[str, str]) -> None:
    op.create_table(
        "causal_explanations",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("anomaly_id", sa.Uuid(), nullable=False),
        sa.Column("summary", _TEXT, nullable=False),
        sa.Column("mode", _TEXT, nullable=False),
        sa.Column("trigger", _TEXT, nullable=False),
        sa.Column("primary_cause", _TEXT, nullable=True),
        sa.Column("confidence", _FLOAT, nullable=True),
        sa.Column("causal_attribution", _JSON, nullable=True),
        sa.Column("temporal_sequence", _JSON, nullable=True),
        sa.Column("evidence", _JSON, nullable=True),
        sa.Column("alternative_explanations", _JSON, nullable=True),
        sa.Column("recommended_action", _TEXT, nullable=True),
        sa.Column("record", _JSON, nullable=True, comment="everything, as it was made"),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_share"),
        sa.PrimaryKeyConstraint("entity_id", "timestamp", "anomaly_id"),
        postgresql_partition_by=by.get("causal_explanations"),
    )
    op.create_index(
        "ix_causal_explanations_anomaly_id", "causal_explanations", ["anomaly_id"], unique=False
    )


def _create_stream_health(by: dict[str, str]) -> None:
    op.create_table(
        "stream_health",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("availability_score", _FLOAT, nullable=False),
        sa.Column("consecutive_missing", sa.Integer(), nullable=False),
        sa.Column("health_score", _FLOAT, nullable=False),
        sa.Column("gap_class", _TEXT, nullable=False),
        sa.Column("predictable", sa.Boolean(), nullable=False),
        sa.Column("accuracy", _FLOAT, nullable=True),
        sa.Column("needs_retraining", sa.Boolean(), nullable=False),
        sa.Column("last_retrain_time", _MOMENT, nullable=True),
        sa.CheckConstraint("availability_score BETWEEN 0 AND 1", name="availability_is_a_share"),
        sa.CheckConstraint(
            "gap_class IN ('none', 'point_missing', 'short_gap', 'medium_gap', 'long_outage', "
            "'permanent_failure', 'dead')",
            name="gap_class_known",
        ),
        sa.PrimaryKeyConstraint("entity_id", "timestamp", "stream_id"),
        postgresql_partition_by=by.get("stream_health"),
    )


def _create_gap_patterns(by: dict[str, str]) -> None:
    op.create_table(
        "gap_patterns",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("context", _TEXT, nullable=False),
        sa.Column(
            "availability_vector",
            _JSON,
            nullable=False,
            comment="share of each group's known streams that were observed",
        ),
        sa.Column("pattern_frequency", _FLOAT, nullable=True),
        sa.Column("is_anomalous", sa.Boolean(), nullable=False),
        sa.Column("score", _FLOAT, nullable=True),
        sa.Column("coordinated_groups", _JSON, nullable=False),
        sa.Column(
            "group_score",
            postgresql.ARRAY(_FLOAT),
            nullable=False,
            comment="groups in catalogue order",
        ),
        sa.Column(
            "group_available",
            postgresql.ARRAY(_FLOAT),
            nullable=False,
            comment="groups in catalogue order",
        ),
        sa.Column(
            "surprise",
            postgresql.ARRAY(_FLOAT),
            nullable=False,
            comment="streams in catalogue order",
        ),
        sa.Column(
            "layout",
            _TEXT,
            nullable=False,
            comment="digest of the groups and streams and their order",
        ),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name="score_is_a_share"),
        sa.PrimaryKeyConstraint("entity_id", "timestamp", "context"),
        postgresql_partition_by=by.get("gap_patterns"),
    )


def _create_labels() -> None:
    op.create_table(
        "labels",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("label_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("start_time", _MOMENT, nullable=False),
        sa.Column("end_time", _MOMENT, nullable=False),
        sa.Column(
            "stream_ids",
            postgresql.ARRAY(_TEXT),
            nullable=True,
            comment="NULL: the entity as a whole",
        ),
        sa.Column("verdict", _TEXT, nullable=False),
        sa.Column("note", _TEXT, nullable=True),
        sa.Column("author", _TEXT, nullable=True),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("undone_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "verdict IN ('confirmed', 'false_alarm', 'expected')", name="verdict_known"
        ),
        sa.CheckConstraint("start_time < end_time", name="label_takes_time"),
        sa.PrimaryKeyConstraint("entity_id", "label_id"),
    )
    op.create_index(
        "ix_labels_entity_id_start_time", "labels", ["entity_id", "start_time"], unique=False
    )


def _create_rejected_readings() -> None:
    op.create_table(
        "rejected_readings",
        sa.Column("entity_id", _TEXT, nullable=False, comment="empty: the row named none"),
        sa.Column("rejected_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False, comment="as the row named it; empty: none"),
        sa.Column("event_time", _MOMENT, nullable=True),
        sa.Column("raw", _TEXT, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("detail", _TEXT, nullable=False),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("source_digest", _TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column(
            "row_number",
            sa.BigInteger(),
            nullable=True,
            comment="record of the file, its header being 1",
        ),
        sa.Column("received_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "reason IN ('wrong_time', 'future_time', 'unknown_stream', 'not_a_number', "
            "'not_finite', 'out_of_range', 'empty_value', 'missing_entity', 'malformed_row')",
            name="reason_known",
        ),
        sa.PrimaryKeyConstraint("entity_id", "rejected_id"),
        sa.UniqueConstraint(
            "source",
            "source_digest",
            "row_number",
            "stream_id",
            name="uq_rejected_readings_source_row",
        ),
    )
    op.create_index(
        "ix_rejected_readings_entity_id_event_time",
        "rejected_readings",
        ["entity_id", "event_time"],
        unique=False,
    )
    op.create_index(
        "ix_rejected_readings_entity_id_received_at",
        "rejected_readings",
        ["entity_id", "received_at"],
        unique=False,
    )


def _create_ingest_progress() -> None:
    op.create_table(
        "ingest_progress",
        sa.Column(
            "job",
            _TEXT,
            nullable=False,
            comment="digest of the file, the options and the catalogue",
        ),
        sa.Column(
            "through_row",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="last record taken in",
        ),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("counts", _JSON, nullable=False),
        sa.Column("complete", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("committed_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("job", "through_row"),
    )


def _create_model_snapshots() -> None:
    op.create_table(
        "model_snapshots",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("component", _TEXT, nullable=False),
        sa.Column(
            "as_of", _MOMENT, nullable=False, comment="it has learnt every window before this one"
        ),
        sa.Column("format_version", sa.Integer(), nullable=False),
        sa.Column("detector", _TEXT, nullable=False),
        sa.Column("catalogue_digest", _TEXT, nullable=False),
        sa.Column("code_version", _TEXT, nullable=False),
        sa.Column("river_version", _TEXT, nullable=False),
        sa.Column("numpy_version", _TEXT, nullable=False),
        sa.Column("sha256", _TEXT, nullable=False),
        sa.Column("signature", _TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "blob",
            sa.LargeBinary(),
            nullable=False,
            comment="stored EXTERNAL: pickles are not compressed twice",
        ),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("created_by", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "component", "as_of"),
    )
    # Pickles hardly compress, and uncompressed they can be read in parts.
    op.execute("ALTER TABLE model_snapshots ALTER COLUMN blob SET STORAGE EXTERNAL")


def _create_late_windows() -> None:
    op.create_table(
        "late_windows",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("window", _MOMENT, nullable=False),
        sa.Column("first_received_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("readings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "window"),
    )
