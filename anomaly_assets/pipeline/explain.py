"""Explain the windows that call for it, from what the tables and the journal hold."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.explain import Mode
from anomaly_assets.detection.explanation.network.fitting import FitError, fit_network
from anomaly_assets.detection.explanation.network.model import STALE_AFTER_SECONDS
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.detection.explanation.triggers import Trigger, triggers
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.advance import Commit, active_blocks
from anomaly_assets.pipeline.dropped import readable_from
from anomaly_assets.pipeline.episodes import (
    Closed,
    OpenEpisodes,
    Surroundings,
    calling_for_explanation,
)
from anomaly_assets.pipeline.exemplars import LabelledExplainers
from anomaly_assets.pipeline.minutes import read_minutes
from anomaly_assets.pipeline.network import read_span
from anomaly_assets.pipeline.tiers import (
    read_block,
    read_cross_stream,
    read_gaps,
    read_individual,
)
from anomaly_assets.pipeline.together import each_group
from anomaly_assets.storage import journals, results
from anomaly_assets.storage.arrivals import read_arrivals
from anomaly_assets.storage.entities import hold_entity
from anomaly_assets.storage.feedback import as_decided
from anomaly_assets.storage.networks import read_network
from anomaly_assets.storage.windows import (
    missing_counts,
    stored_ranges,
    stored_ranges_of_many,
)
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    WINDOWS_PER_HOUR,
    FloatArray,
    IntArray,
    WindowRange,
    window_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    deployment: Deployment,
    entities: Iterable[Entity],
    windows: WindowRange,
) -> Iterator[Commit]:
    """Explain every episode that windows of a range belong to, one record an episode.

    An episode that began before the range, or goes on after it, is explained anew from all its
    windows, and its record replaced: what is stored is a function of the scored windows, whichever
    way they were cut into ranges. Where retention has dropped the readings, records stay as they
    are. It is the last step of a replay, of everybody or of some.
    """
    mode = Mode(deployment.settings.explanation_mode)
    threshold = deployment.settings.explanation_threshold

    def run(connection: Connection, entity: Entity) -> Iterator[Commit]:
        # Without the minutes of its readings an explanation would lose what it was made with.
        since = readable_from(connection, entity, _TIMELINE_WINDOWS)
        start = windows.start if since is None else max(windows.start, since)
        blocks = active_blocks(connection, entity, start, windows.end)
        if not blocks:
            return
        with connection.transaction():
            span = WindowRange(start, windows.end)
            surroundings = Surroundings.of(connection, entity, span, threshold)
            explainers = LabelledExplainers(connection, entity, surroundings.span.end, mode)
        episodes = OpenEpisodes(surroundings)
        for block in blocks:
            started = time.perf_counter()
            last = block is blocks[-1]
            with connection.transaction():
                hold_entity(connection, entity.entity_id)
                evidence = _Evidence(connection, entity, block)
                codes = triggers(
                    evidence.individual.score,
                    evidence.cross_stream.score,
                    evidence.ensemble.score,
                    threshold=threshold,
                )
                codes = as_decided(connection, entity.entity_id, block, block.starts(), codes)
                episodes.add(block, codes, evidence.ensemble.score)
                span, closed = episodes.finish() if last else episodes.close(block.end)
                records = [
                    explainers.before(one.episode.start).explain(
                        _of_episode(connection, entity, evidence, one, mode=mode)
                    )
                    for one in closed
                ]
                rows = results.write_explanations(
                    connection, entity.entity_id, span, [record.to_dict() for record in records]
                )
            yield Commit(entity.entity_id, block, rows, seconds=time.perf_counter() - started)

    entities = list(entities)
    many = partial(_pass_over_quiet, threshold)
    yield from each_group(deployment, entities, windows, many=many, alone=run)
    # The last step of a replay: had it been killed before, its windows would have to be done again.
    with deployment.database.connect() as connection:
        ids = [entity.entity_id for entity in entities]
        journals.forget_late_windows_of_many(connection, ids, windows)


def _pass_over_quiet(
    threshold: float, connection: Connection, entities: Sequence[Entity], windows: WindowRange
) -> tuple[list[Commit], list[Entity]]:
    """Have done with entities that have nothing to explain; the others go alone."""
    started = time.perf_counter()
    ids = [entity.entity_id for entity in entities]
    stored = stored_ranges_of_many(connection, ids, windows)
    called = calling_for_explanation(connection, ids, windows, threshold)
    left = [entity for entity in entities if entity.entity_id in called]
    seconds = (time.perf_counter() - started) / len(entities)
    done = [
        Commit(entity_id, block, 0, seconds=seconds)
        for entity_id in ids
        if entity_id not in called
        for block in stored.get(entity_id, [])
    ]
    return done, left


def _of_episode(
    connection: Connection, entity: Entity, block: _Evidence, closed: Closed, *, mode: Mode
) -> WindowEvidence:
    """Return the evidence of an episode's telling window, which may lie outside of the block."""
    start = closed.episode.telling
    if not block.windows.start <= start < block.windows.end:
        window = WindowRange(start, start + WINDOW_SECONDS)
        block = _Evidence(connection, entity, window)
    row = (start - block.windows.start) // WINDOW_SECONDS
    (found,) = block.of_rows(np.array([row]), {row: closed.code})
    found = replace(with_arrivals(connection, entity, found), episode=closed.episode)
    return _with_causality(connection, entity, found) if mode is Mode.THOROUGH else found


