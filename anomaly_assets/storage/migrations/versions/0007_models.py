"""Models as versions: what they learnt, pins, an archive, actions, replaced results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXT = sa.Text()
_MOMENT = postgresql.TIMESTAMP(timezone=True)
_JSON = postgresql.JSONB(none_as_null=True)
_NOW = sa.text("now()")
_TABLES = ("superseded_results", "model_archive", "model_pins", "model_actions")
_COLUMNS = ("learnt_values", "learnt_windows", "learnt_from", "base_action", "version")


def upgrade() -> None:
    """Give the snapshots there are a number, and make the four tables."""
    # By default, not always: an archived version comes back under its number.
    op.add_column(
        "model_snapshots",
        sa.Column("version", sa.BigInteger(), sa.Identity(always=False), nullable=False),
    )
    op.create_unique_constraint("uq_model_snapshots_version", "model_snapshots", ["version"])
    op.add_column(
        "model_snapshots",
        sa.Column(
            "base_action",
            sa.BigInteger(),
            nullable=True,
            comment="the last action that its state goes back to; NULL: none",
        ),
    )
    op.add_column(
        "model_snapshots",
        sa.Column(
            "learnt_from", _MOMENT, nullable=True, comment="first window learnt; NULL: unknown"
        ),
    )
    for name in ("learnt_windows", "learnt_values"):
        op.add_column("model_snapshots", sa.Column(name, sa.BigInteger(), nullable=True))
    _create_model_actions()
    op.create_table(
        "model_pins",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pinned_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("pinned_by", _TEXT, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "version"),
    )
    _create_model_archive()
    _create_superseded_results()


def downgrade() -> None:
    """Drop the tables and columns: pins, actions and what they replaced are lost, states stay."""
    for table in _TABLES:
        op.drop_table(table)
    op.drop_constraint("uq_model_snapshots_version", "model_snapshots")
    for column in _COLUMNS:
        op.drop_column("model_snapshots", column)


def _create_model_actions() -> None:
    op.create_table(
        "model_actions",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column(
            "action_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="later ones are larger",
        ),
        sa.Column("component", _TEXT, nullable=True, comment="NULL: all of the entity"),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("as_of", _MOMENT, nullable=True, comment="first window that it concerns"),
        sa.Column("who", _TEXT, nullable=False),
        sa.Column("why", _TEXT, nullable=False),
        sa.Column("outcome", _TEXT, nullable=False),
        sa.Column(
            "recipe", _JSON, nullable=True, comment="how a retrained state is made of the readings"
        ),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("version_before", sa.BigInteger(), nullable=True),
        sa.Column("version_after", sa.BigInteger(), nullable=True),
        sa.Column(
            "withdrawn_by",
            sa.BigInteger(),
            nullable=True,
            comment="the action that took it back; NULL: it stands",
        ),
        sa.Column("created_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "kind IN ('retrain', 'restore', 'rollback', 'pin', 'unpin', 'fallback')",
            name="kind_known",
        ),
        sa.CheckConstraint(
            "outcome IN ('pending', 'done', 'rejected', 'failed')", name="outcome_known"
        ),
        sa.CheckConstraint("(outcome = 'pending') = (finished_at IS NULL)", name="pending_is_open"),
        sa.PrimaryKeyConstraint("entity_id", "action_id"),
        sa.UniqueConstraint("action_id", name="uq_model_actions_action_id"),
    )
    op.create_index(
        "ix_model_actions_bases",
        "model_actions",
        ["entity_id", "component", "as_of"],
        postgresql_where=sa.text("kind IN ('retrain', 'restore') AND withdrawn_by IS NULL"),
    )


def _create_model_archive() -> None:
    op.create_table(
        "model_archive",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("component", _TEXT, nullable=False),
        sa.Column("as_of", _MOMENT, nullable=False),
        sa.Column("format_version", sa.Integer(), nullable=False),
        *(
            sa.Column(name, _TEXT, nullable=False)
            for name in (
                "detector",
                "catalogue_digest",
                "code_version",
                "river_version",
                "numpy_version",
                "sha256",
                "signature",
            )
        ),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", _TEXT, nullable=False),
        sa.Column("base_action", sa.BigInteger(), nullable=True),
        sa.Column("learnt_from", _MOMENT, nullable=True),
        sa.Column("learnt_windows", sa.BigInteger(), nullable=True),
        sa.Column("learnt_values", sa.BigInteger(), nullable=True),
        sa.Column("archived_at", _MOMENT, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "version"),
        sa.UniqueConstraint("version", name="uq_model_archive_version"),
    )
    op.create_index(
        "ix_model_archive_entity_id_component",
        "model_archive",
        ["entity_id", "component", "as_of"],
    )
    op.execute("ALTER TABLE model_archive ALTER COLUMN blob SET STORAGE EXTERNAL")


def _create_superseded_results() -> None:
    op.create_table(
        "superseded_results",
        sa.Column("entity_id", _TEXT, nullable=False),
        sa.Column("action_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("method", _TEXT, nullable=False),
        *(
            sa.Column(name, sa.Float(53), nullable=True)
            for name in ("anomaly_score", "confidence", "expected", "deviation")
        ),
        sa.PrimaryKeyConstraint("entity_id", "action_id", "timestamp", "stream_id", "method"),
    )
