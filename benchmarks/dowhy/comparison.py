"""Root ranking and its cost beside DoWhy's, on the same simulated faults."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_assets.detection.explanation.network.attribution import Attributor
from anomaly_assets.detection.explanation.network.fitting import fit_network
from anomaly_assets.detection.explanation.network.onset import frozen_residuals
from anomaly_assets.evaluation.explanations.roots import SIZES, VISIBLE, random_system
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, WINDOWS_PER_HOUR, FloatArray
from benchmarks.environments import Environment, run

#: Random systems of each kind, one fault in each; one takes DoWhy a second to half a minute.
SYSTEMS = 4
REPEATS = 50
_ENVIRONMENT = Environment("dowhy", Path(__file__).with_name("requirements.txt"))
_SCRIPT = Path(__file__).with_name("attribute.py")
_RUN_SECONDS = 900


@dataclass(frozen=True, eq=False)
class Case:
    """One fault: an ordinary day, the window after it, and the stream that was hit."""

    nonlinear: bool
    parents: tuple[tuple[int, ...], ...]
    day: FloatArray
    window: FloatArray
    root: int
    ours: int
    our_ms: float


@dataclass(frozen=True)
class Side:
    """What one of the two methods reached: shares of roots named first, median CPU time."""

    linear: float
    nonlinear: float
    ms: float


def compare(systems: int = SYSTEMS) -> tuple[Side, Side | str]:
    """Return what our network and DoWhy reach, or for DoWhy why it could not be asked.

    Parameters
    ----------
    systems
        Random systems of each kind, at least 1.
    """
    cases = [
        _case(seed, nonlinear=nonlinear) for nonlinear in (False, True) for seed in range(systems)
    ]
    ours = _side(cases, [case.ours for case in cases], [case.our_ms for case in cases])
    reason = _ENVIRONMENT.install()
    if reason:
        return ours, reason
    answers = _ask(cases)
    if isinstance(answers, str):
        return ours, answers
    theirs = _side(cases, [a["first"] for a in answers], [a["ms"] for a in answers])
    return ours, theirs


def _case(seed: int, *, nonlinear: bool) -> Case:
    """Draw a system and a visible fault as the measurement of roots does, and explain it."""
    rng = generator(seed, "roots", "nonlinear" if nonlinear else "linear", "dowhy")
    system = random_system(rng, nonlinear=nonlinear)
    day = system.run(system.draw_noise(rng, WINDOWS_PER_DAY))
    while True:
        noise = system.draw_noise(rng, 1)
        root = int(rng.integers(noise.shape[1]))
        shocked = noise.copy()
        shocked[0, root] += float(rng.choice(SIZES)) * rng.choice((-1.0, 1.0))
        without, window = system.run(np.vstack((noise, shocked)))
        if (np.abs(window - without) / day.std(axis=0)).max() >= VISIBLE:
            break
    hours = np.arange(WINDOWS_PER_DAY) / WINDOWS_PER_HOUR
    network = fit_network(day, hours, system.structure, fitted_at=0)
    attributor = Attributor(network)
    z = frozen_residuals(np.vstack((day, window)), len(day), scale=network.scale)
    findings = attributor.explain(z)
    started = time.process_time()
    for _ in range(REPEATS):
        attributor.explain(z)
    spent = (time.process_time() - started) / REPEATS
    return Case(
        nonlinear,
        system.structure.parents,
        day,
        window,
        root,
        system.structure.nodes.index(findings.roots[0].stream),
        1e3 * spent,
    )


def _side(cases: list[Case], first: list[int], ms: list[float]) -> Side:
    hits = {
        nonlinear: [
            named == case.root
            for case, named in zip(cases, first, strict=True)
            if case.nonlinear is nonlinear
        ]
        for nonlinear in (False, True)
    }
    return Side(
        linear=statistics.fmean(hits[False]),
        nonlinear=statistics.fmean(hits[True]),
        ms=statistics.median(ms),
    )


def _ask(cases: list[Case]) -> list[dict[str, Any]] | str:
    """Have DoWhy attribute the cases; a string says what went wrong."""
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as folder:
        questions, answers = Path(folder, "cases.json"), Path(folder, "answers.json")
        plain = [
            {"parents": case.parents, "day": case.day.tolist(), "window": case.window.tolist()}
            for case in cases
        ]
        questions.write_text(json.dumps(plain), encoding="utf-8")
        command = [str(_ENVIRONMENT.python), str(_SCRIPT), str(questions), str(answers)]
        problem = run(command, _RUN_SECONDS)
        if problem:
            return f"DoWhy failed: {problem}"
        found: list[dict[str, Any]] = json.loads(answers.read_text(encoding="utf-8"))
        return found
