"""Advance one tier's state over a range of windows, entity by entity, block by block.

Every block is one transaction that holds its results and the state after it, so a kill at any point
leaves a consistent past. A range starts from the newest verified snapshot before it; the windows in
between are replayed, and written only if they had not been written before.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from anomaly_assets.errors import StateError
from anomaly_assets.logs import about
from anomaly_assets.state.store import SnapshotStore
from anomaly_assets.storage.windows import entity_lock, stored_ranges
from anomaly_assets.streams.windows import WindowRange, day_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.state.format import Detector, Snapshot
    from anomaly_assets.streams.catalogue import Catalogue

    Connection = psycopg.Connection[Any]


class Tier(Protocol):
    """What the pipeline has to know of a tier that keeps state."""

    component: str

    def build(self, catalogue: Catalogue) -> Detector:
        """Make a detector that has learnt nothing."""

    def read(self, connection: Connection, entity: Entity, windows: WindowRange) -> Any:  # noqa: ANN401
        """Load what the tier needs for `windows`."""

    def process(self, detector: Any, inputs: Any) -> Any:  # noqa: ANN401 - each tier has its own types
        """Run the detector over the inputs, in order."""

    def write(self, connection: Connection, entity: Entity, inputs: Any, results: Any) -> int:  # noqa: ANN401
        """Store the results, replacing what was there; return the number of rows."""


@dataclass(frozen=True)
class Commit:
    """One committed block.

    Parameters
    ----------
    entity_id, windows
        What was committed.
    rows
        Rows written.
    snapshot_bytes
        Size of the state stored with it.
    refused
        Snapshots that failed verification on the way, each with the reason.
    seconds
        Time it took.
    """

    entity_id: str
    windows: WindowRange
    rows: int
    snapshot_bytes: int = 0
    refused: tuple[str, ...] = ()
    seconds: float = 0.0


def advance(
    tier: Tier, deployment: Deployment, entities: Iterable[Entity], windows: WindowRange
) -> Iterator[Commit]:
    """Run `tier` over `windows` for every entity, yielding each block once it is committed.

    An entity that fails is recorded in ``deployment.failures`` and the next one goes on; a database
    that cannot be reached ends the run, for a retry.

    Parameters
    ----------
    tier
        What to run.
    deployment
        Where to read and write.
    entities
        Whom to process; those already in ``deployment.failures`` are left out.
    windows
        The range asked for. Windows before it that the tier has not done yet are caught up on.
    """
    for entity in entities:
        first = entity.first_window
        if entity.entity_id in deployment.failures or first is None:
            continue
        try:
            with about(entity=entity.entity_id, window=windows.start_time):
                yield from _advance_entity(tier, deployment, entity, first, windows)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop other entities
            deployment.fail(entity.entity_id, error)


def _advance_entity(
    tier: Tier, deployment: Deployment, entity: Entity, first_window: int, windows: WindowRange
) -> Iterator[Commit]:
    store = SnapshotStore(tier.component, tier.build, deployment.key)
    with (
        deployment.database.connect() as connection,
        deployment.database.connect() as reader,
        entity_lock(connection, entity.entity_id, tier.component),
        # While one block is being written, the next one is computed.
        ThreadPoolExecutor(max_workers=1) as writer,
    ):
        head = store.head(connection, entity.entity_id)
        restored = store.restore(connection, entity.entity_id, entity.catalogue, windows.start)
        first = first_window if restored.as_of is None else restored.as_of
        # Windows that this tier has never written are caught up on, whichever range was asked for.
        unwritten = first_window if head is None else head
        write_from = min(windows.start, unwritten)
        blocks = [
            *active_blocks(reader, entity, first, write_from),
            *active_blocks(reader, entity, write_from, windows.end),
        ]
        writing: Future[Commit] | None = None
        refused = restored.refused
        for block in blocks:
            started = time.perf_counter()
            inputs = tier.read(reader, entity, block)
            results = tier.process(restored.detector, inputs)
            if block.end <= write_from:
                continue
            # Sealed now: the detector moves on while the block is being written.
            snapshot = store.seal(
                restored.detector,
                entity_id=entity.entity_id,
                catalogue=entity.catalogue,
                as_of=block.end,
            )
            if writing is not None:
                yield writing.result()
            write = partial(tier.write, connection, entity, inputs, results)
            commit = Commit(entity.entity_id, block, 0, len(snapshot.blob), refused)
            writing = writer.submit(
                _commit,
                store,
                connection,
                snapshot,
                head,
                write,
                commit,
                deployment.run_id,
                started,
            )
            head, refused = block.end, ()
        if writing is not None:
            yield writing.result()


def _commit(  # noqa: PLR0913, PLR0917 - everything one transaction is made of
    store: SnapshotStore,
    connection: Connection,
    snapshot: Snapshot,
    expected_head: int | None,
    write: Callable[[], int],
    commit: Commit,
    run_id: str,
    started: float,
) -> Commit:
    with connection.transaction():
        _fence(store, connection, commit.entity_id, expected_head)
        rows = write()
        store.save(connection, snapshot, created_by=run_id)
    return replace(commit, rows=rows, seconds=time.perf_counter() - started)


class ModelStates:
    """The states of one model asset, as of any window.

    Parameters
    ----------
    tier
        Whose states.
    deployment
        Where they are kept.
    """

    def __init__(self, tier: Tier, deployment: Deployment) -> None:
        self._tier = tier
        self._deployment = deployment

    def before(self, entity: Entity, window: int) -> Any:  # noqa: ANN401 - each tier has its own
        """Return the detector as it was before `window` (epoch seconds), by replay if need be."""
        store = SnapshotStore(self._tier.component, self._tier.build, self._deployment.key)
        with self._deployment.database.connect() as connection, connection.transaction():
            restored = store.restore(connection, entity.entity_id, entity.catalogue, window)
            first = entity.first_window if restored.as_of is None else restored.as_of
            for block in active_blocks(connection, entity, first, window):
                self._tier.process(restored.detector, self._tier.read(connection, entity, block))
        return restored.detector

    def advance(self, windows: WindowRange) -> Iterator[Commit]:
        """Move every entity over `windows`; see :func:`advance`."""
        return advance(self._tier, self._deployment, self._deployment.entities(), windows)


def active_blocks(
    connection: Connection, entity: Entity, first: int | None, end: int
) -> list[WindowRange]:
    """Return the stored windows of an entity from `first` on, cut at UTC midnights.

    Cutting at fixed times keeps checkpoints a day apart and the blocks of all tiers alike.
    """
    if first is None or first >= end:
        return []
    stored = stored_ranges(connection, entity.entity_id, WindowRange(first, end))
    return [block for windows in stored for block in day_blocks(windows)]


def _fence(
    store: SnapshotStore, connection: Connection, entity_id: str, expected_head: int | None
) -> None:
    # The lock keeps writers apart; this finds one that was stopped, lost its session and woke up.
    head = store.head(connection, entity_id)
    if head != expected_head:
        msg = (
            f"entity {entity_id!r}: another writer moved {store.component} from window "
            f"{expected_head} to {head} meanwhile; this run gives way, run it again"
        )
        raise StateError(msg)
