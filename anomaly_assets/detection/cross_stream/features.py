"""What tier 2 sees of a window: time, availability, scaled values and robust group summaries.

The values alone are not enough: with half of the streams missing, a half-space forest over bits and
values no longer separates anything, and group summaries of tier 1's deviations restore it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.results import IndividualScores
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray, WindowBlock

TIME_FEATURES = ("hour", "weekday", "is_weekend", "is_work_hours")
SUMMARIES = ("available_fraction", "mean_square_deviation", "largest_deviation")
#: Deviations are clipped here before they are squared, so that one stream cannot be the whole
#: group.
LARGEST_DEVIATION = 20.0
LARGEST_SCALED = 1e6
#: Quantiles that values are scaled by: this one and its opposite.
TAIL = 0.05
#: Weight of a new value in the quantiles in the long run.
RATE = 0.02


class RunningScale:
    """Running 5 % and 95 % quantiles of every stream, by stochastic approximation.

    A value in the middle of the two scales to 0, one at either quantile to about -1 or 1.

    Parameters
    ----------
    n
        Number of streams.

    References
    ----------
    Robbins, H. and Monro, S. (1951). A stochastic approximation method. Annals of Mathematical
    Statistics 22(3).
    """

    def __init__(self, n: int) -> None:
        self.seen = np.zeros(n)
        self._low = np.zeros(n)
        self._high = np.zeros(n)
        self._spread = np.zeros(n)

    def scale(self, x: FloatArray) -> FloatArray:
        """Scale values by what was learnt before them.

        Parameters
        ----------
        x
            Values within 1e100 of 0, shape ``(n,)``; NaN where missing.

        Returns
        -------
        numpy.ndarray
            Scaled values, shape ``(n,)``, clipped to -1e6..1e6; 0 for a first value and for a
            stream that has never varied and does not now; NaN where missing.
        """
        scaled = np.empty(x.size)
        _scale(x, self.seen, self._low, self._high, self._spread, scaled)
        return scaled

    def learn(self, x: FloatArray, available: BoolArray) -> None:
        """Learn the available values.

        Parameters
        ----------
        x, available
            Values and whether there is one, shape ``(n,)``.
        """
        _follow(x, available, self.seen, self._low, self._high, self._spread)


@compiled
def _scale(
    x: FloatArray,
    seen: FloatArray,
    low: FloatArray,
    high: FloatArray,
    spread: FloatArray,
    scaled: FloatArray,
) -> None:
    """Write values relative to the quantiles into `scaled`."""
    for i in range(x.size):
        if math.isnan(x[i]):
            scaled[i] = math.nan
        elif seen[i] == 0.0:
            scaled[i] = 0.0
        else:
            centre = 0.5 * low[i] + 0.5 * high[i]
            half = max(0.5 * high[i] - 0.5 * low[i], spread[i])
            half = max(half, 1e-9 * abs(centre) + 1e-200)
            scaled[i] = max(min((x[i] - centre) / half, LARGEST_SCALED), -LARGEST_SCALED)


@compiled
def _follow(
    x: FloatArray,
    available: BoolArray,
    seen: FloatArray,
    low: FloatArray,
    high: FloatArray,
    spread: FloatArray,
) -> None:
    """Move the quantiles towards the available values."""
    for i in range(x.size):
        if not available[i]:
            continue
        if seen[i] == 0.0:
            low[i] = high[i] = x[i]
        seen[i] += 1.0
        centre = 0.5 * low[i] + 0.5 * high[i]
        rate = max(1.0 / seen[i], RATE)
        # A single outlier may at most multiply the spread by a small factor once it is established.
        established = seen[i] > 10.0 and spread[i] > 0.0
        limit = 10.0 * (spread[i] if established else max(abs(centre), 1.0))
        distance = min(abs(x[i] - centre), limit)
        spread[i] += rate * (distance - spread[i])
        step = 4.0 * rate * spread[i]
        below_low, below_high = x[i] < low[i], x[i] < high[i]
        low[i] += step * (TAIL - below_low)
        high[i] += step * (1.0 - TAIL - below_high)
        low[i] = min(low[i], high[i])


@dataclass(frozen=True)
class FeatureLayout:
    """Where each feature lies in the vector.

    The order is: time, a bit per stream, a value per stream, `n_slots` values of the streams that
    are selected at the moment, three summaries of each group (the groups one after the other).

    Parameters
    ----------
    n_streams, n_groups, n_slots
        Sizes.
    """

    n_streams: int
    n_groups: int
    n_slots: int

    @cached_property
    def bits(self) -> slice:
        """Availability of each stream."""
        start = len(TIME_FEATURES)
        return slice(start, start + self.n_streams)

    @cached_property
    def values(self) -> slice:
        """Scaled value of each stream."""
        return slice(self.bits.stop, self.bits.stop + self.n_streams)

    @cached_property
    def slots(self) -> slice:
        """Scaled values of the selected streams."""
        return slice(self.values.stop, self.values.stop + self.n_slots)

    @cached_property
    def summaries(self) -> slice:
        """Summaries of the groups."""
        return slice(self.slots.stop, self.slots.stop + len(SUMMARIES) * self.n_groups)

    @cached_property
    def size(self) -> int:
        """Length of the vector."""
        return int(self.summaries.stop)

    def summaries_of(self, group: int) -> range:
        """Return the positions of one group's summaries."""
        start = self.summaries.start + len(SUMMARIES) * group
        return range(start, start + len(SUMMARIES))


