"""Whether the causal network names the service at fault in the PetShop recordings.

A fault in a service shows in its callers: the call graph, turned round, is the expert's edges. The
network is fitted to the normal run of the scenario, one for what the trouble was seen in (latency
or availability), and explains the first whole row after the fault began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly_assets.detection.explanation.network.attribution import Attributor
from anomaly_assets.detection.explanation.network.fitting import fit_network
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.onset import frozen_residuals
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.petshop import (
    ROW_SECONDS,
    Issue,
    Layer,
    Run,
    Scenario,
    load_petshop,
)
from anomaly_assets.streams.windows import FloatArray

#: Scenario and layer -> network.
Networks = Mapping[tuple[str, Layer], CausalNetwork]

AMONG_FIRST = 3
REQUESTS: Layer = ("requests", "Sum")
_AVAILABILITY = "availability"
_PERCENT = 100.0
#: Rows of a normal run from which it is asked which service comes first where there is no fault.
_CONTROL_EVERY = 12
#: Rows of a control: one before the fault that is none, that of its begin, that explained.
_CONTROL_ROWS = 3
_MAD_TO_SIGMA = 1.4826
_HOUR_SECONDS = 3600
_DAY_HOURS = 24.0


@dataclass(frozen=True)
class Ranked:
    """One fault and the order in which its services are suspected.

    Parameters
    ----------
    scenario, issue
        Which fault.
    root
        The service that was made faulty.
    services
        All services of the call graph, the most suspected first.
    """

    scenario: str
    issue: str
    root: str
    services: tuple[str, ...]

    @property
    def rank(self) -> int:
        """Place of the root, from 1."""
        return self.services.index(self.root) + 1


def measure_petshop(folder: Path) -> dict[str, float]:
    """Rank the services of every fault, by the network and by simpler means.

    Parameters
    ----------
    folder
        The folder of all recordings.

    Returns
    -------
    dict
        Shares of the faults in which the root is first and among the first three: ``top1`` and
        ``top3`` of the network, ``robust_z_*`` (distance from the median of the normal run),
        ``relevelled_z_*`` (distance from the rows before the fault, as the network sees it, without
        its graph), ``random_*``; ``control_top1``, how often the network names such a root first in
        rows *without* a fault: what it owes to the service rather than to the fault; and
        ``issues``, the number of faults.

    Raises
    ------
    EvaluationError
        If the recordings are missing or unusable.
    """
    scenarios = load_petshop(folder)
    networks = fit_networks(scenarios)
    ways = {
        "": rank_issues(scenarios, networks),
        "robust_z_": _rank_by_robust_z(scenarios),
        "relevelled_z_": _rank_by_relevelled_z(scenarios, networks),
    }
    figures = {}
    for way, ranked in ways.items():
        ranks = np.array([one.rank for one in ranked])
        figures[f"{way}top1"] = float((ranks == 1).mean())
        figures[f"{way}top3"] = float((ranks <= AMONG_FIRST).mean())
    chances = np.array([1.0 / len(one.services) for one in ways[""]])
    figures["random_top1"] = float(chances.mean())
    figures["random_top3"] = float(np.minimum(AMONG_FIRST * chances, 1.0).mean())
    figures["control_top1"] = _control(scenarios, networks)
    figures["issues"] = float(len(chances))
    return figures


def fit_networks(scenarios: Sequence[Scenario]) -> Networks:
    """Fit a network for every scenario and layer in which a fault was seen.

    Parameters
    ----------
    scenarios
        Of one shop: a scenario without a normal run is judged by another's.

    Raises
    ------
    EvaluationError
        If no scenario has a normal run with such a layer.
    FitError
        If a normal run is too short or too empty to fit a network.
    """
    return {
        (scenario.name, layer): _fit(scenario, scenarios, layer)
        for scenario in scenarios
        for layer in sorted({issue.layer for issue in scenario.issues})
    }


def rank_issues(scenarios: Sequence[Scenario], networks: Networks) -> list[Ranked]:
    """Rank the services of every fault by the posterior of the causal network."""
    return [
        _explained(scenario, issue, networks[scenario.name, issue.layer])
        for scenario in scenarios
        for issue in scenario.issues
    ]


def _explained(scenario: Scenario, issue: Issue, network: CausalNetwork) -> Ranked:
    findings = Attributor(network).explain(_residuals(issue, network.scale))
    return _ranked(scenario, issue, findings.log_likelihood_ratio)


def _fit(scenario: Scenario, scenarios: Sequence[Scenario], layer: Layer) -> CausalNetwork:
    """Fit the network of one layer to the normal run, every callee a cause of its callers."""
    normal = _normal(scenario, scenarios, layer)
    callers_follow = [(callee, caller) for caller, callee in scenario.calls]
    structure = Structure.from_edges(scenario.services, callers_follow)
    return fit_network(
        _blurred(normal, layer, structure),
        normal.starts / _HOUR_SECONDS % _DAY_HOURS,
        structure,
        fitted_at=int(normal.starts[-1]) + ROW_SECONDS,
    )


def _normal(scenario: Scenario, scenarios: Sequence[Scenario], layer: Layer) -> Run:
    """Return the normal run, or that of the scenario which shares most services with it."""
    own = set(scenario.services)
    candidates = [
        (one.name == scenario.name, len(own.intersection(one.services)), one.services, one.normal)
        for one in scenarios
        if one.normal is not None and layer in one.normal.layers
    ]
    if not candidates:
        msg = (
            f"no scenario has a normal run with {' '.join(layer)}, by which to judge "
            f"{scenario.name}; put one into <scenario>/noissue"
        )
        raise EvaluationError(msg)
    _, _, services, run = max(candidates, key=lambda candidate: candidate[:2])
    there = [position for position, one in enumerate(scenario.services) if one in services]
    columns = [services.index(scenario.services[position]) for position in there]
    layers = {}
    for name, values in run.layers.items():
        layers[name] = np.full((len(values), len(scenario.services)), np.nan)
        layers[name][:, there] = values[:, columns]
    return Run(run.starts, layers)


def _blurred(run: Run, layer: Layer, structure: Structure) -> FloatArray:
    """Return the values of a layer, an availability only as exact as it is known.

    The share of n requests that were answered is known to one request in n. Two days at exactly
    100 % have no scale by which a failure could be judged; jittered by their resolution (Machado
    and Santos Silva 2005, *Quantiles for counts*) they have. Nor do they tell how failures spread,
    but the call graph does: a call that fails fails its caller, a part of one request as a whole.
    """
    values = run.layers[layer]
    if layer[0] != _AVAILABILITY:
        return values
    failed = np.random.default_rng(0).uniform(-0.5, 0.5, values.shape)
    for caller in structure.order:
        failed[:, caller] += failed[:, list(structure.parents[caller])].sum(axis=1)
    requests = run.layers.get(REQUESTS, np.ones_like(values))
    return np.asarray(values - _PERCENT * failed / np.where(requests >= 1.0, requests, 1.0))


def _rows(issue: Issue) -> tuple[int, int]:
    """Return the row in which the fault began, and the one explained: the next, a whole one."""
    onset = int(issue.since - issue.run.starts[0]) // ROW_SECONDS
    return onset, min(onset + 1, len(issue.run.starts) - 1)


def _residuals(issue: Issue, scale: FloatArray) -> FloatArray:
    """Return how far each service is from the rows before the fault.

    The normal run does not serve as a level: months passed between it and the faults.
    """
    onset, explained = _rows(issue)
    return frozen_residuals(issue.run.layers[issue.layer][: explained + 1], onset, scale=scale)


def _ranked(scenario: Scenario, issue: Issue, suspicion: FloatArray) -> Ranked:
    """Order the services by falling suspicion; of what is unknown there is none."""
    order = np.argsort(-np.where(np.isnan(suspicion), -np.inf, suspicion), kind="stable")
    services = tuple(scenario.services[position] for position in order.tolist())
    return Ranked(scenario.name, issue.name, issue.root, services)


def _rank_by_robust_z(scenarios: Sequence[Scenario]) -> list[Ranked]:
    """Rank by the distance from the median of the normal run, in median absolute deviations."""
    ranked = []
    for scenario in scenarios:
        for issue in scenario.issues:
            normal = _normal(scenario, scenarios, issue.layer).layers[issue.layer]
            level, scale = np.array([_robust(column) for column in normal.T]).T
            values = issue.run.layers[issue.layer][_rows(issue)[1]]
            ranked.append(_ranked(scenario, issue, np.abs(values - level) / scale))
    return ranked


def _robust(column: FloatArray) -> tuple[float, float]:
    """Return median and scale; where half of the values are alike, their standard deviation."""
    known = column[np.isfinite(column)]
    if not known.size:
        return np.nan, np.nan
    level = float(np.median(known))
    scale = _MAD_TO_SIGMA * float(np.median(np.abs(known - level))) or float(known.std())
    return level, scale or np.nan


def _rank_by_relevelled_z(scenarios: Sequence[Scenario], networks: Networks) -> list[Ranked]:
    """Rank by what the network is given, without its edges."""
    ranked = []
    for scenario in scenarios:
        for issue in scenario.issues:
            scale = networks[scenario.name, issue.layer].scale
            ranked.append(_ranked(scenario, issue, np.abs(_residuals(issue, scale))))
    return ranked


def _control(scenarios: Sequence[Scenario], networks: Networks) -> float:
    """Return how often the roots of the faults come first in rows of normal runs, NaN without any.

    The same service is at fault again and again: what always suspects it would look like a success.
    """
    first = []
    for scenario in scenarios:
        normal = scenario.normal
        if normal is None:
            continue
        for layer, root, target in sorted({(i.layer, i.root, i.target) for i in scenario.issues}):
            if layer not in normal.layers:
                continue
            for row in range(0, len(normal.starts) - _CONTROL_ROWS + 1, _CONTROL_EVERY):
                rows = slice(row, row + _CONTROL_ROWS)
                part = Run(normal.starts[rows], {layer: normal.layers[layer][rows]})
                calm = Issue("", target, layer, int(part.starts[1]), root, part)
                ranked = _explained(scenario, calm, networks[scenario.name, layer])
                first.append(ranked.rank == 1)
    return float(np.mean(first)) if first else float("nan")
