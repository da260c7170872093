"""Further causal edges that a week of data suggests, for somebody to approve.

The daily cycle is removed, each stream is turned into normal quantiles of its ranks, short gaps are
filled, and causes are searched among all streams up to two windows earlier by hill climbing, at
twice the price of the BIC and for causes that explain a noticeable share. Only edges that most
block-bootstrap samples show as well are suggested. What the experts say stays as it is: their edges
are part of every model and are never turned round.

Two streams with a common cause that nobody observes look like cause and effect: a suggestion is a
question to somebody who knows, no more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.detection.explanation.network.gap_filling import fill_short_gaps
from anomaly_assets.detection.explanation.network.hill_climbing import Link, climb
from anomaly_assets.detection.explanation.network.lagged import (
    gaussian_ranks,
    lagged_covariance,
    without_daily_cycle,
)
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, WINDOWS_PER_HOUR

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.network.structure import Structure
    from anomaly_assets.streams.windows import FloatArray

#: With less history a daily cycle cannot be told from a cause.
FEWEST_WINDOWS: Final = 2 * WINDOWS_PER_DAY
MAX_LAG: Final = 2
#: Windows drawn together in a bootstrap sample: longer than anything in the noise remembers.
_BLOCK: Final = 4 * WINDOWS_PER_HOUR


@dataclass(frozen=True)
class SuggestedEdge:
    """A causal edge that the data suggest.

    Parameters
    ----------
    cause, effect
        Streams.
    lag_windows
        Windows by which the effect is later, 0 to :data:`MAX_LAG`; of several, the strongest.
    strength
        Standardised coefficient at that lag: normal quantiles of the effect for one of the cause.
    support
        Share of the bootstrap samples that show the edge, at any lag.
    """

    cause: str
    effect: str
    lag_windows: int
    strength: float
    support: float


def suggest_edges(
    values: FloatArray,
    hours: FloatArray,
    structure: Structure,
    *,
    seed: int,
    n_bootstrap: int = 30,
    support: float = 0.7,
) -> tuple[SuggestedEdge, ...]:
    """Suggest edges between streams that the structure does not have.

    Parameters
    ----------
    values
        Consecutive windows (a row of NaN where there is none), shape ``(n_windows, n_streams)``;
        a week is enough.
    hours
        Local hour of each window, in [0, 24), shape ``(n_windows,)``.
    structure
        Edges that are known. Those from the time of day are left out: the daily cycle is removed.
    seed
        Of the bootstrap.
    n_bootstrap
        Samples, at least 1.
    support
        Share of the samples that must show an edge, in (0, 1].

    Returns
    -------
    tuple of SuggestedEdge
        By falling support, then strength; each of them could be added to the structure by itself.
        Empty with less than two days of windows.

    Raises
    ------
    InputError
        If shapes do not fit, or a parameter is out of range.
    """
    _check(values, hours, structure, n_bootstrap, support)
    if len(values) < FEWEST_WINDOWS:
        return ()
    n_streams = values.shape[1]
    column = {node: place for place, node in enumerate(structure.stream_positions)}
    known = [
        [column[cause] for cause in structure.parents[node] if cause in column]
        for node in structure.stream_positions
    ]
    prepared, variance = fill_short_gaps(gaussian_ranks(without_daily_cycle(values, hours)))
    covariance = lagged_covariance(prepared, MAX_LAG, variance=variance)
    found = _strongest(climb(covariance, n_streams, known))
    usable = {pair: link for pair, link in found.items() if not _leads(known, *reversed(pair))}
    usable = {pair: link for pair, link in usable.items() if pair[0] not in known[pair[1]]}
    if not usable:
        return ()
    shown: Counter[tuple[int, int]] = Counter()
    rng = np.random.default_rng(seed)
    for _ in range(n_bootstrap):
        weights = _block_weights(len(prepared), rng)
        covariance = lagged_covariance(prepared, MAX_LAG, weights=weights, variance=variance)
        sample = climb(covariance, n_streams, known)
        shown.update({(link.cause, link.effect) for link in sample})
    edges = [
        SuggestedEdge(
            structure.streams[link.cause],
            structure.streams[link.effect],
            link.lag,
            link.strength,
            shown[pair] / n_bootstrap,
        )
        for pair, link in usable.items()
        if shown[pair] >= support * n_bootstrap
    ]
    return tuple(sorted(edges, key=lambda e: (-e.support, -abs(e.strength), e.cause, e.effect)))


def _check(
    values: FloatArray, hours: FloatArray, structure: Structure, n_bootstrap: int, support: float
) -> None:
    if values.ndim != 2 or hours.shape != values.shape[:1]:
        msg = (
            f"values have shape {values.shape} and hours {hours.shape}; give (n_windows, "
            "n_streams) and (n_windows,)"
        )
        raise InputError(msg)
    if values.shape[1] != len(structure.streams):
        msg = f"values have {values.shape[1]} streams, the structure {len(structure.streams)}"
        raise InputError(msg)
    if np.isinf(values).any() or not np.isfinite(hours).all():
        msg = "infinite values or unknown hours; give NaN where a stream is missing, and all hours"
        raise InputError(msg)
    if n_bootstrap < 1 or not 0.0 < support <= 1.0:
        msg = (
            f"n_bootstrap {n_bootstrap}, support {support}: give at least 1, and a share in (0, 1]"
        )
        raise InputError(msg)


def _strongest(links: tuple[Link, ...]) -> dict[tuple[int, int], Link]:
    """Return the strongest link of each pair of cause and effect."""
    best: dict[tuple[int, int], Link] = {}
    for link in links:
        pair = (link.cause, link.effect)
        if pair not in best or abs(link.strength) > abs(best[pair].strength):
            best[pair] = link
    return best


def _leads(parents: list[list[int]], start: int, goal: int) -> bool:
    """Return whether known edges lead from `start` to `goal`."""
    seen: set[int] = set()
    open_ = [goal]
    while open_:
        node = open_.pop()
        if node == start:
            return True
        if node not in seen:
            seen.add(node)
            open_ += parents[node]
    return False


def _block_weights(n_windows: int, rng: np.random.Generator) -> FloatArray:
    """Draw as many blocks as there are, with replacement, and count each window's draws."""
    n_blocks = -(-n_windows // _BLOCK)
    draws = np.bincount(rng.integers(n_blocks, size=n_blocks), minlength=n_blocks)
    return np.repeat(draws, _BLOCK)[:n_windows].astype(np.float64)
