"""Streams that are silent although nothing is wrong: sensors not there, or there only at times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import BoolArray

#: More than this share of the streams cannot be silent.
MAX_SHARE = 0.8


class SilencePattern(StrEnum):
    """How a share of the streams is missing."""

    ABSENT = "absent"
    INTERMITTENT = "intermittent"


@dataclass(frozen=True)
class MissingStreams:
    """What share of the streams is missing, beyond the gaps of a normal life.

    Parameters
    ----------
    share
        In [0, 0.8].
    pattern
        ``absent``: that share of the streams is silent throughout, drawn for each person and spread
        over the groups. ``intermittent``: every stream is silent for that share of the time, in
        stretches of its own.
    hours
        Mean length of an intermittent stretch of silence, at least a twelfth (one window).

    Raises
    ------
    InputError
        If `share` or `hours` is out of range.
    """

    share: float = 0.0
    pattern: SilencePattern = SilencePattern.ABSENT
    hours: float = 6.0

    def __post_init__(self) -> None:
        """Refuse shares and lengths out of range, and patterns that do not exist."""
        try:
            object.__setattr__(self, "pattern", SilencePattern(self.pattern))
        except ValueError as error:
            msg = (
                f"pattern of silence is {self.pattern!r}; give one of {[*map(str, SilencePattern)]}"
            )
            raise InputError(msg) from error
        if not 0.0 <= self.share <= MAX_SHARE:
            msg = f"share of missing streams is {self.share}; give one in [0, {MAX_SHARE}]"
            raise InputError(msg)
        if not 1.0 / 12.0 <= self.hours <= 24.0 * 365.0:
            msg = f"hours of a stretch of silence is {self.hours}; give one window to a year"
            raise InputError(msg)


def silent(
    missing: MissingStreams, groups: Sequence[str], length: int, step: int, rng: np.random.Generator
) -> BoolArray:
    """Draw when each stream is silent.

    Parameters
    ----------
    missing
        How much and how.
    groups
        The group of each stream.
    length
        Number of minutes or windows.
    step
        How many of them make a window; silence begins and ends with one.
    rng
        Source of the draws.

    Returns
    -------
    ndarray of bool
        Shape ``(n_streams, length)``.
    """
    result = np.zeros((len(groups), length), dtype=np.bool_)
    if missing.pattern is SilencePattern.ABSENT:
        result[_absent(missing.share, groups, rng)] = True
    elif missing.share > 0.0:
        windows = -(-length // step)
        for row in range(len(groups)):
            stretches = _stretches(missing.share, 12.0 * missing.hours, windows, rng)
            result[row] = np.repeat(stretches, step)[:length]
    return result


def _absent(share: float, groups: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Choose that share of the streams, as evenly over the groups as whole streams allow."""
    # Streams in order of group, at random within each: every k-th of them is then spread evenly.
    order = rng.random(len(groups)).argsort()
    names = {group: rank for rank, group in enumerate(dict.fromkeys(groups))}
    order = order[np.argsort([names[groups[number]] for number in order], kind="stable")]
    count = round(share * len(groups))
    crossed = np.floor(np.arange(len(groups) + 1) * (count / len(groups)) + rng.random())
    return order[np.flatnonzero(np.diff(crossed))].tolist()


def _stretches(
    share: float, mean_windows: float, length: int, rng: np.random.Generator
) -> BoolArray:
    """Alternate silent and speaking stretches of exponential length, from a stationary start."""
    off = np.zeros(length, dtype=np.bool_)
    is_off = bool(rng.random() < share)
    at = 0
    while at < length:
        mean = mean_windows if is_off else mean_windows * (1.0 - share) / share
        stop = at + max(round(rng.exponential(mean)), 1)
        off[at:stop] = is_off
        at, is_off = stop, not is_off
    return off
