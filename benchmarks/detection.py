"""How well simulated faults are found, and how often there is a false alarm.

Nothing here is timed: the figures depend on the seeds only.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from rich.console import Console
from rich.table import Table

from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.evaluation.episodes import ALARM_THRESHOLD, group_episodes
from anomaly_assets.evaluation.simulator import Fault, FaultKind, InjectedFault, simulate
from anomaly_assets.evaluation.simulator.silence import MissingStreams, SilencePattern
from anomaly_assets.evaluation.simulator.testbed import (
    SCORED_KINDS,
    TESTBED_DAYS,
    Strengths,
    many_faults,
    window_block,
)
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    BoolArray,
    FloatArray,
    IntArray,
    WindowBlock,
)
from benchmarks.output import publish

LEARNING_DAYS = 7
#: Alarms in the half hour after a fault are neither missed nor false.
AFTERWARDS = 6
MISSING_SHARE = 0.5
EVERY_STRENGTH = Strengths(
    spike_sigmas=(4.0, 6.0, 8.0, 12.0),
    shift_sigmas=(2.0, 4.0, 8.0),
    outage_minutes=(15, 60, 240),
    down_minutes=(15, 60, 240),
    flat_minutes=(30, 120, 480),
    break_minutes=(15, 45, 90),
    absence_minutes=(120, 240, 480),
    night_minutes=(20, 40, 80),
)
#: Streams with room for a large step at any hour, of every group that has such streams.
STEP_STREAMS = (
    "heart_rate",
    "skin_temperature",
    "audio_level",
    "accel_z",
    "battery_temperature",
    "barometric_pressure",
    "respiration_rate",
    "cpu_load",
    "ambient_temperature",
    "electrodermal_activity",
    "humidity",
    "wifi_networks",
)
SIGMAS = 8.0
#: In winter, so that Berlin is an hour ahead: 08:00 and midnight there.
FIRST_HOURS = (
    datetime(2026, 1, 12, 7, tzinfo=UTC),
    datetime(2026, 1, 11, 23, tzinfo=UTC),
)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
SHIFTED_STREAMS = 6
SETTLED_WINDOWS = 6
SETTLING_HOURS = 12

RECALL_GOALS = {
    FaultKind.SPIKE: 0.99,
    FaultKind.GROUP_OUTAGE: 0.99,
    FaultKind.DEVICE_DOWN: 0.99,
    FaultKind.FLAT_LINE: 0.95,
    FaultKind.RELATIONSHIP_BREAK: 0.90,
    FaultKind.UNUSUAL_ABSENCE_AT_WORK: 0.90,
    FaultKind.USE_AT_3AM: 0.80,
}
#: Figure -> (goal, whether more is better).
GOALS: dict[str, tuple[float, bool]] = {
    "false_alarm_share": (0.01, False),
    "alarms_a_day": (0.5, False),
    **{f"recall_{kind}": (goal, True) for kind, goal in RECALL_GOALS.items()},
    "half_false_alarm_share": (0.02, False),
    "cold_false_alarm_share": (0.03, False),
    "cold_spike_found": (1.0, True),
    "adaptation_windows": (12.0, False),
    "adaptation_windows_longest": (18.0, False),
}

#: Name of a figure -> its value for one seed.
Figures = dict[str, float]


@dataclass
class Found:
    """Which events of each name were found, and how often chance would have found them."""

    hits: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    chance: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Watched:
    """What became of people with faults."""

    false: int = 0
    clean: int = 0
    episodes: int = 0
    found: Found = field(default_factory=Found)

    def add(
        self, block: WindowBlock, alarms: BoolArray, labels: Sequence[InjectedFault], names: Names
    ) -> None:
        """Count one person's alarms."""
        clean = clean_windows(block, labels)
        self.clean += int(clean.sum())
        self.false += int((alarms & clean).sum())
        starts = block.windows.starts()[clean]
        self.episodes += len(
            group_episodes(block.entity_id, starts, alarms[clean].astype(np.float64))
        )
        for label in labels:
            if not label.visible:
                continue
            first, last = spans(block, label)
            self.found.hits[names(label)].append(bool(alarms[first:last].any()))
            self.found.chance[names(label)].append(chance(alarms, clean, last - first))

    def figures(self, prefix: str) -> Figures:
        """Return shares of windows and events."""
        figures = {
            f"{prefix}false_alarm_share": self.false / self.clean,
            f"{prefix}alarms_a_day": self.episodes / (self.clean / WINDOWS_PER_DAY),
        }
        for name, hits in sorted(self.found.hits.items()):
            figures[f"{prefix}recall_{name}"] = sum(hits) / len(hits)
        return figures


