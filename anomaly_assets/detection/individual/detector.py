"""Tier 1: every stream against its own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.health import Presence, StreamHealthTracker
from anomaly_assets.detection.individual.calibration import ResidualVariance
from anomaly_assets.detection.individual.carried import CarriedBlock, LastValues
from anomaly_assets.detection.individual.event_counts import EventCounts
from anomaly_assets.detection.individual.flat_lines import FlatLines
from anomaly_assets.detection.individual.holt_winters import HoltWintersArray
from anomaly_assets.detection.individual.snarimax import SnarimaxArray
from anomaly_assets.detection.results import IndividualScores
from anomaly_assets.detection.scoring import score_of_p
from anomaly_assets.detection.tails import TailShape
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue, Stream, StreamType
from anomaly_assets.streams.windows import FloatArray, IntArray, WindowBlock

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
    >>> bool(scores.score[-1, 0] > 0.95)
    True
    """

    version = 2

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

    def adopt(self, other: IndividualDetector, streams: IntArray) -> None:
        """Take over what another detector has learnt of some streams.

        Presence is a fact and no lesson: how long a stream has been known, was there and was
        missing stays as it is; how good its forecasts were is taken over.

        Parameters
        ----------
        other
            A detector of the same catalogue, left as it is.
        streams
            Catalogue positions.
        """
        places = self._places[streams]
        continuous = places[places < self._n_continuous]
        forecast = continuous[continuous < self._n_snarimax]
        smoothed = continuous[continuous >= self._n_snarimax] - self._n_snarimax
        counted = places[places >= self._n_continuous] - self._n_continuous
        for mine, theirs, at in (
            (self._last, other._last, places),
            (self._snarimax, other._snarimax, forecast),
            (self._holt_winters, other._holt_winters, smoothed),
            (self._variance, other._variance, continuous),
            (self._tails, other._tails, continuous),
        ):
            for name, held in vars(mine).items():
                held[..., at] = getattr(theirs, name)[..., at]
        for mine_by_row, theirs_by_row, at in (
            (self._flat_lines, other._flat_lines, continuous),
            (self._event_counts, other._event_counts, counted),
        ):
            for name, held in vars(mine_by_row).items():
                held[at] = getattr(theirs_by_row, name)[at]
        for name in ("accuracy", "forecasts"):
            getattr(self._health, name)[streams] = getattr(other._health, name)[streams]

    def figures(self) -> dict[str, FloatArray]:
        """Return what is known of each stream in readable figures, streams in catalogue order.

        Returns
        -------
        dict
            ``level`` (last value) and ``scale`` (standard deviation of forecast residuals of late)
            in the stream's unit, ``usual_scale`` (the same in the long run), ``tail_share`` of
            residuals beyond 2.5 scales, ``tail_index`` (larger: heavier), ``readings`` learnt,
            ``accuracy`` of forecasts of late, ``availability`` and ``missing`` windows in a row.
            NaN where there is no such thing.
        """
        known = self._last.readings > 0
        variance, sums = self._variance.variance, self._tails.sums
        health = self._health
        in_window = np.minimum(health.age, health.window)
        return {
            "level": np.where(known, self._last.value, np.nan)[self._places],
            "scale": self._of_continuous(np.sqrt(variance[0])),
            "usual_scale": self._of_continuous(np.sqrt(variance[1])),
            "tail_share": self._of_continuous(sums[1] / sums[0]),
            "tail_index": self._of_continuous(sums[2] / sums[1]),
            "readings": self._last.readings[self._places].astype(np.float64),
            "accuracy": np.where(health.forecasts > 0, health.accuracy, np.nan),
            "availability": health.observed_recently / np.maximum(in_window, 1),
            "missing": health.consecutive_missing.astype(np.float64),
        }

    def _of_continuous(self, values: FloatArray) -> FloatArray:
        """Put values of the streams with forecasts into catalogue order, NaN for the others."""
        every = np.full(len(self._order), np.nan)
        every[: self._n_continuous] = values
        return every[self._places]

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
        if self._n_continuous:
            gaps = np.take(presence.gap_windows, self._order, axis=1)
            self._judge_continuous(block, gaps, result, learn=learn)
        if self._n_continuous < shape[1]:
            self._judge_events(block, result, learn=learn)
        return result

    def _judge_continuous(
        self, block: CarriedBlock, gaps: IntArray, result: _Judgement, *, learn: bool
    ) -> None:
        n = self._n_continuous
        before, observed = block.readings_before[:, :n], block.observed[:, :n]
        self._snarimax.run(block, result.expected, learn=learn)
        self._holt_winters.run(block, self._n_snarimax, result.expected, learn=learn)
        residual = self._variance.run(block, gaps, result.expected, learn=learn)
        known = observed & (before >= 2)
        p = self._tails.p(residual, before, known, learn=learn)
        flat_p = self._flat_lines.p(block, learn=learn)
        result.forecast_p[:, :n] = np.where(known, p, np.nan)
        np.divide(p, 1.0 - FLAT_LINE_SHARE, out=p)
        np.divide(flat_p, FLAT_LINE_SHARE, out=flat_p)
        result.p[:, :n] = np.minimum(np.minimum(p, flat_p), 1.0)
        result.deviation[:, :n] = np.where(known, residual, np.nan)
        result.expected[:, :n][before == 0] = np.nan

    def _judge_events(self, block: CarriedBlock, result: _Judgement, *, learn: bool) -> None:
        start = self._n_continuous
        judged = self._event_counts.run(block, start, learn=learn)
        result.forecast_p[:, start:] = judged.p
        result.p[:, start:] = np.where(np.isnan(judged.p), 1.0, judged.p)
        result.deviation[:, start:] = judged.deviation
        unseen = block.readings_before[:, start:] == 0
        result.expected[:, start:] = np.where(unseen, np.nan, judged.expected)


def _kind(stream: Stream) -> int:
    """Return which model a stream has: 0 SNARIMAX, 1 Holt-Winters, 2 event counts."""
    if stream.type is StreamType.CONTINUOUS_NOISY:
        return 1
    return 2 if stream.type is StreamType.DISCRETE_EVENTS else 0
