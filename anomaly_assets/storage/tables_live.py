"""The tables of the live path, as SQLAlchemy models (see :mod:`~anomaly_assets.storage.tables`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets.storage.tables_base import NOW, Base, one_of
from anomaly_assets.storage.webhooks import WebhookEvent

_ZERO = text("0")


class ApiToken(Base):
    """Who may send readings and ask for results; the secret itself is nowhere."""

    __tablename__ = "api_tokens"

    token_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str]
    entity_id: Mapped[str | None] = mapped_column(comment="NULL: every entity")
    digest: Mapped[bytes] = mapped_column(comment="SHA-256 of the secret")
    may_read: Mapped[bool]
    may_write: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None] = mapped_column(comment="NULL: never")
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None] = mapped_column(comment="to the hour")

    __table_args__ = (
        CheckConstraint("octet_length(digest) = 32", name="digest_is_sha256"),
        CheckConstraint("may_read OR may_write", name="token_is_good_for_something"),
        CheckConstraint("expires_at > created_at", name="token_lives"),
        Index("ix_api_tokens_digest", "digest", unique=True),
    )


class IdempotencyKey(Base):
    """What was answered to a request, so that its repetition gets the same answer."""

    __tablename__ = "idempotency_keys"

    token_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(comment="SHA-256 of the request's body")
    claimed_at: Mapped[datetime] = mapped_column(server_default=NOW)
    status: Mapped[int | None] = mapped_column(Integer, comment="NULL: not answered yet")
    response: Mapped[bytes | None] = mapped_column(comment="body of the answer, to the byte")
    answered_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("octet_length(request_digest) = 32", name="request_digest_is_sha256"),
        CheckConstraint(
            "(status IS NULL) = (response IS NULL) AND (status IS NULL) = (answered_at IS NULL)",
            name="answer_is_whole",
        ),
        Index("ix_idempotency_keys_claimed_at", "claimed_at"),
    )


class StoredAlert(Base):
    """What people were told, are to be told, or were spared."""

    __tablename__ = "alerts"

    alert_key: Mapped[str] = mapped_column(
        primary_key=True, comment="what it is about: the same key is the same alert"
    )
    entity_id: Mapped[str] = mapped_column(comment="empty: the deployment as a whole")
    rule: Mapped[str]
    severity: Mapped[str]
    status: Mapped[str]
    first_seen: Mapped[datetime]
    last_seen: Mapped[datetime]
    summary: Mapped[str]
    details: Mapped[dict[str, Any]]
    anomaly_id: Mapped[UUID | None]
    message_id: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint(one_of("severity", AlertSeverity), name="severity_known"),
        CheckConstraint(one_of("status", AlertStatus), name="status_known"),
        CheckConstraint("first_seen <= last_seen", name="seen_in_order"),
        Index("ix_alerts_entity_id_last_seen", "entity_id", "last_seen"),
        Index("ix_alerts_last_seen", "last_seen"),
        Index("ix_alerts_updated_at", "updated_at"),
        Index(
            "ix_alerts_open",
            "status",
            postgresql_where=text("status IN ('pending', 'held', 'sending')"),
        ),
    )


class StoredSnooze(Base):
    """A time during which somebody does not want to hear of something."""

    __tablename__ = "alert_snoozes"

    snooze_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    entity_id: Mapped[str | None] = mapped_column(comment="NULL: anybody; empty: the deployment")
    rule: Mapped[str | None] = mapped_column(comment="NULL: all")
    starts_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ends_at: Mapped[datetime]
    author: Mapped[str]
    note: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint("starts_at <= ends_at", name="snooze_in_order"),
        Index("ix_alert_snoozes_ends_at", "ends_at"),
    )


class StoredWebhook(Base):
    """An address to which results are posted."""

    __tablename__ = "webhooks"

    webhook_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    url: Mapped[str]
    entity_id: Mapped[str | None] = mapped_column(comment="NULL: every entity")
    events: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    created_by: Mapped[int | None] = mapped_column(BigInteger, comment="token; NULL: none")
    disabled_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(
        Integer, server_default=_ZERO, comment="in a row; a success sets it to 0"
    )
    last_error: Mapped[str | None]
    last_success_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("url ~ '^https?://'", name="url_is_of_the_web"),
        CheckConstraint(
            f"cardinality(events) > 0 AND events <@ ARRAY["
            f"{', '.join(repr(str(event)) for event in WebhookEvent)}]::text[]",
            name="events_known",
        ),
        CheckConstraint("failures >= 0", name="failures_is_a_count"),
        Index("ix_webhooks_entity_id", "entity_id"),
    )
