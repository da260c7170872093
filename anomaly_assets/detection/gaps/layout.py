"""How the bits of all streams are laid out so that one window is a handful of array operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

_Bits = TypeVar("_Bits", BoolArray, FloatArray)


@dataclass(frozen=True)
class BitLayout:
    """Order of the bits and of their sums.

    Bits are the availability of every stream, sorted by group, then the activity of every
    zero-suppressed stream, sorted by group. *Segments* are their non-empty groups, in that order.

    Parameters
    ----------
    n_groups
        Groups of the catalogue, empty ones included.
    stream_of_bit
        Catalogue position of each bit's stream, shape ``(n_bits,)``.
    n_streams
        Number of availability bits; the others are activity bits.
    starts
        First bit of each segment.
    group_of_segment
        Catalogue position of each segment's group.
    n_available_segments
        Number of segments of availability; the others are of activity.
    active_bits
        Availability bit of each activity bit's stream.
    active_starts
        First bit of each segment of activity, counted from the first activity bit.
    steady
        By availability bit: 1 where the stream has readings by itself, 0 where it is filled with
        zeros and its group has one that is not.
    """

    n_groups: int
    stream_of_bit: IntArray
    n_streams: int
    starts: IntArray
    group_of_segment: IntArray
    n_available_segments: int
    active_bits: IntArray
    active_starts: IntArray
    steady: FloatArray

    @classmethod
    def of(cls, catalogue: Catalogue) -> BitLayout:
        """Lay out the bits of `catalogue`."""
        group = catalogue.group_of_stream
        order = np.argsort(group, kind="stable")
        suppressed = np.array([s.zero_suppressed for s in catalogue.streams], dtype=np.bool_)
        active = order[suppressed[order]]
        groups, starts = np.unique(group[order], return_index=True)
        active_groups, active_starts = np.unique(group[active], return_index=True)
        return cls(
            n_groups=len(catalogue.group_ids),
            stream_of_bit=np.concatenate([order, active]).astype(np.int64),
            n_streams=order.size,
            starts=np.concatenate([starts, active_starts + order.size]).astype(np.int64),
            group_of_segment=np.concatenate([groups, active_groups]).astype(np.int64),
            n_available_segments=groups.size,
            active_bits=np.flatnonzero(suppressed[order]),
            active_starts=active_starts.astype(np.int64),
            steady=_steady(suppressed[order], starts),
        )

    @property
    def n_bits(self) -> int:
        """Number of bits of availability and activity."""
        return int(self.stream_of_bit.size)

    @property
    def n_segments(self) -> int:
        """Number of non-empty groups of availability and of activity."""
        return int(self.starts.size)

    def bits(self, values: FloatArray) -> BoolArray:
        """Return all bits of values of shape ``(n_windows, n_streams)``.

        An activity bit says that the stream was observed and not 0: a phone that lies unused and
        one that is off are both not active.
        """
        here = np.isfinite(values[:, self.stream_of_bit[: self.n_streams]])
        with np.errstate(invalid="ignore"):
            active = values[:, self.stream_of_bit[self.n_streams :]] > 0.0
        return np.concatenate([here, active], axis=1)

    def count(self, bits: BoolArray) -> IntArray:
        """Count set bits per segment, shape ``(n_windows, n_segments)``."""
        return _counts(bits, self.starts, self.n_bits)

    def count_available(self, bits: BoolArray) -> IntArray:
        """Count set availability bits per segment of availability."""
        return _counts(bits, self.starts[: self.n_available_segments], self.n_streams)

    def by_group(self, segments: IntArray) -> IntArray:
        """Spread the segments of availability over all groups, 0 for empty ones."""
        spread = np.zeros((segments.shape[0], self.n_groups), dtype=segments.dtype)
        n = self.n_available_segments
        spread[:, self.group_of_segment[:n]] = segments[:, :n]
        return spread

    def by_stream(self, bits: _Bits) -> _Bits:
        """Return availability bits, ``(n_windows, n_streams)``, in catalogue order."""
        ordered = np.empty_like(bits[:, : self.n_streams])
        ordered[:, self.stream_of_bit[: self.n_streams]] = bits[:, : self.n_streams]
        return ordered


@compiled
def _counts(bits: BoolArray, starts: IntArray, end: int) -> IntArray:
    """Return how many bits are set from each start to the next, the last one up to `end`."""
    counts = np.zeros((bits.shape[0], starts.size), dtype=np.int64)
    for t in range(bits.shape[0]):
        for k in range(starts.size):
            for i in range(starts[k], starts[k + 1] if k + 1 < starts.size else end):
                counts[t, k] += bits[t, i]
    return counts


def _steady(suppressed: BoolArray, starts: IntArray) -> FloatArray:
    """Return 0 for the zero-suppressed streams of segments that have other streams too."""
    segment = np.searchsorted(starts, np.arange(suppressed.size), side="right") - 1
    mixed = ~np.logical_and.reduceat(suppressed, starts)
    return np.where(suppressed & mixed[segment], 0.0, 1.0)
