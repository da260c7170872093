"""Labels that name a cause: what it is called, what to do about it, and how it went.

What is there already stays as it was said: no cause, and the note becomes the reason.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLE = "labels"
_ADDED = ("anomaly_id", "cause", "title", "recommended_action", "events", "undone_by")
_CHECKS = {
    "cause_is_a_name": "cause ~ '^[a-z][a-z0-9_]{0,99}$'",
    "cause_for_title_and_action": (
        "cause IS NOT NULL OR (title IS NULL AND recommended_action IS NULL)"
    ),
    "confirmed_cause_can_be_recognised": (
        "verdict <> 'confirmed' OR cause IS NULL OR (title IS NOT NULL "
        "AND recommended_action IS NOT NULL AND events IS NOT NULL)"
    ),
    "undone_before_by_whom": "undone_by IS NULL OR undone_at IS NOT NULL",
}


def upgrade() -> None:
    """Add the columns, and give the note its name."""
    op.alter_column(_TABLE, "note", new_column_name="reason")
    op.add_column(
        _TABLE,
        sa.Column("anomaly_id", sa.Uuid(), comment="the explained episode that was judged, if any"),
    )
    op.add_column(
        _TABLE,
        sa.Column("cause", sa.Text(), comment="what it was: a template's name or one of one's own"),
    )
    op.add_column(_TABLE, sa.Column("title", sa.Text(), comment="the cause for people"))
    op.add_column(_TABLE, sa.Column("recommended_action", sa.Text()))
    op.add_column(
        _TABLE,
        sa.Column(
            "events",
            postgresql.JSONB(none_as_null=True),
            comment="pairs of event and minutes after the first, as they were when labelled",
        ),
    )
    op.add_column(_TABLE, sa.Column("undone_by", sa.Text()))
    for name, condition in _CHECKS.items():
        op.create_check_constraint(name, _TABLE, condition)
    op.create_unique_constraint("uq_labels_label_id", _TABLE, ["label_id"])


def downgrade() -> None:
    """Drop the columns and what was said in them; verdicts, ranges and reasons stay."""
    op.drop_constraint("uq_labels_label_id", _TABLE, type_="unique")
    for name in _CHECKS:
        op.drop_constraint(name, _TABLE, type_="check")
    for column in _ADDED:
        op.drop_column(_TABLE, column)
    op.alter_column(_TABLE, "reason", new_column_name="note")
