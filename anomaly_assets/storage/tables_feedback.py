"""The tables of feedback, as SQLAlchemy models (see :mod:`~anomaly_assets.storage.tables`)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, CheckConstraint, Computed, Identity, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from anomaly_assets.storage.identifiers import Decision
from anomaly_assets.storage.tables_base import NOW, Base, one_of


class FeedbackAction(StrEnum):
    """What made a version of the feedback."""

    RECALIBRATE = "recalibrate"
    ACCEPT = "accept"
    DROP = "drop"
    REVERT = "revert"
    TRAIN = "train"
    FALL_BACK = "fall_back"


#: What the meta-learner's versions are made by; the others are an entity's own.
META_ACTIONS: Final = (FeedbackAction.TRAIN, FeedbackAction.FALL_BACK)
_NUMBERS = ARRAY(BigInteger)


class StoredFeedback(Base):
    """What people's judgement has changed, version by version; no row is ever changed."""

    __tablename__ = "feedback_versions"

    feedback_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    scope: Mapped[str] = mapped_column(
        comment="the entity; of the meta-learner the streams' layout"
    )
    is_meta: Mapped[bool]
    entity_id: Mapped[str | None] = mapped_column(
        Computed("CASE WHEN NOT is_meta THEN scope END", persisted=True),
        comment="whose; NULL: everybody's with these streams",
    )
    action: Mapped[str]
    from_time: Mapped[datetime] = mapped_column(comment="first window that it decides about")
    content_of: Mapped[int | None] = mapped_column(
        BigInteger, comment="version whose content this is; NULL: nothing is changed"
    )
    replaces: Mapped[int | None] = mapped_column(
        BigInteger, comment="version whose content was in force before"
    )
    threshold: Mapped[float | None]
    trust: Mapped[dict[str, Any]] = mapped_column(comment="weight by source")
    rules: Mapped[list[Any]]
    label_ids: Mapped[list[int]] = mapped_column(_NUMBERS)
    effect: Mapped[dict[str, Any]] = mapped_column(comment="measured on judged alarms")
    model: Mapped[bytes | None] = mapped_column(comment="sealed forest of the meta-learner")
    seal: Mapped[dict[str, Any] | None] = mapped_column(comment="provenance and signature of it")
    author: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint(one_of("action", FeedbackAction), name="action_known"),
        CheckConstraint("threshold BETWEEN 0 AND 1", name="threshold_is_a_score"),
        CheckConstraint("(model IS NULL) = (seal IS NULL)", name="model_is_sealed"),
        CheckConstraint("is_meta OR model IS NULL", name="model_is_of_the_meta_learner"),
        Index("ix_feedback_versions_scope", "scope", "feedback_id"),
    )


class WindowDecision(Base):
    """What was decided of a window that called for attention while feedback was in force."""

    __tablename__ = "window_decisions"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(primary_key=True)
    score: Mapped[float | None] = mapped_column(comment="that it was decided by")
    threshold: Mapped[float] = mapped_column(comment="above which it would be an alarm")
    trigger_code: Mapped[int] = mapped_column(
        SmallInteger, comment="why it is explained all the same; 0: it is not"
    )
    is_alarm: Mapped[bool]
    suppressed_by: Mapped[str | None] = mapped_column(comment="name of the rule")
    option: Mapped[str] = mapped_column(comment="A: health-aware ensemble, B: meta-learner")
    feedback_id: Mapped[int | None] = mapped_column(BigInteger, comment="the entity's version")
    meta_id: Mapped[int | None] = mapped_column(BigInteger, comment="the meta-learner's version")

    __table_args__ = (
        CheckConstraint("score BETWEEN 0 AND 1", name="score_in_range"),
        CheckConstraint("option IN ('A', 'B')", name="option_known"),
        CheckConstraint("NOT is_alarm OR suppressed_by IS NULL", name="suppressed_is_no_alarm"),
    )


class StoredShape(Base):
    """False alarms of one shape, suggested as a rule, and what people decided about it."""

    __tablename__ = "rule_suggestions"

    suggestion_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    entity_id: Mapped[str]
    name: Mapped[str] = mapped_column(comment="the same name is the same suggestion")
    rule: Mapped[dict[str, Any]]
    effect: Mapped[dict[str, Any]]
    contradicted_by: Mapped[list[int]] = mapped_column(
        _NUMBERS, comment="labels of confirmed anomalies that it would suppress"
    )
    found_at: Mapped[datetime] = mapped_column(server_default=NOW)
    status: Mapped[str] = mapped_column(server_default=text("'open'"))
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("status", Decision), name="status_known"),
        CheckConstraint("(status = 'open') = (decided_at IS NULL)", name="decided_when"),
        Index("ix_rule_suggestions_entity_id_name", "entity_id", "name", unique=True),
    )
