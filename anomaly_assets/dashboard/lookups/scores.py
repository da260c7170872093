"""Scores over time, as few points as a screen can show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.storage.identifiers import ENTITY_ROW, Method
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.dashboard.addresses import Span
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import BoolArray, FloatArray

#: Points of a line at most.
MOST_POINTS: Final = 2000
#: Columns of a heat map at most.
MOST_COLUMNS: Final = 260
_MINUTES: Final = (5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880)
#: Up to here each missing window is looked at; beyond, the hourly health of the streams says
#: whether a stream was silent for as long as a column lasts.
_CLOSE: Final = timedelta(days=4)


@dataclass(frozen=True)
class Line:
    """Values at equal steps.

    Parameters
    ----------
    start, step
        Of the first point (epoch seconds), and seconds between two.
    values
        By name, shape ``(n_points,)``; NaN where unknown.
    """

    start: int
    step: int
    values: dict[str, FloatArray]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it, unknown as null."""
        n = len(next(iter(self.values.values())))
        return {
            "x": [self.start + self.step * number for number in range(n)],
            "step": self.step,
            **{name: _rounded(values) for name, values in self.values.items()},
        }


@dataclass(frozen=True)
class Heat:
    """Scores of streams in columns of time.

    Parameters
    ----------
    start, step
        Of the first column (epoch seconds), and seconds of each.
    highest
        Highest tier-1 score, shape ``(n_streams, n_columns)``; NaN where none is known.
    missing
        Whether nothing was observed, same shape. What was neither scored nor missing could not be
        scored, or was not processed.
    """

    start: int
    step: int
    highest: FloatArray
    missing: BoolArray


