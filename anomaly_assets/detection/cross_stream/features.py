"""What tier 2 sees of a window: time, availability, scaled values and robust group summaries.

The values alone are not enough: with half of the streams missing, a half-space forest over bits and
values no longer separates anything, and group summaries of tier 1's deviations restore it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anomaly_assets.detection.results import IndividualScores
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray, WindowBlock

TIME_FEATURES = ("hour", "weekday", "is_weekend", "is_work_hours")
SUMMARIES = ("available_fraction", "mean_square_deviation", "largest_deviation")
#: Deviations are clipped here before they are squared, so that one stream cannot be the whole
#: group.
LARGEST_DEVIATION = 20.0
LARGEST_SCALED = 1e6


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

    TAIL = 0.05
    RATE = 0.02

    def __init__(self, n: int) -> None:
        self.seen = np.zeros(n)
        self._all_seen = False
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
        centre = 0.5 * self._low + 0.5 * self._high
        half = np.maximum(0.5 * self._high - 0.5 * self._low, self._spread)
        half = np.maximum(half, 1e-9 * np.abs(centre) + 1e-200)
        scaled = (x - centre) / half
        np.minimum(scaled, LARGEST_SCALED, out=scaled)
        np.maximum(scaled, -LARGEST_SCALED, out=scaled)
        if not self._all_seen:
            scaled[(self.seen == 0) & ~np.isnan(x)] = 0.0
        return scaled

    def learn(self, x: FloatArray, available: BoolArray) -> None:
        """Learn the available values.

        Parameters
        ----------
        x, available
            Values and whether there is one, shape ``(n,)``.
        """
        if not self._all_seen:
            first = available & (self.seen == 0)
            self._low[first] = x[first]
            self._high[first] = x[first]
        self.seen += available
        self._all_seen = self._all_seen or bool(self.seen.all())
        centre = 0.5 * self._low + 0.5 * self._high
        known = np.where(available, x, centre)
        rate = np.maximum(1.0 / np.maximum(self.seen, 1.0), self.RATE)
        # A single outlier may at most multiply the spread by a small factor once it is established.
        established = (self.seen > 10) & (self._spread > 0.0)
        limit = 10.0 * np.where(established, self._spread, np.maximum(np.abs(centre), 1.0))
        distance = np.minimum(np.abs(known - centre), limit)
        # Only an observed value may move the spread towards its distance.
        self._spread += np.where(available, rate * (distance - self._spread), 0.0)
        step = np.where(available, 4.0 * rate * self._spread, 0.0)
        self._low += step * (self.TAIL - (known < self._low))
        self._high += step * (1.0 - self.TAIL - (known < self._high))
        np.minimum(self._low, self._high, out=self._low)


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
        #: Groups that have a stream, and where each starts in group order.
        self.occupied: IntArray = np.unique(group_of)
        self._starts = np.searchsorted(group_of[self._order], self.occupied)
        self._sizes = np.bincount(group_of, minlength=len(catalogue.groups)).astype(np.float64)
        self._contexts = catalogue.contexts.model_dump()

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
        contexts = self._contexts
        start, end = contexts["work_hours"]
        time = np.empty((len(block), len(TIME_FEATURES)))
        time[:, 0] = calendar.hour / 24.0
        time[:, 1] = calendar.weekday / 6.0
        time[:, 2] = np.isin(calendar.weekday, contexts["weekend_days"])
        at_work = (
            (calendar.hour >= start) & (calendar.hour < end)
            if start <= end
            else (calendar.hour >= start) | (calendar.hour < end)
        )
        time[:, 3] = at_work & np.isin(calendar.weekday, contexts["work_days"])
        deviation = individual.deviation[:, self._order]
        known = np.isfinite(deviation)
        clipped = np.minimum(np.abs(np.where(known, deviation, 0.0)), LARGEST_DEVIATION)
        return BlockInputs(time, block.available, clipped * clipped, known.astype(np.float64))

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
        x[: len(TIME_FEATURES)] = inputs.time[window]
        available = inputs.available[window]
        x[layout.bits] = available
        soft = 0.5 + 0.5 * scaled / (1.0 + np.abs(scaled))
        x[layout.values] = soft
        x[layout.slots] = soft.take(slots)
        summaries = np.full((layout.n_groups, len(SUMMARIES)), np.nan)
        square, known = inputs.deviation_square[window], inputs.deviation_known[window]
        groups, starts = self.occupied, self._starts
        present = np.add.reduceat(available[self._order].astype(np.float64), starts)
        count = np.add.reduceat(known, starts)
        mean = np.add.reduceat(square, starts) / np.maximum(count, 1.0)
        largest = np.sqrt(np.maximum.reduceat(square, starts))
        silent = count == 0.0
        mean[silent] = np.nan
        largest[silent] = np.nan
        summaries[groups, 0] = present / self._sizes[groups]
        summaries[groups, 1] = mean / (1.0 + mean)
        summaries[groups, 2] = largest / (4.0 + largest)
        x[layout.summaries] = summaries.ravel()
        active = np.zeros(layout.n_groups, dtype=bool)
        active[groups] = present > 0.0
        return x, active
