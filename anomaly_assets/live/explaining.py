"""Explanations that follow the results they explain."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.logs import about
from anomaly_assets.pipeline.exemplars import LabelledExplainers
from anomaly_assets.pipeline.explain import with_arrivals
from anomaly_assets.pipeline.minutes import read_minutes
from anomaly_assets.pipeline.network import read_span
from anomaly_assets.storage.networks import read_network
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY, WindowRange

if TYPE_CHECKING:
    from datetime import timedelta

    from anomaly_assets.detection.explanation.evidence import WindowEvidence
    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import FloatArray

    Connection = psycopg.Connection[Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unexplained:
    """A window that waits for its explanation.

    Parameters
    ----------
    entity
        Whose.
    window, revision
        Which result is explained.
    evidence
        What was said of the window.
    """

    entity: Entity
    window: int
    revision: int
    evidence: WindowEvidence


class Backlog:
    """Windows that wait for their explanation, the oldest of which go when there are too many.

    Parameters
    ----------
    most
        Windows held.
    """

    def __init__(self, most: int) -> None:
        self._waiting: deque[Unexplained] = deque()
        self._most = most
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of windows that wait."""
        return len(self._waiting)

    def put(self, what: Unexplained) -> int:
        """Add a window; return how many had to go for it."""
        self._waiting.append(what)
        self._arrived.set()
        dropped = 0
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            dropped += 1
        return dropped

    async def wait(self, every: timedelta | None) -> None:
        """Wait for a window to be put in since the last time, or for so long."""
        if every is not None:
            await asyncio.sleep(every.total_seconds())
            return
        await self._arrived.wait()
        self._arrived.clear()

    def drop(self, entity_id: str) -> None:
        """Let go of an entity's windows."""
        kept = [what for what in self._waiting if what.entity.entity_id != entity_id]
        self._waiting = deque(kept)

    def take(self, most: int | None = None) -> list[Unexplained]:
        """Take the windows that have waited longest."""
        count = len(self._waiting) if most is None else min(most, len(self._waiting))
        return [self._waiting.popleft() for _ in range(count)]


def explain(deployment: Deployment, what: Unexplained) -> Explanation:
    """Explain a window by itself, as the `explanations` asset explains an episode of one window.

    Without the database it is explained from what the tiers said alone.
    """
    start = datetime.fromtimestamp(what.window, tz=UTC)
    with about(entity=what.entity.entity_id, window=start):
        return _explain(deployment, what)


def _explain(deployment: Deployment, what: Unexplained) -> Explanation:
    mode = Mode(deployment.settings.explanation_mode)
    evidence = what.evidence
    explainer = Explainer(what.entity.catalogue, mode=mode)
    try:
        with deployment.database.connect() as connection, connection.transaction():
            connection.execute("SET TRANSACTION READ ONLY")
            evidence = _with_minutes(connection, what.entity, evidence)
            evidence = with_arrivals(connection, what.entity, evidence)
            if mode is Mode.THOROUGH:
                evidence = _with_causality(connection, what.entity, evidence)
            labelled = LabelledExplainers(connection, what.entity, evidence.window_start, mode)
            explainer = labelled.before(evidence.window_start)
    except psycopg.OperationalError as error:
        logger.warning(
            "entity %r: explained without timeline, network and labels, the database is away: %s",
            what.entity.entity_id,
            error,
        )
    return explainer.explain(evidence)


def _with_minutes(
    connection: Connection, entity: Entity, evidence: WindowEvidence
) -> WindowEvidence:
    first = evidence.window_end - HISTORY_WINDOWS * WINDOW_SECONDS
    minutes = read_minutes(connection, entity, WindowRange(first, evidence.window_end))
    return replace(evidence, minutes=minutes, minutes_start=first)


def _with_causality(
    connection: Connection, entity: Entity, evidence: WindowEvidence
) -> WindowEvidence:
    """Add the newest causal network, and the day, whose end may not be stored yet."""
    start = datetime.fromtimestamp(evidence.window_start, tz=UTC)
    day = WindowRange(evidence.window_end - WINDOWS_PER_DAY * WINDOW_SECONDS, evidence.window_end)
    span = read_span(connection, entity, day)
    values = None if span is None else _with_newest(span[0], evidence)
    return replace(evidence, network=read_network(connection, entity.entity_id, start), day=values)


def _with_newest(values: FloatArray, evidence: WindowEvidence) -> FloatArray:
    history = evidence.history if evidence.history is not None else values[:0]
    newest = np.concatenate([history, evidence.values[np.newaxis]])[-len(values) :]
    values[len(values) - len(newest) :] = newest
    return values
