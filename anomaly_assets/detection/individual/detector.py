"""Tier 1: every stream against its own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.health import Presence, StreamHealthTracker
from anomaly_assets.detection.individual import calibration, event_counts, flat_lines
from anomaly_assets.detection.individual.calibration import ResidualVariance
from anomaly_assets.detection.individual.carried import CarriedBlock, LastValues, learning_rate
from anomaly_assets.detection.individual.event_counts import EventCounts
from anomaly_assets.detection.individual.flat_lines import FlatLines
from anomaly_assets.detection.individual.holt_winters import HoltWintersArray
from anomaly_assets.detection.individual.snarimax import SCALE_RATE, SnarimaxArray
from anomaly_assets.detection.results import IndividualScores
from anomaly_assets.detection.scoring import score_of_p
from anomaly_assets.detection.tails import TailShape
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue, Stream, StreamType
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray, WindowBlock

#: Share of a stream's false alarms that its flat-line channel may raise; the forecast has the rest.
FLAT_LINE_SHARE = 0.1


def resting_values(streams: list[Stream]) -> FloatArray:
    """Return the values at which each stream may rest, shape ``(n_streams, 3)``, NaN filled."""
    rows = [[0.0, *(stream.valid_range or (np.nan, np.nan))] for stream in streams]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 3)


@dataclass(frozen=True)
class _Judgement:
    """What the models say of a block, arrays of shape ``(n_windows, n_streams)``, model order."""

    p: FloatArray
    forecast_p: FloatArray
    expected: FloatArray
    deviation: FloatArray


class IndividualDetector:
    """Tier 1 for all streams of one entity at once.

    Every stream has a model of its own, chosen by its type: SNARIMAX for smooth and sporadic
    streams, Holt-Winters for noisy ones, a rolling quantile for event counts. The models are
    River's, computed for all streams together; :class:`~.reference.RiverIndividualDetector` is the
    same with River's own objects. Forecast residuals are held against the stream's own tail
    (:class:`~anomaly_assets.detection.tails.TailShape`).

    Parameters
    ----------
    catalogue
        The streams.

    Attributes
    ----------
    version : int
        Version of the state; another one cannot be continued.

    Examples
    --------
    >>> from anomaly_assets.streams.catalogue import Catalogue, Group, Stream
    >>> from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
    >>> catalogue = Catalogue(
    ...     name="example",
    ...     groups=(Group(id="biometric"),),
    ...     streams=(Stream(id="heart_rate", type="continuous_smooth", group="biometric"),),
    ... )
    >>> pulse = 60.0 + np.sin(np.arange(100.0))
    >>> pulse[-1] = 150.0
    >>> windows = WindowRange(0, 100 * WINDOW_SECONDS)
    >>> block = WindowBlock("me", "UTC", windows, pulse[:, np.newaxis])
    >>> scores = IndividualDetector(catalogue).process(block)
    >>> bool(scores.score[-1, 0] > 0.99)
    True
    """

    version = 1

    def __init__(self, catalogue: Catalogue) -> None:
        kinds = [_kind(stream) for stream in catalogue.streams]
        #: Catalogue position of each stream in the order of the models: those of one kind together.
        self._order = np.argsort(np.array(kinds), kind="stable")
        self._places = np.argsort(self._order, kind="stable")
        self._n_snarimax = kinds.count(0)
        self._n_continuous = self._n_snarimax + kinds.count(1)
        continuous = [catalogue.streams[i] for i in self._order[: self._n_continuous].tolist()]
        self._last = LastValues(len(kinds))
        self._snarimax = SnarimaxArray(self._n_snarimax)
        self._holt_winters = HoltWintersArray(self._n_continuous - self._n_snarimax)
        self._variance = ResidualVariance(self._n_continuous)
        self._tails = TailShape(self._n_continuous)
        self._flat_lines = FlatLines(resting_values(continuous))
        self._event_counts = EventCounts(len(kinds) - self._n_continuous)
        self._health = StreamHealthTracker(catalogue)

    def process(self, block: WindowBlock) -> IndividualScores:
        """Score every window of `block` against what was learnt before it, then learn it.

        Parameters
        ----------
        block
            The windows that follow the last ones processed.

        Raises
        ------
        InputError
            If the block has not one column for each stream of the catalogue.
        """
        self._check(block.values)
        presence = self._health.presence(block.available)
        carried = self._carry(block.values)
        judgement = self._judge(carried, presence, learn=True)
        self._last.learn(carried)
        health = self._health.learn(presence, judgement.forecast_p[:, self._places])
        return IndividualScores(
            score=self._scores(judgement, presence),
            expected=judgement.expected[:, self._places],
            deviation=judgement.deviation[:, self._places],
            health=health,
        )

    def peek(self, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Score values as if they were those of the next window, without learning anything.

        Parameters
        ----------
        values
            Shape ``(n_streams,)``, streams in catalogue order, NaN where missing.

        Returns
        -------
        score, expected, deviation
            What :meth:`process` would say of them, each of shape ``(n_streams,)``.

        Raises
        ------
        InputError
            If the shape does not fit or a value is infinite.
        """
        row = np.asarray(values, dtype=np.float64)[np.newaxis]
        self._check(row)
        if np.isinf(row).any():
            msg = "infinite values; give NaN where a stream is missing"
            raise InputError(msg)
        presence = self._health.presence(np.isfinite(row))
        judgement = self._judge(self._carry(row), presence, learn=False)
        return (
            self._scores(judgement, presence)[0],
            judgement.expected[0, self._places],
            judgement.deviation[0, self._places],
        )

    def _check(self, values: FloatArray) -> None:
        if values.ndim != 2 or values.shape[1] != len(self._order):
            msg = (
                f"values have shape {values.shape}; the catalogue has {len(self._order)} streams, "
                "give one column for each"
            )
            raise InputError(msg)

    def _carry(self, values: FloatArray) -> CarriedBlock:
        ordered = np.take(values, self._order, axis=1)
        return self._last.carry(ordered, np.isfinite(ordered))

    def _scores(self, judgement: _Judgement, presence: Presence) -> FloatArray:
        score = score_of_p(judgement.p)[:, self._places]
        score[~(presence.observed & presence.predictable)] = np.nan
        return score

    def _judge(self, block: CarriedBlock, presence: Presence, *, learn: bool) -> _Judgement:
        shape = block.value.shape
        result = _Judgement(*(np.full(shape, np.nan) for _ in range(4)))
        if not shape[0]:
            return result
        n = self._n_continuous
        gaps = presence.gap_windows[:, self._order]
        if n:
            part = _columns(block, slice(None, n))
            self._judge_continuous(part, gaps[:, :n], result, learn=learn)
        if n < shape[1]:
            self._judge_events(_columns(block, slice(n, None)), result, learn=learn)
        return result

    def _judge_continuous(
        self, block: CarriedBlock, gaps: IntArray, result: _Judgement, *, learn: bool
    ) -> None:
        shape = block.value.shape
        before = block.readings_before
        expected = result.expected[:, : shape[1]]
        runs = self._flat_lines.runs(block)
        residual, scale = np.empty(shape), np.empty(shape)
        history = flat_lines.RunHistory.empty(shape)
        floor = calibration.variance_floor(block.previous)
        easing = 1.0 / calibration.gap_factor(gaps)
        lessons = _Lessons.of(block, self._n_snarimax)
        for t in range(shape[0]):
            self._forecast(block.previous[t], expected[t])
            np.subtract(block.value[t], expected[t], out=residual[t])
            residual[t] *= easing[t]
            self._variance.scale_squared(floor[t], out=scale[t])
            self._flat_lines.look_up(runs.length[t], history, t)
            if learn:
                self._variance.learn(residual[t], scale[t], lessons.variance_rates[t])
                self._flat_lines.learn(runs.completed[t])
                self._learn_forecasters(block, lessons, t)
        if learn:
            self._flat_lines.advance(runs)
        np.sqrt(scale, out=scale)
        residual /= scale
        known = block.observed & (before >= 2)
        p = self._tails.p(residual, before, known, learn=learn)
        flat_p = flat_lines.tail_p(history, runs.length)
        flat_p[~self._flat_lines.speaks(block)] = 1.0
        result.forecast_p[:, : shape[1]] = np.where(known, p, np.nan)
        np.divide(p, 1.0 - FLAT_LINE_SHARE, out=p)
        np.divide(flat_p, FLAT_LINE_SHARE, out=flat_p)
        result.p[:, : shape[1]] = np.minimum(np.minimum(p, flat_p), 1.0)
        result.deviation[:, : shape[1]] = np.where(known, residual, np.nan)
        expected[before == 0] = np.nan

    def _forecast(self, previous: FloatArray, out: FloatArray) -> None:
        n = self._n_snarimax
        if n:
            self._snarimax.forecast(previous[:n], out=out[:n])
        if n < self._n_continuous:
            self._holt_winters.forecast(out=out[n:])

    def _learn_forecasters(self, block: CarriedBlock, lessons: _Lessons, t: int) -> None:
        n = self._n_snarimax
        if n:
            self._snarimax.learn(
                lessons.difference[t], lessons.scale_rate[t], lessons.has_difference[t]
            )
        if n < self._n_continuous:
            self._holt_winters.learn(
                block.value[t, n:], block.observed[t, n:], block.readings_before[t, n:]
            )

    def _judge_events(self, block: CarriedBlock, result: _Judgement, *, learn: bool) -> None:
        shape = block.value.shape
        start = self._n_continuous
        before = block.readings_before
        judged = block.observed & (before >= 2)
        expected = result.expected[:, start:]
        spread, beyond = np.empty(shape), np.empty(shape)
        greater, ties = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        model = self._event_counts
        for t in range(shape[0]):
            expected[t] = model.median
            spread[t] = model.spread
            excess = model.excess(block.value[t])
            beyond[t], learnt = model.rank(excess, judged[t], greater[t], ties[t])
            if learn:
                model.learn(block.value[t], block.observed[t], before[t], learnt)
        known = np.clip(before - 1, 0, event_counts.N_RANKS)
        p = event_counts.tail_p(greater, ties, known, beyond)
        result.forecast_p[:, start:] = np.where(judged, p, np.nan)
        result.p[:, start:] = np.where(judged, p, 1.0)
        np.maximum(spread, event_counts.SMALLEST_SPREAD, out=spread)
        deviation = (block.value - expected) / spread
        result.deviation[:, start:] = np.where(judged, deviation, np.nan)
        expected[before == 0] = np.nan


