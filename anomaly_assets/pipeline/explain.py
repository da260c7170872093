"""Explain the windows that call for it, from what the tables and the journal hold."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.explanation.events import minute_means
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.detection.explanation.triggers import Trigger, triggers
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.advance import Commit, active_blocks
from anomaly_assets.pipeline.stateless import each_entity
from anomaly_assets.pipeline.tiers import (
    read_block,
    read_cross_stream,
    read_gaps,
    read_individual,
)
from anomaly_assets.storage import journal, results
from anomaly_assets.storage.windows import missing_counts, stored_ranges
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_HOUR,
    FloatArray,
    IntArray,
    WindowRange,
    window_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.detection.results import (
        CrossStreamScores,
        EnsembleResults,
        GapScores,
        IndividualScores,
    )
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import WindowBlock

    Connection = psycopg.Connection[Any]

#: How far back the one-minute timelines reach, in windows.
_TIMELINE_WINDOWS = 12


def explain_windows(
    deployment: Deployment, entities: Iterable[Entity], windows: WindowRange
) -> Iterator[Commit]:
    """Explain every window of a range that triggers an explanation."""
    mode = Mode(deployment.settings.explanation_mode)
    threshold = deployment.settings.explanation_threshold

    def run(connection: Connection, entity: Entity) -> Iterator[Commit]:
        explainer = Explainer(entity.catalogue, mode=mode)
        for block in active_blocks(connection, entity, windows.start, windows.end):
            started = time.perf_counter()
            with connection.transaction():
                evidence = _Evidence(connection, entity, block)
                codes = triggers(
                    evidence.individual.score,
                    evidence.cross_stream.score,
                    evidence.ensemble.score,
                    threshold=threshold,
                )
                explanations = [
                    explainer.explain(found)
                    for found in evidence.of_rows(np.flatnonzero(codes), codes)
                ]
                rows = results.write_explanations(
                    connection, entity.entity_id, block, [e.to_dict() for e in explanations]
                )
            yield Commit(entity.entity_id, block, rows, seconds=time.perf_counter() - started)

    yield from each_entity(deployment, entities, run)


def explain_window(
    deployment: Deployment, entity: Entity, at: datetime, *, mode: Mode = Mode.THOROUGH
) -> Explanation:
    """Explain one processed window on demand, whether or not anything triggered it.

    Raises
    ------
    AnomalyAssetsError
        If the window has not been processed.
    """
    start = int(window_of(at).timestamp())
    windows = WindowRange(start, start + WINDOW_SECONDS)
    with deployment.database.connect() as connection, connection.transaction():
        if not stored_ranges(connection, entity.entity_id, windows):
            msg = (
                f"window {windows.start_time:%Y-%m-%d %H:%M} UTC of entity {entity.entity_id!r} "
                "has not been processed; run anomaly-assets backfill, or choose another window"
            )
            raise AnomalyAssetsError(msg)
        evidence = _Evidence(connection, entity, windows)
        codes = triggers(
            evidence.individual.score, evidence.cross_stream.score, evidence.ensemble.score
        )
        codes[codes == 0] = Trigger.FORCED.code
        (found,) = evidence.of_rows(np.array([0]), codes)
    return Explainer(entity.catalogue, mode=mode).explain(found)


class _Evidence:
    """Everything the tables hold of a block, read once."""

    def __init__(self, connection: Connection, entity: Entity, windows: WindowRange) -> None:
        self._connection = connection
        self._entity = entity
        self._block: WindowBlock = read_block(connection, entity, windows)
        self._gaps: GapScores = read_gaps(connection, entity, windows)
        self.cross_stream: CrossStreamScores = read_cross_stream(connection, entity, windows)
        self.ensemble: EnsembleResults = results.read_ensemble(
            connection, entity.entity_id, windows
        )
        self.individual: IndividualScores = read_individual(connection, entity, windows)

    def of_rows(self, rows: IntArray, codes: Any) -> list[WindowEvidence]:  # noqa: ANN401 - int8 array
        """Return the evidence of some windows of the block, with their trigger codes."""
        if len(rows) == 0:
            return []
        block = self._block
        history = self._history()
        individual = self._with_gap_lengths(history)
        first = block.windows.start + (int(rows[0]) - _TIMELINE_WINDOWS) * WINDOW_SECONDS
        last = block.windows.start + (int(rows[-1]) + 1) * WINDOW_SECONDS
        minutes = self._minutes(WindowRange(first, last))
        found = []
        for row in rows.tolist():
            end = block.windows.start + (row + 1) * WINDOW_SECONDS
            stop = (end - first) // 60
            start = max(0, stop - _TIMELINE_WINDOWS * WINDOW_SECONDS // 60)
            trigger = Trigger.of_code(int(codes[row])) or Trigger.FORCED
            found.append(
                WindowEvidence.from_results(
                    block,
                    row,
                    trigger,
                    history=history,
                    individual=individual,
                    cross_stream=self.cross_stream,
                    gaps=self._gaps,
                    ensemble=self.ensemble,
                    minutes=minutes[start:stop],
                    minutes_start=first + start * 60,
                )
            )
        return found

    def _history(self) -> FloatArray:
        start = self._block.windows.start
        before = WindowRange(start - HISTORY_WINDOWS * WINDOW_SECONDS, start)
        stored = stored_ranges(self._connection, self._entity.entity_id, before)
        # Only what reaches up to the block without a break: a dormant time lies before the rest.
        if not stored or stored[-1].end != start:
            return np.empty((0, len(self._entity.catalogue.streams)))
        return read_block(self._connection, self._entity, stored[-1]).values

    def _with_gap_lengths(self, history: FloatArray) -> IndividualScores:
        """Count the missing windows in a row, from the last hourly health row on."""
        start = self._block.windows.start
        hour = start - start % (WINDOWS_PER_HOUR * WINDOW_SECONDS)
        if hour == start:
            hour -= WINDOWS_PER_HOUR * WINDOW_SECONDS
        known = missing_counts(
            self._connection,
            self._entity.entity_id,
            datetime.fromtimestamp(hour, tz=UTC),
            self._entity.catalogue,
        )
        since = (start - hour) // WINDOW_SECONDS - 1
        earlier = history[-since:] if since else history[:0]
        missing = np.isnan(np.concatenate([earlier, self._block.values]))
        counts = np.empty(missing.shape, dtype=np.int64)
        run = known
        for number, row in enumerate(missing):
            run = np.where(row, run + 1, 0)
            counts[number] = run
        health = replace(self.individual.health, consecutive_missing=counts[len(earlier) :])
        return replace(self.individual, health=health)

    def _minutes(self, windows: WindowRange) -> FloatArray:
        catalogue = self._entity.catalogue
        readings = journal.read_readings(
            self._connection, self._entity.entity_id, windows, catalogue
        ).readings
        # The journal hands readings out in any order; sums must not depend on it.
        order = np.lexsort((readings.value, readings.microseconds, readings.stream))
        return minute_means(
            readings.stream[order],
            readings.microseconds[order],
            readings.value[order],
            windows.start,
            len(windows) * WINDOW_SECONDS // 60,
            len(catalogue.streams),
            aggregations=[stream.aggregation for stream in catalogue.streams],
        )
