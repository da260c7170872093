"""Gap pattern learning: which absences of data are normal, and which are not."""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.gaps.availability import AvailabilityModel, surprise_minus_entropy
from anomaly_assets.detection.gaps.calibration import HourlyCalibrator
from anomaly_assets.detection.gaps.companions import CompanionSilence
from anomaly_assets.detection.gaps.layout import BitLayout
from anomaly_assets.detection.gaps.patterns import PatternFrequency
from anomaly_assets.detection.gaps.preparation import PreparedWindows, WindowPreparation
from anomaly_assets.detection.gaps.survival import GapSurvival
from anomaly_assets.detection.gaps.transitions import TransitionModel
from anomaly_assets.detection.results import GapScores
from anomaly_assets.detection.scoring import cauchy_combination, p_of_score, score_of_p
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.contexts import CONTEXT_NAMES
from anomaly_assets.streams.windows import (
    WINDOWS_PER_DAY,
    BoolArray,
    FloatArray,
    IntArray,
    WindowBlock,
)

#: A window is flagged above this score.
FLAGGED_ABOVE = 0.7
#: The p-value of that score.
FLAGGED_P = float(p_of_score(np.array(FLAGGED_ABOVE)))
#: Weight with which a flagged window is learnt by the availability of its hour: an outage of some
#: hours should not make the next one expected.
FLAGGED_WEIGHT = 0.25
#: A channel with nothing to say may not outvote another that found something: in the Cauchy
#: combination p-values of 0.99 weigh as much against one of 0.01, and quiet channels are the rule.
LARGEST_P = 0.9
#: Windows over which surprises are averaged.
MEAN_WINDOWS = 6
#: Evidence of an average over MEAN_WINDOWS dependent windows, in single windows.
MEAN_GAIN = 3.0
#: Windows prepared at once, which bounds the memory of long ranges; results do not depend on it.
_PREPARED = WINDOWS_PER_DAY
#: Weight of a silence amid companions beside the calibrated channels' 1. It has no calibration
#: of its own: a window among thousands must be far out before it counts.
COMPANION_WEIGHT = 0.006
_WITH_COMPANIONS = np.array([1.0, COMPANION_WEIGHT])
_SLEEP = CONTEXT_NAMES.index("sleep_hours")


