"""Fitting a causal network to windows with values missing.

The network is pgmpy's, and so is the frame of the estimator; importing either takes seconds, which
is why it happens inside the function that fits and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import TIME_NODES, Structure
from anomaly_assets.errors import AnomalyAssetsError, InputError
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

MINIMUM_WINDOWS = 24
#: Ridge of standardised regressions, in windows: what it weighs beside those they rest on.
RIDGE = 5.0
#: Passes of expectation maximisation. With half of the values missing the error of coefficients
#: falls by 40 % in the first three, by another tenth in the next three, and hardly after.
EM_PASSES = 6
#: Least standard deviation of noise, in those of the stream: exact copies make a singular network.
LEAST_NOISE = 0.05
#: Least scale of a stream, relative to its largest value: beside a position that moved by a
#: decimetre all day, the first step would be a catastrophe.
LEAST_RELATIVE_SCALE = 1e-6
#: A stream that varies by less than this, relative to its largest value, is constant but for
#: rounding.
CONSTANT = 1e-9
#: Values farther from the middle 98 % than this many times its range are drawn in before fitting.
FENCE = 1.0


class FitError(AnomalyAssetsError):
    """The history does not suffice to fit a causal network; the message says what is missing."""


def fit_network(
    values: FloatArray,
    hours: FloatArray,
    structure: Structure,
    *,
    fitted_at: int,
    minimum_windows: int = MINIMUM_WINDOWS,
) -> CausalNetwork:
    """Fit a linear Gaussian network to the recent windows of one entity.

    Nodes are regressed on their causes with a ridge (Hoerl and Kennard 1970), from moments over the
    windows in which both were observed; expectation maximisation (Dempster, Laird and Rubin 1977)
    under the network itself then completes the moments.

    Parameters
    ----------
    values
        Shape ``(n_windows, n_streams)``, streams in the order of ``structure.streams``, NaN or
        infinite where missing.
    hours
        Shape ``(n_windows,)``, local time of each window's start in hours, in [0, 24).
    structure
        Streams, time nodes if any, and their edges.
    fitted_at
        Seconds since the epoch at the end of the last window.
    minimum_windows
        Values a stream needs to take part, at least 3.

    Returns
    -------
    CausalNetwork
        Constant and rarely observed streams are left out, each with the reason.

    Raises
    ------
    InputError
        If shapes disagree, an hour is not finite, or `minimum_windows` is below 3.
    FitError
        If the history is too short, or no stream is left to fit.
    """
    values, hours = np.asarray(values, dtype=np.float64), np.asarray(hours, dtype=np.float64)
    _check(values, hours, structure, minimum_windows)
    table = _with_time(values, hours, structure)
    n_observed = np.isfinite(table).sum(axis=0)
    left_out = _left_out(table, n_observed, structure, minimum_windows)
    used = structure.without(left_out)
    mean, scale, standard = _standardised(table, structure, left_out)
    coefficients, noise = _fit_with_pgmpy(standard, np.isfinite(scale), used)
    return CausalNetwork(
        structure=structure,
        mean=mean,
        scale=scale,
        coefficients=coefficients,
        noise=noise,
        r_squared=_r_squared(coefficients, noise, used),
        n_observed=n_observed.astype(np.int64),
        fitted_at=int(fitted_at),
        n_windows=len(table),
        left_out=left_out,
    )


def _check(
    values: FloatArray, hours: FloatArray, structure: Structure, minimum_windows: int
) -> None:
    streams = len(structure.streams)
    if values.ndim != 2 or values.shape[1] != streams:
        msg = f"values has shape {values.shape}; the structure needs (n_windows, {streams})"
        raise InputError(msg)
    if hours.shape != (len(values),):
        msg = f"hours has shape {hours.shape}; give one for each of {len(values)} windows"
        raise InputError(msg)
    if not np.isfinite(hours).all():
        row = int(np.argmin(np.isfinite(hours)))
        msg = f"hours of row {row} is {hours[row]}; the time of a window is always known"
        raise InputError(msg)
    if minimum_windows < 3:
        msg = f"minimum_windows is {minimum_windows}; a spread needs 3 values at least"
        raise InputError(msg)
    with_values = int(np.isfinite(values).any(axis=1).sum())
    if with_values < minimum_windows:
        msg = (
            f"{with_values} windows with values in a history of {len(values)}; "
            f"a causal network needs {minimum_windows}"
        )
        raise FitError(msg)


def _with_time(values: FloatArray, hours: FloatArray, structure: Structure) -> FloatArray:
    """Return one column for each node: the streams' values and the time nodes' angle."""
    angle = 2.0 * np.pi * hours / 24.0
    of_time = dict(zip(TIME_NODES, (np.sin(angle), np.cos(angle)), strict=True))
    table = np.full((len(values), len(structure.nodes)), np.nan)
    table[:, list(structure.stream_positions)] = np.where(np.isfinite(values), values, np.nan)
    for position, node in enumerate(structure.nodes):
        if node in of_time:
            table[:, position] = of_time[node]
    return table


def _left_out(
    table: FloatArray, n_observed: IntArray, structure: Structure, minimum_windows: int
) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for position, node in enumerate(structure.nodes):
        count = int(n_observed[position])
        if count < minimum_windows:
            reasons[node] = f"too few values: {count} of the {minimum_windows} needed"
            continue
        column = table[np.isfinite(table[:, position]), position]
        largest = float(np.abs(column).max())
        if float(column.max()) / 2.0 - float(column.min()) / 2.0 <= CONSTANT * largest / 2.0:
            reasons[node] = f"constant: {column[0]:.6g} in all {count} windows"
    if reasons.keys() >= set(structure.streams):
        some = "; ".join(f"{node}: {why}" for node, why in list(reasons.items())[:5])
        msg = (
            f"no stream of {len(structure.streams)} can be fitted ({some}); "
            "wait for more readings or fit a longer span"
        )
        raise FitError(msg)
    return reasons


def _standardised(
    table: FloatArray, structure: Structure, left_out: Collection[str]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, scale and standardised values, the wildest values drawn in first.

    One reading of 1e300 among ordinary ones would otherwise be all that a network knows.
    """
    n = table.shape[1]
    mean, scale = np.full(n, np.nan), np.full(n, np.nan)
    standard = np.full_like(table, np.nan)
    for i, node in enumerate(structure.nodes):
        if node in left_out:
            continue
        known = np.isfinite(table[:, i])
        column = _drawn_in(table[known, i])
        # Squares of large numbers overflow, so the spread is taken in units of the largest.
        largest = float(np.abs(column).max())
        column /= largest
        centre = column.mean()
        spread = max(float(column.std()), LEAST_RELATIVE_SCALE)
        standard[known, i] = (column - centre) / spread
        mean[i], scale[i] = centre * largest, spread * largest
    return mean, scale, standard


