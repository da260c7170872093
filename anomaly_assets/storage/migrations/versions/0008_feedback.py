"""Feedback: its versions, what was decided under them, and rules that were suggested."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TEXT = sa.Text()
_NUMBER = sa.BigInteger()
_NUMBERS = postgresql.ARRAY(sa.BigInteger())
_FLOAT = sa.Float(53)
_MOMENT = postgresql.TIMESTAMP(timezone=True)
_JSON = postgresql.JSONB(none_as_null=True)
_NOW = sa.text("now()")
_TABLES = ("rule_suggestions", "window_decisions", "feedback_versions")


def upgrade() -> None:
    """Make the three tables."""
    _create_versions()
    _create_decisions()
    _create_suggestions()


def downgrade() -> None:
    """Drop the three tables: every window is decided by its final score again."""
    for table in _TABLES:
        op.drop_table(table)


def _create_versions() -> None:
    op.create_table(
        "feedback_versions",
        sa.Column("feedback_id", _NUMBER, sa.Identity(always=True), nullable=False),
        sa.Column(
            "scope",
            _TEXT,
            nullable=False,
            comment="the entity; of the meta-learner the streams' layout",
        ),
        sa.Column("is_meta", sa.Boolean(), nullable=False),
        sa.Column(
            "entity_id",
            _TEXT,
            sa.Computed("CASE WHEN NOT is_meta THEN scope END", persisted=True),
            comment="whose; NULL: everybody's with these streams",
        ),
        sa.Column("action", _TEXT, nullable=False),
        sa.Column(
            "from_time", _MOMENT, nullable=False, comment="first window that it decides about"
        ),
        sa.Column(
            "content_of", _NUMBER, comment="version whose content this is; NULL: nothing is changed"
        ),
        sa.Column("replaces", _NUMBER, comment="version whose content was in force before"),
        sa.Column("threshold", _FLOAT),
        sa.Column("trust", _JSON, nullable=False, comment="weight by source"),
        sa.Column("rules", _JSON, nullable=False),
        sa.Column("label_ids", _NUMBERS, nullable=False),
        sa.Column("effect", _JSON, nullable=False, comment="measured on judged alarms"),
        sa.Column("model", sa.LargeBinary(), comment="sealed forest of the meta-learner"),
        sa.Column("seal", _JSON, comment="provenance and signature of it"),
        sa.Column("author", _TEXT, nullable=False),
        sa.Column("reason", _TEXT),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "action IN ('recalibrate', 'accept', 'drop', 'revert', 'train', 'fall_back')",
            name="action_known",
        ),
        sa.CheckConstraint("threshold BETWEEN 0 AND 1", name="threshold_is_a_score"),
        sa.CheckConstraint("(model IS NULL) = (seal IS NULL)", name="model_is_sealed"),
        sa.CheckConstraint("is_meta OR model IS NULL", name="model_is_of_the_meta_learner"),
        sa.PrimaryKeyConstraint("feedback_id"),
    )
    op.create_index("ix_feedback_versions_scope", "feedback_versions", ["scope", "feedback_id"])


def _create_decisions() -> None:
    op.create_table(
        "window_decisions",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("score", _FLOAT, comment="that it was decided by"),
        sa.Column("threshold", _FLOAT, nullable=False, comment="above which it would be an alarm"),
        sa.Column(
            "trigger_code",
            sa.SmallInteger(),
            nullable=False,
            comment="why it is explained all the same; 0: it is not",
        ),
        sa.Column("is_alarm", sa.Boolean(), nullable=False),
        sa.Column("suppressed_by", _TEXT, comment="name of the rule"),
        sa.Column(
            "option", _TEXT, nullable=False, comment="A: health-aware ensemble, B: meta-learner"
        ),
        sa.Column("feedback_id", _NUMBER, comment="the entity's version"),
        sa.Column("meta_id", _NUMBER, comment="the meta-learner's version"),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name="score_in_range"),
        sa.CheckConstraint("option IN ('A', 'B')", name="option_known"),
        sa.CheckConstraint("NOT is_alarm OR suppressed_by IS NULL", name="suppressed_is_no_alarm"),
        sa.PrimaryKeyConstraint("entity_id", "timestamp"),
    )


def _create_suggestions() -> None:
    op.create_table(
        "rule_suggestions",
        sa.Column("suggestion_id", _NUMBER, sa.Identity(always=True), nullable=False),
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("name", _TEXT, nullable=False, comment="the same name is the same suggestion"),
        sa.Column("rule", _JSON, nullable=False),
        sa.Column("effect", _JSON, nullable=False),
        sa.Column(
            "contradicted_by",
            _NUMBERS,
            nullable=False,
            comment="labels of confirmed anomalies that it would suppress",
        ),
        sa.Column("found_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("status", _TEXT, server_default=sa.text("'open'"), nullable=False),
        sa.Column("decided_at", _MOMENT),
        sa.Column("decided_by", _TEXT),
        sa.CheckConstraint("status IN ('open', 'accepted', 'rejected')", name="status_known"),
        sa.CheckConstraint("(status = 'open') = (decided_at IS NULL)", name="decided_when"),
        sa.PrimaryKeyConstraint("suggestion_id"),
    )
    op.create_index(
        "ix_rule_suggestions_entity_id_name",
        "rule_suggestions",
        ["entity_id", "name"],
        unique=True,
    )