class GapDetector:
    r"""Scores how unusual the absences, and the presences, of a window are.

    Three voices speak for every group's *availability* (was the stream observed) and, for groups
    with zero-suppressed streams, *activity* (was it observed and not 0); and for all streams
    together:

    1. availability per local hour and kind of day (:class:`AvailabilityModel`), as surprise minus
       entropy, summed over the group, and its mean over 6 windows;
    2. transitions per context (:class:`TransitionModel`), of availability, likewise. They are mixed
       half and half with voice 1: a change that the hour explains is no surprise, so that a watch
       taken off every evening is none;
    3. the age of gaps in waking windows against life tables (:class:`GapSurvival`), of groups and
    of
       single zero-suppressed streams.

    These channels become p-values by their rank among past hours (:class:`HourlyCalibrator`), yet
    never smaller than the model itself allows: ``n exp(-surprise)`` for `n` streams, so that in
    ever complete data a first missing reading is no sensation. Groups, and all together, are Cauchy
    combinations of their channels. What is silent although its companions speak
    (:class:`CompanionSilence`) is combined with them at a small weight, uncalibrated: outages that
    have been seen before stay outages.

    A stream never observed takes no part, nor does one missing for over 7 days until it returns.

    Parameters
    ----------
    catalogue
        The streams.
    hours
        Hours among which surprises are ranked.

    References
    ----------
    Liu, Y. and Xie, J. (2020). Cauchy combination test. Journal of the American Statistical
    Association 115(529).
    """

    version: int = 2

    def __init__(self, catalogue: Catalogue, *, hours: int = 336) -> None:
        self._layout = layout = BitLayout.of(catalogue)
        self._preparation = WindowPreparation(layout, catalogue.contexts)
        self._availability = AvailabilityModel(layout.n_bits)
        self._transitions = TransitionModel(layout.n_streams)
        n_active = layout.n_bits - layout.n_streams
        self._survival = GapSurvival(1 + layout.n_segments + n_active)
        self._patterns = PatternFrequency()
        self._companions = CompanionSilence(_companions(layout))
        # Channels are sums of surprises, their means over 6 windows, and ages. Sums are voice 1 of
        # all streams, voice 2 of all streams, voice 1 of each segment, voice 2 of each of
        # availability.
        n_available = layout.n_available_segments
        self._n_sums = 2 + layout.n_segments + n_available
        self._n_channels = 2 * self._n_sums + 1 + layout.n_segments
        segments = np.arange(layout.n_segments) + 1
        sums = np.concatenate([[0, 0], segments, segments[:n_available]])
        self._row = np.concatenate([sums, sums, [0], segments])
        self._sum_starts = np.concatenate(
            [layout.starts, layout.starts[:n_available] + layout.n_bits]
        )
        self._gain = np.ones(self._n_channels)
        self._gain[self._n_sums : 2 * self._n_sums] = MEAN_GAIN
        self._weights = self._channel_weights()
        self._calibrator = HourlyCalibrator(self._n_channels, hours=hours)
        self._recent_sums = np.zeros((MEAN_WINDOWS, self._n_sums))

    def process(self, block: WindowBlock) -> GapScores:
        """Score and then learn each window of a block.

        Parameters
        ----------
        block
            Consecutive windows, streams in catalogue order.

        Raises
        ------
        InputError
            If the block has another number of streams than the catalogue.
        """
        layout = self._layout
        if block.values.shape[1] != layout.n_streams:
            msg = (
                f"entity {block.entity_id!r}: the block has {block.values.shape[1]} streams, the "
                f"catalogue of the gap detector {layout.n_streams}; give one column per stream"
            )
            raise InputError(msg)
        n = len(block)
        groups = np.empty((n, layout.n_groups + 1))
        surprise = np.empty((n, layout.n_streams))
        frequency = np.empty(n)
        group_available = np.empty((n, layout.n_groups))
        coordinated = np.empty((n, layout.n_groups), dtype=np.bool_)
        for start in range(0, n, _PREPARED):
            part = slice(start, min(start + _PREPARED, n))
            whole = part.stop - part.start == n
            prepared = self._preparation.prepare(block if whole else block.part(start, part.stop))
            self._run_windows(prepared, groups[part], surprise[part], frequency[part])
            group_available[part] = prepared.group_available
            coordinated[part] = prepared.coordinated
        scores = score_of_p(groups)
        with np.errstate(invalid="ignore"):
            flagged = scores[:, -1] > FLAGGED_ABOVE
        return GapScores(
            score=scores[:, -1].copy(),
            group_score=scores[:, :-1].copy(),
            group_available=group_available,
            surprise=surprise,
            coordinated=coordinated,
            pattern_frequency=frequency,
            is_anomalous=flagged,
        )

    def figures(self) -> dict[str, FloatArray]:
        """Return what is known of each stream's presence, streams in catalogue order.

        Returns
        -------
        dict
            ``usual_availability`` over all hours, ``least_availability`` and ``most_availability``
            of any local hour (working days and weekends apart), each in [0, 1]; ``learnt``, the
            windows that count in them, faded. NaN where nothing was learnt.
        """
        n = self._layout.n_streams
        counts = self._availability.counts[:, :, :n]
        seen = counts.sum(axis=1)
        hours = np.where(seen > 0.0, counts[:, 1] / np.maximum(seen, 1e-300), np.nan)
        learnt = seen.sum(axis=0)
        usual = counts[:, 1].sum(axis=0) / np.maximum(learnt, 1e-300)
        figures = {
            "usual_availability": np.where(learnt > 0.0, usual, np.nan),
            "least_availability": np.fmin.reduce(hours, axis=0),
            "most_availability": np.fmax.reduce(hours, axis=0),
            "learnt": learnt,
        }
        streams = self._layout.stream_of_bit[:n]
        placed = {name: np.empty(n) for name in figures}
        for name, values in figures.items():
            placed[name][streams] = values
        return placed

    def _channel_weights(self) -> FloatArray:
        """Return each group's (last row: the whole's) weights of the channels.

        A voice's single windows and their means share one weight, and the age of missing activity,
        the only voice that ever found a phone left unused at work, counts twice. In the whole every
        group weighs the same, and so do the channels of all streams together.
        """
        layout = self._layout
        owner = np.concatenate([[-1], layout.group_of_segment])[self._row]
        voice = np.ones(self._n_channels)
        voice[: 2 * self._n_sums] = 0.5
        voice[2 * self._n_sums + 1 + layout.n_available_segments :] = 2.0
        weights = np.zeros((layout.n_groups + 1, self._n_channels))
        for group in range(-1, layout.n_groups):
            weights[group] = np.where(owner == group, voice, 0.0)
        share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        weights[-1] = share.sum(axis=0)
        return weights

    def _run_windows(
        self,
        ready: PreparedWindows,
        groups: FloatArray,
        surprise: FloatArray,
        frequency: FloatArray,
    ) -> None:
        """Go through prepared windows one by one, filling the given rows."""
        layout = self._layout
        excess = np.empty((len(ready.cell), layout.n_bits + layout.n_streams))
        n_behind = np.take(ready.n_known, self._row, axis=1)
        silent = self._silences(ready)
        for t, (cell, context) in enumerate(zip(ready.cell, ready.context, strict=True)):
            surprises = self._surprises(ready, t, n_behind[t], excess[t])
            p = self._calibrator.p(surprises)
            _bound(surprises, n_behind[t], self._gain, p)
            ranked = cauchy_combination(p, self._weights)
            # What was never observed is unknown, not ordinary.
            both = np.stack([ranked, np.where(np.isnan(ranked), np.nan, silent[t])], axis=1)
            groups[t] = cauchy_combination(np.minimum(both, LARGEST_P), _WITH_COMPANIONS)
            frequency[t] = self._patterns.frequency(context, ready.patterns[t])
            # NaN, before anything was observed, compares as not flagged.
            outcomes = ready.outcomes[t]
            if groups[t, -1] < FLAGGED_P:
                outcomes = FLAGGED_WEIGHT * outcomes
            self._availability.learn(cell, outcomes)
            self._transitions.learn(context, ready.steps[t])
            self._patterns.learn(context, ready.patterns[t])
            self._calibrator.take(surprises, hour_over=ready.hour_over[t])
            if ready.refresh[t]:
                self._survival.refresh()
        surprise[:] = np.where(ready.seen, layout.by_stream(excess), np.nan)

    def _silences(self, ready: PreparedWindows) -> FloatArray:
        """Return the p-values of silences amid companions, of each group and of the whole."""
        layout = self._layout
        rows = slice(0, 1 + layout.n_segments)
        present, alive = ready.present[:, rows].copy(), ready.alive[:, rows]
        n_available = layout.n_available_segments
        # What is filled with zeros says nothing about the device that sends it, unless nothing else
        # of the group was ever there.
        starts = layout.starts[:n_available]
        steady = ready.taking_part[:, : layout.n_streams] * layout.steady
        there = np.add.reduceat(ready.bits[:, : layout.n_streams] * steady, starts, axis=1) > 0.0
        judged = np.add.reduceat(steady, starts, axis=1) > 0.0
        present[:, 1 : 1 + n_available] = np.where(judged, there, present[:, 1 : 1 + n_available])
        companions = np.zeros((len(present), layout.n_groups + 1), dtype=np.bool_)
        available = present[:, 1 : 1 + n_available]
        companions[:, layout.group_of_segment[:n_available]] = available
        # Time goes on whatever is silent: the companion of everything together.
        companions[:, -1] = True
        waking = np.array(ready.context) != _SLEEP
        by_row = self._companions.process(present | ~alive, companions, waking)
        p = np.ones((len(present), layout.n_groups + 1))
        for segment, group in enumerate(layout.group_of_segment.tolist()):
            np.minimum(p[:, group], by_row[:, 1 + segment], out=p[:, group])
        p[:, -1] = by_row.min(axis=1)
        return p

    def _surprises(
        self, ready: PreparedWindows, t: int, n_behind: FloatArray, excess: FloatArray
    ) -> FloatArray:
        """Return the surprise of every channel; `excess` takes that of every bit."""
        layout = self._layout
        context = ready.context[t]
        p = np.empty(excess.size)
        p[: layout.n_bits] = self._availability.p(ready.cell[t])
        p[layout.n_bits :] = self._transitions.p(context, ready.was[t])
        p[layout.n_bits :] += p[: layout.n_streams]
        p[layout.n_bits :] *= 0.5
        np.multiply(surprise_minus_entropy(p, ready.bits[t]), ready.taking_part[t], out=excess)
        waking = context != _SLEEP
        ages = self._survival.update(context, ready.present[t], ready.alive[t], waking=waking)
        surprises = np.empty(self._n_channels)
        segments = (layout.n_segments, layout.n_available_segments)
        _sum_up(excess, self._sum_starts, *segments, self._recent_sums, surprises)
        first = 2 * self._n_sums
        _take_worst(ages, layout.active_starts, *segments, surprises[first:])
        surprises[np.isnan(n_behind)] = np.nan
        return surprises


