"""Take files of readings into the journal, resumably.

A file is read in chunks; each chunk is one transaction with its readings, its refusals and a note
of how far the file has been taken in. A kill loses nothing and doubles nothing: run the same
command again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg.types.json import Jsonb

from anomaly_assets.errors import IngestionError, InputError
from anomaly_assets.ingestion.files import Layout, chunks, digest_of, layout_of
from anomaly_assets.ingestion.times import is_zone
from anomaly_assets.ingestion.validate import (
    Accepted,
    Gate,
    Rejected,
    check,
    unknown_columns,
)
from anomaly_assets.storage.entities import ensure_entity, require_entity_id
from anomaly_assets.storage.journal import AppendReport, append_readings
from anomaly_assets.storage.rejections import record_rejections
from anomaly_assets.storage.retention import raw_limits
from anomaly_assets.streams.aggregation import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from anomaly_assets.storage.database import Connection, Database
    from anomaly_assets.streams.catalogue import Catalogue


@dataclass(frozen=True)
class IngestOptions:
    """How files are to be read.

    Parameters
    ----------
    zone
        IANA zone of times that name none.
    start, step
        For files without a column ``timestamp``: time of row 0 and time between rows. Row i (or the
        row whose column ``t`` says i) is ``start + i * step``; without ``t`` the rows of several
        files are counted on, in the order given.
    ignore_columns
        Columns of wide files that are no streams, and are not to be reported as unknown ones.
    future_tolerance
        Clock skew accepted.
    late_horizon
        How far behind the aggregate a reading may be and still cause a replay.
    again
        Take in files that were taken in already; stored readings still stay as they are.
    """

    zone: str = "UTC"
    start: datetime | None = None
    step: timedelta | None = None
    ignore_columns: frozenset[str] = frozenset()
    future_tolerance: timedelta = timedelta(minutes=5)
    late_horizon: timedelta = timedelta(hours=24)
    again: bool = False


@dataclass
class IngestReport:
    """What became of files; grows while they are read.

    Parameters
    ----------
    files, rows
        Files finished, and rows read (without headers).
    accepted, duplicate, late, too_late
        As in :class:`~anomaly_assets.storage.journal.AppendReport`; readings of an earlier,
        interrupted or complete, ingestion of the same file are duplicates.
    rejected
        Refused readings by reason.
    seconds
        Time it took.
    """

    files: int = 0
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    too_late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Checked:
    """A chunk that went through the gate."""

    accepted: Accepted
    rejected: list[Rejected]
    rows: int
    through_row: int


@dataclass(frozen=True)
class _Job:
    """One file with everything that decides what its rows mean."""

    path: Path
    digest: str
    layout: Layout
    gate: Gate
    options: IngestOptions
    catalogue_name: str | None
    first_index: int

    @property
    def key(self) -> str:
        """Digest of all of it: under another key the file is taken in anew."""
        gate = self.gate
        meaning = [
            self.digest,
            gate.entity_id,
            gate.catalogue.digest,
            gate.zone,
            None if gate.start is None else gate.start.isoformat(),
            None if gate.step is None else gate.step.total_seconds(),
            self.first_index,
            sorted(self.options.ignore_columns),
        ]
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()


def ingest_files(  # noqa: PLR0913 - the public face, all by name
    database: Database,
    paths: Sequence[Path],
    *,
    catalogue: Catalogue,
    catalogue_name: str | None = None,
    entity_id: str | None = None,
    options: IngestOptions | None = None,
    now: datetime | None = None,
    progress: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Take files of readings into the journal.

    Parameters
    ----------
    database
        A migrated database.
    paths
        CSV (also .gz) or Parquet files, long or wide; see :mod:`~anomaly_assets.ingestion.files`.
    catalogue
        The streams that are known.
    catalogue_name
        Name or path under which new entities refer to it; None for the deployment's default.
    entity_id
        Whose readings these are; None when the files name their entities.
    options
        How to read them.
    now
        Readings of the future are refused; default: the system's clock.
    progress
        Called with the report after every chunk.

    Returns
    -------
    IngestReport
        The totals.

    Raises
    ------
    IngestionError
        If a file cannot be read as readings at all. What was read before is kept, and running the
        same again goes on from there.
    """
    started = time.perf_counter()
    options = options or IngestOptions()
    _require_usable(options, entity_id)
    report = IngestReport()
    first_index = 0
    with database.connect() as connection:
        gate = Gate(
            catalogue,
            now or datetime.now(tz=UTC),
            options.future_tolerance,
            entity_id,
            options.zone,
            options.start,
            options.step,
            raw_limits(connection),
        )
        for path in paths:
            layout = layout_of(path)
            _require_sense(path, layout, gate)
            job = _Job(path, digest_of(path), layout, gate, options, catalogue_name, first_index)
            before = report.rows
            for _ in _ingest_file(connection, job, report):
                report.seconds = time.perf_counter() - started
                if progress is not None:
                    progress(report)
            if layout.time is None and not layout.index:
                first_index += report.rows - before
            report.files += 1
    report.seconds = time.perf_counter() - started
    return report


