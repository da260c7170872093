"""Attribute anomalies with DoWhy (Budhathoki et al., 2022); runs in DoWhy's own environment.

Usage: ``python attribute.py CASES ANSWERS``, two JSON files. Nothing of the project is imported:
its environment is another one.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import networkx as nx  # type: ignore[import-untyped]  # ships no types
import numpy as np
import pandas as pd
from dowhy import gcm  # type: ignore[import-not-found, unused-ignore] # not in the project's environment

SEED = 1


def main(cases: Path, answers: Path) -> None:
    """Read the cases, attribute each, and write what came first and the CPU time it took."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    gcm.config.disable_progress_bars()
    # One process, so that its CPU time is all there is.
    gcm.config.set_default_n_jobs(1)
    found = [attribute(case) for case in json.loads(cases.read_text(encoding="utf-8"))]
    answers.write_text(json.dumps(found), encoding="utf-8")


def attribute(case: dict[str, Any]) -> dict[str, float]:
    """Attribute one window.

    Parameters
    ----------
    case
        ``parents`` (positions, a list for each stream), ``day`` (rows of ordinary values) and
        ``window`` (the row to explain).

    Returns
    -------
    dict
        ``first``, position of the stream blamed most for the most deviating one, and ``ms`` of CPU
        for the attribution alone, the model being fitted before.
    """
    day = pd.DataFrame(case["day"], columns=[str(node) for node in range(len(case["parents"]))])
    window = pd.DataFrame([case["window"]], columns=day.columns)
    graph = nx.DiGraph()
    graph.add_nodes_from(day.columns)
    graph.add_edges_from(
        (str(parent), str(node))
        for node, parents in enumerate(case["parents"])
        for parent in parents
    )
    model = gcm.StructuralCausalModel(graph)
    for node, parents in enumerate(case["parents"]):
        linear = gcm.ml.create_linear_regressor
        model.set_causal_mechanism(
            str(node), gcm.AdditiveNoiseModel(linear()) if parents else gcm.EmpiricalDistribution()
        )
    gcm.util.general.set_random_seed(SEED)
    gcm.fit(model, day)
    deviation = np.abs(window - day.mean()) / day.std()
    started = time.process_time()
    blamed = gcm.attribute_anomalies(model, str(deviation.iloc[0].idxmax()), window)
    spent = time.process_time() - started
    return {"first": int(max(blamed, key=lambda node: float(blamed[node][0]))), "ms": 1e3 * spent}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
