"""Snapshots are found by window, verified, and thinned as they are saved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
import pytest
from psycopg import sql

from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.state.store import SnapshotStore
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection, Database

KEY = b"a key of sixteen or more characters"
CATALOGUE = Catalogue(
    name="small",
    groups=(Group(id="body"),),
    streams=(
        Stream(id="pulse", type=StreamType.CONTINUOUS_SMOOTH, group="body"),
        Stream(id="breath", type=StreamType.CONTINUOUS_SMOOTH, group="body"),
    ),
)
HOUR = 3600
#: A full hour.
START = int(datetime(2026, 1, 10, 8, tzinfo=UTC).timestamp())
STORE = SnapshotStore("gap_patterns", GapDetector, KEY)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """Connect to an empty database."""
    with database.connect() as opened:
        yield opened


def learn(detector: Any, windows: int) -> bytes:
    """Show a detector some windows; returns its scores."""
    values = np.random.default_rng(windows).normal(size=(windows, 2))
    values[values < -0.5] = np.nan
    block = WindowBlock("ann", "UTC", WindowRange(START, START + windows * WINDOW_SECONDS), values)
    return bytes(detector.process(block).score.tobytes())


def save(
    connection: Connection,
    as_of: int,
    *,
    detector: GapDetector | None = None,
    entity_id: str = "ann",
    store: SnapshotStore = STORE,
) -> None:
    """Save a detector as of a moment."""
    sealed = store.seal(
        detector or GapDetector(CATALOGUE), entity_id=entity_id, catalogue=CATALOGUE, as_of=as_of
    )
    store.save(connection, sealed, created_by="test")


def moments(connection: Connection, entity_id: str = "ann") -> list[int]:
    """Return which snapshots of an entity are there, in seconds since :data:`START`."""
    rows = connection.execute(
        "SELECT extract(epoch FROM as_of)::bigint FROM model_snapshots "
        "WHERE entity_id = %s AND component = 'gap_patterns' ORDER BY as_of",
        (entity_id,),
    ).fetchall()
    return [row[0] - START for row in rows]


def test_without_snapshots_state_is_fresh(connection: Connection) -> None:
    """The head is None and the detector has learnt nothing."""
    assert STORE.head(connection, "ann") is None
    restored = STORE.restore(connection, "ann", CATALOGUE, START)
    assert (restored.as_of, restored.refused) == (None, ())
    assert learn(restored.detector, 20) == learn(GapDetector(CATALOGUE), 20)


def test_restored_state_goes_on_where_it_was(connection: Connection) -> None:
    """What comes out of the database scores on exactly as what went in."""
    detector = GapDetector(CATALOGUE)
    learn(detector, 50)
    save(connection, START, detector=detector)
    restored = STORE.restore(connection, "ann", CATALOGUE, START)
    assert restored.as_of == START
    scores = learn(restored.detector, 20)
    assert scores == learn(detector, 20)
    assert scores != learn(GapDetector(CATALOGUE), 20)


def test_newest_state_up_to_the_window_is_taken(connection: Connection) -> None:
    """State as of the window itself will do; state that has learnt the window will not."""
    for hours in range(3):
        save(connection, START + hours * HOUR)

    def found(window: int) -> int | None:
        return STORE.restore(connection, "ann", CATALOGUE, window).as_of

    assert found(START + 2 * HOUR) == START + 2 * HOUR
    assert found(START + 2 * HOUR - WINDOW_SECONDS) == START + HOUR
    assert found(START + 10 * HOUR) == START + 2 * HOUR
    assert found(START) == START
    assert found(START - WINDOW_SECONDS) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("blob = set_byte(blob, 20, get_byte(blob, 20) # 1)", "digest"),
        ("blob = substring(blob FROM 1 FOR 100)", "digest"),
        ("sha256 = repeat('0', 64)", "signature"),
        ("signature = repeat('0', 64)", "signature"),
        ("river_version = '0.0.1'", "signature"),
        ("as_of = as_of - interval '5 minutes'", "signature"),
    ],
)
def test_tampered_snapshot_is_passed_over(
    connection: Connection, damage: LiteralString, reason: str
) -> None:
    """A snapshot that was changed in any way is refused, with the reason, for an older one."""
    save(connection, START)
    save(connection, START + HOUR)
    statement = sql.SQL("UPDATE model_snapshots SET {} WHERE as_of = to_timestamp({})")
    connection.execute(statement.format(sql.SQL(damage), START + HOUR))
    restored = STORE.restore(connection, "ann", CATALOGUE, START + HOUR)
    assert restored.as_of == START
    (refusal,) = restored.refused
    assert reason in refusal
    assert "'ann'" in refusal


def test_without_any_usable_snapshot_state_is_fresh(connection: Connection) -> None:
    """If all are refused, the reasons are told newest first, and replay begins at the start."""
    save(connection, START)
    save(connection, START + HOUR)
    stranger = SnapshotStore("gap_patterns", GapDetector, KEY + b"!")
    restored = stranger.restore(connection, "ann", CATALOGUE, START + HOUR)
    assert restored.as_of is None
    assert len(restored.refused) == 2
    assert learn(restored.detector, 20) == learn(GapDetector(CATALOGUE), 20)


def test_state_of_another_catalogue_is_refused(connection: Connection) -> None:
    """State that was learnt under other streams is of no use."""
    save(connection, START)
    other = Catalogue(name="small", groups=CATALOGUE.groups, streams=CATALOGUE.streams[:1])
    restored = STORE.restore(connection, "ann", other, START)
    assert restored.as_of is None
    assert "catalogue_digest" in restored.refused[0]


def test_saving_deletes_what_is_newer(connection: Connection) -> None:
    """State as of a window replaces that of the same and of all later windows."""
    for hours in range(4):
        save(connection, START + hours * HOUR)
    save(connection, START + HOUR)
    assert moments(connection) == [0, HOUR]
    assert STORE.head(connection, "ann") == START + HOUR


def test_saving_keeps_full_hours_of_the_last_two(connection: Connection) -> None:
    """Saved window by window, full hours stay, and of the rest only the newest."""
    for number in range(31):
        save(connection, START + number * WINDOW_SECONDS)
    assert moments(connection) == [0, HOUR, 2 * HOUR, 2 * HOUR + 6 * WINDOW_SECONDS]


def test_saving_leaves_older_ones_to_retention(connection: Connection) -> None:
    """What is two hours old or more stays when newer state is saved, full hour or not."""
    first = START + WINDOW_SECONDS
    save(connection, first)
    save(connection, first + 2 * HOUR)
    assert moments(connection) == [WINDOW_SECONDS, WINDOW_SECONDS + 2 * HOUR]
    save(connection, first + 3 * HOUR)
    assert moments(connection) == [WINDOW_SECONDS, WINDOW_SECONDS + 3 * HOUR]


def test_entities_and_components_are_apart(connection: Connection) -> None:
    """Saving and finding concern one component of one entity."""
    other = SnapshotStore("tier1_models", GapDetector, KEY)
    save(connection, START + HOUR, entity_id="bob")
    save(connection, START + HOUR, store=other)
    save(connection, START)
    assert STORE.head(connection, "ann") == START
    assert STORE.head(connection, "bob") == START + HOUR
    assert other.head(connection, "ann") == START + HOUR
    assert STORE.restore(connection, "ann", CATALOGUE, START + HOUR).as_of == START


def test_saving_is_part_of_the_callers_transaction(connection: Connection) -> None:
    """A transaction that fails leaves the snapshots as they were."""
    save(connection, START)
    save(connection, START + HOUR)
    with connection.transaction(force_rollback=True):
        save(connection, START)
        assert moments(connection) == [0]
    assert moments(connection) == [0, HOUR]


def test_provenance_is_stored_with_the_snapshot(connection: Connection) -> None:
    """The row tells what the snapshot is, how long, and who made it."""
    save(connection, START)
    row = connection.execute(
        "SELECT detector, catalogue_digest, created_by, size = octet_length(blob), "
        "sha256 = encode(sha256(blob), 'hex') FROM model_snapshots"
    ).fetchone()
    name = f"GapDetector/{GapDetector.version}"
    assert row == (name, CATALOGUE.digest, "test", True, True)
