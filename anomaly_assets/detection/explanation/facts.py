"""One window seen from all sides: what the causes are read from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anomaly_assets.detection.explanation.events import (
    MINUTES_PER_WINDOW,
    EventNames,
    EventSequence,
    find_excursions,
    robust_baseline,
    sequence_of,
)
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.exemplars import ExemplarMemory
from anomaly_assets.detection.explanation.matching import SequenceMatch, SequenceMatcher
from anomaly_assets.detection.explanation.record import Attribution
from anomaly_assets.detection.explanation.wording import (
    Clock,
    in_words,
    number,
    stream_name,
    with_unit,
)
from anomaly_assets.detection.scoring import p_of_score
from anomaly_assets.streams.catalogue import Aggregation, Catalogue, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, FloatArray, IntArray

#: A single deviation counts as one from here; below, the value is where it was expected.
DEVIATING = 2.0
#: Scores from here on are anomalous by themselves.
ANOMALOUS = 0.7
#: A p-value above this is ordinary: it happens somewhere in nearly every window.
ORDINARY_P = 0.1
#: Voice of tier 2 that hears relationships between streams break.
RELATIONSHIPS = "relationships"
#: Voice of tier 2 that hears all streams together away from their levels.
LEVELS = "levels"
#: Minutes before a window that are not trusted to be free of its anomaly, and windows.
SUSPECT_MINUTES = 10
SUSPECT_WINDOWS = 2
#: Contributions below this share are not worth a line.
SMALLEST_SHARE = 0.005


@dataclass(frozen=True)
class CatalogueFacts:
    """What explanations need of a catalogue, computed once.

    Arrays have shape ``(n_streams,)``; ``per_minute`` turns a window's value into a minute's,
    ``per_minute_scale`` its scale, both NaN where the two cannot be compared; ``counted`` marks
    streams for which a minute without a reading is a minute with nothing; ``hold`` is the number of
    minutes for which a reading stands; ``eventful`` marks streams of happenings rather than levels;
    ``causes_of`` names the streams that each one follows, as positions.
    """

    catalogue: Catalogue
    names: tuple[str, ...]
    group_names: tuple[str, ...]
    event_names: EventNames
    group_of: IntArray
    members: tuple[IntArray, ...]
    causes_of: tuple[tuple[int, ...], ...]
    hold: IntArray
    counted: BoolArray
    eventful: BoolArray
    per_minute: FloatArray
    per_minute_scale: FloatArray
    matcher: SequenceMatcher

    @classmethod
    def of(cls, catalogue: Catalogue, exemplars: ExemplarMemory | None = None) -> CatalogueFacts:
        """Compute them; `exemplars` are courses of events that people have named."""
        streams = catalogue.streams
        group_of = catalogue.group_of_stream
        totals = np.array([s.aggregation is Aggregation.SUM for s in streams], dtype=bool)
        counts = np.array([s.aggregation is Aggregation.COUNT for s in streams], dtype=bool)
        maxima = np.array([s.aggregation is Aggregation.MAX for s in streams], dtype=bool)
        added = totals | counts
        per_minute = np.where(added, 1.0 / MINUTES_PER_WINDOW, 1.0)
        # A window's maximum says nothing of a minute's mean; sums of independent minutes spread by
        # the root of their number.
        scale = np.where(added, MINUTES_PER_WINDOW**-0.5, 1.0)
        return cls(
            catalogue=catalogue,
            names=tuple(stream_name(stream) for stream in streams),
            group_names=tuple(in_words(group) for group in catalogue.group_ids),
            event_names=EventNames.of(catalogue),
            group_of=group_of,
            causes_of=tuple(
                tuple(
                    catalogue.index(edge.cause)
                    for edge in catalogue.causal_edges
                    if edge.effect == stream.id and edge.cause in catalogue.stream_ids
                )
                for stream in streams
            ),
            members=tuple(np.nonzero(group_of == g)[0] for g in range(len(catalogue.groups))),
            hold=np.array(
                [max(MINUTES_PER_WINDOW, int(s.expected_interval // 60) + 1) for s in streams],
                dtype=np.int64,
            ),
            counted=counts | np.array([s.zero_suppressed for s in streams], dtype=bool),
            eventful=np.array(
                [s.type in {StreamType.DISCRETE_EVENTS, StreamType.SPORADIC} for s in streams],
                dtype=bool,
            ),
            per_minute=np.where(maxima, np.nan, per_minute),
            per_minute_scale=np.where(maxima, np.nan, scale),
            matcher=SequenceMatcher(catalogue.templates, exemplars),
        )


class WindowFacts:
    """One window's evidence beside what follows from it; everything is computed when asked for.

    Parameters
    ----------
    of
        Facts of the catalogue.
    evidence
        What the tiers say; `values` must be one for each stream of the catalogue.
    lookback
        Minutes before the window in which its events are sought.
    """

    def __init__(self, of: CatalogueFacts, evidence: WindowEvidence, lookback: int) -> None:
        self.of = of
        self.evidence = evidence
        self.clock = Clock(evidence.time_zone, of.catalogue.contexts)
        self._lookback = lookback
        unknown = np.full(len(evidence.values), np.nan)
        tier1 = evidence.individual
        self.expected = unknown if tier1 is None else _finite(tier1.expected)
        self.deviation = unknown if tier1 is None else _finite(tier1.deviation)
        self.values = _finite(evidence.values)
        self.available: BoolArray = np.isfinite(self.values)
        # A score of a stream that is missing can only be a mix-up, and no sentence could tell it.
        self.score = (
            unknown if tier1 is None else np.where(self.available, _finite(tier1.score), np.nan)
        )
        history = evidence.history
        self.history = (np.empty((0, len(self.values))) if history is None else _finite(history))[
            -HISTORY_WINDOWS:
        ]
        self.seen_before: BoolArray = np.isfinite(self.history)

    @cached_property
    def context(self) -> str:
        """What kind of hour it is, in words."""
        return self.clock.context(self.evidence.window_start)

    @cached_property
    def ranked(self) -> list[int]:
        """Streams with a tier-1 score, the most anomalous first."""
        order = np.argsort(np.where(np.isfinite(self.score), -self.score, np.inf), kind="stable")
        return [i for i in order.tolist() if np.isfinite(self.score[i])]

    @cached_property
    def scale(self) -> FloatArray:
        """Tier 1's scale of each stream in its unit, NaN where it cannot be told."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.abs(self.values - self.expected) / np.abs(self.deviation)
        return np.where(np.isfinite(scale) & (scale > 0.0), scale, np.nan)

    @cached_property
    def departures(self) -> FloatArray:
        """Tier 1's scales by which each window, this one last, lies from the time before.

        Shape ``(n_earlier + 1, n_streams)``, NaN where unknown. Unlike tier 1's own deviation, the
        level does not follow what has been going on for some windows.
        """
        rows = np.concatenate((self.history, self.values[None, :]))
        before = rows[: max(len(rows) - 1 - self._recent, 0)]
        counts = np.isfinite(before).sum(axis=0)
        ordered = np.sort(before, axis=0) if len(before) else np.full_like(rows[:1], np.nan)
        middle = np.take_along_axis(ordered, np.maximum(counts - 1, 0)[None, :] // 2, axis=0)[0]
        level = np.where(np.isfinite(middle), middle, self.expected)
        with np.errstate(invalid="ignore", divide="ignore"):
            departures: FloatArray = (rows - level) / self.scale
        return departures

    @cached_property
    def deviates(self) -> BoolArray:
        """Which streams are anomalous by themselves and away from where they were expected."""
        with np.errstate(invalid="ignore"):
            return np.asarray((self.score >= ANOMALOUS) & (np.abs(self.deviation) >= DEVIATING))

    @cached_property
    def stirred(self) -> FloatArray:
        """Scales by which each stream has left its level at most since the anomaly began."""
        rows = np.concatenate((self.departures[-1 - self._recent :], self.deviation[None, :]))
        return np.asarray(np.fmax.reduce(np.abs(rows), axis=0, initial=0.0))

    @property
    def _recent(self) -> int:
        """Windows before this one that may already belong to what is explained."""
        return max(SUSPECT_WINDOWS, self.windows_since_onset)

    @property
    def windows_since_onset(self) -> int:
        """Windows between the episode's first one and this one, 0 for a window by itself."""
        episode = self.evidence.episode
        if episode is None:
            return 0
        return max(0, (self.evidence.window_start - episode.start) // WINDOW_SECONDS)

    @cached_property
    def settled(self) -> BoolArray:
        """Which streams had a value before the anomaly, shape ``(n_windows, n_streams)``.

        The oldest half of the history, and less of it where the episode has lasted longer: an alarm
        may come some windows after what it is about.
        """
        known = len(self.history)
        return np.asarray(
            self.seen_before[: max(1, min(known // 2, known - self.windows_since_onset))]
        )

    @cached_property
    def spoke(self) -> BoolArray:
        """Whether a reading of each stream stands behind its value.

        Nothing counted and nothing stepped are inferred, not received.
        """
        return np.asarray(self.available & ~(self.of.counted & (self.values == 0.0)))

    @cached_property
    def missing_for(self) -> IntArray:
        """Windows in a row, this one included, that each stream has been missing."""
        tier1 = self.evidence.individual
        if tier1 is not None and tier1.consecutive_missing is not None:
            return tier1.consecutive_missing
        rows = np.arange(1, len(self.history) + 1)[:, None]
        last_seen = np.max(np.where(self.seen_before, rows, 0), axis=0, initial=0)
        return np.where(self.available, 0, len(self.history) + 1 - last_seen)

    @cached_property
    def gap_is_longer(self) -> BoolArray:
        """Whether :attr:`missing_for` is a lower bound: the gap reaches beyond the history."""
        tier1 = self.evidence.individual
        if tier1 is not None and tier1.consecutive_missing is not None:
            return np.zeros(len(self.values), dtype=bool)
        return np.asarray(self.missing_for > len(self.history))

    @cached_property
    def recently_seen(self) -> BoolArray:
        """Whether each stream had a value in the windows before."""
        return np.asarray(self.seen_before.any(axis=0))

    @cached_property
    def has_minutes(self) -> bool:
        """Whether any one-minute value lies within the span of the sequence."""
        return bool(np.isfinite(self._minutes[self._span[0] : self._span[1]]).any())

    @cached_property
    def _minutes(self) -> FloatArray:
        """One-minute values up to the end of the window, minutes of nothing filled with 0."""
        given, start = self.evidence.minutes, self.evidence.minutes_start
        if given is None or start is None:
            return np.empty((0, len(self.values)))
        minutes = _finite(given[: max((self.evidence.window_end - start) // 60, 0)])
        if not self.of.counted.any():
            return minutes
        rows = np.concatenate((self.history, self.values[None, :]))
        at = start + 60 * np.arange(len(minutes))
        window = len(rows) - 1 + (at - self.evidence.window_start) // WINDOW_SECONDS
        known = (window >= 0)[:, None] & np.isfinite(rows[np.maximum(window, 0)])
        return np.where(np.isnan(minutes) & known & self.of.counted, 0.0, minutes)

    @cached_property
    def _span(self) -> tuple[int, int]:
        first = self._window_minute - self._lookback
        return max(first, 0), len(self._minutes)

    @property
    def _window_minute(self) -> int:
        """Row of the minute matrix in which the window starts."""
        return (self.evidence.window_start - (self.evidence.minutes_start or 0)) // 60

    def windows_before(self, minute: int) -> int:
        """Windows by which a row of the minute matrix lies before this one, at most the history."""
        before = -((minute - self._window_minute) // MINUTES_PER_WINDOW)
        return min(max(before, 0), len(self.history))

    def minute_time(self, minute: int) -> int:
        """Seconds since the epoch of a row of the minute matrix."""
        return (self.evidence.minutes_start or 0) + 60 * minute

    @cached_property
    def sequence(self) -> EventSequence:
        """Events of the minutes up to the end of the window."""
        minutes, span, of = self._minutes, self._span, self.of
        if not self.has_minutes:
            return EventSequence()
        level, scale = robust_baseline(
            minutes,
            max(self._window_minute - SUSPECT_MINUTES, 0),
            self.expected * of.per_minute,
            self.scale * of.per_minute_scale,
        )
        excursions = find_excursions(minutes, level, scale, of.event_names, of.hold)
        # Without a baseline a stream cannot tell whether anything happened: it is not observed.
        observed = np.isfinite(minutes[span[0] :]).any(axis=0) & (scale > 0.0)
        return sequence_of(excursions, observed, of.event_names, span)

    @cached_property
    def matches(self) -> tuple[SequenceMatch, ...]:
        """Every template, the best supported first."""
        return self.of.matcher.match(self.sequence) if self.has_minutes else ()

    def onset(self, stream: int) -> int | None:
        """Seconds since the epoch at which a stream's excursion began, if it has one."""
        for event in self.sequence.excursions:
            if event.stream == stream:
                return self.minute_time(event.minute)
        return None

    def where_expected(self, stream: int) -> str:
        """``At 10:35 heart rate was 148 bpm where 72 was expected``, but for the capital."""
        actual = with_unit(float(self.values[stream]), self.of.catalogue.streams[stream].unit)
        usual, name = number(float(self.expected[stream])), self.of.names[stream]
        at = self.clock.time(self.evidence.window_start)
        if not np.isfinite(self.expected[stream]):
            return f"at {at} {name} was {actual}"
        return f"at {at} {name} was {actual} where {usual} was expected"

    def voice(self, name: str) -> float:
        """Score of a voice of tier 2, NaN where it is not there."""
        tier2 = self.evidence.cross_stream
        return float("nan") if tier2 is None else float(tier2.voices.get(name, np.nan))

    def gap_group_score(self, group: int) -> float:
        """How unusual a group's absence or presence is, NaN where unknown."""
        gaps = self.evidence.gaps
        return float("nan") if gaps is None else float(gaps.group_score[group])

    @cached_property
    def surprising(self) -> FloatArray:
        """Each stream's nats beyond what is ordinary, from its own score, 0 where unknown."""
        return _beyond_ordinary(self.score)

    @cached_property
    def parts(self) -> FloatArray:
        """Nats of the anomaly that belong to each stream: its own and its share of the gaps'."""
        parts, gaps = self.surprising.copy(), self.evidence.gaps
        if gaps is not None:
            surprise = np.where(np.isfinite(gaps.surprise), np.maximum(gaps.surprise, 0.0), 0.0)
            total = float(surprise.sum())
            if total > 0.0:
                parts += float(_beyond_ordinary(np.array([gaps.score]))[0]) * surprise / total
        return parts

    def accounted_for(self, streams: Iterable[int]) -> float:
        """Share of the streams' parts in the anomaly that belongs to `streams`, 1 of nothing."""
        total = float(self.parts.sum())
        return float(self.parts[list(streams)].sum()) / total if total > 0.0 else 1.0

    @cached_property
    def attribution(self) -> Attribution:
        """Shares of the streams in the anomaly, and what belongs to none of them.

        Every score is turned into nats beyond an ordinary window. A stream's own nats are its own;
        those of the gaps are shared by the streams whose absence or presence surprises; what tier 2
        or the final score says beyond all that belongs to no stream.
        """
        parts, gaps, tier2 = self.parts, self.evidence.gaps, self.evidence.cross_stream
        said = [self.evidence.score]
        if tier2 is not None:
            said += [tier2.score, *tier2.voices.values()]
        if gaps is not None:
            said.append(gaps.score)
        whole = max(float(parts.sum()), float(_beyond_ordinary(np.array(said)).max()))
        if whole <= 0.0:
            return Attribution({}, 1.0)
        shares = parts / whole
        contributions = {
            self.of.catalogue.stream_ids[i]: float(shares[i])
            for i in np.argsort(-shares, kind="stable").tolist()
            if shares[i] >= SMALLEST_SHARE
        }
        return Attribution(contributions, max(1.0 - sum(contributions.values()), 0.0))


def _finite(values: FloatArray) -> FloatArray:
    """Return the values with NaN for what is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def _beyond_ordinary(scores: FloatArray) -> FloatArray:
    """Nats by which scores are rarer than :data:`ORDINARY_P`, 0 where unknown."""
    unknown = np.isnan(scores)
    p = p_of_score(np.where(unknown, 0.0, np.clip(scores, 0.0, 1.0)))
    return np.where(unknown, 0.0, np.maximum(np.log(ORDINARY_P) - np.log(p), 0.0))
