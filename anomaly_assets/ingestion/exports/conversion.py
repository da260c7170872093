"""From an export to one Parquet file of readings, which ingestion takes in like any other.

The same export gives the same file to the last byte, so that ingestion recognises it: a killed
import is resumed by running it again, and a finished one is not repeated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anomaly_assets.ingestion.times import microseconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from anomaly_assets.streams.windows import BoolArray, IntArray

_ROWS: Final = 100_000
_HOUR: Final = 3_600_000_000
_FIRST: Final = microseconds_of(datetime(2000, 1, 1, tzinfo=UTC))
#: A century of hours; readings outside are refused by the gate anyway.
_HOURS: Final = 100 * 366 * 24
_MOST_ORIGINS: Final = 16
_MOST_NAMES: Final = 1_000
_LONGEST_NAME: Final = 100
_OTHERS: Final = "(others)"
_SCHEMA = pa.schema(
    [
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("stream_id", pa.string()),
        ("value", pa.float64()),
    ]
)
_ORIGIN = pa.field("origin", pa.int16())


@dataclass
class Conversion:
    """What became of an export; grows while it is read.

    Parameters
    ----------
    records
        Records read, of whatever type.
    readings
        Readings made of them.
    mapped
        Records that became readings, by type and stream (``type -> stream``).
    unmapped
        Records (or files) of types that no stream is made of, by type.
    skipped
        Records of mapped types that became no reading, by reason.
    unreadable
        Files that could not be read, with the reason.
    done_bytes, total_bytes
        How far it is.
    """

    records: int = 0
    readings: int = 0
    mapped: Counter[str] = field(default_factory=Counter)
    unmapped: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    done_bytes: int = 0
    total_bytes: int = 0

    def leave_out(self, kind: str, count: int = 1) -> None:
        """Count records of a type that no stream is made of; the names come from outside."""
        name = printable(kind)
        if name not in self.unmapped and len(self.unmapped) >= _MOST_NAMES:
            name = _OTHERS
        self.unmapped[name] += count

    def give_up(self, file: str, error: Exception) -> None:
        """Note a file that cannot be read."""
        name = printable(file)
        if len(self.unreadable) >= _MOST_NAMES:
            name = _OTHERS
        self.unreadable[name] = str(error)


def printable(text: str) -> str:
    """Return a text of unknown origin, short and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST_NAME]) or "(unnamed)"


class ReadingsFile:
    """A Parquet file of readings in the making.

    Several devices count the same steps. Readings of the streams in `counted` are therefore kept of
    one origin an hour only: the one that counted most in it.

    Parameters
    ----------
    path
        Where the file is written.
    report
        Is told how many readings there are.
    counted
        Streams whose readings are added up.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> report = Conversion()
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "readings.parquet"
    >>> with ReadingsFile(path, report, counted={"steps"}) as file:
    ...     file.add("steps", 1_767_225_600_000_000, 20.0, origin="watch")
    ...     file.add("steps", 1_767_225_660_000_000, 18.0, origin="phone")
    >>> report.readings, dict(report.skipped)
    (1, {'counted by another device too': 1})
    """

    def __init__(self, path: Path, report: Conversion, counted: set[str]) -> None:
        self._path = path
        self._draft = path.with_suffix(".draft")
        self._report = report
        self._counted = sorted(counted)
        self._origins: dict[str, int] = {}
        self._totals: dict[tuple[str, int], np.ndarray[Any, np.dtype[np.float32]]] = {}
        self._rows: tuple[list[int], list[str], list[float], list[int]] = ([], [], [], [])
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._writer = pq.ParquetWriter(self._draft, _SCHEMA.append(_ORIGIN), compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the file, unless something went wrong; the draft is removed in any case."""
        try:
            if kind is None:
                self._flush()
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                self._finish()
        finally:
            self._draft.unlink(missing_ok=True)

    def add(self, stream: str, microseconds: int, value: float, origin: str = "") -> None:
        """Add a reading; `origin` is the device or app that counted."""
        code = self._origins.setdefault(origin, min(len(self._origins), _MOST_ORIGINS))
        for column, cell in zip(self._rows, (microseconds, stream, value, code), strict=True):
            column.append(cell)  # type: ignore[attr-defined]
        if stream in self._counted:
            self._add_up(stream, code, microseconds, value)
        if len(self._rows[0]) >= _ROWS:
            self._flush()

    def _add_up(self, stream: str, code: int, microseconds: int, value: float) -> None:
        hour = (microseconds - _FIRST) // _HOUR
        if not 0 <= hour < _HOURS:
            return
        totals = self._totals.get((stream, code))
        if totals is None:
            totals = self._totals[stream, code] = np.zeros(_HOURS, dtype=np.float32)
        totals[hour] += value

    def _flush(self) -> None:
        assert self._writer is not None  # noqa: S101 - within the context
        schema = _SCHEMA.append(_ORIGIN)
        columns = [pa.array(c, type=f.type) for c, f in zip(self._rows, schema, strict=True)]
        self._writer.write_batch(pa.record_batch(columns, schema=schema))
        for column in self._rows:
            column.clear()

    def _finish(self) -> None:
        best = {stream: self._best(stream) for stream in self._counted}
        with (
            pq.ParquetFile(self._draft) as draft,
            pq.ParquetWriter(self._path, _SCHEMA, compression="zstd") as writer,
        ):
            for batch in draft.iter_batches(batch_size=_ROWS):
                kept = batch.filter(pa.array(_kept(batch, best)))
                self._report.skipped["counted by another device too"] += (
                    batch.num_rows - kept.num_rows
                )
                self._report.readings += kept.num_rows
                writer.write_batch(kept.select(_SCHEMA.names))
        # Also takes away reasons that were counted 0 times.
        self._report.skipped = +self._report.skipped

    def _best(self, stream: str) -> IntArray | None:
        """Return the origin that counted most in each hour, the first of equals."""
        codes = [code for name, code in self._totals if name == stream]
        if len(codes) < 2:
            return None
        best = np.full(_HOURS, codes[0], dtype=np.int64)
        most = self._totals[stream, codes[0]].copy()
        for code in codes[1:]:
            more = self._totals[stream, code] > most
            best[more] = code
            np.maximum(most, self._totals[stream, code], out=most)
        return best


def _kept(batch: pa.RecordBatch, best: Mapping[str, IntArray | None]) -> BoolArray:
    keep = np.ones(batch.num_rows, dtype=np.bool_)
    times = batch.column("timestamp").cast(pa.int64()).to_numpy()
    origin = batch.column("origin").to_numpy()
    names = batch.column("stream_id").dictionary_encode()
    codes = names.indices.to_numpy()
    for position, name in enumerate(names.dictionary.to_pylist()):
        chosen = best.get(name)
        if chosen is not None:
            mine = codes == position
            hour = np.clip((times[mine] - _FIRST) // _HOUR, 0, _HOURS - 1)
            keep[mine] = origin[mine] == chosen[hour]
    return keep
