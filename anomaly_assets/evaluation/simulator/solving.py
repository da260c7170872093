"""Evaluate the causal equations for one life."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.causality import (
    Equation,
    Intervention,
    Kind,
    Noise,
    Term,
    Transform,
)
from anomaly_assets.evaluation.simulator.equations import EQUATIONS, HIDDEN_EQUATIONS
from anomaly_assets.evaluation.simulator.randomness import autoregressive, generator, heavy_tailed
from anomaly_assets.streams.windows import FloatArray


def solve(
    seed: int,
    entity: str,
    causes: dict[str, FloatArray],
    interventions: tuple[Intervention, ...] = (),
) -> dict[str, FloatArray]:
    """Evaluate every equation.

    The noise of a stream depends on `seed`, `entity` and the stream only, so two solutions differ
    by nothing but the interventions and what they cause.

    Parameters
    ----------
    seed, entity
        Whose noise.
    causes
        The hidden causes, arrays of shape ``(n_minutes,)``.
    interventions
        Applied to their node before anything downstream is computed.

    Returns
    -------
    dict
        The true value of every stream at every minute.

    Raises
    ------
    InputError
        If an intervention names an unknown node.
    """
    equations = (*HIDDEN_EQUATIONS, *EQUATIONS)
    nodes = solve_equations(equations, seed, entity, causes, interventions)
    return {equation.stream: nodes[equation.stream] for equation in EQUATIONS}


def solve_equations(
    equations: Sequence[Equation],
    seed: int,
    entity: str,
    causes: dict[str, FloatArray],
    interventions: tuple[Intervention, ...] = (),
) -> dict[str, FloatArray]:
    """Evaluate `equations`, causes before effects, as :func:`solve` does those of a person.

    Returns
    -------
    dict
        Every cause and every stream.

    Raises
    ------
    InputError
        If an intervention names an unknown node.
    """
    known = {*causes, *(equation.stream for equation in equations)}
    known |= {f"{cause}->{e.stream}" for e in equations for cause in e.causes}
    by_node: dict[str, list[Intervention]] = {}
    for intervention in interventions:
        if intervention.node not in known:
            msg = f"intervention on unknown node {intervention.node!r}; name a stream or cause"
            raise InputError(msg)
        by_node.setdefault(intervention.node, []).append(intervention)
    nodes = {name: _intervene(values, by_node.get(name, [])) for name, values in causes.items()}
    for equation in equations:
        values = _evaluate(equation, nodes, by_node, generator(seed, entity, equation.stream))
        low, high = equation.limits
        nodes[equation.stream] = _intervene(values, by_node.get(equation.stream, [])).clip(
            low, high
        )
    return nodes


def _intervene(values: FloatArray, interventions: list[Intervention]) -> FloatArray:
    if not interventions:
        return values
    values = values.copy()
    for intervention in interventions:
        part = slice(max(intervention.start, 0), max(intervention.stop, 0))
        values[part] = values[part] * intervention.factor + intervention.add
    return values


def _evaluate(
    equation: Equation,
    nodes: dict[str, FloatArray],
    by_node: dict[str, list[Intervention]],
    rng: np.random.Generator,
) -> FloatArray:
    n = next(iter(nodes.values())).size
    total = np.full(n, equation.intercept)
    for term in equation.terms:
        arriving = _arrive(nodes[term.cause], term)
        cut = by_node.get(f"{term.cause}->{equation.stream}", [])
        total += term.coefficient * _intervene(arriving, cut)
    total += _draw(equation.noise, nodes, rng, n)
    if equation.kind is Kind.COUNT:
        return _counts(total, equation.zero_inflation, rng)
    if equation.kind is Kind.SHARE:
        return np.asarray(np.maximum(total, 0.0))
    if equation.kind is Kind.STORE:
        return _accumulate(total, equation.limits)
    return total


def _arrive(values: FloatArray, term: Term) -> FloatArray:
    """Apply transform, delay and exponential response; the first value is held before the start."""
    values = _transformed(values, term.transform)
    if term.lag == 0 and term.response == 0.0:
        return values
    kernel = np.ones(1)
    if term.response > 0.0:
        # Cut off where 0.03 % of the response is left, so that effects end.
        kernel = np.exp(-np.arange(int(8.0 * term.response) + 1) / term.response)
    kernel = np.concatenate([np.zeros(term.lag), kernel / kernel.sum()])
    padded = np.concatenate([np.full(kernel.size - 1, values[0]), values])
    return np.convolve(padded, kernel, mode="valid")


def _transformed(values: FloatArray, transform: Transform) -> FloatArray:
    if transform is Transform.POWER_OF_TEN:
        return np.power(10.0, values)
    if transform is Transform.LOGARITHM:
        return np.log10(1.0 + np.maximum(values, 0.0))
    if transform is Transform.ABOVE_WALKING:
        # Below 1 m/s2 beyond gravity hands move but feet do not; far above, cadence saturates.
        return np.tanh(0.45 * np.maximum(values - 10.8, 0.0))
    return values


def _draw(
    noise: Noise, nodes: dict[str, FloatArray], rng: np.random.Generator, n: int
) -> FloatArray:
    total = np.zeros(n)
    if noise.jitter > 0.0:
        jitter = noise.jitter * heavy_tailed(rng, n)
        total += jitter * nodes[noise.proportional_to] if noise.proportional_to else jitter
    if noise.wander > 0.0:
        total += noise.wander * autoregressive(rng, n, noise.memory)
    return total


def _counts(rate: FloatArray, zero_inflation: float, rng: np.random.Generator) -> FloatArray:
    """Poisson numbers by inversion: the same draw for the same minute whatever the rate."""
    uniform = rng.random(rate.size)
    normal = rng.standard_normal(rate.size)
    kept = rng.random(rate.size) >= zero_inflation
    rate = np.maximum(rate, 0.0)
    small = np.minimum(rate, 8.0)
    probability = np.exp(-small)
    cumulative = probability.copy()
    counts = np.zeros(rate.size)
    for k in range(1, 31):
        counts += uniform > cumulative
        probability *= small / k
        cumulative += probability
    large = np.maximum(np.rint(rate + np.sqrt(rate) * normal), 0.0)
    return np.asarray(np.where(rate > 8.0, large, counts) * kept)


def _accumulate(flow: FloatArray, limits: tuple[float, float]) -> FloatArray:
    low, high = limits
    level = high
    levels = []
    for change in flow.tolist():
        level = min(max(level + change, low), high)
        levels.append(level)
    return np.array(levels)
