"""Random linear processes with known causes: each stream remembers its past and follows others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.streams.windows import WINDOWS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.streams.windows import FloatArray

_WARM_UP = 200
_MOST_LAG = 2


@dataclass(frozen=True)
class Process:
    """A week of windows and what drives what."""

    values: FloatArray
    hours: FloatArray
    truth: frozenset[tuple[str, str]]

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(f"s{number:02d}" for number in range(self.values.shape[1]))

    def structure(self, edges: Iterable[tuple[str, str]] = ()) -> Structure:
        """Return a structure over the streams that knows these edges."""
        return Structure.from_edges(self.streams, edges)


def linear_process(
    n_streams: int, seed: int, *, days: int = 7, missing: float = 0.0, most_causes: int = 2
) -> Process:
    """Draw a process whose streams have up to `most_causes` causes, up to two windows late.

    A share of the values is missing, each by itself; every stream has a daily cycle.
    """
    rng = np.random.default_rng([seed, n_streams])
    n_windows = days * WINDOWS_PER_DAY
    order = rng.permutation(n_streams)
    effects = np.zeros((_MOST_LAG + 1, n_streams, n_streams))
    truth = set()
    for place, effect in enumerate(order.tolist()):
        count = min(place, int(rng.integers(0, most_causes + 1)))
        for cause in rng.choice(order[:place], size=count, replace=False).tolist():
            lag = int(rng.integers(0, _MOST_LAG + 1))
            size = rng.uniform(0.4, 1.0) * (1.0 if lag == 0 else 0.6)
            effects[lag, effect, cause] = rng.choice([-1.0, 1.0]) * size
            truth.add((f"s{cause:02d}", f"s{effect:02d}"))
    memory = rng.uniform(0.3, 0.9, n_streams)
    within = np.linalg.inv(np.eye(n_streams) - effects[0])
    values = np.zeros((_WARM_UP + n_windows, n_streams))
    for window in range(_MOST_LAG, len(values)):
        late = sum(effects[lag] @ values[window - lag] for lag in range(1, _MOST_LAG + 1))
        noise = rng.standard_normal(n_streams)
        values[window] = within @ (memory * values[window - 1] + late + noise)
    values = values[_WARM_UP:]
    hours = np.arange(n_windows, dtype=np.float64) % WINDOWS_PER_DAY * (24.0 / WINDOWS_PER_DAY)
    phases = rng.uniform(0.0, 24.0, n_streams)
    values += 2.0 * np.sin((hours[:, None] - phases) * (2.0 * np.pi / 24.0))
    values[rng.random(values.shape) < missing] = np.nan
    return Process(values, hours, frozenset(truth))
