"""The tables of retention and privacy, as models (see :mod:`~anomaly_assets.storage.tables`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Identity, text
from sqlalchemy.orm import Mapped, mapped_column

from anomaly_assets.storage.tables_base import NOW, Base


class HourlyReadings(Base):
    """What is left of readings that have been dropped: one row for each hour and stream."""

    __tablename__ = "readings_hourly"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True, comment="its start")
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    readings: Mapped[int] = mapped_column(BigInteger, comment="how many there were")
    late: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="of them, beyond the replay horizon"
    )
    mean: Mapped[float]
    min: Mapped[float]
    max: Mapped[float]
    sum: Mapped[float]
    last: Mapped[float] = mapped_column(comment="value of the newest")
    first_event: Mapped[datetime]
    last_event: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("readings > 0 AND late BETWEEN 0 AND readings", name="readings_are_counts"),
        CheckConstraint(
            "hour <= first_event AND first_event <= last_event "
            "AND last_event < hour + interval '1 hour'",
            name="events_in_the_hour",
        ),
        {"postgresql_partition_by": "RANGE (hour)"},
    )


class Erasure(Base):
    """That somebody was forgotten: when, by whom and how much, and not who it was."""

    __tablename__ = "erasures"

    erasure_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    subject: Mapped[str] = mapped_column(
        comment="HMAC-SHA-256 of the identifier, under the deployment's signing key"
    )
    erased_at: Mapped[datetime] = mapped_column(server_default=NOW)
    erased_by: Mapped[str]
    counts: Mapped[dict[str, Any]] = mapped_column(comment="rows deleted, by table")

    __table_args__ = (CheckConstraint("subject ~ '^[0-9a-f]{64}$'", name="subject_is_a_digest"),)
