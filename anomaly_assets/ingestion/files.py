"""Files of readings, in chunks of raw cells.

*Long* files have a row for each reading: ``timestamp, stream_id, value``; *wide* ones a row for
each moment: ``timestamp`` and a column for each stream. Both may have a column that names the
entity. Cells of CSV files stay text here, so that a bad one can be shown as it was.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from anomaly_assets.errors import IngestionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.streams.windows import IntArray

TIME_COLUMN: Final = "timestamp"
INDEX_COLUMN: Final = "t"
STREAM_COLUMN: Final = "stream_id"
VALUE_COLUMN: Final = "value"
ENTITY_COLUMNS: Final = ("entity_id", "entity", "user")
#: About 90,000 rows of a long file: large enough for bulk speed, small enough to lose little to a
#: kill.
BLOCK_BYTES: Final = 4 << 20
PARQUET_ROWS: Final = 100_000
#: A wide row is many readings, so that a chunk has fewer rows.
_CELLS: Final = 200_000
_CSV_HEADER_RECORDS = 1


@dataclass(frozen=True)
class Layout:
    """What the columns of a file are.

    Parameters
    ----------
    columns
        Names of all columns, in order.
    entity
        Name of the column that names the entity, or None.
    time
        Name of the column of times, or None.
    index
        Whether column ``t`` numbers the rows (only where there is no time).
    streams
        Columns that hold values, by stream; empty for a long file.
    """

    columns: tuple[str, ...]
    entity: str | None
    time: str | None
    index: bool
    streams: tuple[str, ...]

    @property
    def long(self) -> bool:
        """Whether each row is one reading."""
        return not self.streams


@dataclass(frozen=True)
class MalformedRow:
    """A row that has not as many cells as the header.

    Parameters
    ----------
    row_number
        Record of the file, the header being 1, blank lines not counted.
    text
        The row as it was.
    detail
        What is wrong with it.
    """

    row_number: int
    text: str
    detail: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file.

    Parameters
    ----------
    cells
        The rows that have all their cells, a column for each of the file's.
    row_numbers
        Record of the file of each row, the header of a CSV file being 1.
    malformed
        The rows that do not.
    through_row
        Last record of the chunk.
    """

    cells: pa.RecordBatch
    row_numbers: IntArray
    malformed: tuple[MalformedRow, ...]
    through_row: int

    def after(self, row: int) -> Chunk | None:
        """Return what lies behind record `row`, or None."""
        if row >= self.through_row:
            return None
        first = int(np.searchsorted(self.row_numbers, row, side="right"))
        return Chunk(
            self.cells.slice(first),
            self.row_numbers[first:],
            tuple(bad for bad in self.malformed if bad.row_number > row),
            self.through_row,
        )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex.

    Raises
    ------
    IngestionError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise IngestionError(msg) from error


def layout_of(path: Path) -> Layout:
    """Read a file's header and tell what its columns are.

    Raises
    ------
    IngestionError
        If there is none, or it names a column twice, or no column can hold values.
    """
    columns = _columns(path)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        msg = f"{path}: column {twice[0]!r} is there twice; give every column a name of its own"
        raise IngestionError(msg)
    entity = next((name for name in ENTITY_COLUMNS if name in columns), None)
    time = TIME_COLUMN if TIME_COLUMN in columns else None
    index = time is None and INDEX_COLUMN in columns
    if STREAM_COLUMN in columns and VALUE_COLUMN in columns:
        return Layout(columns, entity, time, index, ())
    special = {entity, time, INDEX_COLUMN if index else None}
    streams = tuple(name for name in columns if name not in special)
    if not streams:
        msg = (
            f"{path}: columns {', '.join(columns)} hold no readings; give timestamp, stream_id, "
            "value, or timestamp and a column for each stream"
        )
        raise IngestionError(msg)
    return Layout(columns, entity, time, index, streams)


