"""Tier 1 stream by stream with River's own objects: what the array detector is held to."""

from __future__ import annotations

import collections
import copy
import math
from dataclasses import dataclass, fields

import numpy as np

from anomaly_assets.detection import health, tails
from anomaly_assets.detection.individual import calibration, flat_lines
from anomaly_assets.detection.individual.carried import LARGEST_VALUE
from anomaly_assets.detection.individual.detector import FLAT_LINE_SHARE
from anomaly_assets.detection.individual.river_models import (
    EventCountDetector,
    GuardedHoltWinters,
    StableSNARIMAX,
)
from anomaly_assets.detection.results import IndividualScores, StreamHealth
from anomaly_assets.detection.scoring import SMALLEST_P, score_of_p, student_t_p
from anomaly_assets.streams.catalogue import Catalogue, Stream, StreamType
from anomaly_assets.streams.windows import FloatArray, WindowBlock


@dataclass
class _Verdict:
    """What one stream's model says of one value."""

    p: float = 1.0
    forecast_p: float = math.nan
    expected: float = math.nan
    deviation: float = math.nan


class _Residuals:
    """Variance of the residuals of one stream."""

    def __init__(self) -> None:
        self.quick = 0.0
        self.long = 0.0
        self.n = 0

    def scale_squared(self, previous: float) -> float:
        floor = (previous * calibration.RELATIVE_FLOOR) ** 2 + calibration.SMALLEST_VARIANCE
        return max(self.long * calibration.LONG_SHARE, self.quick, floor)

    def learn(self, residual: float, scale_squared: float) -> None:
        squared = residual * residual
        if self.long != 0.0:
            squared = min(squared, scale_squared * calibration.LARGEST_LEARNT**2)
        self.n += 1
        self.quick += max(1.0 / (self.n // 2 + 1), calibration.RATE) * (squared - self.quick)
        self.long += max(1.0 / self.n, calibration.LONG_RATE) * (squared - self.long)


class _Tail:
    """How heavy the tail of one stream's studentised residuals is."""

    def __init__(self) -> None:
        self.residuals = tails.PRIOR_RESIDUALS
        self.exceedances = tails.PRIOR_RESIDUALS * self._prior(tails.THRESHOLD, 4)
        # The mean log excess of Student's t with 4 degrees of freedom is 1/4, far out.
        self.log_excesses = self.exceedances / 4.0
        self.record = tails.THRESHOLD

    @staticmethod
    def _prior(size: float, degrees_of_freedom: int) -> float:
        return float(student_t_p(np.array([size]), np.array([degrees_of_freedom]))[0])

    def p(self, t: float, residuals_before: int) -> float:
        """Return the p-value of a studentised residual."""
        size = abs(t)
        freedom = min(residuals_before, tails.MOST_DEGREES_OF_FREEDOM)
        p = self._prior(size, freedom)
        # One residual less than readings: the fifth reading is the last that stands on the prior.
        if residuals_before >= tails.MOST_DEGREES_OF_FREEDOM:
            share = _clipped(self.exceedances / self.residuals, tails.EXCEEDING_BOUNDS)
            if size > tails.THRESHOLD:
                index = _clipped(self.log_excesses / self.exceedances, tails.INDEX_BOUNDS)
                p = share * (size / tails.THRESHOLD) ** (-1.0 / index)
            else:
                p **= math.log(share) / math.log(self._prior(tails.THRESHOLD, 4))
            beaten = (max(size, 1e-3) / self.record) ** -tails.RECORD_STEEPNESS
            p = max(p, beaten / tails.RECORD_MEMORY)
        p = max(p, (residuals_before + 2.0) ** -tails.YOUNG_STEEPNESS)
        return min(max(p, SMALLEST_P), 1.0)

    def learn(self, t: float) -> None:
        """Learn a studentised residual."""
        self.residuals += 1.0 - tails.TAIL_RATE * self.residuals
        self.exceedances -= tails.TAIL_RATE * self.exceedances
        self.log_excesses -= tails.TAIL_RATE * self.log_excesses
        if abs(t) > tails.THRESHOLD:
            self.exceedances += 1.0
            self.log_excesses += min(math.log(abs(t) / tails.THRESHOLD), tails.MOST_EXCESS)
        faded = self.record * (1.0 - 1.0 / tails.RECORD_MEMORY)
        beaten = min(abs(t), tails.LARGEST_RECORD_STEP * self.record)
        self.record = max(faded, beaten, tails.THRESHOLD)


def _clipped(x: float, bounds: tuple[float, float]) -> float:
    return min(max(x, bounds[0]), bounds[1])


class _Runs:
    """Runs of equal values of one stream."""

    def __init__(self, stream: Stream) -> None:
        self.resting = {0.0, *(stream.valid_range or ())}
        self.completed: collections.deque[int] = collections.deque(maxlen=flat_lines.N_RUNS)
        self.length = 0
        self.readings = 0

    @staticmethod
    def _on_grid(length: int) -> int:
        return max(int(g) for g in flat_lines.GRID if g <= length)

    def judge(self, value: float, previous: float) -> float:
        """Take in a value and return the p-value of the run it belongs to."""
        if self.readings == 0 or value != previous:
            if self.length:
                self.completed.append(self.length)
            self.length = 0
        self.length = min(self.length + 1, flat_lines.LONGEST_RUN)
        self.readings += 1
        young = self.readings <= flat_lines.READINGS_BEFORE_RESTING
        return 1.0 if young and value in self.resting else self._p()

    def _p(self) -> float:
        if self.length == 1:
            return 1.0
        depth = self._on_grid(self.length)
        longest = max((self._on_grid(run) for run in self.completed), default=1)
        n = len(self.completed)
        index = min(n / flat_lines.RUNS_PER_INDEX, flat_lines.LARGEST_INDEX)
        p: float = flat_lines.UNSEEN_RUNS / (n + 1) * max(self.length / longest, 1.0) ** -index
        past = sum(max(run - depth + 1, 0) for run in self.completed)
        p += past / max(sum(self.completed), 1)
        return min(max(p, flat_lines.STEEPEST_RATIO ** (self.length - 1), 1e-50), 1.0)


class _ContinuousStream:
    """A forecaster, the scale and the tail of its residuals, and its runs."""

    def __init__(self, stream: Stream) -> None:
        noisy = stream.type is StreamType.CONTINUOUS_NOISY
        self.model = GuardedHoltWinters() if noisy else StableSNARIMAX()
        self.residuals = _Residuals()
        self.tail = _Tail()
        self.runs = _Runs(stream)
        self.previous = 0.0
        self.readings = 0

    def process(self, value: float, gap_windows: int) -> _Verdict:
        verdict = _Verdict()
        flat_p = self.runs.judge(value, self.previous)
        p = 1.0
        if self.readings:
            verdict.expected = self.model.forecast(horizon=1)[0]
            factor = min(gap_windows**calibration.GAP_EXPONENT, calibration.LARGEST_GAP_FACTOR)
            residual = (value - verdict.expected) * (1.0 / factor)
            scale_squared = self.residuals.scale_squared(self.previous)
            if self.residuals.n:
                verdict.deviation = residual / math.sqrt(scale_squared)
                p = self.tail.p(verdict.deviation, self.residuals.n)
                self.tail.learn(verdict.deviation)
                verdict.forecast_p = p
            self.residuals.learn(residual, scale_squared)
        self.model.learn_one(value)
        self.previous = value
        self.readings += 1
        verdict.p = min(p / (1.0 - FLAT_LINE_SHARE), flat_p / FLAT_LINE_SHARE, 1.0)
        return verdict


class _EventStream:
    """An event count detector."""

    def __init__(self) -> None:
        self.model = EventCountDetector()
        self.readings = 0

    def process(self, value: float) -> _Verdict:
        verdict = _Verdict(p=self.model.p_value(value))
        expected = self.model.expected
        if expected is not None:
            verdict.expected = expected
            if self.readings > 1:
                verdict.forecast_p = verdict.p
                verdict.deviation = (value - expected) / self.model.spread
        self.model.learn_one({"count": value})
        self.readings += 1
        return verdict


class _Health:
    """Health of one stream."""

    def __init__(self, stream: Stream) -> None:
        self.limits = health.effective_limits(stream)
        self.recent: collections.deque[bool] = collections.deque(
            maxlen=self.limits.availability_window
        )
        self.consecutive_missing = 0
        self.accuracy = math.nan
        self.forecasts = 0

    @property
    def availability(self) -> float:
        return sum(self.recent) / max(len(self.recent), 1)

    def may_predict(self, *, observed: bool) -> bool:
        if not self.recent:
            return observed
        return (
            self.consecutive_missing <= self.limits.max_consecutive_missing
            and self.availability >= self.limits.min_availability
        )

    def learn(self, forecast_p: float, *, observed: bool) -> None:
        if observed or self.recent:
            self.recent.append(observed)
        self.consecutive_missing = 0 if observed else self.consecutive_missing + 1
        if not math.isnan(forecast_p):
            self.forecasts += 1
            rate = max(1.0 / self.forecasts, health.ACCURACY_RATE)
            before = 0.0 if math.isnan(self.accuracy) else self.accuracy
            self.accuracy = before + rate * ((forecast_p >= health.OUTSIDE_P) - before)

    def report(self, *, predictable: bool) -> tuple[float, ...]:
        missing = self.consecutive_missing
        share = min(missing / self.limits.max_consecutive_missing, 1.0)
        inaccurate = (
            self.forecasts >= health.FORECASTS_BEFORE_JUDGED
            and self.accuracy < self.limits.min_accuracy
        )
        return (
            self.availability,
            missing,
            self.availability * (1.0 - share),
            predictable,
            self.accuracy,
            inaccurate or missing > self.limits.retrain_after_missing,
        )


def _step(
    state: _Health, model: _ContinuousStream | _EventStream, value: float
) -> tuple[float, ...]:
    """Score and learn one value of one stream; one row of what :meth:`process` returns."""
    observed = not math.isnan(value)
    predictable = state.may_predict(observed=observed)
    verdict = _Verdict()
    if observed:
        value = max(min(value, LARGEST_VALUE), -LARGEST_VALUE)
        if isinstance(model, _EventStream):
            verdict = model.process(value)
        else:
            verdict = model.process(value, state.consecutive_missing + 1)
    elif isinstance(model, _EventStream):
        expected = model.model.expected
        verdict.expected = math.nan if expected is None else expected
    elif model.readings:
        verdict.expected = model.model.forecast(horizon=1)[0]
    score = math.nan
    if observed and predictable:
        score = float(score_of_p(np.array([verdict.p]))[0])
    state.learn(verdict.forecast_p, observed=observed)
    report = state.report(predictable=predictable)
    return (score, verdict.expected, verdict.deviation, *report)


class RiverIndividualDetector:
    """The same detector as :class:`.IndividualDetector`, one stream after the other.

    Parameters
    ----------
    catalogue
        The streams.
    """

    version = 1

    def __init__(self, catalogue: Catalogue) -> None:
        self._health = [_Health(stream) for stream in catalogue.streams]
        self._models: list[_ContinuousStream | _EventStream] = [
            _EventStream()
            if stream.type is StreamType.DISCRETE_EVENTS
            else _ContinuousStream(stream)
            for stream in catalogue.streams
        ]

    def process(self, block: WindowBlock) -> IndividualScores:
        """Score every window of `block` against what was learnt before it, then learn it."""
        rows = [
            [_step(*pair) for pair in zip(self._health, self._models, row, strict=True)]
            for row in block.values.tolist()
        ]
        width = 3 + len(fields(StreamHealth))
        table = np.array(rows, dtype=np.float64).reshape(*block.values.shape, width)
        score, expected, deviation, availability, missing, health_score = (
            table[:, :, i].copy() for i in range(6)
        )
        return IndividualScores(
            score=score,
            expected=expected,
            deviation=deviation,
            health=StreamHealth(
                availability=availability,
                consecutive_missing=missing.astype(np.int64),
                score=health_score,
                predictable=table[:, :, 6].astype(bool),
                accuracy=table[:, :, 7].copy(),
                needs_retraining=table[:, :, 8].astype(bool),
            ),
        )

    def peek(self, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Score values as if they were those of the next window, without learning anything."""
        pairs = zip(copy.deepcopy(self._health), copy.deepcopy(self._models), strict=True)
        rows = np.array(
            [
                _step(state, model, value)[:3]
                for (state, model), value in zip(pairs, values.tolist(), strict=True)
            ]
        )
        return rows[:, 0], rows[:, 1], rows[:, 2]
