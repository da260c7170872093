"""The reference of the window benchmark: the specification written down as a plain River loop.

One River model a stream by its type, Half-Space Trees over all features and over each group, a
dictionary of availabilities by context, and the weighted mean of the scores. Nothing is optimised
and nothing is left out; it holds no flat-line channel, no survival of gaps and no relationships,
which the system's own figure includes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from river import anomaly, preprocessing, stats, time_series

from anomaly_assets.streams.catalogue import StreamType

if TYPE_CHECKING:
    from anomaly_assets.streams.catalogue import Catalogue

_UNPREDICTABLE_AFTER = 48


class PlainStream:
    """One stream's River model, error scale and health, as the specification describes them."""

    def __init__(self, stream_type: StreamType) -> None:
        self._events = stream_type is StreamType.DISCRETE_EVENTS
        if self._events:
            self._quantile = stats.RollingQuantile(q=0.95, window_size=50)
        elif stream_type is StreamType.CONTINUOUS_NOISY:
            self._model: Any = time_series.HoltWinters(alpha=0.3, beta=0.1)
        else:
            self._model = time_series.SNARIMAX(p=1, d=1, q=1)
        self._errors = stats.Var()
        self._seen = 0
        self._windows = 0
        self._missing = 0

    def step(self, value: float | None) -> tuple[float | None, float]:
        """Return score (None: unknown) and health of one window, then learn."""
        self._windows += 1
        if value is None:
            self._missing += 1
            return None, self._health()
        score = self._score(value)
        self._seen += 1
        self._missing = 0
        return score, self._health()

    def _health(self) -> float:
        gap = min(self._missing / _UNPREDICTABLE_AFTER, 1.0)
        return self._seen / self._windows * (1.0 - gap)

    def _score(self, value: float) -> float:
        if self._events:
            limit = self._quantile.get() if self._seen else value
            self._quantile.update(value)
            return 0.0 if not limit or value <= limit else min(1.0, value / limit - 1.0)
        score = 0.0
        if self._seen > 2:
            forecast = self._model.forecast(horizon=1)[0]
            error = min(abs(value - forecast), 1e12) if math.isfinite(forecast) else 1e12
            scale = math.sqrt(self._errors.get()) or 1.0
            score = math.erf(error / scale / math.sqrt(2.0))
            self._errors.update(error)
        self._model.learn_one(value)
        return score


class PlainSystem:
    """The whole specification for one entity."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._streams = {s.id: PlainStream(s.type) for s in catalogue.streams}
        self._scaler = preprocessing.MinMaxScaler()
        self._main = anomaly.HalfSpaceTrees(n_trees=50, height=8, seed=42)
        self._groups = {
            group: anomaly.HalfSpaceTrees(n_trees=30, height=8, seed=42)
            for group in catalogue.group_ids
        }
        self._members = {
            group: {s.id for s in catalogue.streams if s.group == group}
            for group in catalogue.group_ids
        }
        self._availability: defaultdict[str, stats.Mean] = defaultdict(stats.Mean)

    def step(self, hour: float, weekday: int, values: dict[str, float | None]) -> float:
        """Return the final score of one window."""
        scored = {name: self._streams[name].step(values[name]) for name in self._streams}
        weekend, work = weekday >= 5, 9 <= hour < 17
        context = "weekend" if weekend else "work_hours" if work else "other"
        features = {
            "hour": hour / 24.0,
            "weekday": weekday / 6.0,
            "is_weekend": float(weekend),
            "is_work_hours": float(work),
        }
        known = {name: value for name, value in values.items() if value is not None}
        self._scaler.learn_one(known)
        features |= self._scaler.transform_one(known)
        for name, value in values.items():
            features[f"{name}_available"] = float(value is not None)
            self._availability[f"{context} {name}"].update(float(value is not None))
        cross = self._main.score_one(features)
        self._main.learn_one(features)
        group_scores = []
        for group, model in self._groups.items():
            own = {
                name: value
                for name, value in features.items()
                if name.removesuffix("_available") in self._members[group]
            }
            group_scores.append(model.score_one(own))
            model.learn_one(own)
        weights = [(score, health) for score, health in scored.values() if score is not None]
        total = sum(health for _, health in weights)
        second = max([cross, *group_scores])
        if total == 0.0:
            return second
        return 0.6 * sum(score * health for score, health in weights) / total + 0.4 * second
