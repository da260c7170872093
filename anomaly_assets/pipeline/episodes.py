"""Episodes over ranges: found again from the tables, whichever windows a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.explanation.episodes import (
    MAX_QUIET_WINDOWS,
    Episode,
    episodes_of,
)
from anomaly_assets.detection.explanation.triggers import CodeArray, triggers
from anomaly_assets.storage.explanations import episodes_to_look_at, ongoing_since
from anomaly_assets.storage.feedback import as_decided, decided_of_many
from anomaly_assets.storage.queries import (
    scored_until,
    strongest_scores,
    strongest_scores_of_many,
)
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, IntArray, WindowRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from anomaly_assets.pipeline.deployment import Entity

    Connection = psycopg.Connection[Any]

#: So many windows without an anomalous one lie between two episodes.
_APART = (MAX_QUIET_WINDOWS + 1) * WINDOW_SECONDS
#: How much further is looked each time that an episode turns out to be longer.
_FACTOR = 8


@dataclass(frozen=True)
class Anomalous:
    """Windows that call for an explanation.

    Parameters
    ----------
    starts, codes, scores
        Start (epoch seconds, increasing), trigger code and final score of each.
    """

    starts: IntArray
    codes: CodeArray
    scores: FloatArray

    @classmethod
    def among(cls, starts: IntArray, codes: CodeArray, scores: FloatArray) -> Anomalous:
        """Take those of some windows whose code is not 0."""
        found = codes != 0
        return cls(starts[found], codes[found], scores[found])

    @classmethod
    def stored(
        cls, connection: Connection, entity: Entity, windows: WindowRange, threshold: float
    ) -> Anomalous:
        """Take those of the stored windows of a range."""
        starts, scores = strongest_scores(connection, entity.entity_id, windows)
        codes = triggers(scores[:, :1], scores[:, 1], scores[:, 2], threshold=threshold)
        codes = as_decided(connection, entity.entity_id, windows, starts, codes)
        return cls.among(starts, codes, scores[:, 2])

    def followed_by(self, other: Anomalous) -> Anomalous:
        """Return these and later ones together."""
        return Anomalous(
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.scores, other.scores]),
        )

    def since(self, start: int) -> Anomalous:
        """Return those from a time on."""
        kept = self.starts >= start
        return Anomalous(self.starts[kept], self.codes[kept], self.scores[kept])


@dataclass(frozen=True)
class Surroundings:
    """What lies around a range and belongs to the same episodes.

    Parameters
    ----------
    span
        The range, and the episodes that reach into it from either side.
    before, after
        Anomalous windows of the span before and after the range.
    until
        End of the entity's last scored window.
    """

    span: WindowRange
    before: Anomalous
    after: Anomalous
    until: int

    @classmethod
    def of(
        cls, connection: Connection, entity: Entity, windows: WindowRange, threshold: float
    ) -> Surroundings:
        """Look for them in the tables."""
        start = windows.start
        left = ongoing_since(connection, entity.entity_id, windows.start_time)
        if left is not None:
            # Nobody has looked at it since its entity stopped reporting.
            start = int(left.timestamp())
        reach = _APART
        while True:
            before = Anomalous.stored(
                connection, entity, WindowRange(start - reach, windows.start), threshold
            )
            first = _first_of_run(before.starts, start)
            if first is None or first - (start - reach) >= _APART:
                break
            start, reach = first, reach * _FACTOR
        start = start if first is None else first
        until = scored_until(connection, entity.entity_id) or windows.end
        end, after = _after(connection, entity, windows.end, until, threshold)
        span = WindowRange(start, end)
        return cls(span, before.since(start), after, max(until, windows.end))


def running_episode(
    connection: Connection, entity: Entity, at: int, threshold: float
) -> tuple[int, int] | None:
    """Return the stored episode that an anomalous window starting at `at` would belong to.

    Returns
    -------
    tuple or None
        Starts of its first and of its last anomalous window, epoch seconds; None without one.
    """
    reach = _APART
    while True:
        stored = Anomalous.stored(connection, entity, WindowRange(at - reach, at), threshold)
        first = _first_of_run(stored.starts, at)
        if first is None:
            return None
        if first - (at - reach) >= _APART:
            return first, int(stored.starts[-1])
        reach *= _FACTOR


def calling_for_explanation(
    connection: Connection, entities: Sequence[str], windows: WindowRange, threshold: float
) -> set[str]:
    """Return the entities that a range may change the explanations of.

    They have an anomalous window in the range or as near as an episode reaches, an episode that
    goes on, or one that begins in the range and may have to be taken back.
    """
    near = WindowRange(windows.start - _APART, windows.end + _APART)
    called = episodes_to_look_at(connection, entities, windows)
    found = strongest_scores_of_many(connection, entities, near)
    names = np.repeat(list(found), [len(starts) for starts, _ in found.values()]).tolist()
    starts = [start for starts, _ in found.values() for start in starts.tolist()]
    every = np.concatenate([np.empty((0, 3)), *(scores for _, scores in found.values())])
    codes = triggers(every[:, :1], every[:, 1], every[:, 2], threshold=threshold)
    decided = decided_of_many(connection, entities, near)
    windows_of = zip(zip(names, starts, strict=True), codes.tolist(), strict=True)
    return called | {window[0] for window, code in windows_of if decided.get(window, code)}


def _first_of_run(starts: IntArray, begin: int) -> int | None:
    """Return the first of the anomalous windows that are joined with what begins at `begin`."""
    first = None
    for start in starts[starts < begin][::-1].tolist():
        if (begin if first is None else first) - start > _APART:
            break
        first = start
    return first


def _after(
    connection: Connection, entity: Entity, end: int, until: int, threshold: float
) -> tuple[int, Anomalous]:
    """Return the windows from `end` on until no episode that touches it can go on."""
    reach, last = _APART, end
    while True:
        stop = min(last + reach, max(until, end))
        after = Anomalous.stored(connection, entity, WindowRange(end, stop), threshold)
        beyond = end
        for start in after.starts.tolist():
            if start - beyond >= _APART:
                break
            beyond = start + WINDOW_SECONDS
        if beyond + _APART <= stop or stop >= until:
            kept = after.starts < beyond
            return beyond, Anomalous(after.starts[kept], after.codes[kept], after.scores[kept])
        last, reach = beyond, reach * _FACTOR


@dataclass(frozen=True)
class Closed:
    """An episode that no later window of the run can change, and why its telling one called."""

    episode: Episode
    code: int


class OpenEpisodes:
    """Episodes as the blocks of a run come in, handed out once they can no longer change.

    Parameters
    ----------
    surroundings
        What lies around the run's range.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._open = surroundings.before
        self._done = surroundings.span.start

    def add(self, block: WindowRange, codes: CodeArray, scores: FloatArray) -> None:
        """Take in the windows of the next block."""
        new = Anomalous.among(block.starts(), codes, scores)
        self._open = self._open.followed_by(new)

    def close(self, end: int) -> tuple[WindowRange, list[Closed]]:
        """Hand out the episodes that windows from `end` on cannot belong to.

        Returns
        -------
        tuple
            The range in which every episode that begins is handed out, and these episodes.
        """
        return self._hand_out(end)

    def finish(self) -> tuple[WindowRange, list[Closed]]:
        """Hand out the rest, with what lies behind the range; see :meth:`close`."""
        self._open = self._open.followed_by(self._around.after)
        return self._hand_out(None)

    def _hand_out(self, end: int | None) -> tuple[WindowRange, list[Closed]]:
        windows = self._open
        found = episodes_of(windows.starts, windows.codes, windows.scores, until=self._around.until)
        upto = self._around.span.end if end is None else end
        if end is not None and found and end - found[-1].end < _APART:
            upto = found.pop().start
        self._open = windows.since(upto)
        span = WindowRange(self._done, max(upto, self._done))
        self._done = span.end
        code = dict(zip(windows.starts.tolist(), windows.codes.tolist(), strict=True))
        return span, [Closed(episode, code[episode.telling]) for episode in found]
