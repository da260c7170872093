"""Cost of a window, tiers 1 to 3, beside a plain River loop of the specification."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.evaluation.simulator import simulate_windows, synthetic_catalogue
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import WindowBlock
from benchmarks.output import publish
from benchmarks.river_loop import PlainSystem

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 300
ROUNDS = 7


def main() -> None:
    """Measure 30, 100 and 500 streams, in turn with the River loop, and publish the medians.

    ``ms`` is the cost within a range, as backfills process it, ``single_ms`` that of a call with
    one window, as a sensor's run processes it.
    """
    figures: dict[str, float] = {}
    for streams, windows in ((30, 288), (100, 144), (500, 72)):
        ours, single, plain = measure(streams, windows)
        figures[f"ms_{streams}"] = ours
        figures[f"single_ms_{streams}"] = single
        figures[f"river_loop_ms_{streams}"] = plain
        figures[f"speedup_{streams}"] = plain / ours
    figures["heap_mb_30"] = heap_growth(30)
    publish("milliseconds of CPU a window, one process (medians)", figures)


def measure(streams: int, windows: int) -> tuple[float, float, float]:
    """Return the median cost of a window in milliseconds: in a range, alone, and River's."""
    catalogue = synthetic_catalogue(streams)
    block = simulate_windows(streams, WARM_UP + 2 * ROUNDS * windows, seed=streams)
    state = DetectionState.fresh(catalogue)
    plain = PlainSystem(catalogue)
    detect(state, block.part(0, WARM_UP))
    run_plain(plain, catalogue, block.part(0, WARM_UP))
    ours, single, theirs = [], [], []
    for number in range(ROUNDS):
        start = WARM_UP + 2 * number * windows
        part = block.part(start, start + windows)
        ours.append(_milliseconds(partial(_in_a_range, state, part)) / windows)
        theirs.append(_milliseconds(partial(run_plain, plain, catalogue, part)) / windows)
        part = block.part(start + windows, start + 2 * windows)
        single.append(_milliseconds(partial(_one_by_one, state, part)) / windows)
    return statistics.median(ours), statistics.median(single), statistics.median(theirs)


def heap_growth(streams: int) -> float:
    """Return how many MB the heap grows over 2,000 windows, once the models stand."""
    catalogue = synthetic_catalogue(streams)
    block = simulate_windows(streams, WARM_UP + 2000, seed=1)
    state = DetectionState.fresh(catalogue)
    detect(state, block.part(0, WARM_UP))
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(WARM_UP, WARM_UP + 2000):
        detect(state, block.part(number, number + 1))
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / 1e6


def run_plain(plain: PlainSystem, catalogue: Catalogue, block: WindowBlock) -> None:
    """Run the River loop over a block."""
    hours, weekdays = block.calendar.hour.tolist(), block.calendar.weekday.tolist()
    for hour, weekday, row in zip(hours, weekdays, block.values, strict=True):
        values = [None if np.isnan(value) else float(value) for value in row]
        plain.step(hour, weekday, dict(zip(catalogue.stream_ids, values, strict=True)))


def _in_a_range(state: DetectionState, block: WindowBlock) -> None:
    detect(state, block)


def _one_by_one(state: DetectionState, block: WindowBlock) -> None:
    for number in range(len(block)):
        detect(state, block.part(number, number + 1))


def _milliseconds(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return (time.process_time() - started) * 1e3


if __name__ == "__main__":
    main()
