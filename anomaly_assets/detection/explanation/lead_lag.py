"""Which stream leads which, by how many minutes, and how sure that is.

Two streams that share nothing but slow movement (a daily cycle, a random walk) correlate at every
lag. So what can be foreseen of each stream is taken out first, and the innovations are compared. A
pair is judged by its strongest lag, with an allowance for the number of lags tried, for the number
of pairs, and for products that are more variable, or less independent of one another, than those
of independent noise: streams that are all livelier by day need not have to do with each other.

References
----------
Haugh, L. D. (1976). Checking the independence of two covariance-stationary time series: a
univariate residual cross-correlation approach. Journal of the American Statistical Association 71.
Newey, W. K. and West, K. D. (1987). A simple, positive semi-definite, heteroskedasticity and
autocorrelation consistent covariance matrix. Econometrica 55(3).
Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate: a practical and
powerful approach to multiple testing. Journal of the Royal Statistical Society B 57(1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from anomaly_assets.detection.explanation.innovations import LEAST_VALUES, innovations
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray, IntArray

#: Pairs of innovations without which a correlation says nothing.
LEAST_PAIRS = LEAST_VALUES
#: Share of the findings that may be false.
FALSE_DISCOVERIES = 0.05
#: Rows over which products of innovations may depend on each other.
DEPENDENT_ROWS = 2
#: z-scores below this cannot become findings, whatever the number of pairs.
_UNREMARKABLE = 1.9

Kind = Literal["leads", "follows", "concurrent"]


@dataclass(frozen=True, slots=True)
class LeadLagFinding:
    """One stream follows another, or both move together.

    Parameters
    ----------
    leader, follower
        Positions on the stream axis; for ``concurrent`` streams the smaller one leads.
    lag_minutes
        Minutes by which the follower comes later, 0 for the same row; negative where the finding is
        told of the follower, see :meth:`seen_from`.
    correlation
        Of the innovations at that lag, signed, in [-1, 1].
    q_value
        Expected share of false findings among those at least as sure as this one.
    n_pairs
        Pairs of innovations that it rests on.
    kind
        ``leads``, ``follows`` (only from :meth:`seen_from`) or ``concurrent``.
    """

    leader: int
    follower: int
    lag_minutes: int
    correlation: float
    q_value: float
    n_pairs: int
    kind: Kind

    def seen_from(self, stream: int) -> LeadLagFinding:
        """Return the finding as told of one of its two streams.

        Raises
        ------
        InputError
            If the finding is not about that stream.
        """
        if stream not in {self.leader, self.follower}:
            msg = (
                f"stream {stream} has no part in this finding; it is about {self.leader} and "
                f"{self.follower}"
            )
            raise InputError(msg)
        if self.kind == "concurrent":
            return self
        minutes = abs(self.lag_minutes)
        if stream == self.leader:
            return replace(self, lag_minutes=minutes, kind="leads")
        return replace(self, lag_minutes=-minutes, kind="follows")


class _Comparison(NamedTuple):
    """Every ordered pair at every lag: arrays of shape ``(n_lags, n_earlier, n_later)``."""

    z: FloatArray
    correlation: FloatArray
    n_pairs: IntArray


class LeadLag:
    """Compares streams at several lags; the prewhitened innovations are kept.

    Parameters
    ----------
    values
        Shape ``(n, n_streams)``, oldest row first, without a break in time; NaN where missing.
    minutes_per_row
        Minutes from one row to the next: 5 for windows, 1 for one-minute values.
    max_lag_minutes
        Lags up to this are tried in either direction.

    Raises
    ------
    InputError
        If `values` is no matrix, or a number of minutes is unusable.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=(289, 2))
    >>> follower = 0.6 * noise[:-1, 0] + 0.8 * noise[1:, 1]
    >>> (found,) = LeadLag(np.column_stack((noise[1:, 0], follower))).findings()
    >>> found.leader, found.follower, found.lag_minutes, found.kind
    (0, 1, 5, 'leads')
    """

    version = 1

    def __init__(
        self, values: FloatArray, *, minutes_per_row: int = 5, max_lag_minutes: int = 10
    ) -> None:
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2:
            msg = f"values have shape {values.shape}; give (n_rows, n_streams), oldest row first"
            raise InputError(msg)
        if minutes_per_row < 1:
            msg = f"minutes_per_row is {minutes_per_row}; give 5 for windows or 1 for minutes"
            raise InputError(msg)
        if max_lag_minutes < 0:
            msg = f"max_lag_minutes is {max_lag_minutes}; lags are tried both ways, give 0 or more"
            raise InputError(msg)
        self.minutes_per_row = minutes_per_row
        self._max_lag = max_lag_minutes // minutes_per_row
        self._innovations = innovations(values, minutes_per_row)
        self._everything: tuple[LeadLagFinding, ...] | None = None

    @property
    def n_streams(self) -> int:
        """Number of streams."""
        return self._innovations.values.shape[1]

    @property
    def left_out(self) -> Mapping[int, str]:
        """Position of every stream that cannot be compared, and the reason."""
        return self._innovations.left_out

    def findings(self, streams: Sequence[int] | None = None) -> tuple[LeadLagFinding, ...]:
        """Name the pairs that are related.

        Parameters
        ----------
        streams
            Positions of the streams to compare with each other, by default all; with fewer, fewer
            pairs have to be allowed for. Streams of :attr:`left_out` take no part.

        Returns
        -------
        tuple of LeadLagFinding
            One for each related pair, at its strongest lag, the surest first.

        Raises
        ------
        InputError
            If a position is out of range.
        """
        if streams is None:
            if self._everything is None:
                self._everything = self._find(range(self.n_streams))
            return self._everything
        for stream in streams:
            if not 0 <= stream < self.n_streams:
                msg = f"stream {stream} lies outside 0..{self.n_streams - 1}; use array positions"
                raise InputError(msg)
        return self._find(streams)

    def _find(self, streams: Sequence[int]) -> tuple[LeadLagFinding, ...]:
        kept = np.array(sorted(set(streams) - self.left_out.keys()), dtype=np.int64)
        if len(kept) < 2 or len(self._innovations.values) < LEAST_PAIRS:
            return ()
        compared = self._compare(kept)
        first, second = np.triu_indices(len(kept), 1)
        # Lag 0 is the same both ways: it counts once, with the smaller position first.
        z = np.concatenate((compared.z[:, first, second], compared.z[1:, second, first]))
        strength = np.where(np.isnan(z), -1.0, np.abs(z))
        best = strength.argmax(axis=0)
        strongest = strength[best, np.arange(len(best))]
        q_values = _q_values(strongest, len(z))
        found = []
        for pair in np.flatnonzero(q_values <= FALSE_DISCOVERIES).tolist():
            row = int(best[pair])
            lag, ends = row, (int(first[pair]), int(second[pair]))
            if row > self._max_lag:
                lag, ends = row - self._max_lag, ends[::-1]
            found.append(
                LeadLagFinding(
                    leader=int(kept[ends[0]]),
                    follower=int(kept[ends[1]]),
                    lag_minutes=lag * self.minutes_per_row,
                    correlation=float(compared.correlation[lag][ends]),
                    q_value=float(q_values[pair]),
                    n_pairs=int(compared.n_pairs[lag][ends]),
                    kind="leads" if lag else "concurrent",
                )
            )
        return tuple(sorted(found, key=lambda one: (one.q_value, one.leader, one.follower)))

    def _compare(self, kept: IntArray) -> _Comparison:
        """Correlate every kept stream with every other, at every lag."""
        of = self._innovations
        values, known = of.values[:, kept], of.known[:, kept].astype(np.float64)
        n = len(values)
        shape = (self._max_lag + 1, len(kept), len(kept))
        correlation, excess, n_pairs = np.zeros(shape), np.ones(shape), np.zeros(shape)
        neighbours = [
            (2.0 * (1.0 - step / (DEPENDENT_ROWS + 1)), values[step:] * values[:-step])
            for step in range(1, DEPENDENT_ROWS + 1)
        ]
        squares = values * values
        for lag in range(min(self._max_lag, n - 1) + 1):
            early, late = slice(0, n - lag), slice(lag, n)
            n_pairs[lag] = known[early].T @ known[late]
            power = (squares[early].T @ known[late]) * (known[early].T @ squares[late])
            power[power == 0.0] = np.inf
            r = values[early].T @ values[late] / np.sqrt(power)
            spread = squares[early].T @ squares[late]
            for weight, products in neighbours:
                spread += weight * (products[: len(products) - lag].T @ products[lag:])
            # Correlated noise has 1 + 2 r2 by itself; only what goes beyond is excess.
            excess[lag] = n_pairs[lag] * spread / power / (1.0 + 2.0 * r * r)
            correlation[lag] = np.clip(r, -1.0, 1.0)
        # Streams that are lively together are so at every lag; one lag alone is a noisy witness.
        both_ways = excess.sum(axis=0) + excess[1:].sum(axis=0).T
        excess = np.maximum(0.5 * (excess + both_ways / (2 * len(excess) - 1)), 1.0)
        # Every slow wave that was taken out cost a share of the independent pairs.
        independent = np.maximum(n_pairs * (1.0 - of.n_waves / max(n, 1)) - 3.0, 0.0)
        fisher = np.arctanh(correlation * (1.0 - 1e-12))
        z = np.where(n_pairs >= LEAST_PAIRS, fisher * np.sqrt(independent / excess), np.nan)
        return _Comparison(z, correlation, n_pairs.astype(np.int64))


def _q_values(strongest: FloatArray, n_lags: int) -> FloatArray:
    """Share of false findings at each pair's strongest |z|; 1 for the unremarkable.

    Bonferroni's bound over the lags, then Benjamini and Hochberg's procedure over the pairs; a
    negative |z| marks a pair that could not be compared and is not counted.
    """
    q_values = np.ones(len(strongest))
    n_compared = int((strongest >= 0.0).sum())
    candidates = np.flatnonzero(strongest >= _UNREMARKABLE)
    if not len(candidates):
        return q_values
    order = candidates[np.argsort(-strongest[candidates], kind="stable")]
    p = np.array([math.erfc(one / math.sqrt(2.0)) for one in strongest[order].tolist()]) * n_lags
    scaled = p * n_compared / np.arange(1, len(order) + 1)
    q_values[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q_values
