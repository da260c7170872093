"""What the tiers said of some windows, as decisions and people's judgement of them need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.detection.cross_stream.detector import VOICES
from anomaly_assets.detection.explanation.triggers import CodeArray, triggers
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from anomaly_assets.detection.results import (
        CrossStreamScores,
        EnsembleResults,
        GapScores,
        IndividualScores,
    )
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import Calendar, WindowRange

#: What the names of tier 2's voices, and of groups whose absence is odd, begin with.
VOICE_PREFIX: Final = "voice:"
GAP_PREFIX: Final = "gap:"
#: A source stands out from this score on: one of 36 streams does by chance in a quarter of windows.
STANDS_OUT: Final = 0.75


@dataclass(frozen=True)
class Evidence:
    """What was said of some windows of one entity, in order of time but not always consecutive.

    Parameters
    ----------
    streams, groups
        Names of the streams and groups, the axes below.
    starts
        Starts of the windows, epoch seconds, shape ``(n,)``.
    hour, weekday
        Local wall-clock time of the windows, as :class:`~anomaly_assets.streams.windows.Calendar`
        has it.
    score, deviation, health
        Tier 1, and the streams' health scores, shape ``(n, n_streams)``.
    cross_stream, voices
        Tier 2 and its voices, shapes ``(n,)`` and ``(n, len(VOICES))``; NaN where a voice is
        unknown.
    gap_groups
        How unusual each group's absences are, shape ``(n, n_groups)``.
    final
        Final scores, shape ``(n,)``.
    recent
        All scores of the last windows up to each, as
        :func:`~anomaly_assets.detection.feedback.series.recent_scores` lays them out; None where
        nobody asks for them.
    """

    streams: tuple[str, ...]
    groups: tuple[str, ...]
    starts: IntArray
    hour: FloatArray
    weekday: IntArray
    score: FloatArray
    deviation: FloatArray
    health: FloatArray
    cross_stream: FloatArray
    voices: FloatArray
    gap_groups: FloatArray
    final: FloatArray
    recent: FloatArray | None = None

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.starts)

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        windows: WindowRange,
        calendar: Calendar,
        individual: IndividualScores,
        cross_stream: CrossStreamScores,
        gaps: GapScores,
        ensemble: EnsembleResults,
        recent: FloatArray | None = None,
    ) -> Evidence:
        """Gather what the tiers say of a block of windows.

        Raises
        ------
        InputError
            If they do not speak of the same windows.
        """
        n = len(windows)
        shapes = {len(individual.score), len(cross_stream.score), len(gaps.score)}
        if shapes | {len(ensemble.score), len(calendar.hour)} != {n}:
            msg = f"{n} windows, but the tiers speak of {sorted(shapes)}; give the same windows"
            raise InputError(msg)
        unknown = np.full(n, np.nan)
        return cls(
            catalogue.stream_ids,
            catalogue.group_ids,
            windows.starts(),
            calendar.hour,
            calendar.weekday,
            individual.score,
            individual.deviation,
            individual.health.score,
            cross_stream.score,
            np.stack([cross_stream.voices.get(name, unknown) for name in VOICES], axis=1),
            gaps.group_score,
            ensemble.score,
            recent,
        )

    @classmethod
    def joined(cls, parts: Sequence[Evidence]) -> Evidence:
        """Put evidence of the same streams together, in the order given.

        Raises
        ------
        InputError
            If there is none, or it is of different streams.
        """
        if len({(part.streams, part.groups) for part in parts}) != 1:
            msg = "give evidence of the same streams and groups, at least one window's"
            raise InputError(msg)
        first = parts[0]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        recent = [part.recent for part in parts if part.recent is not None]
        whole = np.concatenate(recent) if len(recent) == len(parts) else None
        return cls(first.streams, first.groups, **arrays, recent=whole)

    def take(self, rows: IntArray | BoolArray) -> Evidence:
        """Return some of the windows."""
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        recent = None if self.recent is None else self.recent[rows]
        return Evidence(self.streams, self.groups, **arrays, recent=recent)

    def codes(self, threshold: float) -> CodeArray:
        """Return why each window calls for an explanation, without any feedback."""
        return triggers(self.score, self.cross_stream, self.final, threshold=threshold)

    def stands_out(self, anchor: str) -> BoolArray:
        """Return where a source stands out, shape ``(n,)``.

        Parameters
        ----------
        anchor
            A stream with the direction it is off in (``heart_rate+``, ``steps-``), a group with
            unusual absences (``gap:motion``), or a voice of tier 2 (``voice:levels``). One of
            another catalogue never stands out.
        """
        nowhere = np.zeros(len(self), dtype=np.bool_)
        if anchor.startswith(VOICE_PREFIX):
            name = anchor.removeprefix(VOICE_PREFIX)
            if name not in VOICES:
                return nowhere
            return np.asarray(self.voices[:, VOICES.index(name)] >= STANDS_OUT)
        if anchor.startswith(GAP_PREFIX):
            name = anchor.removeprefix(GAP_PREFIX)
            if name not in self.groups:
                return nowhere
            return np.asarray(self.gap_groups[:, self.groups.index(name)] >= STANDS_OUT)
        name = anchor[:-1]
        if name not in self.streams:
            return nowhere
        column = self.streams.index(name)
        sign = 1.0 if anchor.endswith("+") else -1.0
        off = np.asarray(sign * self.deviation[:, column] > 0.0)
        return np.asarray((self.score[:, column] >= STANDS_OUT) & off)

    def anchors(self) -> list[str]:
        """Return every source that stands out in some window."""
        named = [f"{stream}{sign}" for stream in self.streams for sign in "+-"]
        named += [f"{GAP_PREFIX}{group}" for group in self.groups]
        named += [f"{VOICE_PREFIX}{name}" for name in VOICES]
        return [anchor for anchor in named if self.stands_out(anchor).any()]


_ARRAYS: Final = (
    "starts",
    "hour",
    "weekday",
    "score",
    "deviation",
    "health",
    "cross_stream",
    "voices",
    "gap_groups",
    "final",
)


def minute_of_day(hour: FloatArray) -> IntArray:
    """Return whole local minutes since midnight."""
    return np.asarray(np.rint(hour * 60.0)).astype(np.int64)
