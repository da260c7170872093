"""The tables, as SQLAlchemy models: what the migrations must arrive at.

Rows are written by ``COPY`` and read by SQL (see :mod:`~anomaly_assets.storage.bulk`); the models
are the schema's description, for alembic's comparison and for those who like to query with
SQLAlchemy.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from anomaly_assets.detection.health import GapClass
from anomaly_assets.storage.identifiers import (
    Decision,
    Method,
    RejectionReason,
    SuggestionKind,
    Verdict,
)
from anomaly_assets.storage.tables_base import NOW, Base, one_of
from anomaly_assets.storage.tables_feedback import StoredFeedback, StoredShape, WindowDecision
from anomaly_assets.storage.tables_live import (
    ApiToken,
    IdempotencyKey,
    StoredAlert,
    StoredSnooze,
    StoredWebhook,
)
from anomaly_assets.storage.tables_models import (
    ArchivedModel,
    ModelPin,
    StoredModelAction,
    SupersededResult,
)
from anomaly_assets.storage.tables_retention import Erasure, HourlyReadings
from anomaly_assets.streams.aggregation import MissingReason

__all__ = [
    "PARTITIONED",
    "AnomalyScore",
    "ApiToken",
    "ArchivedModel",
    "Base",
    "CausalExplanation",
    "Entity",
    "Erasure",
    "GapPattern",
    "HourlyReadings",
    "IdempotencyKey",
    "IngestProgress",
    "LateWindow",
    "ModelPin",
    "ModelSnapshot",
    "Reading",
    "RejectedReading",
    "StoredAlert",
    "StoredFeedback",
    "StoredLabel",
    "StoredModelAction",
    "StoredNetwork",
    "StoredShape",
    "StoredSnooze",
    "StoredSuggestion",
    "StoredWebhook",
    "StreamHealthRow",
    "SupersededResult",
    "TimeSeriesData",
    "WindowDecision",
    "one_of",
]

#: Tables cut into months, with the column that decides, in the order months are made.
PARTITIONED: Final = {
    "readings": "event_time",
    "time_series_data": "timestamp",
    "anomaly_scores": "timestamp",
    "causal_explanations": "timestamp",
    "stream_health": "timestamp",
    "gap_patterns": "timestamp",
    "readings_hourly": "hour",
}


def _by_month(table: str) -> dict[str, str]:
    return {"postgresql_partition_by": f"RANGE ({PARTITIONED[table]})"}


class Entity(Base):
    """Who is watched."""

    __tablename__ = "entities"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    catalogue: Mapped[str | None] = mapped_column(comment="name or path; NULL: the default one")
    time_zone: Mapped[str | None] = mapped_column(comment="NULL: the catalogue's")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    first_window: Mapped[datetime | None]
    last_reading_at: Mapped[datetime | None]
    aggregated_until: Mapped[datetime | None] = mapped_column(
        comment="end of the last window taken into time_series_data; readings before it are late"
    )
    quarantined_reason: Mapped[str | None]
    quarantined_at: Mapped[datetime | None]
    raw_from: Mapped[datetime | None] = mapped_column(
        comment="readings before it have been aggregated by the hour and dropped; NULL: none"
    )


class Reading(Base):
    """The journal: readings at native resolution, append-only."""

    __tablename__ = "readings"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    event_time: Mapped[datetime] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    source: Mapped[str]
    late: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="beyond the replay horizon: not in the aggregate"
    )

    __table_args__ = (_by_month("readings"),)


class TimeSeriesData(Base):
    """One value for each window and stream."""

    __tablename__ = "time_series_data"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    is_missing: Mapped[bool]
    missing_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(
            one_of("missing_reason", [reason.label for reason in MissingReason if reason.label]),
            name="missing_reason_known",
        ),
        CheckConstraint("is_missing = (value IS NULL)", name="missing_means_no_value"),
        _by_month("time_series_data"),
    )


class AnomalyScore(Base):
    """What the tiers say of a window: of each stream, of each group, of the entity."""

    __tablename__ = "anomaly_scores"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    anomaly_score: Mapped[float | None] = mapped_column(comment="0 to 1; NULL: unknown")
    confidence: Mapped[float | None] = mapped_column(
        comment="of a stream: its health score; of the entity: share of streams available"
    )
    expected: Mapped[float | None] = mapped_column(comment="forecast, in the stream's unit")
    deviation: Mapped[float | None] = mapped_column(comment="signed studentised residual")
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")

    __table_args__ = (
        CheckConstraint("anomaly_score BETWEEN 0 AND 1", name="anomaly_score_is_a_share"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_share"),
        CheckConstraint(one_of("method", Method), name="method_known"),
        Index(
            "ix_anomaly_scores_final",
            "entity_id",
            "timestamp",
            "anomaly_score",
            postgresql_where=text("method = 'ensemble'"),
        ),
        Index(
            "ix_anomaly_scores_high",
            "timestamp",
            "anomaly_score",
            postgresql_where=text("method = 'ensemble' AND anomaly_score > 0.7"),
        ),
        _by_month("anomaly_scores"),
    )


class CausalExplanation(Base):
    """Why an anomaly happened: one row an episode."""

    __tablename__ = "causal_explanations"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(
        primary_key=True, comment="first window of the episode"
    )
    anomaly_id: Mapped[UUID] = mapped_column(primary_key=True)
    episode_end: Mapped[datetime] = mapped_column(comment="end of its last anomalous window")
    windows: Mapped[int] = mapped_column(Integer, comment="its anomalous windows")
    peak_score: Mapped[float | None] = mapped_column(
        comment="its highest final score; NULL: unknown"
    )
    ongoing: Mapped[bool] = mapped_column(comment="the next window may still belong to it")
    summary: Mapped[str]
    mode: Mapped[str]
    trigger: Mapped[str]
    primary_cause: Mapped[str | None]
    confidence: Mapped[float | None]
    causal_attribution: Mapped[dict[str, Any] | None]
    temporal_sequence: Mapped[list[Any] | None]
    evidence: Mapped[dict[str, Any] | None]
    alternative_explanations: Mapped[list[Any] | None]
    recommended_action: Mapped[str | None]
    record: Mapped[dict[str, Any] | None] = mapped_column(comment="everything, as it was made")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_share"),
        CheckConstraint("peak_score BETWEEN 0 AND 1", name="peak_score_is_a_share"),
        CheckConstraint("episode_end > timestamp", name="episode_takes_time"),
        CheckConstraint("windows > 0", name="windows_is_a_count"),
        Index("ix_causal_explanations_anomaly_id", "anomaly_id"),
        _by_month("causal_explanations"),
    )


class StreamHealthRow(Base):
    """Health of the streams: every hour, and where a gap enters another class."""

    __tablename__ = "stream_health"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    availability_score: Mapped[float]
    consecutive_missing: Mapped[int] = mapped_column(Integer)
    health_score: Mapped[float]
    gap_class: Mapped[str]
    predictable: Mapped[bool]
    accuracy: Mapped[float | None]
    needs_retraining: Mapped[bool]
    last_retrain_time: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("availability_score BETWEEN 0 AND 1", name="availability_is_a_share"),
        CheckConstraint(one_of("gap_class", GapClass), name="gap_class_known"),
        _by_month("stream_health"),
    )


class GapPattern(Base):
    """How unusual the absences of a window are, in its context."""

    __tablename__ = "gap_patterns"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(primary_key=True)
    context: Mapped[str] = mapped_column(primary_key=True)
    availability_vector: Mapped[dict[str, Any]] = mapped_column(
        comment="share of each group's known streams that were observed"
    )
    pattern_frequency: Mapped[float | None]
    is_anomalous: Mapped[bool]
    score: Mapped[float | None]
    coordinated_groups: Mapped[list[Any]]
    group_score: Mapped[list[float]] = mapped_column(comment="groups in catalogue order")
    group_available: Mapped[list[float]] = mapped_column(comment="groups in catalogue order")
    surprise: Mapped[list[float]] = mapped_column(comment="streams in catalogue order")
    layout: Mapped[str] = mapped_column(comment="digest of the groups and streams and their order")

    __table_args__ = (
        CheckConstraint("score BETWEEN 0 AND 1", name="score_is_a_share"),
        _by_month("gap_patterns"),
    )


class StoredLabel(Base):
    """What people said of a stretch of time."""

    __tablename__ = "labels"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    label_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    start_time: Mapped[datetime]
    end_time: Mapped[datetime]
    stream_ids: Mapped[list[str] | None] = mapped_column(comment="NULL: the entity as a whole")
    anomaly_id: Mapped[UUID | None] = mapped_column(
        comment="the explained episode that was judged, if any"
    )
    verdict: Mapped[str]
    cause: Mapped[str | None] = mapped_column(
        comment="what it was: a template's name or one of one's own"
    )
    title: Mapped[str | None] = mapped_column(comment="the cause for people")
    recommended_action: Mapped[str | None]
    events: Mapped[list[Any] | None] = mapped_column(
        comment="pairs of event and minutes after the first, as they were when labelled"
    )
    reason: Mapped[str | None]
    author: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("verdict", Verdict), name="verdict_known"),
        CheckConstraint("start_time < end_time", name="label_takes_time"),
        CheckConstraint("cause ~ '^[a-z][a-z0-9_]{0,99}$'", name="cause_is_a_name"),
        CheckConstraint(
            "cause IS NOT NULL OR (title IS NULL AND recommended_action IS NULL)",
            name="cause_for_title_and_action",
        ),
        CheckConstraint(
            "verdict <> 'confirmed' OR cause IS NULL OR (title IS NOT NULL "
            "AND recommended_action IS NOT NULL AND events IS NOT NULL)",
            name="confirmed_cause_can_be_recognised",
        ),
        CheckConstraint("undone_by IS NULL OR undone_at IS NOT NULL", name="undone_before_by_whom"),
        UniqueConstraint("label_id", name="uq_labels_label_id"),
        Index("ix_labels_entity_id_start_time", "entity_id", "start_time"),
    )


class RejectedReading(Base):
    """What was refused at the door, and why."""

    __tablename__ = "rejected_readings"

    entity_id: Mapped[str] = mapped_column(primary_key=True, comment="empty: the row named none")
    rejected_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    stream_id: Mapped[str] = mapped_column(comment="as the row named it; empty: none")
    event_time: Mapped[datetime | None]
    raw: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
    source: Mapped[str]
    source_digest: Mapped[str] = mapped_column(server_default=text("''"))
    row_number: Mapped[int | None] = mapped_column(
        BigInteger, comment="record of the file, its header being 1"
    )
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint(one_of("reason", RejectionReason), name="reason_known"),
        UniqueConstraint(
            "source",
            "source_digest",
            "row_number",
            "stream_id",
            name="uq_rejected_readings_source_row",
        ),
        Index("ix_rejected_readings_entity_id_event_time", "entity_id", "event_time"),
        Index("ix_rejected_readings_entity_id_received_at", "entity_id", "received_at"),
    )


class IngestProgress(Base):
    """Which chunks of a file have been taken in: written with the rows, so a kill loses neither."""

    __tablename__ = "ingest_progress"

    job: Mapped[str] = mapped_column(
        primary_key=True, comment="digest of the file, the options and the catalogue"
    )
    through_row: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="last record taken in"
    )
    source: Mapped[str]
    counts: Mapped[dict[str, Any]]
    complete: Mapped[bool] = mapped_column(server_default=text("false"))
    committed_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ModelSnapshot(Base):
    """Sealed model state as of a window."""

    __tablename__ = "model_snapshots"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    component: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(
        primary_key=True, comment="it has learnt every window before this one"
    )
    format_version: Mapped[int] = mapped_column(Integer)
    detector: Mapped[str]
    catalogue_digest: Mapped[str]
    code_version: Mapped[str]
    river_version: Mapped[str]
    numpy_version: Mapped[str]
    sha256: Mapped[str]
    signature: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[bytes] = mapped_column(comment="stored EXTERNAL: pickles are not compressed twice")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    created_by: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger, Identity(always=False))
    base_action: Mapped[int | None] = mapped_column(
        BigInteger, comment="the last action that its state goes back to; NULL: none"
    )
    learnt_from: Mapped[datetime | None] = mapped_column(
        comment="first window learnt; NULL: unknown"
    )
    learnt_windows: Mapped[int | None] = mapped_column(BigInteger)
    learnt_values: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (UniqueConstraint("version", name="uq_model_snapshots_version"),)


class LateWindow(Base):
    """A window that late readings have changed, to be replayed."""

    __tablename__ = "late_windows"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[datetime] = mapped_column(primary_key=True)
    first_received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    readings: Mapped[int] = mapped_column(BigInteger)


class StoredNetwork(Base):
    """A causal network of an entity, as fitted."""

    __tablename__ = "causal_networks"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    fitted_at: Mapped[datetime] = mapped_column(
        primary_key=True, comment="end of the span it was fitted on"
    )
    network: Mapped[dict[str, Any]]
    n_windows: Mapped[int] = mapped_column(BigInteger)
    fit_quality: Mapped[float | None] = mapped_column(
        comment="0 to 1; NULL: no stream with causes could be fitted"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint("fit_quality BETWEEN 0 AND 1", name="fit_quality_is_a_share"),
        CheckConstraint("n_windows >= 0", name="n_windows_is_a_count"),
    )


class StoredSuggestion(Base):
    """Something the data suggest for the catalogue, until somebody decides."""

    __tablename__ = "suggestions"

    suggestion_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    entity_id: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(comment="what is suggested, in words: its identity")
    payload: Mapped[dict[str, Any]]
    support: Mapped[float] = mapped_column(comment="share of the samples that show it, 0 to 1")
    first_seen: Mapped[datetime] = mapped_column(comment="end of the first span with it")
    last_seen: Mapped[datetime] = mapped_column(comment="end of the last span with it")
    status: Mapped[str] = mapped_column(server_default=text("'open'"))
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("kind", SuggestionKind), name="kind_known"),
        CheckConstraint(one_of("status", Decision), name="status_known"),
        CheckConstraint("support BETWEEN 0 AND 1", name="support_is_a_share"),
        CheckConstraint("first_seen <= last_seen", name="seen_in_order"),
        CheckConstraint(
            "(status = 'open') = (decided_at IS NULL) AND (status = 'open') = (decided_by IS NULL)",
            name="decision_has_time_and_author",
        ),
        UniqueConstraint("entity_id", "kind", "subject", name="uq_suggestions_subject"),
        Index("ix_suggestions_entity_id_status", "entity_id", "status"),
    )