@dataclass(frozen=True)
class _Steps:
    """Equal steps that a span is cut into; see :class:`Line`."""

    start: int
    step: int
    count: int

    @classmethod
    def of(cls, span: Span, most: int, offset: int = 0) -> _Steps:
        """Cut a span; steps begin on full ones of a clock that is ahead by so many seconds."""
        step = _step_of(span.length, most)
        start = int(span.start.timestamp())
        start -= (start + offset) % step
        return cls(start, step, -(-(int(span.end.timestamp()) - start) // step))

    def asked(self, span: Span) -> dict[str, Any]:
        """Return the parameters of a query."""
        origin = datetime.fromtimestamp(self.start, tz=UTC)
        return {"start": span.start, "end": span.end, "origin": origin, "step": self.step}

    def place(self, at: datetime) -> int:
        """Return the number of the step that begins at a time."""
        return (int(at.timestamp()) - self.start) // self.step

    def line(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Line:
        """Put rows of a time and values into a line."""
        values = {name: np.full(self.count, np.nan) for name in names}
        for at, *row in rows:
            place = self.place(at)
            for name, value in zip(names, row, strict=True):
                if value is not None:
                    values[name][place] = value
        return Line(self.start, self.step, values)


def final_line(connection: Connection, entity_id: str, span: Span) -> Line:
    """Return final scores (``score``, highest), tier 2 (``cross``) and ``coverage`` (mean)."""
    steps = _Steps.of(span, MOST_POINTS)
    rows = connection.execute(
        f"SELECT {_SLOT}, max(anomaly_score) FILTER (WHERE method = 'ensemble'), "  # noqa: S608 - our own constant
        "max(anomaly_score) FILTER (WHERE method = 'river_multivariate'), "
        "avg(confidence) FILTER (WHERE method = 'ensemble') FROM anomaly_scores "
        "WHERE entity_id = %(entity)s AND stream_id = %(row)s "
        "AND method IN ('ensemble', 'river_multivariate') "
        "AND timestamp >= %(start)s AND timestamp < %(end)s GROUP BY 1",
        {**steps.asked(span), "entity": entity_id, "row": ENTITY_ROW},
    ).fetchall()
    return steps.line(rows, ("score", "cross", "coverage"))


def stream_line(connection: Connection, entity_id: str, stream_id: str, span: Span) -> Line:
    """Return a stream's ``actual`` values, what was ``expected`` (means), and its ``score``.

    The highest and lowest value of each step are ``high`` and ``low``.
    """
    steps = _Steps.of(span, MOST_POINTS)
    asked = {**steps.asked(span), "entity": entity_id, "stream": stream_id}
    values = connection.execute(
        f"SELECT {_SLOT}, avg(value), max(value), min(value) FROM time_series_data "  # noqa: S608 - our own constant
        "WHERE entity_id = %(entity)s AND stream_id = %(stream)s "
        "AND timestamp >= %(start)s AND timestamp < %(end)s GROUP BY 1",
        asked,
    ).fetchall()
    scores = connection.execute(
        f"SELECT {_SLOT}, avg(expected), max(anomaly_score) FROM anomaly_scores "  # noqa: S608 - our own constant
        "WHERE entity_id = %(entity)s AND stream_id = %(stream)s AND method = %(method)s "
        "AND timestamp >= %(start)s AND timestamp < %(end)s GROUP BY 1",
        {**asked, "method": Method.INDIVIDUAL},
    ).fetchall()
    line = steps.line(values, ("actual", "high", "low"))
    return Line(
        line.start, line.step, {**line.values, **steps.line(scores, ("expected", "score")).values}
    )


def heat_map(
    connection: Connection, entity_id: str, streams: Sequence[str], span: Span, offset: int
) -> Heat:
    """Return the tier-1 scores of streams over time, and where nothing was observed.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id, streams
        Whose, and which streams, from top to bottom.
    span
        From when to when.
    offset
        Seconds by which the entity's clock is ahead of UTC, so that columns begin on its hours.
    """
    steps = _Steps.of(span, MOST_COLUMNS, offset)
    shape = (len(streams), steps.count)
    heat = Heat(steps.start, steps.step, np.full(shape, np.nan), np.zeros(shape, np.bool_))
    row_of = {stream: number for number, stream in enumerate(streams)}
    asked = {**steps.asked(span), "entity": entity_id, "method": Method.INDIVIDUAL}
    for stream, at, highest in connection.execute(
        f"SELECT stream_id, {_SLOT}, max(anomaly_score) FROM anomaly_scores "  # noqa: S608 - our own constant
        "WHERE entity_id = %(entity)s AND method = %(method)s "
        "AND timestamp >= %(start)s AND timestamp < %(end)s GROUP BY 1, 2",
        asked,
    ):
        row = row_of.get(stream)
        if row is not None and highest is not None:
            heat.highest[row, steps.place(at)] = highest
    query = _MISSING_CLOSE if span.length <= _CLOSE else _MISSING_FAR
    for stream, at in connection.execute(query, asked):
        row = row_of.get(stream)
        if row is not None:
            heat.missing[row, steps.place(at)] = np.isnan(heat.highest[row, steps.place(at)])
    return heat


#: The step a window lies in; a hundred thousand of them are looked at, and this is the fast way.
_SLOT: Final = "date_bin(%(step)s * interval '1 second', timestamp, %(origin)s)"
_MISSING_CLOSE: Final = (
    f"SELECT stream_id, {_SLOT} "  # noqa: S608 - our own constant
    "FROM time_series_data WHERE entity_id = %(entity)s AND timestamp >= %(start)s "
    "AND timestamp < %(end)s GROUP BY 1, 2 HAVING bool_and(is_missing)"
)
#: Every hourly look in the column found the stream silent, and nothing of it was scored.
_MISSING_FAR: Final = (
    f"SELECT stream_id, {_SLOT} "  # noqa: S608 - our own constant
    "FROM stream_health WHERE entity_id = %(entity)s AND timestamp >= %(start)s "
    "AND timestamp < %(end)s GROUP BY 1, 2 HAVING bool_and(consecutive_missing > 0)"
)


def _step_of(length: timedelta, most: int) -> int:
    """Return the seconds of a step, so that there are not too many."""
    windows = length.total_seconds() / WINDOW_SECONDS
    for minutes in _MINUTES:
        if windows * 5 / minutes <= most:
            return minutes * 60
    return _MINUTES[-1] * 60


def utc_offset(moment: datetime) -> int:
    """Return the seconds by which the clock of an aware moment is ahead of UTC."""
    offset = moment.utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _rounded(values: FloatArray) -> list[float | None]:
    # Five significant digits are more than a screen shows, and half the bytes.
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]
