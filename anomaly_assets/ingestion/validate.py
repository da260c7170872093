"""The gate: which raw cells are readings, and why the others are not.

Only finite numbers of known streams at credible times pass. Everything else is refused with a
reason, row by row, and kept; nothing is guessed, clipped or dropped in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anomaly_assets.ingestion.files import STREAM_COLUMN, VALUE_COLUMN
from anomaly_assets.ingestion.times import microseconds_of, parse_times
from anomaly_assets.storage.identifiers import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly_assets.ingestion.files import Chunk, Layout, MalformedRow
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: A clock that was never set starts in 1970 or 1980.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LONGEST_RAW = 500
_LONGEST_ID = 200
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:nan|inf|infinity))$"


@dataclass(frozen=True)
class Gate:
    """What the gate knows.

    Parameters
    ----------
    catalogue
        Known streams and their valid ranges.
    now
        Readings from later than this and `future_tolerance` are refused.
    future_tolerance
        Clock skew accepted.
    entity_id
        Whose readings these are; None when each row names its entity.
    zone
        IANA zone of times that name none.
    start, step
        Time of row 0 and time between rows, for files without times.
    raw_from
        By entity, since when its readings are kept: older ones have been aggregated and dropped.
    """

    catalogue: Catalogue
    now: datetime
    future_tolerance: timedelta = timedelta(minutes=5)
    entity_id: str | None = None
    zone: str = "UTC"
    start: datetime | None = None
    step: timedelta | None = None
    raw_from: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """Readings that passed, in the order of the file; arrays of one length.

    Parameters
    ----------
    entities
        The entities that occur.
    entity, stream
        Position of each reading's entity in `entities`, of its stream in the catalogue.
    microseconds, value
        Event time since the epoch, and value.
    """

    entities: tuple[str, ...]
    entity: IntArray
    stream: IntArray
    microseconds: IntArray
    value: FloatArray


@dataclass(frozen=True)
class Rejected:
    """One refused reading."""

    entity_id: str
    stream_id: str
    raw: str
    reason: RejectionReason
    detail: str
    row_number: int
    microseconds: int | None = None

    @staticmethod
    def columns(rejected: Sequence[Rejected]) -> dict[str, pa.Array]:
        """Return many as the columns that storage takes."""
        text = {
            name: pa.array([getattr(one, name) for one in rejected], type=pa.string())
            for name in ("entity_id", "stream_id", "raw", "reason", "detail")
        }
        return {
            **text,
            "row_number": pa.array([one.row_number for one in rejected], type=pa.int64()),
            "event_time": pa.array(
                [one.microseconds for one in rejected], type=pa.timestamp("us", tz="UTC")
            ),
        }


@dataclass(frozen=True)
class _Cells:
    """Cells of a chunk that may be readings, arrays of one length, in the order of the file."""

    row: IntArray
    stream_names: Sequence[str]
    stream: IntArray
    value: FloatArray
    is_number: BoolArray
    is_empty: BoolArray


def check(
    chunk: Chunk, layout: Layout, gate: Gate, first_index: int = 0
) -> tuple[Accepted, list[Rejected]]:
    """Tell the readings of a chunk from what has to be refused.

    A row is refused for the first that holds of: not as many cells as the header, no usable entity,
    unknown stream, unreadable time (or before the year 2000), time in the future or before what
    retention has left, no value, value
    is no number, not finite, outside the stream's valid range. In a wide file a cell that is empty
    or NaN is no reading, and is not refused either.

    Parameters
    ----------
    chunk
        Raw rows.
    layout
        What the columns are.
    gate
        What is acceptable.
    first_index
        Number of the file's first row, for files without times.

    Returns
    -------
    accepted, rejected
        Readings, and refused readings in the order of the file.
    """
    entities, entity = _entities(chunk, layout, gate)
    times, readable = _times(chunk, layout, gate, first_index)
    cells = _long_cells(chunk, gate) if layout.long else _wide_cells(chunk, layout, gate)
    row = cells.row
    at, known_time = times[row], readable[row]
    limits = _limits(gate.catalogue)
    known = cells.stream >= 0
    low, high = limits[0][cells.stream], limits[1][cells.stream]
    finite = np.isfinite(cells.value)
    future = at > microseconds_of(gate.now + gate.future_tolerance)
    reasons = (
        (RejectionReason.MISSING_ENTITY, entity[row] < 0),
        (RejectionReason.UNKNOWN_STREAM, ~known),
        (RejectionReason.WRONG_TIME, ~known_time | (at < microseconds_of(EARLIEST))),
        (RejectionReason.FUTURE_TIME, future),
        (RejectionReason.PAST_RETENTION, at < _kept_since(gate, entities)[entity[row]]),
        (RejectionReason.EMPTY_VALUE, cells.is_empty),
        (RejectionReason.NOT_A_NUMBER, ~cells.is_number),
        (RejectionReason.NOT_FINITE, ~finite),
        (
            RejectionReason.OUT_OF_RANGE,
            known & finite & ((cells.value < low) | (cells.value > high)),
        ),
    )
    verdict = np.select([bad for _, bad in reasons], np.arange(1, len(reasons) + 1), 0)
    good = verdict == 0
    accepted = Accepted(
        entities, entity[row][good], cells.stream[good], at[good], cells.value[good]
    )
    rejected = [_malformed(bad, gate) for bad in chunk.malformed]
    bad_cells = np.flatnonzero(~good)
    if len(bad_cells):
        describe = _Describer(chunk, layout, gate, entities, entity, cells)
        codes = [reason for reason, _ in reasons]
        rejected += [
            describe.rejected(
                position,
                codes[int(verdict[position]) - 1],
                int(at[position]) if known_time[position] else None,
            )
            for position in bad_cells.tolist()
        ]
        rejected.sort(key=lambda one: one.row_number)
    return accepted, rejected


def unknown_columns(layout: Layout, gate: Gate, ignored: frozenset[str]) -> list[Rejected]:
    """Return a refusal for each column of a wide file that is no stream, at the header's row."""
    return [
        Rejected(
            gate.entity_id or "",
            name[:_LONGEST_ID],
            name[:_LONGEST_RAW],
            RejectionReason.UNKNOWN_STREAM,
            f"no stream of catalogue {gate.catalogue.name!r}; the column was left out",
            1,
        )
        for name in layout.streams
        if name not in gate.catalogue.stream_ids and name not in ignored
    ]


