"""The steps that keep no state: readings into windows, and tiers into one final score."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.pipeline.advance import Commit, active_blocks
from anomaly_assets.pipeline.dropped import keep_as_stored, readable_from, with_readings
from anomaly_assets.pipeline.in_force import FeedbackHistory, decide_windows
from anomaly_assets.pipeline.tiers import hand_over, read_cross_stream, read_individual
from anomaly_assets.pipeline.together import Gathering, each_group
from anomaly_assets.storage import journal, journals, results
from anomaly_assets.storage.entities import hold_entities, hold_entity
from anomaly_assets.storage.windows import stored_ranges_of_many
from anomaly_assets.streams.aggregation import (
    Aggregated,
    MissingReason,
    aggregate,
    lookback_windows,
)
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    BoolArray,
    WindowBlock,
    WindowRange,
    day_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.storage.pending import Target

    Connection = psycopg.Connection[Any]

#: After this long without any reading an entity is dormant: its windows are not produced any more
#: until it reports again (a stream silent for so long counts as a permanent failure anyway).
DORMANT_AFTER = timedelta(days=7)
_DORMANT_WINDOWS = int(DORMANT_AFTER.total_seconds()) // WINDOW_SECONDS


def aggregate_windows(
    deployment: Deployment, entities: Iterable[Entity], windows: WindowRange
) -> Iterator[Commit]:
    """Turn the journal's readings into one row per window and stream.

    From here on, a reading that still arrives for one of these windows is late. Windows whose
    readings retention has dropped stay as they are stored; see
    :mod:`~anomaly_assets.pipeline.dropped`.
    """

    def run(connection: Connection, entity: Entity) -> Iterator[Commit]:
        first = entity.first_window
        if first is None or first >= windows.end:
            return
        with connection.transaction():
            journal.close_windows(connection, entity.entity_id, windows.end_time)
        for block in _from_readings(connection, entity, max(windows.start, first), windows.end):
            started = time.perf_counter()
            with connection.transaction():
                hold_entity(connection, entity.entity_id)
                journal.clear_late_windows(connection, entity.entity_id, block)
                aggregated, active = _aggregate(connection, entity, block)
                rows = _write_active(connection, entity, block, aggregated, active)
            yield Commit(entity.entity_id, block, rows, seconds=time.perf_counter() - started)

    many = _aggregate_many
    yield from each_group(deployment, entities, windows, many=many, alone=run)


def combine(
    deployment: Deployment, entities: Iterable[Entity], windows: WindowRange
) -> Iterator[Commit]:
    """Combine tiers 1 and 2 into the final score of each window, and decide about it.

    What people have said of earlier windows changes what is decided, never the score.
    """
    settings = deployment.settings
    ensemble = HealthAwareEnsemble(method=settings.ensemble)

    def run(connection: Connection, entity: Entity) -> Iterator[Commit]:
        for block in active_blocks(connection, entity, windows.start, windows.end):
            started = time.perf_counter()
            with connection.transaction():
                hold_entity(connection, entity.entity_id)
                final = ensemble.process(
                    read_individual(connection, entity, block),
                    read_cross_stream(connection, entity, block),
                )
                rows = results.write_ensemble(connection, entity.entity_id, block, final)
                feedback = FeedbackHistory.read(connection, entity, deployment.key, hold=True)
                rows += decide_windows(connection, entity, block, final, feedback, settings)
            yield Commit(entity.entity_id, block, rows, seconds=time.perf_counter() - started)

    many = partial(_combine_many, deployment, ensemble)
    yield from each_group(deployment, entities, windows, many=many, alone=run)


def _combine_many(
    deployment: Deployment,
    ensemble: HealthAwareEnsemble,
    connection: Connection,
    entities: Sequence[Entity],
    windows: WindowRange,
) -> tuple[list[Commit], list[Entity]]:
    gathering = Gathering()
    ids = [entity.entity_id for entity in entities]
    with connection.transaction():
        hold_entities(connection, ids)
        feedback = FeedbackHistory.read_many(connection, entities, deployment.key, hold=True)
        stored = stored_ranges_of_many(connection, ids, windows)
        for entity in entities:
            with gathering.each(entity):
                for block in stored.get(entity.entity_id, []):
                    final = ensemble.process(
                        read_individual(connection, entity, block),
                        read_cross_stream(connection, entity, block),
                    )
                    rows = results.write_ensemble(gathering.pending, entity.entity_id, block, final)
                    rows += decide_windows(
                        connection,
                        entity,
                        block,
                        final,
                        feedback[entity.entity_id],
                        deployment.settings,
                        target=gathering.pending,
                    )
                    gathering.made(Commit(entity.entity_id, block, rows))
        gathering.pending.write(connection)
    return gathering.outcome()


def _from_readings(
    connection: Connection, entity: Entity, start: int, end: int
) -> list[WindowRange]:
    """Return the windows that can be made of readings, in blocks of a day."""
    since = readable_from(connection, entity)
    if since is not None and start < since:
        keep_as_stored(connection, entity, WindowRange(start, min(since, end)))
        start = since
    return day_blocks(WindowRange(start, end)) if start < end else []


def _aggregate(
    connection: Connection, entity: Entity, block: WindowRange
) -> tuple[Aggregated, BoolArray]:
    before = lookback_windows(entity.catalogue) * WINDOW_SECONDS
    known = WindowRange(block.start - before, block.end)
    found = journal.read_readings(connection, entity.entity_id, known, entity.catalogue)
    last = journal.last_reading_before(connection, entity.entity_id, block.start_time)
    return _with_activity(entity, block, found, last)


def _with_activity(
    entity: Entity, block: WindowRange, found: journal.JournalReadings, last: datetime | None
) -> tuple[Aggregated, BoolArray]:
    """Aggregate what was found, and say in which windows the entity was not dormant."""
    aggregated = aggregate(
        found.readings, block, entity.catalogue, late=found.late, rejected=found.rejected
    )
    never = -_DORMANT_WINDOWS - 1
    since = never if last is None else (int(last.timestamp()) - block.start) // WINDOW_SECONDS
    number = np.arange(len(block))
    reported = np.where(_reported(aggregated), number, since)
    active: BoolArray = number - np.maximum.accumulate(reported) < _DORMANT_WINDOWS
    return aggregated, active


def _aggregate_many(
    connection: Connection, entities: Sequence[Entity], windows: WindowRange
) -> tuple[list[Commit], list[Entity]]:
    begun = [e for e in entities if e.first_window is not None and e.first_window < windows.end]
    going = [e for e in begun if e.first_window is not None and e.first_window <= windows.start]
    going = with_readings(connection, going, windows)
    gathering = Gathering(left=[entity for entity in begun if entity not in going])
    ids = [entity.entity_id for entity in going]
    journals.close_windows_of_many(connection, ids, windows.end_time)
    with connection.transaction():
        hold_entities(connection, ids)
        journals.clear_late_windows_of_many(connection, ids, windows)
        last = journals.last_readings_before(connection, ids, windows.start_time)
        for entity, found in _readings_of(connection, going, windows):
            with gathering.each(entity):
                aggregated, active = _with_activity(
                    entity, windows, found, last.get(entity.entity_id)
                )
                rows = _write_active(gathering.pending, entity, windows, aggregated, active)
                gathering.made(Commit(entity.entity_id, windows, rows))
        gathering.pending.write(connection)
    return gathering.outcome()


def _readings_of(
    connection: Connection, entities: Sequence[Entity], windows: WindowRange
) -> Iterator[tuple[Entity, journal.JournalReadings]]:
    by_catalogue: dict[str, list[Entity]] = {}
    for entity in entities:
        by_catalogue.setdefault(entity.catalogue.digest, []).append(entity)
    for some in by_catalogue.values():
        catalogue = some[0].catalogue
        before = lookback_windows(catalogue) * WINDOW_SECONDS
        known = WindowRange(windows.start - before, windows.end)
        ids = [entity.entity_id for entity in some]
        found = journals.read_readings_of_many(connection, ids, known, catalogue)
        yield from zip(some, found, strict=True)


def _reported(aggregated: Aggregated) -> BoolArray:
    # A stuck sensor has no value, but it does report.
    stuck = aggregated.reason == MissingReason.STUCK
    reported: BoolArray = (np.isfinite(aggregated.values) | stuck).any(axis=1)
    return reported


def _write_active(
    connection: Target,
    entity: Entity,
    block: WindowRange,
    aggregated: Aggregated,
    active: BoolArray,
) -> int:
    rows = 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    whole = WindowBlock(entity.entity_id, entity.time_zone, block, aggregated.values)
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        part = whole.part(start, stop)
        hand_over("block", entity, part.windows, part)
        rows += results.write_windows(
            connection, part, aggregated.reason[start:stop], entity.catalogue
        )
    return rows
