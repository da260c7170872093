"""The library's front door: one entity, window by window, without a database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from numbers import Real
from typing import Any, Literal, cast

import numpy as np

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.explanation.events import minute_means
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.detection.explanation.network.fitting import FitError, fit_network
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE, Trigger, triggers
from anomaly_assets.detection.system import Detection, DetectionState, detect
from anomaly_assets.errors import InputError
from anomaly_assets.streams.aggregation import (
    MICROSECONDS,
    Readings,
    ReadingTimes,
    aggregate,
    lookback_windows,
)
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    Calendar,
    FloatArray,
    WindowBlock,
    WindowRange,
    window_of,
)

#: A value of the window as it is, or its readings with their times; None where it is missing.
RawValue = float | None | Sequence[tuple[datetime, float]]
#: After a longer break the windows between are left out, as for an entity that was switched off.
LONGEST_BREAK = 7 * WINDOWS_PER_DAY
#: Age at which a causal network is fitted anew.
REFIT_SECONDS = 3600


@dataclass(frozen=True)
class StreamScore:
    """Tier 1 of one stream in one window; None where unknown.

    Parameters
    ----------
    value, expected
        Value of the window and the forecast made before it was seen, in the stream's unit.
    score
        In [0, 1].
    deviation
        Signed, in scales of the stream's own forecast errors.
    """

    value: float | None
    expected: float | None
    score: float | None
    deviation: float | None


@dataclass(frozen=True)
class WindowResult:
    """What the system says of one window.

    Parameters
    ----------
    window
        Start of the window, UTC.
    score
        Final score in [0, 1]; None before anything was ever observed.
    confidence
        Share of the streams observed, in [0, 1].
    is_anomaly
        Whether the final score lies above 0.7.
    streams
        Tier 1, by stream.
    cross_stream_score, gap_score
        Tier 2, and how unusual the absences are.
    missing
        Streams without a value.
    rejected
        Streams of whose raw data something was refused, with the first reason; it counts as
        missing.
    explanation
        Present where the window called for one.
    """

    window: datetime
    score: float | None
    confidence: float
    is_anomaly: bool
    streams: dict[str, StreamScore]
    cross_stream_score: float | None
    gap_score: float | None
    missing: tuple[str, ...]
    rejected: dict[str, str]
    explanation: Explanation | None


@dataclass
class _Processed:
    block: WindowBlock
    detection: Detection
    history: FloatArray
    rejected: dict[str, str]


class RobustAnomalySystem:
    """All four tiers for one entity, in memory.

    Parameters
    ----------
    catalogue
        What is observed: a catalogue, the name of a shipped one, or the path of a YAML file.
    entity_id
        Whose streams these are.
    time_zone
        IANA zone in which hours and weekdays are taken; the catalogue's by default.
    ensemble
        How tiers 1 and 2 are combined: ``cauchy``, or the specification's literal ``mean``.
    seed
        Of every random choice a detector makes.

    Examples
    --------
    >>> from datetime import datetime, timedelta, timezone
    >>> system = RobustAnomalySystem("default")
    >>> start = datetime(2026, 1, 5, 8, tzinfo=timezone.utc)
    >>> for number in range(60):
    ...     at = start + timedelta(minutes=5 * number)
    ...     usual = {"heart_rate": 70.0 + number % 3, "skin_temperature": 33.0 + number % 2 / 10}
    ...     result = system.process_timestamp(at, usual)
    >>> result.is_anomaly
    False
    >>> after = at + timedelta(minutes=5)
    >>> odd = {"heart_rate": 150.0, "skin_temperature": 33.1}
    >>> result = system.analyze_with_full_explanation(after, odd)
    >>> result.streams["heart_rate"].score > 0.9
    True
    >>> result.streams["battery_level"].score is None  # never observed: unknown, not 0
    True
    """

    def __init__(
        self,
        catalogue: Catalogue | str = "default",
        *,
        entity_id: str = "entity",
        time_zone: str | None = None,
        ensemble: Literal["cauchy", "mean"] = "cauchy",
        seed: int = 42,
    ) -> None:
        self.catalogue = load_catalogue(catalogue) if isinstance(catalogue, str) else catalogue
        self.entity_id = entity_id
        self.time_zone = time_zone or self.catalogue.time_zone
        self._state = DetectionState.fresh(self.catalogue, seed=seed)
        self._ensemble = HealthAwareEnsemble(method=ensemble)
        self._next: int | None = None
        self._history = np.empty((0, len(self.catalogue.streams)))
        self._readings = Readings.empty()
        self._last: _Processed | None = None
        self._network: CausalNetwork | None = None

    def process_timestamp(
        self, timestamp: datetime, raw_data: Mapping[str, RawValue]
    ) -> WindowResult:
        """Score the window that holds `timestamp`, learn from it, explain it if it calls for that.

        Parameters
        ----------
        timestamp
            Any aware datetime in the window. Windows left out since the last call are processed as
            missing, up to seven days of them.
        raw_data
            Value or readings by stream; streams not named are missing, but for zero-suppressed
            ones, which are 0 where one of their witnesses is there. A value that cannot be used
            (text, infinite, out of range, unknown stream) is named in `WindowResult.rejected`.

        Raises
        ------
        InputError
            If the window, or a later one, has been processed already.
        """
        processed = self._process(timestamp, raw_data)
        codes = triggers(
            processed.detection.individual.score,
            processed.detection.cross_stream.score,
            processed.detection.ensemble.score,
        )
        trigger = Trigger.of_code(int(codes[0]))
        explanation = None if trigger is None else self._explain(processed, trigger, Mode.FAST)
        return self._result(processed, explanation)

    def analyze_with_full_explanation(
        self, timestamp: datetime, raw_data: Mapping[str, RawValue]
    ) -> WindowResult:
        """Do as :meth:`process_timestamp`, and explain the window in thorough mode in any case.

        A causal network is fitted on the day before, anew after an hour. That needs the extra
        ``causal``, whose import takes some seconds the first time; without it the explanation goes
        by the other methods and says so.

        The window processed last may be named again: it is explained, not learnt a second time.

        Raises
        ------
        InputError
            If a later window has been processed already.
        """
        start = int(window_of(timestamp).timestamp())
        if self._last is not None and self._last.block.windows.start == start:
            processed = self._last
        else:
            processed = self._process(timestamp, raw_data)
        return self._result(processed, self._explain(processed, Trigger.FORCED, Mode.THOROUGH))

    def _process(self, timestamp: datetime, raw_data: Mapping[str, RawValue]) -> _Processed:
        window = window_of(timestamp)
        start = int(window.timestamp())
        if self._next is not None and start < self._next:
            msg = f"window {window:%Y-%m-%d %H:%M} UTC has been processed already; give later ones"
            raise InputError(msg)
        if self._next is not None:
            self._pass_over(WindowRange(self._next, start))
        windows = WindowRange(start, start + WINDOW_SECONDS)
        values, rejected = self._values(windows, raw_data)
        block = WindowBlock(self.entity_id, self.time_zone, windows, values[np.newaxis])
        history = self._history
        self._last = _Processed(
            block, detect(self._state, block, self._ensemble), history, rejected
        )
        self._remember(block)
        return self._last

    def _pass_over(self, windows: WindowRange) -> None:
        if len(windows) == 0:
            return
        if len(windows) > LONGEST_BREAK:
            # What lies this far back is not what happened just before.
            self._history = self._history[:0]
            return
        nothing = np.full((len(windows), len(self.catalogue.streams)), np.nan)
        block = WindowBlock(self.entity_id, self.time_zone, windows, nothing)
        detect(self._state, block, self._ensemble)
        self._remember(block)

    def _remember(self, block: WindowBlock) -> None:
        self._next = block.windows.end
        self._history = np.concatenate([self._history, block.values])[-WINDOWS_PER_DAY:]
        oldest = block.windows.end - WINDOW_SECONDS * max(
            HISTORY_WINDOWS, lookback_windows(self.catalogue) + 1
        )
        self._readings = self._readings.since(oldest * MICROSECONDS)

    def _values(
        self, windows: WindowRange, raw_data: Mapping[str, RawValue]
    ) -> tuple[FloatArray, dict[str, str]]:
        rejected: dict[str, str] = {}
        as_they_are: dict[int, float] = {}
        streams, times, readings = [], [], []
        for name, raw in raw_data.items():
            if name not in self.catalogue.stream_ids:
                rejected[name] = f"catalogue {self.catalogue.name!r} has no such stream"
                continue
            index = self.catalogue.index(name)
            for at, value in _readings(raw, windows):
                problem = _time_problem(at, windows) or self._value_problem(index, value)
                if problem:
                    rejected.setdefault(name, problem)
                elif value is not None and not math.isnan(value):
                    if not _is_timed(raw):
                        as_they_are[index] = float(value)
                    streams.append(index)
                    times.append(round(at.timestamp() * MICROSECONDS))
                    readings.append(float(value))
        self._readings = self._readings.joined(Readings.of(streams, times, readings))
        values = aggregate(
            self._readings, windows, self.catalogue, rejected=self._times_of(rejected, windows)
        ).values[0]
        for index, value in as_they_are.items():
            values[index] = value
        return values, rejected

    def _times_of(self, rejected: Mapping[str, str], windows: WindowRange) -> ReadingTimes:
        known = [self.catalogue.index(n) for n in rejected if n in self.catalogue.stream_ids]
        return ReadingTimes(
            np.array(known, dtype=np.int64),
            np.full(len(known), windows.start * MICROSECONDS, dtype=np.int64),
        )

    def _value_problem(self, index: int, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, Real):
            return f"{value!r} is no number"
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            return "the value is infinite"
        limits = self.catalogue.streams[index].valid_range
        if limits and not math.isnan(number) and not limits[0] <= number <= limits[1]:
            return f"{number:g} is outside of the valid range {list(limits)}"
        return ""

    def _explain(self, processed: _Processed, trigger: Trigger, mode: Mode) -> Explanation:
        block, said = processed.block, processed.detection
        first = block.windows.end - HISTORY_WINDOWS * WINDOW_SECONDS
        minutes = minute_means(
            self._readings.stream,
            self._readings.microseconds,
            self._readings.value,
            first,
            HISTORY_WINDOWS * WINDOW_SECONDS // 60,
            len(self.catalogue.streams),
            aggregations=[stream.aggregation for stream in self.catalogue.streams],
        )
        evidence = WindowEvidence.from_results(
            block,
            0,
            trigger,
            history=processed.history,
            individual=said.individual,
            cross_stream=said.cross_stream,
            gaps=said.gaps,
            ensemble=said.ensemble,
            minutes=minutes,
            minutes_start=first,
        )
        if mode is Mode.THOROUGH:
            evidence = self._with_causality(evidence, processed)
        return Explainer(self.catalogue, mode=mode).explain(evidence)

    def _with_causality(self, evidence: WindowEvidence, processed: _Processed) -> WindowEvidence:
        """Add a causal network of the day before the window, and that day."""
        start, history = processed.block.windows.start, processed.history
        problem = ""
        if self._network is None or self._network.age(start) >= REFIT_SECONDS:
            self._network = None
            windows = WindowRange(start - len(history) * WINDOW_SECONDS, start)
            try:
                self._network = fit_network(
                    history,
                    Calendar.of(windows, self.time_zone).hour,
                    Structure.of(self.catalogue),
                    fitted_at=start,
                )
            except FitError as error:
                problem = str(error)
        day = np.concatenate([history, processed.block.values])[-WINDOWS_PER_DAY:]
        return replace(evidence, network=self._network, network_problem=problem, day=day)

    def _result(self, processed: _Processed, explanation: Explanation | None) -> WindowResult:
        block, said = processed.block, processed.detection
        score = _known(said.ensemble.score[0])
        return WindowResult(
            window=datetime.fromtimestamp(block.windows.start, tz=UTC),
            score=score,
            confidence=float(said.ensemble.confidence[0]),
            is_anomaly=score is not None and score > FINAL_ABOVE,
            streams={
                name: StreamScore(
                    _known(block.values[0, index]),
                    _known(said.individual.expected[0, index]),
                    _known(said.individual.score[0, index]),
                    _known(said.individual.deviation[0, index]),
                )
                for index, name in enumerate(self.catalogue.stream_ids)
            },
            cross_stream_score=_known(said.cross_stream.score[0]),
            gap_score=_known(said.gaps.score[0]),
            missing=tuple(
                name
                for name, there in zip(self.catalogue.stream_ids, block.available[0], strict=True)
                if not there
            ),
            rejected=processed.rejected,
            explanation=explanation,
        )


def _is_timed(raw: object) -> bool:
    return isinstance(raw, Sequence) and not isinstance(raw, str | bytes)


def _readings(raw: RawValue, windows: WindowRange) -> list[tuple[Any, Any]]:
    """Return times and values of what was given for a stream, whatever their types are."""
    if not _is_timed(raw):
        return [(windows.start_time, raw)]
    given: Sequence[Any] = cast("Sequence[Any]", raw)
    return [pair if _is_pair(pair) else (pair, None) for pair in given]


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2


def _time_problem(at: object, windows: WindowRange) -> str:
    if not isinstance(at, datetime) or at.tzinfo is None:
        return f"time {at!r} is no datetime with a time zone"
    if not windows.start_time <= at < windows.end_time:
        return f"time {at.isoformat()} is outside of the window"
    return ""


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