class _Describer:
    """Says of refused cells what they were and what was wrong; only made when there are any."""

    def __init__(  # noqa: PLR0913, PLR0917 - everything that is known of a chunk
        self,
        chunk: Chunk,
        layout: Layout,
        gate: Gate,
        entities: Sequence[str],
        entity: IntArray,
        cells: _Cells,
    ) -> None:
        self._chunk = chunk
        self._layout = layout
        self._gate = gate
        self._entities = entities
        self._entity = entity
        self._cells = cells
        self._unknown = None if not layout.long else chunk.cells.column(STREAM_COLUMN)

    def rejected(
        self, position: int, reason: RejectionReason, microseconds: int | None
    ) -> Rejected:
        row = int(self._cells.row[position])
        stream = int(self._cells.stream[position])
        entity = int(self._entity[row])
        name = (
            self._cells.stream_names[stream]
            if stream >= 0 or self._unknown is None
            else _text(self._unknown, row)
        )
        whose = self._entities[entity] if entity >= 0 else ""
        return Rejected(
            whose,
            name[:_LONGEST_ID],
            self._raw(row, name)[:_LONGEST_RAW],
            reason,
            self._detail(reason, name, stream, whose),
            int(self._chunk.row_numbers[row]),
            microseconds,
        )

    def _raw(self, row: int, name: str) -> str:
        columns = self._layout.columns
        if not self._layout.long:
            columns = tuple(c for c in columns if c not in self._layout.streams or c == name)
        return ",".join(_text(self._chunk.cells.column(column), row) for column in columns)

    def _detail(self, reason: RejectionReason, name: str, stream: int, whose: str) -> str:
        if reason is RejectionReason.UNKNOWN_STREAM:
            return f"no stream of catalogue {self._gate.catalogue.name!r}"
        if reason is RejectionReason.OUT_OF_RANGE:
            bounds = self._gate.catalogue.streams[stream].valid_range
            return f"outside the valid range {bounds} of stream {name!r}"
        if reason is RejectionReason.PAST_RETENTION:
            return (
                f"before {self._gate.raw_from[whose]:%Y-%m-%d %H:%M} UTC, since when readings of "
                f"{whose!r} are kept; the older ones were aggregated by the hour and dropped"
            )
        return {
            RejectionReason.MISSING_ENTITY: "no printable entity of up to 200 characters",
            RejectionReason.WRONG_TIME: f"no ISO 8601 time since {EARLIEST.year}",
            RejectionReason.FUTURE_TIME: "later than now; is the clock of the sender right?",
            RejectionReason.EMPTY_VALUE: "the cell is empty",
            RejectionReason.NOT_A_NUMBER: "the cell is no number",
            RejectionReason.NOT_FINITE: "NaN or infinite",
        }[reason]


def _malformed(bad: MalformedRow, gate: Gate) -> Rejected:
    return Rejected(
        gate.entity_id or "",
        "",
        _clean(bad.text)[:_LONGEST_RAW],
        RejectionReason.MALFORMED_ROW,
        bad.detail,
        bad.row_number,
    )


def _entities(chunk: Chunk, layout: Layout, gate: Gate) -> tuple[tuple[str, ...], IntArray]:
    n_rows = len(chunk.row_numbers)
    if gate.entity_id is not None:
        return (gate.entity_id,), np.zeros(n_rows, dtype=np.int64)
    if layout.entity is None:
        return (), np.full(n_rows, -1)
    names, codes = _encoded(chunk.cells.column(layout.entity))
    usable = [0 < len(name) <= _LONGEST_ID and name.isprintable() for name in names]
    kept = tuple(name for name, good in zip(names, usable, strict=True) if good)
    position = np.array([kept.index(n) if g else -1 for n, g in zip(names, usable, strict=True)])
    return kept, position[codes] if len(names) else codes


