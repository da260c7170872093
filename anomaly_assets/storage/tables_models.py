"""The tables of model management (see :mod:`~anomaly_assets.storage.tables`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, UniqueConstraint, text
from sqlalchemy import Identity as Numbered
from sqlalchemy.orm import Mapped, mapped_column

from anomaly_assets.storage.model_actions import ActionKind, ActionOutcome
from anomaly_assets.storage.tables_base import NOW, Base, one_of


class StoredModelAction(Base):
    """What was done to models, by whom and why; some of it is part of how states come about."""

    __tablename__ = "model_actions"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    action_id: Mapped[int] = mapped_column(
        BigInteger, Numbered(always=True), primary_key=True, comment="later ones are larger"
    )
    component: Mapped[str | None] = mapped_column(comment="NULL: all of the entity")
    kind: Mapped[str]
    as_of: Mapped[datetime | None] = mapped_column(comment="first window that it concerns")
    who: Mapped[str]
    why: Mapped[str]
    outcome: Mapped[str]
    recipe: Mapped[dict[str, Any] | None] = mapped_column(
        comment="how a retrained state is made of the readings"
    )
    details: Mapped[dict[str, Any]]
    version_before: Mapped[int | None] = mapped_column(BigInteger)
    version_after: Mapped[int | None] = mapped_column(BigInteger)
    withdrawn_by: Mapped[int | None] = mapped_column(
        BigInteger, comment="the action that took it back; NULL: it stands"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("kind", ActionKind), name="kind_known"),
        CheckConstraint(one_of("outcome", ActionOutcome), name="outcome_known"),
        CheckConstraint("(outcome = 'pending') = (finished_at IS NULL)", name="pending_is_open"),
        UniqueConstraint("action_id", name="uq_model_actions_action_id"),
        Index(
            "ix_model_actions_bases",
            "entity_id",
            "component",
            "as_of",
            postgresql_where=text("kind IN ('retrain', 'restore') AND withdrawn_by IS NULL"),
        ),
    )


class ModelPin(Base):
    """A version of a model that retention must leave alone."""

    __tablename__ = "model_pins"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    pinned_at: Mapped[datetime] = mapped_column(server_default=NOW)
    pinned_by: Mapped[str]
    reason: Mapped[str]


class ArchivedModel(Base):
    """A version that no longer belongs to the present course, kept because it may be wanted."""

    __tablename__ = "model_archive"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    component: Mapped[str]
    as_of: Mapped[datetime]
    format_version: Mapped[int] = mapped_column(Integer)
    detector: Mapped[str]
    catalogue_digest: Mapped[str]
    code_version: Mapped[str]
    river_version: Mapped[str]
    numpy_version: Mapped[str]
    sha256: Mapped[str]
    signature: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[bytes]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    base_action: Mapped[int | None] = mapped_column(BigInteger)
    learnt_from: Mapped[datetime | None]
    learnt_windows: Mapped[int | None] = mapped_column(BigInteger)
    learnt_values: Mapped[int | None] = mapped_column(BigInteger)
    archived_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        UniqueConstraint("version", name="uq_model_archive_version"),
        Index("ix_model_archive_entity_id_component", "entity_id", "component", "as_of"),
    )


class SupersededResult(Base):
    """A score that an action replaced by another one."""

    __tablename__ = "superseded_results"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    action_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    timestamp: Mapped[datetime] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    anomaly_score: Mapped[float | None]
    confidence: Mapped[float | None]
    expected: Mapped[float | None]
    deviation: Mapped[float | None]