@dataclass(frozen=True)
class _Lessons:
    """What the forecasters and the calibration learn in each window of a block, worked out at once.

    Parameters
    ----------
    difference, scale_rate, has_difference
        Input of :meth:`.SnarimaxArray.learn`, each of shape ``(n_windows, n_snarimax)``.
    variance_rates
        Input of :meth:`.ResidualVariance.learn`, shape ``(n_windows, 2, n_streams)``.
    """

    difference: FloatArray
    scale_rate: FloatArray
    has_difference: BoolArray
    variance_rates: FloatArray

    @classmethod
    def of(cls, block: CarriedBlock, n_snarimax: int) -> _Lessons:
        """Work out the lessons of `block`."""
        n_windows, n_streams = block.value.shape
        has_residual = block.observed & (block.readings_before > 0)
        rates = np.empty((n_windows, 2, n_streams))
        nth = block.readings_before
        rates[:, 0] = learning_rate(calibration.quick_start(nth), calibration.RATE, has_residual)
        rates[:, 1] = learning_rate(nth, calibration.LONG_RATE, has_residual)
        difference = block.value[:, :n_snarimax] - block.previous[:, :n_snarimax]
        difference *= has_residual[:, :n_snarimax]
        scale_rate = learning_rate(nth[:, :n_snarimax], SCALE_RATE, has_residual[:, :n_snarimax])
        return cls(difference, scale_rate, has_residual[:, :n_snarimax], rates)


def _kind(stream: Stream) -> int:
    """Return which model a stream has: 0 SNARIMAX, 1 Holt-Winters, 2 event counts."""
    if stream.type is StreamType.CONTINUOUS_NOISY:
        return 1
    return 2 if stream.type is StreamType.DISCRETE_EVENTS else 0


def _columns(block: CarriedBlock, columns: slice) -> CarriedBlock:
    return CarriedBlock(
        value=block.value[:, columns],
        previous=block.previous[:, columns],
        observed=block.observed[:, columns],
        readings_before=block.readings_before[:, columns],
    )