def _times(
    chunk: Chunk, layout: Layout, gate: Gate, first_index: int
) -> tuple[IntArray, BoolArray]:
    if layout.time is not None:
        return parse_times(chunk.cells.column(layout.time), gate.zone)
    n_rows = len(chunk.row_numbers)
    if gate.start is None or gate.step is None:
        return np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows, dtype=np.bool_)
    start, step = microseconds_of(gate.start), gate.step // timedelta(microseconds=1)
    if not layout.index:
        return start + (chunk.row_numbers + first_index) * step, np.ones(n_rows, dtype=np.bool_)
    index, is_number, _ = parse_numbers(chunk.cells.column("t"))
    whole = is_number & (index == np.floor(index)) & (np.abs(index) < 2.0**40)
    return start + np.where(whole, index, 0.0).astype(np.int64) * step, whole


def _long_cells(chunk: Chunk, gate: Gate) -> _Cells:
    names, codes = _encoded(chunk.cells.column(STREAM_COLUMN))
    known = {name: position for position, name in enumerate(gate.catalogue.stream_ids)}
    position = np.array([known.get(name, -1) for name in names] or [-1], dtype=np.int64)
    value, is_number, is_empty = parse_numbers(chunk.cells.column(VALUE_COLUMN))
    return _Cells(
        np.arange(len(chunk.row_numbers)),
        gate.catalogue.stream_ids,
        position[codes],
        value,
        is_number,
        is_empty,
    )


def _wide_cells(chunk: Chunk, layout: Layout, gate: Gate) -> _Cells:
    known = [name for name in layout.streams if name in gate.catalogue.stream_ids]
    n_rows = len(chunk.row_numbers)
    value = np.empty((n_rows, len(known)))
    is_number = np.empty((n_rows, len(known)), dtype=np.bool_)
    no_reading = np.empty((n_rows, len(known)), dtype=np.bool_)
    for position, name in enumerate(known):
        numbers, number, empty = parse_numbers(chunk.cells.column(name))
        value[:, position], is_number[:, position] = numbers, number
        no_reading[:, position] = empty | (number & np.isnan(numbers))
    row, column = np.nonzero(~no_reading)
    stream = np.array([gate.catalogue.index(name) for name in known], dtype=np.int64)
    return _Cells(
        row,
        gate.catalogue.stream_ids,
        stream[column],
        value[row, column],
        is_number[row, column],
        np.zeros(len(row), dtype=np.bool_),
    )


def parse_numbers(column: pa.Array) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Read numbers.

    Parameters
    ----------
    column
        Texts or numbers.

    Returns
    -------
    value
        float64, NaN where there is no number; text is read to the nearest float.
    is_number
        Whether the cell is one (``nan`` and ``inf`` are).
    is_empty
        Whether there is nothing in the cell.
    """
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        empty = column.is_null().to_numpy(zero_copy_only=False)
        numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if numeric or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return values, ~empty, empty
        return np.full(len(column), np.nan), np.zeros(len(column), dtype=np.bool_), empty
    everything = np.ones(len(column), dtype=np.bool_)
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False), everything, ~everything
    except pa.ArrowInvalid:
        pass
    texts = pc.ascii_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    empty = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    is_number = pc.match_substring_regex(texts, _NUMBER).to_numpy(zero_copy_only=False)
    readable = pc.if_else(pa.array(is_number), texts, "nan")
    return readable.cast(pa.float64()).to_numpy(), is_number, empty


def _encoded(column: pa.Array) -> tuple[list[str], IntArray]:
    """Return the distinct texts of a column, and the position of each row's text."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = column.cast(pa.string())
    encoded = pc.fill_null(column, "").dictionary_encode()
    raw = encoded.dictionary.cast(pa.binary()).to_pylist()
    texts = [_clean(text.decode("utf-8", "replace")).strip() for text in raw]
    return texts, encoded.indices.to_numpy().astype(np.int64)


def _text(column: pa.Array, row: int) -> str:
    scalar = column[row]
    if pa.types.is_string(column.type):
        raw = scalar.cast(pa.binary()).as_py()
        return "" if raw is None else _clean(raw.decode("utf-8", "replace"))
    value = scalar.as_py()
    return "" if value is None else _clean(str(value))


def _clean(text: str) -> str:
    # PostgreSQL stores any character but this one.
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _kept_since(gate: Gate, entities: Sequence[str]) -> IntArray:
    """Return since when readings of each entity are kept; the last one is of no entity at all."""
    ever = np.iinfo(np.int64).min
    kept = [gate.raw_from.get(name) for name in entities]
    return np.array([*(ever if one is None else microseconds_of(one) for one in kept), ever])


def _limits(catalogue: Catalogue) -> tuple[FloatArray, FloatArray]:
    bounds = [stream.valid_range or (-np.inf, np.inf) for stream in catalogue.streams]
    return np.array([low for low, _ in bounds]), np.array([high for _, high in bounds])
