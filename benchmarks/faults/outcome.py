"""What became of the readings, beside a run in which nothing was killed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly_assets.ingestion.ingest import ingest_files
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.migrate import upgrade
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets_tests.pipeline.support import RESULTS, deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from anomaly_assets.streams.windows import WindowRange
    from benchmarks.faults.senders import Reading
    from benchmarks.faults.topology import Topology

Journal = Counter[tuple[str, str, float, float]]


@dataclass(frozen=True)
class Outcome:
    """How a disturbed run differs from an undisturbed one.

    Parameters
    ----------
    lost
        Acknowledged readings that are not in the journal with their entity, stream, time and value.
    duplicated
        Rows of the journal beyond one for each reading that was sent.
    different_rows
        Rows of results by table that are not in both, a changed row counted once.
    rows
        Rows of results compared.
    """

    lost: int
    duplicated: int
    different_rows: dict[str, int]
    rows: int


def undisturbed(topology: Topology, sent: pd.DataFrame, windows: WindowRange) -> Database:
    """Take everything sent, in order of time, into a database of its own and process it once."""
    database = Database(ensure_database(topology.postgres.url, "undisturbed"))
    upgrade(database.url)
    path = topology.folder / "sent.parquet"
    sent.sort_values(["timestamp", "entity_id", "stream_id"]).to_parquet(path, index=False)
    ingest_files(database, [path], catalogue=load_catalogue("default"))
    process_all(database, topology.folder / "undisturbed", windows)
    return database


def process_all(database: Database, home: Path, windows: WindowRange) -> None:
    """Take all windows through the pipeline in order, in this process and without Dagster.

    Raises
    ------
    RuntimeError
        If an entity cannot be processed.
    """
    deployment = deployment_of(database, home)
    for _ in process(deployment, windows):
        pass
    if deployment.failures:
        msg = f"not processed: {deployment.failures}"
        raise RuntimeError(msg)


def compare(disturbed: Database, other: Database, acknowledged: Iterable[Reading]) -> Outcome:
    """Hold the journal against what was acknowledged, and the results against the other run's."""
    journal = journal_of(disturbed)
    wanted = keys_of(acknowledged)
    different = {}
    rows = 0
    for table, columns in RESULTS.items():
        found, expected = (_rows(one, table, columns) for one in (disturbed, other))
        different[table] = max((found - expected).total(), (expected - found).total())
        rows += expected.total()
    return Outcome(
        lost=(wanted - journal).total(),
        duplicated=(journal - wanted).total(),
        different_rows=different,
        rows=rows,
    )


def missing(database: Database, acknowledged: Iterable[Reading]) -> int:
    """Return how many acknowledged readings the journal does not hold yet."""
    return (keys_of(acknowledged) - journal_of(database)).total()


def keys_of(readings: Iterable[Reading]) -> Journal:
    """Return each reading once."""
    keys = {(r.entity_id, r.stream_id, r.at.timestamp(), r.value) for r in readings}
    return Counter(keys)


def journal_of(database: Database) -> Journal:
    """Return how often each reading is in the journal and taken into the aggregate."""
    with database.connect() as connection:
        return Counter(
            connection.execute(
                "SELECT entity_id, stream_id, extract(epoch FROM event_time)::float8, value "
                "FROM readings WHERE NOT late"
            ).fetchall()
        )


def _rows(database: Database, table: str, columns: str) -> Counter[bytes]:
    # As text: floats are then compared to the last bit, and unknown ones are equal.
    query = f"COPY (SELECT {columns} FROM {table}) TO STDOUT"  # noqa: S608 - constants
    with (
        database.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy(query) as copy,
    ):
        return Counter(b"".join(bytes(part) for part in copy).splitlines())