class Names:
    """How an event is called in the figures."""

    def __init__(self, *, with_strength: bool) -> None:
        self._with_strength = with_strength

    def __call__(self, label: InjectedFault) -> str:
        """Return its kind, and its strength if asked to."""
        if not self._with_strength:
            return label.kind
        if label.kind in {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT}:
            return f"{label.kind}_{label.strength:g}_sigma"
        if label.kind is FaultKind.RELATIONSHIP_BREAK and label.strength < SPORT:
            return f"{label.kind}_in_sport"
        return f"{label.kind}_{round((label.end - label.start).total_seconds() / 60)}_min"


#: Below this effort the broken heart rests during sport.
SPORT = 0.5


def spans(block: WindowBlock, label: InjectedFault) -> tuple[int, int]:
    """Return the windows, half-open, in which an alarm finds the fault."""
    first = int(label.start.timestamp() - block.windows.start) // WINDOW_SECONDS
    stop = -(-int(label.end.timestamp() - block.windows.start) // WINDOW_SECONDS)
    return first, stop + (1 if label.kind is FaultKind.SPIKE else AFTERWARDS)


def clean_windows(block: WindowBlock, labels: Iterable[InjectedFault]) -> BoolArray:
    """Return the windows after the first week that no fault touches, nor the half hour after."""
    clean = np.arange(len(block)) >= LEARNING_DAYS * WINDOWS_PER_DAY
    for label in labels:
        first, _ = spans(block, label)
        stop = -(-int(label.end.timestamp() - block.windows.start) // WINDOW_SECONDS)
        clean[first : stop + AFTERWARDS] = False
    return clean


def chance(alarms: BoolArray, clean: BoolArray, length: int) -> float:
    """Return the share of clean stretches of `length` windows that hold an alarm."""
    kernel = np.ones(length, dtype=np.int64)
    whole = np.convolve(clean, kernel, mode="valid") == length
    held = np.convolve(alarms, kernel, mode="valid") > 0
    return float(held[whole].mean()) if whole.any() else float("nan")


def scores(block: WindowBlock) -> FloatArray:
    """Return the final scores of someone of whom nothing is known."""
    return detect(DetectionState.fresh(load_catalogue("default")), block).ensemble.score


def watch(
    seed: int, people: int, strengths: Strengths | None, silence: MissingStreams | None
) -> Watched:
    """Simulate people with many faults, and watch them."""
    entities = [f"person-{number + 1}" for number in range(people)]
    kinds = SCORED_KINDS if strengths is None else (*SCORED_KINDS, FaultKind.LEVEL_SHIFT)
    faults = many_faults(
        seed,
        entities,
        days=TESTBED_DAYS,
        silence=silence,
        first_day=LEARNING_DAYS,
        kinds=kinds,
        strengths=strengths,
    )
    simulation = simulate(seed, entities, days=TESTBED_DAYS, faults=faults, silence=silence)
    watched = Watched()
    names = Names(with_strength=strengths is not None)
    for entity in entities:
        block = window_block(simulation, entity)
        labels = [label for label in simulation.labels if label.entity == entity]
        watched.add(block, scores(block) > ALARM_THRESHOLD, labels, names)
    return watched


def cold_start(seed: int) -> Figures:
    """Watch first days, from 08:00 and from midnight, and a spike in their second hour."""
    alarms, windows = 0, 0
    found: list[bool] = []
    for begin in FIRST_HOURS:
        streams = rotated(seed, 8)
        people = [f"new-{number + 1}" for number in range(len(streams))]
        clean = simulate(seed, people, begin, days=1)
        for entity in people[::2]:
            score = scores(window_block(clean, entity))
            alarms += int((score > ALARM_THRESHOLD).sum())
            windows += score.size
        at = begin + timedelta(minutes=90)
        spikes = [
            Fault(entity, FaultKind.SPIKE, at, 5, stream, SIGMAS)
            for entity, stream in zip(people, streams, strict=True)
        ]
        spiked = simulate(seed, people, begin, days=1, faults=spikes)
        for label in spiked.labels:
            # The watch may be on its charger in the night.
            if label.visible:
                block = window_block(spiked, label.entity).part(0, WINDOWS_PER_DAY // 8)
                first, last = spans(block, label)
                found.append(bool((scores(block)[first:last] > ALARM_THRESHOLD).any()))
    return {
        "cold_false_alarm_share": alarms / windows,
        "cold_spike_found": sum(found) / len(found),
    }


def adaptation(seed: int) -> list[int]:
    """Return for lasting shifts of several streams the windows until all is normal again."""
    entity = "person-1"
    catalogue = load_catalogue("default")
    onset = MONDAY + timedelta(days=LEARNING_DAYS, hours=9)
    begin = int((onset - MONDAY).total_seconds()) // WINDOW_SECONDS
    days = LEARNING_DAYS + 2
    learnt = DetectionState.fresh(catalogue)
    before = window_block(simulate(seed, [entity], MONDAY, days), entity, catalogue)
    detect(learnt, before.part(0, begin))
    lasting = days * 24 * 60 - begin * WINDOW_SECONDS // 60
    counts = []
    for stream in rotated(seed, SHIFTED_STREAMS):
        shift = Fault(entity, FaultKind.LEVEL_SHIFT, onset, lasting, stream, SIGMAS)
        after = simulate(seed, [entity], MONDAY, days, faults=[shift])
        part = window_block(after, entity, catalogue).part(begin, begin + 12 * SETTLING_HOURS)
        score = detect(deepcopy(learnt), part).ensemble.score
        counts.append(windows_to_settle(score))
    return counts


def windows_to_settle(score: FloatArray) -> int:
    """Return the number of windows before the first six normal ones in a row."""
    quiet = np.convolve(score <= ALARM_THRESHOLD, np.ones(SETTLED_WINDOWS), mode="valid")
    settled: IntArray = np.flatnonzero(quiet == SETTLED_WINDOWS)
    return int(settled[0]) if settled.size else score.size


def rotated(seed: int, count: int) -> list[str]:
    """Return `count` of the streams, others for the next seed."""
    return [STEP_STREAMS[(seed * count + i) % len(STEP_STREAMS)] for i in range(count)]


def of_seed(
    seed: int, people: int, pattern: SilencePattern
) -> tuple[Figures, dict[str, Watched], list[int]]:
    """Measure everything with one seed."""
    arms = {
        "": watch(seed, people, None, None),
        "half_": watch(seed, people, None, MissingStreams(MISSING_SHARE, pattern)),
        "strength_": watch(seed, people, EVERY_STRENGTH, None),
    }
    figures: Figures = {}
    for prefix, watched in arms.items():
        figures |= watched.figures(prefix)
    counts = adaptation(seed)
    figures["adaptation_windows"] = statistics.median(counts)
    figures["adaptation_windows_longest"] = float(max(counts))
    return figures | cold_start(seed), arms, counts


def summarised(seeds: list[Figures], arms: list[dict[str, Watched]], counts: list[int]) -> Figures:
    """Return medians and the worst seeds; of recalls also what all seeds together give."""
    summary: Figures = {}
    for name in dict.fromkeys(name for figures in seeds for name in figures):
        values = [figures[name] for figures in seeds if name in figures]
        more_is_better = "recall" in name or "found" in name
        summary[name] = statistics.median(values)
        if not name.startswith("strength_"):
            summary[f"{name}_worst"] = min(values) if more_is_better else max(values)
    for prefix in arms[0]:
        hits, expected = pooled([arm[prefix].found for arm in arms])
        for name in sorted(hits):
            summary[f"{prefix}recall_{name}_all"] = float(np.mean(hits[name]))
            summary[f"{prefix}chance_{name}"] = float(np.nanmean(expected[name]))
            summary[f"{prefix}events_{name}"] = len(hits[name])
    summary["adaptation_windows"] = statistics.median(counts)
    summary["adaptation_windows_longest"] = float(max(counts))
    return summary


def pooled(found: list[Found]) -> tuple[dict[str, list[bool]], dict[str, list[float]]]:
    """Return the events of all seeds."""
    hits: dict[str, list[bool]] = defaultdict(list)
    expected: dict[str, list[float]] = defaultdict(list)
    for one in found:
        for name, values in one.hits.items():
            hits[name] += values
            expected[name] += one.chance[name]
    return hits, expected


def beside_goals(summary: Figures) -> Iterator[tuple[str, float, float, str, bool]]:
    """Yield name, median, worst, goal and whether the median reaches it."""
    goals = dict(GOALS)
    for kind in SCORED_KINDS:
        # No more than ten points lower than with all streams.
        goals[f"half_recall_{kind}"] = (summary[f"recall_{kind}"] - 0.10, True)
    for name, (goal, more_is_better) in goals.items():
        value = summary[name]
        reached = value >= goal if more_is_better else value < goal
        if name.startswith("adaptation"):
            reached = value <= goal
        sign = ">=" if more_is_better else "<"
        yield name, value, summary.get(f"{name}_worst", value), f"{sign} {goal:.3g}", reached


def main() -> None:
    """Measure, print the figures beside their goals, and publish all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--people", type=int, default=3, help="people of each seed")
    parser.add_argument(
        "--pattern",
        type=SilencePattern,
        default=SilencePattern.ABSENT,
        choices=list(SilencePattern),
        help="how half of the streams is missing",
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.people < 1:
        parser.error("--seeds and --people are at least 1")
    seeds, arms, counts = [], [], []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        figures, watched, windows = of_seed(seed, arguments.people, arguments.pattern)
        seeds.append(figures)
        arms.append(watched)
        counts += windows
    summary = summarised(seeds, arms, counts)
    table = Table(title="simulated people: figures beside their goals (nothing is timed)")
    for column in ("figure", "median", "worst seed", "goal", "reached"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, value, worst, goal, reached in beside_goals(summary):
        table.add_row(name, f"{value:.4f}", f"{worst:.4f}", goal, "yes" if reached else "NO")
    Console().print(table)
    publish(f"detection, {arguments.seeds} seeds", {"seeds": arguments.seeds, **summary})


if __name__ == "__main__":
    main()
