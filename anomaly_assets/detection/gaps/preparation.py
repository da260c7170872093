"""What the gap detector needs of many windows at once, before any model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.gaps.availability import availability_cells
from anomaly_assets.detection.gaps.layout import BitLayout
from anomaly_assets.detection.gaps.patterns import (
    coordinated_failures,
    group_patterns,
    lost_together,
    presence_runs,
)
from anomaly_assets.streams.catalogue import Contexts
from anomaly_assets.streams.contexts import context_codes
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    WINDOWS_PER_HOUR,
    BoolArray,
    Calendar,
    FloatArray,
    IntArray,
    WindowBlock,
)

#: A stream missing for longer than this (7 days) takes no part until it comes back.
DEAD_AFTER = 7 * WINDOWS_PER_DAY
_REFRESHED = 3 * WINDOWS_PER_HOUR


@dataclass(frozen=True)
class PreparedWindows:
    """Windows in the terms of the models, bits in the order of :class:`BitLayout`.

    Parameters
    ----------
    cell, context
        Cell of hour and kind of day, and code of the context, of each window.
    hour_over
        Whether the next window belongs to another hour (of UTC).
    refresh
        Whether life tables are estimated anew after the window, every three hours.
    bits, taking_part
        Every bit, then those of availability once more, and 1.0 where the bit counts and 0.0 where
        its stream is unknown or dead, shape ``(n_windows, n_bits + n_streams)``.
    outcomes
        What voice 1 learns, shape ``(n_windows, 2, n_bits)``.
    was, steps
        Bits of availability before the window, shape ``(n_windows, n_streams)``, and what voice 2
        learns, shape ``(n_windows, 2, 2, n_streams)``.
    present, alive
        For voice 3: whether anything was there, and whether the row takes part. Rows are all
        streams together, the segments, and each activity bit; shape
        ``(n_windows, 1 + n_segments + n_active)``.
    n_known
        Streams taking part, in all and of each segment, shape ``(n_windows, 1 + n_segments)``; NaN
        where no stream was ever seen.
    seen
        Whether each stream (catalogue order) was ever seen, shape ``(n_windows, n_streams)``.
    group_available, coordinated
        As in :class:`~anomaly_assets.detection.results.GapScores`.
    patterns
        Each window's availability pattern.
    """

    cell: list[int]
    context: list[int]
    hour_over: list[bool]
    refresh: list[bool]
    bits: FloatArray
    taking_part: FloatArray
    outcomes: FloatArray
    was: FloatArray
    steps: FloatArray
    present: BoolArray
    alive: BoolArray
    n_known: FloatArray
    seen: BoolArray
    group_available: FloatArray
    coordinated: BoolArray
    patterns: list[bytes]


class WindowPreparation:
    """Prepares windows, carrying over what the next ones need: last bits and runs of every stream.

    Everything here is elementwise, or counts whole numbers, so that results cannot depend on how
    many windows come at once.

    Parameters
    ----------
    layout
        Order of the bits.
    contexts
        Which local hours mean what.
    """

    def __init__(self, layout: BitLayout, contexts: Contexts) -> None:
        n = layout.n_streams
        self._layout = layout
        self._contexts = contexts
        self._bits = np.zeros(n, dtype=np.bool_)
        self._alive = np.zeros(n, dtype=np.bool_)
        self._seen = np.zeros(n, dtype=np.bool_)
        self._run = np.zeros(n, dtype=np.int64)
        self._missing = np.zeros(n, dtype=np.int64)

    def prepare(self, block: WindowBlock) -> PreparedWindows:
        """Prepare the windows of a block that follows the one before; it must not be empty."""
        layout = self._layout
        n = layout.n_streams
        bits = layout.bits(block.values)
        here = np.ascontiguousarray(bits[:, :n])
        runs, missing = presence_runs(here, self._run, self._missing)
        alive, seen = np.empty(here.shape, dtype=np.bool_), np.empty(here.shape, dtype=np.bool_)
        learnt = _Lessons.empty(len(block), n, layout.n_bits)
        before = (self._bits, self._alive, self._seen)
        given = (bits, missing, layout.active_bits)
        _fill(*given, *before, alive, seen, *vars(learnt).values())
        self._bits, self._alive, self._seen = here[-1].copy(), alive[-1].copy(), seen[-1].copy()
        self._run, self._missing = runs[-1].copy(), missing[-1].copy()

        of_bit = np.concatenate([alive, alive[:, layout.active_bits]], axis=1)
        seen_of_bit = np.concatenate([seen, seen[:, layout.active_bits]], axis=1)
        n_alive = layout.count(of_bit)
        n_here = layout.count(bits)
        n_seen = layout.count(seen_of_bit)
        index = block.windows.starts() // WINDOW_SECONDS
        known, coordinated, patterns = self._groups(n_here, n_seen, runs, missing)
        cells, contexts = _week(self._contexts)
        minute = _minute_of_week(block.calendar)
        return PreparedWindows(
            cell=cells[minute].tolist(),
            context=contexts[minute].tolist(),
            hour_over=((index + 1) % WINDOWS_PER_HOUR == 0).tolist(),
            refresh=((index + 1) % _REFRESHED == 0).tolist(),
            bits=learnt.bits,
            taking_part=learnt.taking_part,
            outcomes=learnt.outcomes,
            was=learnt.was,
            steps=learnt.steps,
            present=self._rows(n_here > 0, bits),
            alive=self._rows(n_alive > 0, of_bit),
            n_known=self._n_known(n_alive, n_seen),
            seen=layout.by_stream(seen),
            group_available=known,
            coordinated=coordinated,
            patterns=patterns,
        )

    def _groups(
        self, n_here: IntArray, n_seen: IntArray, runs: IntArray, missing: IntArray
    ) -> tuple[FloatArray, BoolArray, list[bytes]]:
        """Return share available, coordinated failure, and pattern of the groups."""
        layout = self._layout
        here, seen = layout.by_group(n_here), layout.by_group(n_seen)
        share = np.where(seen > 0, here / np.maximum(seen, 1), np.nan)
        recent, lost = (
            layout.by_group(layout.count_available(bits)) for bits in lost_together(runs, missing)
        )
        return share, coordinated_failures(recent, lost), group_patterns(here, seen)

    def _rows(self, segments: BoolArray, bits: BoolArray) -> BoolArray:
        layout = self._layout
        anything = segments[:, : layout.n_available_segments].any(axis=1, keepdims=True)
        return np.concatenate([anything, segments, bits[:, layout.n_streams :]], axis=1)

    def _n_known(self, n_alive: IntArray, n_seen: IntArray) -> FloatArray:
        n = self._layout.n_available_segments
        counts = np.where(n_seen > 0, n_alive, np.nan)
        whole = n_alive[:, :n].sum(axis=1, keepdims=True)
        ever = (n_seen[:, :n] > 0).any(axis=1, keepdims=True)
        return np.concatenate([np.where(ever, whole, np.nan), counts], axis=1)


@dataclass(frozen=True)
class _Lessons:
    """What the models see and learn of the bits of a block, as in :class:`PreparedWindows`."""

    bits: FloatArray
    taking_part: FloatArray
    outcomes: FloatArray
    was: FloatArray
    steps: FloatArray

    @classmethod
    def empty(cls, n_windows: int, n_streams: int, n_bits: int) -> _Lessons:
        """Return room for some windows."""
        return cls(
            bits=np.empty((n_windows, n_bits + n_streams)),
            taking_part=np.empty((n_windows, n_bits + n_streams)),
            outcomes=np.zeros((n_windows, 2, n_bits)),
            was=np.empty((n_windows, n_streams)),
            steps=np.zeros((n_windows, 2, 2, n_streams)),
        )


@compiled
def _fill(
    bits: BoolArray,
    missing: IntArray,
    active_bits: IntArray,
    bits_before: BoolArray,
    alive_before: BoolArray,
    seen_before: BoolArray,
    alive: BoolArray,
    seen: BoolArray,
    all_bits: FloatArray,
    taking_part: FloatArray,
    outcomes: FloatArray,
    was: FloatArray,
    steps: FloatArray,
) -> None:
    """Work out which streams are known and alive, and what is learnt of all bits."""
    n, n_bits = alive.shape[1], bits.shape[1]
    for t in range(bits.shape[0]):
        for i in range(n):
            bit = bits[t, i]
            bit_was = bits[t - 1, i] if t > 0 else bits_before[i]
            alive_was = alive[t - 1, i] if t > 0 else alive_before[i]
            seen[t, i] = bit or (seen[t - 1, i] if t > 0 else seen_before[i])
            alive[t, i] = seen[t, i] and missing[t, i] <= DEAD_AFTER
            stepping = alive[t, i] and alive_was
            was[t, i] = bit_was
            all_bits[t, n_bits + i] = bit
            taking_part[t, n_bits + i] = stepping
            if stepping:
                steps[t, int(bit_was), int(bit), i] = 1.0
        for i in range(n_bits):
            there = alive[t, i] if i < n else alive[t, active_bits[i - n]]
            all_bits[t, i] = bits[t, i]
            taking_part[t, i] = there
            if there:
                outcomes[t, int(bits[t, i]), i] = 1.0


_MINUTES_PER_DAY = 24 * 60


def _minute_of_week(calendar: Calendar) -> IntArray:
    """Return the local minute of the week at which each window starts, 0 on Monday at midnight."""
    minute = np.rint(calendar.hour * 60.0).astype(np.int64)
    return calendar.weekday * _MINUTES_PER_DAY + minute


@lru_cache(maxsize=64)
def _week(contexts: Contexts) -> tuple[IntArray, npt.NDArray[np.int8]]:
    """Return the availability cell and the context of every minute of a week."""
    day, minute = np.divmod(np.arange(7 * _MINUTES_PER_DAY), _MINUTES_PER_DAY)
    calendar = Calendar(hour=minute // 60 + minute % 60 / 60.0, weekday=day)
    return availability_cells(calendar, contexts), context_codes(calendar, contexts)
