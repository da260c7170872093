"""Which feedback is in force at a window, and what is decided with it: the same for every path.

A version holds from its first window on, until a later version does. What is in force at a window
is therefore a function of the recorded versions and of the window's time, whenever it is asked: a
replay decides as was decided.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.detection.feedback.decision import Decisions, calls, decide
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.detection.feedback.series import HISTORY, recent_scores, scores_of
from anomaly_assets.errors import SnapshotRefusedError, StateError
from anomaly_assets.pipeline.meta_model import layout_of, open_forest
from anomaly_assets.pipeline.tiers import read_cross_stream, read_gaps, read_individual
from anomaly_assets.storage.feedback import hold_feedback, list_versions, write_decisions
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.windows import WINDOW_SECONDS, Calendar, FloatArray, WindowRange

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.detection.feedback.forest import SeriesForest
    from anomaly_assets.detection.results import (
        CrossStreamScores,
        EnsembleResults,
        IndividualScores,
    )
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.feedback import FeedbackVersion
    from anomaly_assets.storage.pending import Target
    from anomaly_assets.streams.windows import IntArray

    Connection = psycopg.Connection[Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """What is applied to a window.

    Parameters
    ----------
    adjustment, forest
        What is in force; no forest: option A stands.
    feedback_id, meta_id
        Versions they are of; None where there is none.
    """

    adjustment: Adjustment
    forest: SeriesForest | None
    feedback_id: int | None
    meta_id: int | None


class FeedbackHistory:
    """Every version that concerns an entity.

    Parameters
    ----------
    own
        The entity's versions, the oldest first.
    meta
        The meta-learner's, for streams like the entity's.
    forests
        The meta-learner by version; a version whose forest cannot be used has none.
    """

    def __init__(
        self,
        own: Sequence[FeedbackVersion] = (),
        meta: Sequence[FeedbackVersion] = (),
        forests: dict[int, SeriesForest] | None = None,
    ) -> None:
        self._own = tuple(own)
        self._meta = tuple(meta)
        self._forests = forests or {}
        self._adjustments = {one.feedback_id: one.adjustment for one in self._own}

    def __bool__(self) -> bool:
        """Whether there ever was any feedback."""
        return bool(self._own or self._meta)

    @property
    def versions(self) -> tuple[int, ...]:
        """Numbers of all versions: the same numbers are the same history."""
        return tuple(one.feedback_id for one in (*self._own, *self._meta))

    @property
    def asks_for_history(self) -> bool:
        """Whether a meta-learner may be asked, who looks at the last hour."""
        return bool(self._forests)

    @classmethod
    def read(
        cls, connection: Connection, entity: Entity, key: bytes, *, hold: bool = False
    ) -> FeedbackHistory:
        """Read the versions of an entity; a forest that fails verification is left out, loudly.

        Parameters
        ----------
        connection
            A connection to the database.
        entity
            Whose.
        key
            The deployment's signing key.
        hold
            Whether they are to stay the only ones until the transaction ends.
        """
        return cls.read_many(connection, [entity], key, hold=hold)[entity.entity_id]

    @classmethod
    def read_many(
        cls, connection: Connection, entities: Sequence[Entity], key: bytes, *, hold: bool = False
    ) -> dict[str, FeedbackHistory]:
        """Read the versions of several entities at once, by identifier; see :meth:`read`."""
        layouts = {
            one.entity_id: layout_of(one.catalogue.stream_ids, one.catalogue.group_ids)
            for one in entities
        }
        scopes = {*layouts, *layouts.values()}
        if hold:
            hold_feedback(connection, scopes)
        own: dict[str, list[FeedbackVersion]] = defaultdict(list)
        meta: dict[str, list[FeedbackVersion]] = defaultdict(list)
        for version in list_versions(connection, *scopes) if scopes else ():
            (meta if version.is_meta else own)[version.scope].append(version)
        forests = {layout: _forests(versions, key) for layout, versions in meta.items()}
        return {
            entity_id: cls(own[entity_id], meta[layout], forests.get(layout))
            for entity_id, layout in layouts.items()
        }

    def at(self, window: int) -> Applied | None:
        """Return what is applied to a window that starts at `window`, epoch seconds.

        None where nothing is: the window is decided by its scores alone.
        """
        own = _in_force(self._own, window)
        meta = _in_force(self._meta, window)
        adjustment = Adjustment() if own is None else self._adjustments[own.feedback_id]
        forest = None if meta is None else self._forests.get(meta.feedback_id)
        if adjustment.changes_nothing and forest is None:
            return None
        return Applied(
            adjustment,
            forest,
            None if own is None else own.feedback_id,
            None if meta is None else meta.feedback_id,
        )


def _forests(versions: Sequence[FeedbackVersion], key: bytes) -> dict[int, SeriesForest]:
    found = {}
    for one in versions:
        try:
            forest = open_forest(one, one.scope, key)
        except SnapshotRefusedError as error:
            logger.warning("feedback version %d: option A stands: %s", one.feedback_id, error)
            continue
        if forest is not None:
            found[one.feedback_id] = forest
    return found


def _in_force(versions: Sequence[FeedbackVersion], window: int) -> FeedbackVersion | None:
    for one in reversed(versions):
        if one.from_window <= window:
            return one
    return None


@dataclass(frozen=True)
class Decided:
    """What is decided of some consecutive rows of evidence with the same feedback.

    Parameters
    ----------
    first
        Row of the first of them.
    decisions
        About all of them.
    applied
        What was in force.
    """

    first: int
    decisions: Decisions
    applied: Applied


def decide_all(history: FeedbackHistory, evidence: Evidence, settings: Settings) -> list[Decided]:
    """Decide about every row of evidence at which feedback is in force, in order.

    This is what both the pipeline and the live path call.
    """
    ensemble = HealthAwareEnsemble(method=settings.ensemble)
    applied = [history.at(start) for start in evidence.starts.tolist()]
    made = []
    first = 0
    for row in range(1, len(applied) + 1):
        if row < len(applied) and applied[row] == applied[first]:
            continue
        what = applied[first] if applied else None
        if what is not None:
            decisions = _decide(evidence.take(np.arange(first, row)), what, ensemble, settings)
            made.append(Decided(first, decisions, what))
        first = row
    return made


def _decide(
    evidence: Evidence, applied: Applied, ensemble: HealthAwareEnsemble, settings: Settings
) -> Decisions:
    threshold = settings.explanation_threshold
    try:
        return decide(
            evidence,
            applied.adjustment,
            threshold=threshold,
            ensemble=ensemble,
            forest=applied.forest,
        )
    except StateError as error:
        # The streams have changed since it was trained.
        logger.warning("option A stands: %s", error)
        return decide(evidence, applied.adjustment, threshold=threshold, ensemble=ensemble)


def decide_windows(  # noqa: PLR0913, PLR0917 - the block, what was said of it and what is in force
    connection: Connection,
    entity: Entity,
    windows: WindowRange,
    final: EnsembleResults,
    history: FeedbackHistory,
    settings: Settings,
    *,
    target: Target | None = None,
) -> int:
    """Decide about a block of scored windows and store it; returns how many had feedback.

    Without any version, ever, there is nothing to decide and nothing to replace. What is decided
    goes to `target`, by default to the database at once.
    """
    if not history:
        return 0
    evidence = block_evidence(connection, entity, windows, final, history, settings)
    made = decide_all(history, evidence, settings)
    starts = [evidence.starts[one.first : one.first + len(one.decisions.score)] for one in made]
    return write_decisions(
        connection if target is None else target,
        entity.entity_id,
        windows,
        np.concatenate(starts) if starts else np.empty(0, dtype=np.int64),
        [one.decisions for one in made],
        [(one.applied.feedback_id, one.applied.meta_id) for one in made],
    )


def block_evidence(  # noqa: PLR0913, PLR0917 - as above
    connection: Connection,
    entity: Entity,
    windows: WindowRange,
    final: EnsembleResults,
    history: FeedbackHistory,
    settings: Settings,
) -> Evidence:
    """Return the evidence of the windows of a stored block that call for attention."""
    individual = read_individual(connection, entity, windows)
    cross_stream = read_cross_stream(connection, entity, windows)
    whole = Evidence.of(
        entity.catalogue,
        windows,
        Calendar.of(windows, entity.time_zone),
        individual,
        cross_stream,
        read_gaps(connection, entity, windows),
        final,
    )
    rows = np.flatnonzero(calls(whole, settings.explanation_threshold))
    found = whole.take(rows)
    if not history.asks_for_history:
        return found
    before = scores_before(connection, entity, windows.start)
    return with_recent(found, individual, cross_stream, rows, before)


def with_recent(
    evidence: Evidence,
    individual: IndividualScores,
    cross_stream: CrossStreamScores,
    rows: IntArray,
    before: FloatArray,
) -> Evidence:
    """Add the last hour of scores to the evidence of some rows of a block."""
    recent = recent_scores(scores_of(individual, cross_stream), rows, before)
    arrays = {name: getattr(evidence, name) for name in Evidence.__dataclass_fields__}
    return Evidence(**{**arrays, "recent": recent})


def scores_before(connection: Connection, entity: Entity, start: int) -> FloatArray:
    """Return the stored scores of the windows just before a time, without a break up to it."""
    before = WindowRange(start - (HISTORY - 1) * WINDOW_SECONDS, start)
    stored = stored_ranges(connection, entity.entity_id, before)
    if not stored or stored[-1].end != start:
        n_channels = len(entity.catalogue.streams) + 1 + len(entity.catalogue.groups)
        return np.empty((0, n_channels))
    windows = stored[-1]
    return scores_of(
        read_individual(connection, entity, windows),
        read_cross_stream(connection, entity, windows),
    )
