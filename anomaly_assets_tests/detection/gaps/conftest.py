"""One simulated person and the detector that watched three weeks of them, shared by these tests."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field

import numpy as np
import pytest

from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.detection.results import GapScores
from anomaly_assets.streams.windows import FloatArray, WindowBlock
from anomaly_assets_tests.detection.gaps.simulation import Person


@dataclass
class Watched:
    """A person, what is said of their undisturbed days, and the state at every midnight."""

    person: Person
    clean: GapScores = field(init=False)
    midnights: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Process day by day."""
        person, block = self.person, self.person.block()
        detector = GapDetector(person.catalogue)
        bounds = [*(person.at(day, 0.0) for day in range(person.days)), len(block)]
        self.midnights, parts = [], []
        for day in range(person.days):
            self.midnights.append(pickle.dumps(detector))
            parts.append(detector.process(block.part(bounds[day], bounds[day + 1])))
        self.clean = GapScores(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in GapScores.__dataclass_fields__
            }
        )

    def with_values(self, day: int, values: FloatArray, days: int = 1) -> tuple[int, GapScores]:
        """Return the first window of `day` and what is said of it with changed values."""
        detector = pickle.loads(self.midnights[day])
        start = self.person.at(day, 0.0)
        stop = self.person.at(day + days - 1, 23.9) + 1
        changed = WindowBlock("person", self.person.zone, self.person.windows, values)
        return start, detector.process(changed.part(start, stop))


@pytest.fixture(scope="session")
def watched() -> list[Watched]:
    """Two persons of different seeds over four weeks."""
    return [Watched(Person(seed, 28)) for seed in (101, 102)]