def explain_window(
    deployment: Deployment, entity: Entity, at: datetime, *, mode: Mode = Mode.THOROUGH
) -> Explanation:
    """Explain one processed window on demand, by itself, whether or not anything triggered it.

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
        found = window_evidence(connection, entity, windows.start)
        found = with_arrivals(connection, entity, found)
        if mode is Mode.THOROUGH:
            hours = deployment.settings.network_hours
            found = _with_causality(connection, entity, found, fit_hours=hours)
        explainers = LabelledExplainers(connection, entity, windows.start, mode)
    return explainers.before(windows.start).explain(found)


def window_evidence(connection: Connection, entity: Entity, start: int) -> WindowEvidence:
    """Return what the tiers say of one processed window by itself, which starts at `start`."""
    evidence = _Evidence(connection, entity, WindowRange(start, start + WINDOW_SECONDS))
    codes = triggers(
        evidence.individual.score, evidence.cross_stream.score, evidence.ensemble.score
    )
    codes[codes == 0] = Trigger.FORCED.code
    (found,) = evidence.of_rows(np.array([0]), {0: int(codes[0])})
    return found


def with_arrivals(connection: Connection, entity: Entity, found: WindowEvidence) -> WindowEvidence:
    """Add when readings came, up to the end of the window."""
    arrivals = read_arrivals(connection, entity.entity_id, found.window_end, entity.catalogue)
    return replace(found, arrivals=arrivals)


def _with_causality(
    connection: Connection, entity: Entity, found: WindowEvidence, *, fit_hours: int | None = None
) -> WindowEvidence:
    """Add the newest causal network before the window, and the day up to it.

    With `fit_hours`, a network is fitted on so many hours now where none is fresh enough.
    """
    start = datetime.fromtimestamp(found.window_start, tz=UTC)
    network, problem = read_network(connection, entity.entity_id, start), ""
    stale = network is None or network.age(found.window_start) > STALE_AFTER_SECONDS
    if stale and fit_hours is not None:
        span = read_span(
            connection, entity, WindowRange.between(start - timedelta(hours=fit_hours), start)
        )
        try:
            if span is None:
                problem = "none fitted, and no windows before this one to fit it on"
            else:
                structure = Structure.of(entity.catalogue)
                network = fit_network(*span, structure, fitted_at=found.window_start)
        except FitError as error:
            problem = str(error)
    day = WindowRange(
        found.window_end - WINDOWS_PER_DAY * WINDOW_SECONDS,
        found.window_end,
    )
    span = read_span(connection, entity, day)
    return replace(
        found,
        network=network,
        network_problem=problem,
        day=None if span is None else span[0],
    )


class _Evidence:
    """Everything the tables hold of a block, read once."""

    def __init__(self, connection: Connection, entity: Entity, windows: WindowRange) -> None:
        self.windows = windows
        self._connection = connection
        self._entity = entity
        self._block: WindowBlock = read_block(connection, entity, windows)
        self._gaps: GapScores = read_gaps(connection, entity, windows)
        self.cross_stream: CrossStreamScores = read_cross_stream(connection, entity, windows)
        self.ensemble: EnsembleResults = results.read_ensemble(
            connection, entity.entity_id, windows
        )
        self.individual: IndividualScores = read_individual(connection, entity, windows)

    def of_rows(self, rows: IntArray, codes: Mapping[int, int]) -> list[WindowEvidence]:
        """Return the evidence of some windows of the block, with their trigger codes by row."""
        if len(rows) == 0:
            return []
        block = self._block
        history = self._history()
        individual = self._with_gap_lengths(history)
        first = block.windows.start + (int(rows[0]) - _TIMELINE_WINDOWS) * WINDOW_SECONDS
        last = block.windows.start + (int(rows[-1]) + 1) * WINDOW_SECONDS
        minutes = read_minutes(self._connection, self._entity, WindowRange(first, last))
        found = []
        for row in rows.tolist():
            end = block.windows.start + (row + 1) * WINDOW_SECONDS
            stop = (end - first) // 60
            start = max(0, stop - _TIMELINE_WINDOWS * WINDOW_SECONDS // 60)
            trigger = Trigger.of_code(codes[row]) or Trigger.FORCED
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
