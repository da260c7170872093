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

from anomaly_assets.errors import StateError
from anomaly_assets.pipeline.course import Course, active_blocks, observed_values
from anomaly_assets.pipeline.together import Gathering, each_group
from anomaly_assets.state.store import Restored, SnapshotStore
from anomaly_assets.storage.entities import hold_entities, hold_entity
from anomaly_assets.storage.model_actions import (
    acted_upon,
    last_retrained_of_many,
    record_fallback,
    standing_bases,
)
from anomaly_assets.storage.windows import entity_lock, lock_entities, stored_ranges_of_many
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange, day_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.state.format import Detector
    from anomaly_assets.state.store import Learnt
    from anomaly_assets.storage.pending import Target
    from anomaly_assets.streams.catalogue import Catalogue

    Connection = psycopg.Connection[Any]

#: A full hour's snapshot is always kept, so that so much is the most between it and a window.
_MOST_REPLAYED_SECONDS = 2 * 3600


__all__ = ["Commit", "ModelStates", "Tier", "active_blocks", "advance"]


class Tier(Protocol):
    """What the pipeline has to know of a tier that keeps state."""

    component: str

    def build(self, catalogue: Catalogue) -> Detector:
        """Make a detector that has learnt nothing."""

    def read(self, connection: Connection, entity: Entity, windows: WindowRange) -> Any:  # noqa: ANN401
        """Load what the tier needs for `windows`."""

    def process(self, detector: Any, inputs: Any) -> Any:  # noqa: ANN401 - each tier has its own types
        """Run the detector over the inputs, in order."""

    def write(self, connection: Target, entity: Entity, inputs: Any, results: Any) -> int:  # noqa: ANN401
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
    store = SnapshotStore(tier.component, tier.build, deployment.key)

    def run(connection: Connection, entity: Entity) -> Iterator[Commit]:
        yield from _advance_entity(tier, deployment, store, connection, entity, windows)

    many = partial(_advance_many, tier, deployment.run_id, store)
    yield from each_group(deployment, entities, windows, many=many, alone=run)


def _advance_many(  # noqa: PLR0913, PLR0917 - a step for a group, and what it belongs to
    tier: Tier,
    run_id: str,
    store: SnapshotStore,
    connection: Connection,
    entities: Sequence[Entity],
    windows: WindowRange,
) -> tuple[list[Commit], list[Entity]]:
    """Advance those who go on from their newest snapshot, or begin, all in one transaction."""
    catalogues = {e.entity_id: e.catalogue for e in entities if e.first_window is not None}
    gathering = Gathering()
    saves: dict[str, Callable[[], None]] = {}
    with connection.transaction():
        # Until the transaction ends nobody else moves the state: it needs no other fence.
        lock_entities(connection, list(catalogues), tier.component)
        hold_entities(connection, list(catalogues))
        heads = store.heads(connection, list(catalogues))
        restored = store.restore_many(connection, catalogues, windows.start)
        reach = WindowRange(windows.start - _MOST_REPLAYED_SECONDS, windows.end)
        stored = stored_ranges_of_many(connection, list(catalogues), reach)
        acted = acted_upon(connection, list(catalogues), tier.component, reach.start_time)
        gathering.pending.last_retrained = last_retrained_of_many(
            connection, list(catalogues), windows.start_time
        )
        for entity in entities:
            if entity.entity_id not in catalogues:
                continue
            ranges = stored.get(entity.entity_id, [])
            head = heads.get(entity.entity_id)
            state = restored.get(entity.entity_id)
            if head is None and entity.first_window == windows.start:
                state = Restored(tier.build(entity.catalogue), windows.start)
            usable = state is not None and entity.entity_id not in acted
            if state is None or not usable or not _goes_on(state, head, ranges, windows):
                gathering.left.append(entity)
                continue
            with gathering.each(entity):
                learnt = state.learnt
                for block in _cut(ranges, state.as_of or 0, windows.start):
                    inputs = tier.read(connection, entity, block)
                    tier.process(state.detector, inputs)
                    learnt = learnt.plus(block.start, len(block), observed_values(inputs))
                for block in _cut(ranges, windows.start, windows.end):
                    inputs = tier.read(connection, entity, block)
                    results = tier.process(state.detector, inputs)
                    learnt = learnt.plus(block.start, len(block), observed_values(inputs))
                    snapshot = store.seal(
                        state.detector,
                        entity_id=entity.entity_id,
                        catalogue=entity.catalogue,
                        as_of=block.end,
                    )
                    rows = tier.write(gathering.pending, entity, inputs, results)
                    gathering.made(Commit(entity.entity_id, block, rows, len(snapshot.blob)))
                    saves[entity.entity_id] = partial(
                        store.save,
                        connection,
                        snapshot,
                        created_by=run_id,
                        base_action=state.base_action,
                        learnt=learnt,
                    )
        gathering.pending.write(connection)
        with connection.pipeline():
            for save in saves.values():
                save()
    return gathering.outcome()


