"""Explanations of episodes: how long each lasted, how bad it was, and whether it goes on.

What is there already was made window by window: every row becomes an episode of one window, and is
replaced by a real one when its window is processed again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLE = "causal_explanations"
_ADDED = ("ongoing", "peak_score", "windows", "episode_end")
_CHECKS = {
    "peak_score_is_a_share": "peak_score BETWEEN 0 AND 1",
    "episode_takes_time": "episode_end > timestamp",
    "windows_is_a_count": "windows > 0",
}
_RECORDED = ("episode_start", "episode_end", "windows", "peak_score", "ongoing", "cause_streams")


def upgrade() -> None:
    """Add the columns, and to every record what it lacks."""
    moment = postgresql.TIMESTAMP(timezone=True)
    op.add_column(
        _TABLE, sa.Column("episode_end", moment, comment="end of its last anomalous window")
    )
    op.add_column(_TABLE, sa.Column("windows", sa.Integer(), comment="its anomalous windows"))
    op.add_column(
        _TABLE,
        sa.Column(
            "peak_score", sa.Float(precision=53), comment="its highest final score; NULL: unknown"
        ),
    )
    op.add_column(
        _TABLE,
        sa.Column("ongoing", sa.Boolean(), comment="the next window may still belong to it"),
    )
    op.alter_column(
        _TABLE, "timestamp", existing_type=moment, comment="first window of the episode"
    )
    op.execute(
        "UPDATE causal_explanations SET episode_end = timestamp + interval '5 minutes', "
        "windows = 1, peak_score = (record ->> 'score')::float8, ongoing = false, "
        "record = record || jsonb_build_object('episode_start', record -> 'window_start', "
        "'episode_end', to_char(timestamp AT TIME ZONE 'UTC' + interval '5 minutes', "
        "'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"'), 'windows', 1, "
        "'peak_score', record -> 'score', 'ongoing', false, 'cause_streams', '[]'::jsonb)"
    )
    for column in ("episode_end", "windows", "ongoing"):
        op.alter_column(_TABLE, column, nullable=False)
    for name, condition in _CHECKS.items():
        op.create_check_constraint(name, _TABLE, condition)


def downgrade() -> None:
    """Drop the columns, and from every record what was added; an episode stays one row."""
    for name in _CHECKS:
        op.drop_constraint(name, _TABLE, type_="check")
    for column in _ADDED:
        op.drop_column(_TABLE, column)
    op.alter_column(
        _TABLE, "timestamp", existing_type=postgresql.TIMESTAMP(timezone=True), comment=None
    )
    removed = " ".join(f"- '{name}'" for name in _RECORDED)
    op.execute(f"UPDATE causal_explanations SET record = record {removed}")  # noqa: S608 - constants
