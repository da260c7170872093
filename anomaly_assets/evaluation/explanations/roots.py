"""How often a causal network finds where an anomaly began, in random systems with known causes.

A system is a random acyclic graph of 30 streams whose every effect is a function of up to three
causes and noise of its own. One day of it is watched, with values missing; then a shock hits the
noise of one stream in one window, with streams missing, and the network fitted to the day says
which. Systems are linear with Gaussian noise, or nonlinear with noise of several shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from anomaly_assets.detection.explanation.network.attribution import Attributor, NetworkFindings
from anomaly_assets.detection.explanation.network.fitting import fit_network
from anomaly_assets.detection.explanation.network.onset import frozen_residuals
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, WINDOWS_PER_HOUR, BoolArray, FloatArray

N_STREAMS = 30
#: Shares of the values missing, of the day watched and of the window explained.
MISSING = (0.0, 0.2, 0.5)
#: Sizes of a shock in standard deviations of the noise it hits; either sign.
SIZES = (5.0, 8.0, 12.0)
#: A fault counts if it moves some observed stream by this many standard deviations: nobody asks
#: for the cause of what cannot be seen.
VISIBLE = 3.0
#: Squares and products feel no more of a cause than this many of its standard deviations: squares
#: of squares of squares would soon leave the range of numbers.
SATURATION = 100.0
#: Shocks tried before a system counts as one in which nothing can be seen.
MOST_TRIES = 1000
CASES_PER_SYSTEM = 10
CALIBRATION_BINS = 10


class Mechanism(StrEnum):
    """How an effect answers to its causes."""

    LINEAR = "linear"
    TANH = "tanh"
    QUADRATIC = "quadratic"
    PRODUCT = "product"


class NoiseShape(StrEnum):
    """Distribution of an effect's own noise, always of unit variance."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"
    STUDENT = "student"
    UNIFORM = "uniform"


_NONLINEAR = (Mechanism.TANH, Mechanism.QUADRATIC, Mechanism.PRODUCT)


@dataclass(frozen=True, eq=False)
class RandomSystem:
    """A causal system of streams in causal order.

    Parameters
    ----------
    structure
        Its graph.
    mechanisms, shapes
        One for each stream.
    weights
        Of each stream's causes.
    noise
        Shape ``(n,)``, standard deviation of each stream's own noise.
    gain, offset
        Shape ``(n,)``; bring what the causes say to mean 0 and the variance left by the noise.
    """

    structure: Structure
    mechanisms: tuple[Mechanism, ...]
    shapes: tuple[NoiseShape, ...]
    weights: tuple[FloatArray, ...]
    noise: FloatArray
    gain: FloatArray
    offset: FloatArray

    def draw_noise(self, rng: np.random.Generator, n_windows: int) -> FloatArray:
        """Return noise of unit variance, shape ``(n_windows, n)``."""
        return np.column_stack([_draw(rng, shape, n_windows) for shape in self.shapes])

    def run(self, noise: FloatArray) -> FloatArray:
        """Return the values that noise of shape ``(n_windows, n)`` leads to, in the same shape."""
        values = np.zeros_like(noise)
        for node in range(noise.shape[1]):
            said = self.gain[node] * (self.respond(node, values) - self.offset[node])
            values[:, node] = said + self.noise[node] * noise[:, node]
        return values

    def respond(self, node: int, values: FloatArray) -> FloatArray:
        """Return what the causes of a stream say, before gain and offset."""
        causes, weights = values[:, list(self.structure.parents[node])], self.weights[node]
        mechanism = self.mechanisms[node]
        if mechanism is Mechanism.LINEAR:
            return np.asarray(causes @ weights)
        if mechanism is Mechanism.TANH:
            return np.asarray(np.tanh(1.5 * causes) @ weights)
        causes = np.clip(causes, -SATURATION, SATURATION)
        if mechanism is Mechanism.QUADRATIC or causes.shape[1] < 2:
            return np.asarray((causes + 0.2 * causes**2) @ weights)
        return np.asarray(causes @ weights + 0.5 * causes[:, 0] * causes[:, 1])


def random_system(
    rng: np.random.Generator, *, nonlinear: bool, n_streams: int = N_STREAMS
) -> RandomSystem:
    """Return a random system; a tenth of the streams and the first three have no causes.

    Its streams have variance near 1, of which their own noise makes 20 to 60 %.
    """
    parents: list[tuple[int, ...]] = []
    for node in range(n_streams):
        causes = 0 if node < 3 or rng.random() < 0.1 else int(rng.integers(1, 4))
        parents.append(tuple(sorted(rng.choice(node, causes, replace=False).tolist())))
    weights = tuple(
        rng.choice((-1.0, 1.0), len(p)) * rng.uniform(0.5, 1.5, len(p)) for p in parents
    )
    share = np.where([len(p) > 0 for p in parents], rng.uniform(0.2, 0.6, n_streams), 1.0)
    mechanisms = [_NONLINEAR[rng.integers(3)] if nonlinear else Mechanism.LINEAR for _ in parents]
    shapes = list(NoiseShape)
    system = RandomSystem(
        Structure(tuple(f"stream_{node:02d}" for node in range(n_streams)), tuple(parents)),
        tuple(mechanisms),
        tuple(shapes[rng.integers(4)] if nonlinear else NoiseShape.GAUSSIAN for _ in parents),
        weights,
        np.sqrt(share),
        np.ones(n_streams),
        np.zeros(n_streams),
    )
    _bring_to_unit_variance(system, system.draw_noise(rng, 4000))
    return system