def chunks(path: Path, layout: Layout) -> Iterator[Chunk]:
    """Read a file chunk by chunk, in order.

    Raises
    ------
    IngestionError
        If the file breaks off or cannot be decoded.
    """
    try:
        yield from (_parquet if _is_parquet(path) else _csv)(path, layout)
    except (pa.ArrowException, OSError, EOFError) as error:
        msg = f"cannot read {path} to its end: {error}; what was read before is kept"
        raise IngestionError(msg) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"}


def _columns(path: Path) -> tuple[str, ...]:
    try:
        if _is_parquet(path):
            return tuple(pq.read_schema(path).names)
        opened = gzip.open if path.suffix.lower() == ".gz" else open
        with opened(path, "rb") as file:
            # Only the header has to be text; a bad byte further down spoils its own row.
            first = next((line for line in file if line.strip()), b"")
            header = next(csv.reader([first.decode("utf-8-sig")]), None) if first else None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        msg = f"cannot read {path}: {error}; give CSV (also .gz) or Parquet"
        raise IngestionError(msg) from error
    if header is None:
        msg = f"{path} is empty; its first line must name the columns"
        raise IngestionError(msg)
    return tuple(name.strip() for name in header)


def _csv(path: Path, layout: Layout) -> Iterator[Chunk]:
    malformed: list[MalformedRow] = []

    def keep(row: arrow_csv.InvalidRow) -> str:
        detail = f"{row.actual_columns} cells, the header has {row.expected_columns}"
        malformed.append(MalformedRow(int(row.number), str(row.text), detail))
        return "skip"

    compression = "gzip" if path.suffix.lower() == ".gz" else None
    reader = arrow_csv.open_csv(
        pa.input_stream(str(path), compression=compression),
        # One thread: only then are malformed rows numbered.
        read_options=arrow_csv.ReadOptions(
            use_threads=False,
            block_size=BLOCK_BYTES,
            skip_rows=0,
            column_names=list(layout.columns),
            skip_rows_after_names=0,
            autogenerate_column_names=False,
        ),
        parse_options=arrow_csv.ParseOptions(invalid_row_handler=keep),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(layout.columns, pa.string()),
            check_utf8=False,
            strings_can_be_null=False,
        ),
    )
    good = reported = through = 0
    for batch in reader:
        gone = np.array([bad.row_number for bad in malformed], dtype=np.int64)
        # Good rows before each malformed one: its number less itself and the malformed ones before.
        before = gone - 1 - np.arange(len(gone))
        index = np.arange(good, good + batch.num_rows)
        row_numbers = index + 1 + np.searchsorted(before, index, side="right")
        good += batch.num_rows
        # The header is a row like any other to the reader, since the names were given.
        first = _CSV_HEADER_RECORDS if through == 0 else 0
        through = max(int(row_numbers[-1]) if len(row_numbers) else 0, through)
        new = tuple(bad for bad in malformed[reported:] if bad.row_number < through)
        reported += len(new)
        yield from _pieces(batch.slice(first), row_numbers[first:], new, layout)
    rest = tuple(malformed[reported:])
    if rest:
        nothing = pa.RecordBatch.from_pylist([], schema=reader.schema)
        yield Chunk(nothing, np.empty(0, dtype=np.int64), rest, rest[-1].row_number)


def _parquet(path: Path, layout: Layout) -> Iterator[Chunk]:
    through = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            row_numbers = np.arange(through + 1, through + batch.num_rows + 1)
            through += batch.num_rows
            yield from _pieces(batch, row_numbers, (), layout)


def _pieces(
    batch: pa.RecordBatch,
    row_numbers: IntArray,
    malformed: tuple[MalformedRow, ...],
    layout: Layout,
) -> Iterator[Chunk]:
    size = max(1, _CELLS // max(1, len(layout.streams)))
    reported = 0
    for start in range(0, batch.num_rows, size):
        numbers = row_numbers[start : start + size]
        through = int(numbers[-1])
        new = tuple(bad for bad in malformed[reported:] if bad.row_number < through)
        reported += len(new)
        yield Chunk(batch.slice(start, size), numbers, new, through)