def _drawn_in(column: FloatArray) -> FloatArray:
    """Return the values with the wildest drawn in to the fences (Tukey 1977).

    A stream that is nearly always the same keeps its few other values: they are all it says.
    """
    low = np.quantile(column, 0.01, method="lower")
    high = np.quantile(column, 0.99, method="higher")
    with np.errstate(over="ignore"):
        margin = FENCE * (high - low)
        return np.clip(column, low - margin, high + margin) if margin > 0.0 else column.copy()


def _fit_with_pgmpy(
    standard: FloatArray, fitted: BoolArray, structure: Structure
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients and noise of the network that pgmpy fits with our estimator."""
    try:
        from pgmpy.models import LinearGaussianBayesianNetwork  # noqa: PLC0415 (takes seconds)
    except ImportError as error:
        msg = 'fitting a causal network needs pgmpy: pip install "anomaly-assets[causal]"'
        raise FitError(msg) from error
    used = np.nonzero(fitted)[0].tolist()
    # Columns by position: names of streams are free text to pgmpy, numbers are not.
    network = LinearGaussianBayesianNetwork()
    network.add_nodes_from(used)
    network.add_edges_from(
        [(parent, child) for child in used for parent in structure.parents[child]]
    )
    network.fit(pd.DataFrame(standard[:, used], columns=used), estimator=_estimator_class()())
    n = len(structure.nodes)
    coefficients, noise = np.zeros((n, n)), np.full(n, np.nan)
    for distribution in network.get_cpds():
        # The order of `evidence` is pgmpy's, so coefficients are placed by name, not by position.
        coefficients[distribution.variable, distribution.evidence] = distribution.beta[1:]
        noise[distribution.variable] = distribution.std
    return coefficients, noise


@cache
def _estimator_class() -> type[Any]:
    """Return our estimator; a function because its base class is imported with pgmpy."""
    from pgmpy.factors.continuous import LinearGaussianCPD  # noqa: PLC0415 (takes seconds)
    from pgmpy.parameter_estimator.base import (  # noqa: PLC0415 (takes seconds)
        GaussianParameterEstimator,
    )

    class GapAwareEstimator(GaussianParameterEstimator):
        """Ridge regressions from moments over pairs, completed by expectation maximisation."""

        def fit(self, model: Any, data: Any, sample_weight: Any = None) -> Any:  # noqa: ANN401
            """Estimate every node's distribution given its parents; NaN is missing."""
            self._initialize_fit(model, data, sample_weight=sample_weight)
            nodes = list(model.nodes())
            position = {node: i for i, node in enumerate(nodes)}
            parents = [[position[p] for p in model.get_parents(node)] for node in nodes]
            values = data.loc[:, nodes].to_numpy(dtype=np.float64)
            coefficients, noise = estimate(values, parents)
            self.parameters_ = self._sort_parameters(
                [
                    LinearGaussianCPD(
                        variable=node,
                        beta=[0.0, *coefficients[i, parents[i]]],
                        std=float(noise[i]),
                        evidence=[nodes[p] for p in parents[i]],
                    )
                    for i, node in enumerate(nodes)
                ]
            )
            return self

    return GapAwareEstimator


def estimate(values: FloatArray, parents: list[list[int]]) -> tuple[FloatArray, FloatArray]:
    """Return coefficients and noise of standardised values with NaN where missing.

    Parameters
    ----------
    values
        Shape ``(n_windows, n)``, mean 0 and variance 1 over what was observed.
    parents
        Causes of each node; acyclic.

    Returns
    -------
    coefficients, noise
        Shapes ``(n, n)`` ``[effect, cause]`` and ``(n,)``.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    together = known.astype(np.float64).T @ known.astype(np.float64)
    # A pair never observed together is taken for unrelated: nothing says otherwise.
    moments = filled.T @ filled / np.maximum(together, 1.0)
    coefficients, noise = _regress(moments, together, parents)
    if known.all():
        return coefficients, noise
    # Completed moments rest on every window. Dividing the ridge by the pairs observed would shrink
    # in every pass what the pass before had shrunk already.
    windows = np.full_like(together, len(values))
    for _ in range(EM_PASSES):
        moments = _completed_moments(filled, known, covariance(coefficients, noise))
        coefficients, noise = _regress(moments, windows, parents)
    return coefficients, noise


def _regress(
    moments: FloatArray, together: FloatArray, parents: list[list[int]]
) -> tuple[FloatArray, FloatArray]:
    """Regress every node on its causes; `together` counts the windows each moment rests on."""
    n = len(moments)
    coefficients, noise = np.zeros((n, n)), np.zeros(n)
    for node, causes in enumerate(parents):
        variance = moments[node, node]
        if causes:
            among = moments[np.ix_(causes, causes)]
            with_node = moments[causes, node]
            everyone = [*causes, node]
            pairs = max(float(together[np.ix_(everyone, everyone)].min()), 1.0)
            # Moments over pairs need not be those of any data: what is negative counts as nothing.
            size, direction = np.linalg.eigh(among)
            ridge = np.maximum(size, 0.0) + RIDGE / pairs
            weights = direction @ ((direction.T @ with_node) / ridge)
            variance += weights @ among @ weights - 2.0 * weights @ with_node
            coefficients[node, causes] = weights
        noise[node] = np.sqrt(max(variance, LEAST_NOISE**2))
    return coefficients, noise


def covariance(coefficients: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the covariance of standardised nodes that a network implies, shape ``(n, n)``."""
    spread = np.linalg.inv(np.eye(len(noise)) - coefficients) * noise
    return np.asarray(spread @ spread.T)


def _completed_moments(filled: FloatArray, known: BoolArray, cov: FloatArray) -> FloatArray:
    """Return the expected second moments under `cov`, given what was observed."""
    total = np.zeros_like(cov)
    patterns, pattern_of = np.unique(known, axis=0, return_inverse=True)
    for number, seen in enumerate(patterns):
        rows = filled[pattern_of.ravel() == number]
        completed = rows.copy()
        if not seen.all():
            gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[np.ix_(seen, ~seen)])
            completed[:, ~seen] = rows[:, seen] @ gain
            rest = cov[np.ix_(~seen, ~seen)] - cov[np.ix_(~seen, seen)] @ gain
            total[np.ix_(~seen, ~seen)] += len(rows) * rest
        total += completed.T @ completed
    return total / len(filled)


def _r_squared(coefficients: FloatArray, noise: FloatArray, structure: Structure) -> FloatArray:
    """Return the share of each node's variance, in the network, that its causes explain."""
    fitted = np.isfinite(noise)
    total = np.diag(covariance(coefficients, np.where(fitted, noise, 0.0)))
    caused = np.array([len(parents) > 0 for parents in structure.parents], dtype=bool) & fitted
    share = 1.0 - noise**2 / np.where(total > 0.0, total, 1.0)
    return np.where(caused, np.clip(share, 0.0, 1.0), np.nan)