def _goes_on(
    state: Restored, head: int | None, stored: Sequence[WindowRange], windows: WindowRange
) -> bool:
    """Whether a few windows at most lie between a state and a range, and one block in the range."""
    as_of = state.as_of or 0
    # Windows that have never been written are caught up on by going alone.
    written = head is None or head >= windows.start or not _cut(stored, head, windows.start)
    near = as_of >= windows.start - _MOST_REPLAYED_SECONDS
    return near and written and len(_cut(stored, windows.start, windows.end)) <= 1


def _cut(ranges: Sequence[WindowRange], start: int, end: int) -> list[WindowRange]:
    """Return what lies in ``[start, end)``, cut at midnights."""
    within = [(max(one.start, start), min(one.end, end)) for one in ranges]
    return [
        block for low, high in within if low < high for block in day_blocks(WindowRange(low, high))
    ]


def _advance_entity(  # noqa: PLR0913, PLR0917 - one entity, and what its step belongs to
    tier: Tier,
    deployment: Deployment,
    store: SnapshotStore,
    connection: Connection,
    entity: Entity,
    windows: WindowRange,
) -> Iterator[Commit]:
    first_window = entity.first_window
    if first_window is None:
        return
    with (
        deployment.database.connect() as reader,
        entity_lock(connection, entity.entity_id, tier.component),
        # While one block is being written, the next one is computed.
        ThreadPoolExecutor(max_workers=1) as writer,
    ):
        head = store.head(connection, entity.entity_id)
        restored = store.restore(connection, entity.entity_id, entity.catalogue, windows.start)
        _note_refused(connection, deployment, entity, tier, restored)
        course = Course.ahead_of(restored, tier, deployment, reader, entity)
        detector = restored.detector
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
        for block in course.cut(blocks):
            started = time.perf_counter()
            detector = course.reach(detector, block.start)
            inputs, results = course.learn(detector, block)
            detector = course.reach(detector, block.end)
            if block.end <= write_from:
                continue
            # Sealed now: the detector moves on while the block is being written.
            snapshot = store.seal(
                detector,
                entity_id=entity.entity_id,
                catalogue=entity.catalogue,
                as_of=block.end,
            )
            if writing is not None:
                yield writing.result()
            write = partial(tier.write, connection, entity, inputs, results)
            commit = Commit(entity.entity_id, block, 0, len(snapshot.blob), refused)
            save = partial(
                store.save,
                connection,
                snapshot,
                created_by=deployment.run_id,
                base_action=course.base_action,
                learnt=course.learnt,
            )
            fence = partial(_fence, store, connection, entity.entity_id, head)
            writing = writer.submit(_commit, connection, fence, write, save, commit, started)
            head, refused = block.end, tuple(course.refused)
            course.refused.clear()
        if writing is not None:
            yield writing.result()


def _commit(  # noqa: PLR0913, PLR0917 - everything one transaction is made of
    connection: Connection,
    fence: Callable[[], None],
    write: Callable[[], int],
    save: Callable[[], None],
    commit: Commit,
    started: float,
) -> Commit:
    with connection.transaction():
        hold_entity(connection, commit.entity_id)
        fence()
        rows = write()
        save()
    return replace(commit, rows=rows, seconds=time.perf_counter() - started)


def _note_refused(
    connection: Connection,
    deployment: Deployment,
    entity: Entity,
    tier: Tier,
    restored: Restored,
) -> None:
    if restored.refused:
        as_of = None
        if restored.as_of is not None:
            as_of = WindowRange(restored.as_of, restored.as_of).start_time
        record_fallback(
            connection,
            entity.entity_id,
            tier.component,
            who=deployment.run_id,
            reasons=restored.refused,
            as_of=as_of,
        )


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
        return self.state(entity, window)[0]

    def state(
        self, entity: Entity, window: int, *, without: Collection[int] = ()
    ) -> tuple[Any, int | None, Learnt]:
        """Return the detector before `window`, its last action and what it has learnt.

        Parameters
        ----------
        entity
            Whose.
        window
            Epoch seconds.
        without
            Actions to leave out, as if they had never been: from the last snapshot before them on.
        """
        tier = self._tier
        store = SnapshotStore(tier.component, tier.build, self._deployment.key)
        with self._deployment.database.connect() as connection, connection.transaction():
            limit = min([window, *_windows_before(connection, entity, tier, without)])
            restored = store.restore(connection, entity.entity_id, entity.catalogue, limit)
            course = Course.ahead_of(
                restored, tier, self._deployment, connection, entity, without=without
            )
            detector = restored.detector
            first = entity.first_window if restored.as_of is None else restored.as_of
            for block in course.cut(active_blocks(connection, entity, first, window)):
                detector = course.reach(detector, block.start)
                course.learn(detector, block)
            detector = course.reach(detector, window)
            return detector, course.base_action, course.learnt

    def advance(self, windows: WindowRange) -> Iterator[Commit]:
        """Move every entity over `windows`; see :func:`advance`."""
        return advance(self._tier, self._deployment, self._deployment.entities(), windows)


def _windows_before(
    connection: Connection, entity: Entity, tier: Tier, actions: Collection[int]
) -> list[int]:
    """Return the last windows before which a state has taken none of these actions."""
    if not actions:
        return []
    standing = standing_bases(connection, entity.entity_id, tier.component)
    return [
        int(one.as_of.timestamp()) - WINDOW_SECONDS
        for one in standing
        if one.action_id in actions and one.as_of is not None
    ]


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
