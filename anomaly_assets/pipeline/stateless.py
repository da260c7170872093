"""The steps that keep no state: readings into windows, and tiers into one final score."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import psycopg

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.pipeline.advance import Commit, active_blocks
from anomaly_assets.pipeline.in_force import FeedbackHistory, decide_windows
from anomaly_assets.pipeline.tiers import hand_over, read_cross_stream, read_individual
from anomaly_assets.storage import journal, results
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
    from collections.abc import Callable, Iterable, Iterator

    from anomaly_assets.pipeline.deployment import Deployment, Entity

    Connection = psycopg.Connection[Any]

Made = TypeVar("Made")

#: After this long without any reading an entity is dormant: its windows are not produced any more
#: until it reports again (a stream silent for so long counts as a permanent failure anyway).
DORMANT_AFTER = timedelta(days=7)
_DORMANT_WINDOWS = int(DORMANT_AFTER.total_seconds()) // WINDOW_SECONDS


def aggregate_windows(
    deployment: Deployment, entities: Iterable[Entity], windows: WindowRange
) -> Iterator[Commit]:
    """Turn the journal's readings into one row per window and stream.

    From here on, a reading that still arrives for one of these windows is late.
    """

    def run(connection: Connection, entity: Entity) -> Iterator[Commit]:
        first = entity.first_window
        if first is None or first >= windows.end:
            return
        with connection.transaction():
            journal.close_windows(connection, entity.entity_id, windows.end_time)
        for block in day_blocks(WindowRange(max(windows.start, first), windows.end)):
            started = time.perf_counter()
            with connection.transaction():
                journal.clear_late_windows(connection, entity.entity_id, block)
                aggregated, active = _aggregate(connection, entity, block)
                rows = _write_active(connection, entity, block, aggregated, active)
            yield Commit(entity.entity_id, block, rows, seconds=time.perf_counter() - started)

    yield from each_entity(deployment, entities, run)


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
                final = ensemble.process(
                    read_individual(connection, entity, block),
                    read_cross_stream(connection, entity, block),
                )
                rows = results.write_ensemble(connection, entity.entity_id, block, final)
                feedback = FeedbackHistory.read(connection, entity, deployment.key, hold=True)
                decide_windows(connection, entity, block, final, feedback, settings)
            yield Commit(entity.entity_id, block, rows, seconds=time.perf_counter() - started)

    yield from each_entity(deployment, entities, run)


def each_entity(
    deployment: Deployment,
    entities: Iterable[Entity],
    run: Callable[[Connection, Entity], Iterator[Made]],
) -> Iterator[Made]:
    """Run a step for each entity; one that fails is recorded, and the next one goes on."""
    for entity in entities:
        if entity.entity_id in deployment.failures:
            continue
        try:
            with deployment.database.connect() as connection:
                yield from run(connection, entity)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop other entities
            deployment.fail(entity.entity_id, error)


def _aggregate(
    connection: Connection, entity: Entity, block: WindowRange
) -> tuple[Aggregated, BoolArray]:
    before = lookback_windows(entity.catalogue) * WINDOW_SECONDS
    known = WindowRange(block.start - before, block.end)
    found = journal.read_readings(connection, entity.entity_id, known, entity.catalogue)
    aggregated = aggregate(
        found.readings, block, entity.catalogue, late=found.late, rejected=found.rejected
    )
    last = journal.last_reading_before(connection, entity.entity_id, block.start_time)
    never = -_DORMANT_WINDOWS - 1
    since = never if last is None else (int(last.timestamp()) - block.start) // WINDOW_SECONDS
    number = np.arange(len(block))
    reported = np.where(_reported(aggregated), number, since)
    active: BoolArray = number - np.maximum.accumulate(reported) < _DORMANT_WINDOWS
    return aggregated, active


def _reported(aggregated: Aggregated) -> BoolArray:
    # A stuck sensor has no value, but it does report.
    stuck = aggregated.reason == MissingReason.STUCK
    reported: BoolArray = (np.isfinite(aggregated.values) | stuck).any(axis=1)
    return reported


def _write_active(
    connection: Connection,
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
