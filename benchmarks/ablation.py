"""What each voice of tier 2 adds: simulated faults and servers, with each voice left out in turn.

Nothing here is timed; `make bench NAME=window` says what the whole costs.
"""

from __future__ import annotations

import argparse

import numpy as np

from anomaly_assets.detection.cross_stream.detector import VOICES, CrossStreamDetector
from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.evaluation.datasets import LabelledSeries, load
from anomaly_assets.evaluation.episodes import ALARM_THRESHOLD
from anomaly_assets.evaluation.metrics.vus import period, vus_pr
from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.evaluation.simulator.testbed import TESTBED_DAYS, many_faults, window_block
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import FloatArray, WindowBlock
from benchmarks.detection import LEARNING_DAYS, Names, Watched
from benchmarks.output import publish

PEOPLE = ("person-1", "person-2", "person-3")
SETS = ("asd", "smd")


def main() -> None:
    """Measure all voices together, each left out, and tier 1 alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-sets", action="store_true", help="simulated people only")
    arguments = parser.parse_args()
    sets = {} if arguments.no_sets else {name: load(name) for name in SETS}
    choices = {"all": VOICES, "tier1_alone": ()} | {
        f"without_{left_out}": tuple(voice for voice in VOICES if voice != left_out)
        for left_out in VOICES
    }
    for name, voices in choices.items():
        figures = on_people(voices, arguments.seeds)
        figures |= {f"vus_pr_{key}": on_servers(voices, found) for key, found in sets.items()}
        publish(name, figures)


def scores(catalogue: Catalogue, block: WindowBlock, voices: tuple[str, ...]) -> FloatArray:
    """Return final scores in which only some voices of tier 2 count."""
    state = DetectionState(
        IndividualDetector(catalogue),
        GapDetector(catalogue),
        CrossStreamDetector(catalogue, voices=voices),
    )
    return detect(state, block).ensemble.score


def on_people(voices: tuple[str, ...], seeds: int) -> dict[str, float]:
    """Return shares over all events of all seeds."""
    catalogue = load_catalogue("default")
    watched = Watched()
    for seed in range(seeds):
        faults = many_faults(seed, PEOPLE, days=TESTBED_DAYS, first_day=LEARNING_DAYS)
        simulation = simulate(seed, PEOPLE, days=TESTBED_DAYS, faults=faults)
        for entity in PEOPLE:
            block = window_block(simulation, entity, catalogue)
            labels = [label for label in simulation.labels if label.entity == entity]
            alarms = scores(catalogue, block, voices) > ALARM_THRESHOLD
            watched.add(block, alarms, labels, Names(with_strength=False))
    return watched.figures("")


def on_servers(voices: tuple[str, ...], series: list[LabelledSeries]) -> float:
    """Return the mean VUS-PR of some recordings."""
    found = []
    for one in series:
        score = np.nan_to_num(scores(one.catalogue, one.block, voices))[one.n_train :]
        labels = one.labels[one.n_train :]
        found.append(vus_pr(labels, score, period(one.block.values[one.n_train :, 0])))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
