"""Causal networks as fitted, and suggestions that wait for somebody's approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text()
_FLOAT = sa.Float(precision=53)
_MOMENT = postgresql.TIMESTAMP(timezone=True)
_JSON = postgresql.JSONB(none_as_null=True)
_NOW = sa.text("now()")


def upgrade() -> None:
    """Make the two tables."""
    _create_causal_networks()
    _create_suggestions()


def downgrade() -> None:
    """Drop the two tables and what is in them."""
    op.drop_table("suggestions")
    op.drop_table("causal_networks")


def _create_causal_networks() -> None:
    op.create_table(
        "causal_networks",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("fitted_at", _MOMENT, nullable=False, comment="end of the span it was fitted on"),
        sa.Column("network", _JSON, nullable=False),
        sa.Column("n_windows", sa.BigInteger(), nullable=False),
        sa.Column(
            "fit_quality",
            _FLOAT,
            nullable=True,
            comment="0 to 1; NULL: no stream with causes could be fitted",
        ),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.CheckConstraint("fit_quality BETWEEN 0 AND 1", name="fit_quality_is_a_share"),
        sa.CheckConstraint("n_windows >= 0", name="n_windows_is_a_count"),
        sa.PrimaryKeyConstraint("entity_id", "fitted_at"),
    )


def _create_suggestions() -> None:
    op.create_table(
        "suggestions",
        sa.Column("suggestion_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column(
            "subject", _TEXT, nullable=False, comment="what is suggested, in words: its identity"
        ),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column(
            "support", _FLOAT, nullable=False, comment="share of the samples that show it, 0 to 1"
        ),
        sa.Column("first_seen", _MOMENT, nullable=False, comment="end of the first span with it"),
        sa.Column("last_seen", _MOMENT, nullable=False, comment="end of the last span with it"),
        sa.Column("status", _TEXT, server_default=sa.text("'open'"), nullable=False),
        sa.Column("decided_at", _MOMENT, nullable=True),
        sa.Column("decided_by", _TEXT, nullable=True),
        sa.CheckConstraint("kind IN ('edge', 'pattern')", name="kind_known"),
        sa.CheckConstraint("status IN ('open', 'accepted', 'rejected')", name="status_known"),
        sa.CheckConstraint("support BETWEEN 0 AND 1", name="support_is_a_share"),
        sa.CheckConstraint("first_seen <= last_seen", name="seen_in_order"),
        sa.CheckConstraint(
            "(status = 'open') = (decided_at IS NULL) AND (status = 'open') = (decided_by IS NULL)",
            name="decision_has_time_and_author",
        ),
        sa.PrimaryKeyConstraint("suggestion_id"),
        sa.UniqueConstraint("entity_id", "kind", "subject", name="uq_suggestions_subject"),
    )
    op.create_index(
        "ix_suggestions_entity_id_status", "suggestions", ["entity_id", "status"], unique=False
    )