def _companions(layout: BitLayout) -> BoolArray:
    """Return the companions of all together (time alone) and of each segment (other groups)."""
    companions = np.ones((1 + layout.n_segments, layout.n_groups + 1), dtype=np.bool_)
    companions[0, :-1] = False
    companions[1:, -1] = False
    companions[np.arange(1, 1 + layout.n_segments), layout.group_of_segment] = False
    return companions


@compiled
def _sum_up(
    excess: FloatArray,
    starts: IntArray,
    n_segments: int,
    n_available: int,
    recent: FloatArray,
    surprises: FloatArray,
) -> None:
    """Write the channels that are sums of surprises, and their means over some windows."""
    n_windows, n_sums = recent.shape
    surprises[:2] = 0.0
    for k in range(starts.size):
        total = 0.0
        for i in range(starts[k], starts[k + 1] if k + 1 < starts.size else excess.size):
            total += excess[i]
        surprises[2 + k] = total
        if k < n_available:
            surprises[0] += total
        elif k >= n_segments:
            surprises[1] += total
    for k in range(n_sums):
        total = 0.0
        for window in range(n_windows - 1):
            recent[window, k] = recent[window + 1, k]
            total += recent[window, k]
        recent[n_windows - 1, k] = surprises[k]
        surprises[n_sums + k] = (total + surprises[k]) / n_windows


@compiled
def _take_worst(
    ages: FloatArray, starts: IntArray, n_segments: int, n_available: int, surprises: FloatArray
) -> None:
    """Write the channels that are ages of gaps: the worst row's for segments of activity."""
    n_rows = 1 + n_segments
    surprises[:] = ages[:n_rows]
    for k in range(starts.size):
        channel = 1 + n_available + k
        for i in range(starts[k], starts[k + 1] if k + 1 < starts.size else ages.size - n_rows):
            surprises[channel] = max(surprises[channel], ages[n_rows + i])


@compiled
def _bound(surprises: FloatArray, n_behind: FloatArray, gain: FloatArray, p: FloatArray) -> None:
    """Raise p-values to the smallest that each channel's own model allows."""
    for k in range(p.size):
        if not math.isnan(p[k]):
            # Up to exp(700); a surprise below its expectation may be any number of nats below.
            least = max(n_behind[k], 1.0) * math.exp(min(-gain[k] * surprises[k], 700.0))
            p[k] = max(p[k], min(least, LARGEST_P))
