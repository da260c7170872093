"""The figures of the live path, for Prometheus; they name no entity."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client.registry import Collector

from anomaly_assets.monitoring.families import counter, gauge, single
from anomaly_assets.monitoring.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from anomaly_assets.live.api.context import Context
    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.live.subscriptions import Event


class Figures(Collector):
    """Collects what the parts of the live path have counted.

    Parameters
    ----------
    context
        Whose figures.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._delay = Timing("result_delay_seconds")
        context.telling.followers.append(self._follow)

    def describe(self) -> list[Metric]:
        """Ask nothing when the application is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        yield from self._of_writer()
        yield from self._of_pipeline()
        yield from self._of_sources()
        yield from self._of_cache()
        yield from self._of_followers()

    def _follow(self, result: LiveResult, _: Event) -> None:
        """Note how long after its end a window was told, the first time."""
        if result.revision == 0 and result.explanation is None:
            delay = (datetime.now(tz=UTC) - result.window_end).total_seconds()
            self._delay.observe(max(delay, 0.0), str(result.closed_by))

    def _of_writer(self) -> Iterator[Metric]:
        writer = self._context.intake.writer
        figures = writer.figures
        fates = ("accepted", "duplicate", "rejected")
        yield counter("readings", [((fate,), getattr(figures, fate)) for fate in fates])
        yield single("journal_commits", figures.commits)
        yield single("journal_failures", figures.failures)
        yield single("journal_seconds", figures.seconds)
        yield single("journal_pending_readings", writer.pending_rows)
        yield single("listeners", self._context.listeners)
        yield single("body_bytes", self._context.memory.used)
        yield self._context.intake.batches.metric()
        yield self._delay.metric()

    def _of_pipeline(self) -> Iterator[Metric]:
        intake = self._context.intake
        yield single("first_look_failures", intake.pipeline_failures)
        pipeline: Any = intake.pipeline
        yield from _counted("pipeline", getattr(pipeline, "counts", None))
        for name in ("entities", "waiting_explanations"):
            value = getattr(pipeline, name, None)
            if value is not None:
                yield single(f"pipeline_{name}", value)
        quarantined = getattr(pipeline, "quarantined", None)
        if quarantined is not None:
            yield single("pipeline_quarantined", len(quarantined))

    def _of_sources(self) -> Iterator[Metric]:
        pumps = self._context.pumps
        connected = [((pump.source.name,), float(pump.source.connected)) for pump in pumps]
        yield gauge("source_connected", connected)
        rows: list[tuple[tuple[str, ...], float]] = []
        for pump in pumps:
            name, figures = pump.source.name, pump.figures
            fates = ("stored", "duplicate", "unsettled")
            rows.extend(((name, fate), getattr(figures, fate)) for fate in fates)
            rows.append(((name, "refused"), figures.refused.total()))
        yield counter("source_rows", rows)

    def _of_cache(self) -> Iterator[Metric]:
        figures = self._context.cache.figures
        for what in ("hits", "misses", "failures"):
            yield single(f"cache_{what}", getattr(figures, what))

    def _of_followers(self) -> Iterator[Metric]:
        alerts, webhooks = self._context.alerts, self._context.webhooks
        yield from _counted("alerts", None if alerts is None else alerts.counts)
        yield single("webhooks_dropped", None if webhooks is None else webhooks.dropped)


def _counted(prefix: str, counts: object) -> Iterator[Metric]:
    if dataclasses.is_dataclass(counts) and not isinstance(counts, type):
        for name, value in dataclasses.asdict(counts).items():
            yield single(f"{prefix}_{name}", value)