@dataclass(frozen=True)
class BlockInputs:
    """What does not depend on state, computed for all windows of a block at once.

    Parameters
    ----------
    time
        Shape ``(n_windows, 4)``, in [0, 1].
    available
        Shape ``(n_windows, n_streams)``.
    deviation_square
        Clipped squared deviations in group order, 0 where unknown, shape ``(n_windows,
        n_streams)``.
    deviation_known
        Whether there is a deviation, in group order, as 0 and 1, same shape.
    """

    time: FloatArray
    available: BoolArray
    deviation_square: FloatArray
    deviation_known: FloatArray


class FeatureExtractor:
    """Builds the feature vectors of a catalogue's windows.

    Parameters
    ----------
    catalogue
        Streams, groups and contexts.
    n_slots
        How many selected values there are.
    """

    def __init__(self, catalogue: Catalogue, n_slots: int) -> None:
        self.layout = FeatureLayout(len(catalogue.streams), len(catalogue.groups), n_slots)
        group_of = catalogue.group_of_stream
        self._order = np.argsort(group_of, kind="stable")
        self._sizes = np.bincount(group_of, minlength=len(catalogue.groups)).astype(np.float64)
        self._contexts = catalogue.contexts
        self._group_of_ordered = group_of[self._order]
        weekdays = np.arange(7)
        self._at_weekend = np.isin(weekdays, catalogue.contexts.weekend_days)
        self._on_work_day = np.isin(weekdays, catalogue.contexts.work_days)

    def prepare(self, block: WindowBlock, individual: IndividualScores) -> BlockInputs:
        """Compute what needs no state, element by element.

        Parameters
        ----------
        block
            The windows.
        individual
            Tier 1 of the same windows.
        """
        calendar = block.calendar
        start, end = self._contexts.work_hours
        time = np.empty((len(block), len(TIME_FEATURES)))
        time[:, 0] = calendar.hour / 24.0
        time[:, 1] = calendar.weekday / 6.0
        time[:, 2] = self._at_weekend[calendar.weekday]
        at_work = (
            (calendar.hour >= start) & (calendar.hour < end)
            if start <= end
            else (calendar.hour >= start) | (calendar.hour < end)
        )
        time[:, 3] = at_work & self._on_work_day[calendar.weekday]
        deviation = np.take(individual.deviation, self._order, axis=1)
        known = np.isfinite(deviation)
        clipped = np.minimum(np.abs(np.where(known, deviation, 0.0)), LARGEST_DEVIATION)
        available = np.ascontiguousarray(block.available)
        return BlockInputs(time, available, clipped * clipped, known.astype(np.float64))

    def vector(
        self, inputs: BlockInputs, window: int, scaled: FloatArray, slots: IntArray
    ) -> tuple[FloatArray, BoolArray]:
        """Build the feature vector of one window.

        Parameters
        ----------
        inputs, window
            From :meth:`prepare`, and which of its windows.
        scaled
            From :meth:`RunningScale.scale`, shape ``(n_streams,)``.
        slots
            Selected streams, shape ``(n_slots,)``.

        Returns
        -------
        tuple
            Features in [0, 1], NaN where missing, shape ``(layout.size,)``; and whether any stream
            of each group is available, shape ``(n_groups,)``.
        """
        layout = self.layout
        x = np.empty(layout.size)
        active = np.zeros(layout.n_groups, dtype=bool)
        _vectorise(
            inputs.time[window],
            inputs.available[window],
            scaled,
            slots,
            inputs.deviation_square[window],
            inputs.deviation_known[window],
            self._order,
            self._group_of_ordered,
            self._sizes,
            x,
            active,
        )
        return x, active


@compiled
def _vectorise(
    time: FloatArray,
    available: BoolArray,
    scaled: FloatArray,
    slots: IntArray,
    square: FloatArray,
    known: FloatArray,
    order: IntArray,
    group_of_ordered: IntArray,
    sizes: FloatArray,
    x: FloatArray,
    active: BoolArray,
) -> None:
    """Write the feature vector of a window into `x`, and which groups are there into `active`."""
    n, at = scaled.size, time.size
    x[:at] = time
    for i in range(n):
        x[at + i] = available[i]
        x[at + n + i] = 0.5 + 0.5 * scaled[i] / (1.0 + abs(scaled[i]))
    for place in range(slots.size):
        x[at + 2 * n + place] = x[at + n + slots[place]]
    summaries = at + 2 * n + slots.size
    x[summaries:] = math.nan
    first = 0
    while first < n:
        group = group_of_ordered[first]
        present, count, total, largest = 0.0, 0.0, 0.0, 0.0
        last = first
        while last < n and group_of_ordered[last] == group:
            present += available[order[last]]
            count += known[last]
            total += square[last]
            largest = max(largest, square[last])
            last += 1
        first = last
        place = summaries + 3 * group
        x[place] = present / sizes[group]
        active[group] = present > 0.0
        if count > 0.0:
            mean = total / count
            x[place + 1] = mean / (1.0 + mean)
            x[place + 2] = math.sqrt(largest) / (4.0 + math.sqrt(largest))