def _ingest_file(connection: Connection, job: _Job, report: IngestReport) -> Iterator[None]:
    done, complete = _resume(connection, job, report)
    if complete:
        yield
        return
    through = done
    for checked in _ahead(_checked(job, done)):
        through = checked.through_row
        counts, appended = _commit(connection, job, checked)
        report.rows += checked.rows
        report.accepted += appended.accepted
        report.duplicate += appended.duplicate
        report.late += appended.late
        report.too_late += appended.too_late
        report.rejected.update(counts)
        yield
    connection.execute(
        "UPDATE ingest_progress SET complete = true WHERE job = %s AND through_row = %s",
        (job.key, through),
    )


def _resume(connection: Connection, job: _Job, report: IngestReport) -> tuple[int, bool]:
    """Report what an earlier run took in; return its last row, and whether that was all."""
    if job.options.again:
        connection.execute("DELETE FROM ingest_progress WHERE job = %s", (job.key,))
    done, complete = 0, False
    for through, counts, finished in connection.execute(
        "SELECT through_row, counts, complete FROM ingest_progress WHERE job = %s "
        "ORDER BY through_row",
        (job.key,),
    ):
        done, complete = through, complete or finished
        report.rows += counts["rows"]
        report.duplicate += counts["stored"]
        report.rejected.update(counts["rejected"])
    return done, complete


def _checked(job: _Job, done: int) -> Iterator[_Checked]:
    """Read and check the chunks behind row `done`."""
    # A row of a CSV file is counted from the header, one of a Parquet file from the first row.
    header = 0 if job.path.suffix.lower() in {".parquet", ".pq"} else 1
    first_index = job.first_index - 1 - header
    columns = unknown_columns(job.layout, job.gate, job.options.ignore_columns) if not done else []
    for whole in chunks(job.path, job.layout):
        chunk = whole.after(done)
        if chunk is None:
            continue
        accepted, rejected = check(chunk, job.layout, job.gate, first_index)
        rows = len(chunk.row_numbers) + len(chunk.malformed)
        yield _Checked(accepted, columns + rejected, rows, chunk.through_row)
        columns = []


def _ahead(items: Iterator[_Checked]) -> Iterator[_Checked]:
    """Prepare the next chunk while the database is busy with this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _commit(
    connection: Connection, job: _Job, checked: _Checked
) -> tuple[Counter[str], AppendReport]:
    accepted = checked.accepted
    reasons: Counter[str] = Counter(str(one.reason) for one in checked.rejected)
    appended = AppendReport()
    with connection.transaction():
        # In one order, so that two ingestions with common entities do not wait for each other.
        for position in sorted(range(len(accepted.entities)), key=accepted.entities.__getitem__):
            name = accepted.entities[position]
            mine = accepted.entity == position
            if not mine.any():
                continue
            appended += _append(connection, job, name, _of(accepted, mine))
        record_rejections(
            connection,
            Rejected.columns(checked.rejected),
            source=job.path.name,
            source_digest=job.digest,
        )
        counts = {
            "rows": checked.rows,
            "stored": appended.accepted + appended.duplicate,
            "rejected": dict(reasons),
        }
        connection.execute(
            "INSERT INTO ingest_progress (job, through_row, source, counts) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT (job, through_row) DO NOTHING",
            (job.key, checked.through_row, job.path.name, Jsonb(counts)),
        )
    return reasons, appended


def _append(connection: Connection, job: _Job, name: str, readings: Readings) -> AppendReport:
    try:
        ensure_entity(connection, name, catalogue=job.catalogue_name)
    except InputError as error:
        raise IngestionError(str(error)) from error
    return append_readings(
        connection,
        name,
        readings,
        job.gate.catalogue,
        source=job.path.name,
        late_horizon=job.options.late_horizon,
    )


def _of(accepted: Accepted, mine: np.ndarray[Any, np.dtype[np.bool_]]) -> Readings:
    if mine.all():
        return Readings(accepted.stream, accepted.microseconds, accepted.value)
    return Readings(accepted.stream[mine], accepted.microseconds[mine], accepted.value[mine])


def _require_usable(options: IngestOptions, entity_id: str | None) -> None:
    if entity_id is not None:
        require_entity_id(entity_id)
    if not is_zone(options.zone):
        msg = f"unknown time zone {options.zone!r}; give an IANA name such as Europe/Berlin"
        raise IngestionError(msg)
    if options.start is not None and options.start.tzinfo is None:
        msg = f"start {options.start.isoformat()} has no time zone; write 2026-01-01T00:00:00Z"
        raise IngestionError(msg)
    if options.step is not None and options.step <= timedelta(0):
        msg = f"step {options.step} is not positive; give the time between two rows"
        raise IngestionError(msg)


def _require_sense(path: Path, layout: Layout, gate: Gate) -> None:
    if layout.time is None and (gate.start is None or gate.step is None):
        msg = (
            f"{path} has no column 'timestamp'; give start and step, the time of its first row and "
            "between rows"
        )
        raise IngestionError(msg)
    if layout.entity is None and gate.entity_id is None:
        msg = f"{path} names no entity and none was given; give an entity id"
        raise IngestionError(msg)
    if layout.entity is not None and gate.entity_id is not None:
        msg = (
            f"{path} names its entities in column {layout.entity!r}; leave out entity "
            f"{gate.entity_id!r}, or remove the column"
        )
        raise IngestionError(msg)