def _bring_to_unit_variance(system: RandomSystem, noise: FloatArray) -> None:
    values = np.zeros_like(noise)
    for node, parents in enumerate(system.structure.parents):
        if parents:
            said = system.respond(node, values)
            system.offset[node] = said.mean()
            system.gain[node] = np.sqrt(1.0 - system.noise[node] ** 2) / said.std()
            values[:, node] = system.gain[node] * (said - system.offset[node])
        values[:, node] += system.noise[node] * noise[:, node]


def _draw(rng: np.random.Generator, shape: NoiseShape, length: int) -> FloatArray:
    if shape is NoiseShape.LAPLACE:
        return rng.laplace(0.0, 0.5**0.5, length)
    if shape is NoiseShape.STUDENT:
        return np.asarray(rng.standard_t(5.0, length) * 0.6**0.5)
    if shape is NoiseShape.UNIFORM:
        return rng.uniform(-(3.0**0.5), 3.0**0.5, length)
    return rng.standard_normal(length)


@dataclass(frozen=True, eq=False)
class RootCase:
    """One fault as a network saw it.

    Parameters
    ----------
    nonlinear, missing, size
        What kind of system, which share of the streams was missing, and how large the shock was.
    root
        The stream that was hit.
    root_observed
        Whether it was observed in the window explained.
    findings
        What the network said.
    unexplained_self
        Unexplained share of the stream hit; NaN where it has no causes that could explain it, was
        not observed or hardly moved.
    unexplained_upstream
        The same of the other observed stream that the fault moved most, NaN where none moved
        visibly.
    """

    nonlinear: bool
    missing: float
    size: float
    root: str
    root_observed: bool
    findings: NetworkFindings
    unexplained_self: float
    unexplained_upstream: float

    @property
    def first(self) -> bool:
        """Whether the network named the root first."""
        return self.findings.roots[0].stream == self.root


def root_cases(
    seed: int, *, nonlinear: bool, missing: float, n_cases: int = CASES_PER_SYSTEM
) -> list[RootCase]:
    """Return the faults of one random system; the same seed always gives the same.

    Raises
    ------
    EvaluationError
        If the share missing leaves nothing to see.
    """
    kind = "nonlinear" if nonlinear else "linear"
    rng = generator(seed, "roots", kind, f"{missing:.2f}")
    system = random_system(rng, nonlinear=nonlinear)
    # A day in the units of real streams, which differ by orders of magnitude.
    unit = 10.0 ** rng.uniform(-3.0, 3.0, len(system.noise))
    level = 100.0 * unit * rng.standard_normal(len(unit))
    day = system.run(system.draw_noise(rng, WINDOWS_PER_DAY))
    spread = day.std(axis=0)
    watched = np.where(rng.random(day.shape) < missing, np.nan, level + unit * day)
    hours = np.arange(WINDOWS_PER_DAY) / WINDOWS_PER_HOUR
    network = fit_network(watched, hours, system.structure, fitted_at=0)
    attributor = Attributor(network)
    cases: list[RootCase] = []
    for _ in range(MOST_TRIES):
        if len(cases) == n_cases:
            return cases
        fault = _Fault.draw(rng, system, missing, spread)
        if fault.moved.max() < VISIBLE:
            continue
        window = np.where(fault.observed, level + unit * fault.values, np.nan)
        z = frozen_residuals(np.vstack((watched, window)), len(watched), scale=network.scale)
        cases.append(_case(attributor, fault, z, nonlinear=nonlinear, missing=missing))
    msg = f"no visible fault in {MOST_TRIES} with {missing:.0%} of the streams missing"
    raise EvaluationError(msg)


@dataclass(frozen=True, eq=False)
class _Fault:
    """A shock, the window it hits, and how far it moves each observed stream."""

    root: int
    size: float
    values: FloatArray
    observed: BoolArray
    moved: FloatArray

    @classmethod
    def draw(
        cls, rng: np.random.Generator, system: RandomSystem, missing: float, spread: FloatArray
    ) -> _Fault:
        noise = system.draw_noise(rng, 1)
        root = int(rng.integers(noise.shape[1]))
        size = float(rng.choice(SIZES))
        shocked = noise.copy()
        shocked[0, root] += size * rng.choice((-1.0, 1.0))
        with_shock, without = system.run(np.vstack((shocked, noise)))
        observed = np.asarray(rng.random(noise.shape[1]) >= missing)
        moved = np.where(observed, np.abs(with_shock - without) / spread, 0.0)
        return cls(root, size, with_shock, observed, moved)


