"""The live path: tokens, idempotency keys, alerts, snoozes and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXT = sa.Text()
_MOMENT = postgresql.TIMESTAMP(timezone=True)
_JSON = postgresql.JSONB(none_as_null=True)
_NOW = sa.text("now()")
_TABLES = ("webhooks", "alert_snoozes", "alerts", "idempotency_keys", "api_tokens")


def upgrade() -> None:
    """Make the five tables."""
    _create_api_tokens()
    _create_idempotency_keys()
    _create_alerts()
    _create_alert_snoozes()
    _create_webhooks()


def downgrade() -> None:
    """Drop the five tables and what is in them: every token stops working."""
    for table in _TABLES:
        op.drop_table(table)


def _create_api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("token_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("entity_id", _TEXT, nullable=True, comment="NULL: every entity"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the secret"),
        sa.Column("may_read", sa.Boolean(), nullable=False),
        sa.Column("may_write", sa.Boolean(), nullable=False),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=True, comment="NULL: never"),
        sa.Column("revoked_at", _MOMENT, nullable=True),
        sa.Column("last_used_at", _MOMENT, nullable=True, comment="to the hour"),
        sa.CheckConstraint("octet_length(digest) = 32", name="digest_is_sha256"),
        sa.CheckConstraint("may_read OR may_write", name="token_is_good_for_something"),
        sa.CheckConstraint("expires_at > created_at", name="token_lives"),
        sa.PrimaryKeyConstraint("token_id"),
    )
    op.create_index("ix_api_tokens_digest", "api_tokens", ["digest"], unique=True)


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("token_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column(
            "request_digest",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the request's body",
        ),
        sa.Column("claimed_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True, comment="NULL: not answered yet"),
        sa.Column(
            "response", sa.LargeBinary(), nullable=True, comment="body of the answer, to the byte"
        ),
        sa.Column("answered_at", _MOMENT, nullable=True),
        sa.CheckConstraint("octet_length(request_digest) = 32", name="request_digest_is_sha256"),
        sa.CheckConstraint(
            "(status IS NULL) = (response IS NULL) AND (status IS NULL) = (answered_at IS NULL)",
            name="answer_is_whole",
        ),
        sa.PrimaryKeyConstraint("token_id", "key"),
    )
    op.create_index(
        "ix_idempotency_keys_claimed_at", "idempotency_keys", ["claimed_at"], unique=False
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column(
            "alert_key",
            _TEXT,
            nullable=False,
            comment="what it is about: the same key is the same alert",
        ),
        sa.Column("entity_id", _TEXT, nullable=False, comment="empty: the deployment as a whole"),
        sa.Column("rule", _TEXT, nullable=False),
        sa.Column("severity", _TEXT, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("first_seen", _MOMENT, nullable=False),
        sa.Column("last_seen", _MOMENT, nullable=False),
        sa.Column("summary", _TEXT, nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("anomaly_id", sa.Uuid(), nullable=True),
        sa.Column("message_id", _TEXT, nullable=True),
        sa.Column("sent_at", _MOMENT, nullable=True),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("updated_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity_known"),
        sa.CheckConstraint(
            "status IN ('pending', 'held', 'sending', 'sent', 'grouped', 'withdrawn')",
            name="status_known",
        ),
        sa.CheckConstraint("first_seen <= last_seen", name="seen_in_order"),
        sa.PrimaryKeyConstraint("alert_key"),
    )
    op.create_index("ix_alerts_entity_id_last_seen", "alerts", ["entity_id", "last_seen"])
    op.create_index("ix_alerts_last_seen", "alerts", ["last_seen"])
    op.create_index("ix_alerts_updated_at", "alerts", ["updated_at"])
    op.create_index(
        "ix_alerts_open",
        "alerts",
        ["status"],
        postgresql_where=sa.text("status IN ('pending', 'held', 'sending')"),
    )


def _create_alert_snoozes() -> None:
    op.create_table(
        "alert_snoozes",
        sa.Column("snooze_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "entity_id", _TEXT, nullable=True, comment="NULL: anybody; empty: the deployment"
        ),
        sa.Column("rule", _TEXT, nullable=True, comment="NULL: all"),
        sa.Column("starts_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
        sa.Column("author", _TEXT, nullable=False),
        sa.Column("note", _TEXT, nullable=True),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.CheckConstraint("starts_at <= ends_at", name="snooze_in_order"),
        sa.PrimaryKeyConstraint("snooze_id"),
    )
    op.create_index("ix_alert_snoozes_ends_at", "alert_snoozes", ["ends_at"])


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("url", _TEXT, nullable=False),
        sa.Column("entity_id", _TEXT, nullable=True, comment="NULL: every entity"),
        sa.Column("events", postgresql.ARRAY(_TEXT), nullable=False),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="token; NULL: none"),
        sa.Column("disabled_at", _MOMENT, nullable=True),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="in a row; a success sets it to 0",
        ),
        sa.Column("last_error", _TEXT, nullable=True),
        sa.Column("last_success_at", _MOMENT, nullable=True),
        sa.CheckConstraint("url ~ '^https?://'", name="url_is_of_the_web"),
        sa.CheckConstraint(
            "cardinality(events) > 0 AND "
            "events <@ ARRAY['window', 'anomaly', 'explanation']::text[]",
            name="events_known",
        ),
        sa.CheckConstraint("failures >= 0", name="failures_is_a_count"),
        sa.PrimaryKeyConstraint("webhook_id"),
    )
    op.create_index("ix_webhooks_entity_id", "webhooks", ["entity_id"])