def _case(
    attributor: Attributor, fault: _Fault, z: FloatArray, *, nonlinear: bool, missing: float
) -> RootCase:
    nodes = attributor.network.structure.nodes
    others = fault.moved.copy()
    others[fault.root] = 0.0

    def unexplained(node: int, moved: float) -> float:
        # Nothing but its own noise can explain a stream without causes, which shows no skill.
        if moved < VISIBLE or not attributor.network.structure.parents[node]:
            return float("nan")
        return attributor.share_unexplained(z, nodes[node])

    return RootCase(
        nonlinear=nonlinear,
        missing=missing,
        size=fault.size,
        root=nodes[fault.root],
        root_observed=bool(fault.observed[fault.root]),
        findings=attributor.explain(z),
        unexplained_self=unexplained(fault.root, float(fault.moved[fault.root])),
        unexplained_upstream=unexplained(int(np.argmax(others)), float(others.max())),
    )


def measure_roots(
    seeds: Iterable[int], *, cases_per_system: int = CASES_PER_SYSTEM
) -> dict[str, Any]:
    """Measure root ranking, its calibration and the unexplained shares.

    Parameters
    ----------
    seeds
        One linear and one nonlinear system for each seed and share missing.
    cases_per_system
        Faults in each system.

    Returns
    -------
    dict
        ``root_first``: share in [0, 1] of the cases in which the root is named first, by
        ``linear`` / ``nonlinear`` and by percent missing; ``root_first_observed``: the same where
        the root itself was observed; ``root_first_by_size``: by kind and size of the shock, all
        shares missing together; ``ece``: expected calibration error of the first root's stated
        probability, all cases pooled; ``unexplained_self``, ``unexplained_upstream``: medians, all
        cases pooled; ``n_cases``. JSON-safe; None where there is no case.

    Raises
    ------
    EvaluationError
        If there are no seeds or no cases.
    """
    seeds = list(seeds)
    if not seeds or cases_per_system < 1:
        msg = f"{len(seeds)} seeds and {cases_per_system} cases of each: give one of both at least"
        raise EvaluationError(msg)
    cases = [
        case
        for nonlinear in (False, True)
        for missing in MISSING
        for seed in seeds
        for case in root_cases(seed, nonlinear=nonlinear, missing=missing, n_cases=cases_per_system)
    ]
    return _figures(cases)


def _figures(cases: Sequence[RootCase]) -> dict[str, Any]:
    kinds = {"linear": False, "nonlinear": True}
    observed = [case for case in cases if case.root_observed]
    return {
        "root_first": {kind: _by_missing(cases, nonlinear=flag) for kind, flag in kinds.items()},
        "root_first_observed": {
            kind: _by_missing(observed, nonlinear=flag) for kind, flag in kinds.items()
        },
        "root_first_by_size": {
            kind: {
                f"{size:g}": _share_first(
                    [c for c in cases if c.nonlinear is flag and c.size == size]
                )
                for size in SIZES
            }
            for kind, flag in kinds.items()
        },
        "ece": calibration_error(
            np.array([case.findings.roots[0].probability for case in cases]),
            np.array([case.first for case in cases], dtype=np.float64),
        ),
        "unexplained_self": _median([case.unexplained_self for case in cases]),
        "unexplained_upstream": _median([case.unexplained_upstream for case in cases]),
        "n_cases": len(cases),
    }


def calibration_error(stated: FloatArray, came_true: FloatArray) -> float:
    """Return the expected calibration error (Naeini, Cooper and Hauskrecht 2015), ten equal bins.

    Parameters
    ----------
    stated
        Shape ``(n,)``, probabilities in [0, 1].
    came_true
        Shape ``(n,)``, 1 or 0.

    Examples
    --------
    >>> calibration_error(np.array([0.95, 0.95, 0.15, 0.15]), np.array([1.0, 1.0, 0.0, 0.0]))
    0.1
    """
    bins = np.minimum((stated * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = [abs(float((stated[bins == b] - came_true[bins == b]).sum())) for b in np.unique(bins)]
    return round(sum(gaps) / len(stated), 12)


def _by_missing(cases: Sequence[RootCase], *, nonlinear: bool) -> dict[str, float | None]:
    return {
        f"{missing:.0%}".removesuffix("%"): _share_first(
            [c for c in cases if c.nonlinear is nonlinear and c.missing == missing]
        )
        for missing in MISSING
    }


def _share_first(cases: Sequence[RootCase]) -> float | None:
    return float(np.mean([case.first for case in cases])) if cases else None


def _median(shares: Sequence[float]) -> float | None:
    known = np.array(shares)[np.isfinite(shares)]
    return float(np.median(known)) if len(known) else None
