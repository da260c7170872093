"""The figures of the live path and of what it found, for Prometheus; they name no entity."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from anomaly_assets.storage.identifiers import Method, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from anomaly_assets.live.api.context import Context

_REMEMBER_SECONDS: Final = 15.0
_FOUND: Final = """
SELECT
    (SELECT count(*) FROM entities),
    (SELECT count(*) FROM entities WHERE quarantined_reason IS NOT NULL),
    (SELECT avg((NOT is_missing)::int)::float8 FROM time_series_data AS t JOIN entities AS n
        ON n.entity_id = t.entity_id AND t.timestamp = n.aggregated_until - interval '5 minutes'
        WHERE t.timestamp > now() - interval '1 day'),
    (SELECT avg((anomaly_score > %(threshold)s)::int)::float8 FROM anomaly_scores
        WHERE method = %(method)s AND timestamp > now() - interval '1 hour'),
    (SELECT (count(*) FILTER (WHERE verdict = %(false_alarm)s))::float8 / nullif(count(*), 0)
        FROM labels WHERE undone_at IS NULL),
    (SELECT extract(epoch FROM now() - max(last_reading_at))::float8 FROM entities)
"""
_GAUGES: Final = (
    ("entities", "Entities that are watched."),
    ("entities_quarantined", "Entities that cannot be processed."),
    ("streams_available_ratio", "Share of streams with a value in their newest window."),
    ("anomaly_rate_1h", "Share of the last hour's windows above the threshold."),
    ("false_alarm_ratio", "Share of labels that call an anomaly a false alarm."),
    ("newest_reading_age_seconds", "Age of the newest reading of any entity."),
)


class Figures(Collector):
    """Reads the figures when Prometheus asks for them.

    Parameters
    ----------
    context
        Whose figures.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: tuple[Any, ...] | None = None
        self._asked = float("-inf")
        self._seconds = 0.0

    def describe(self) -> list[Metric]:
        """Ask nothing of the database when the application is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        yield from self._of_writer()
        yield from self._of_pipeline()
        yield from self._of_sources()
        yield from self._of_cache()
        yield from self._of_database()

    def _of_writer(self) -> Iterator[Metric]:
        writer = self._context.intake.writer
        figures = writer.figures
        rows = CounterMetricFamily(
            "anomaly_assets_readings", "Readings that came, by what became of them.", labels=["as"]
        )
        for name in ("accepted", "duplicate", "rejected"):
            rows.add_metric([name], getattr(figures, name))
        yield rows
        yield _counter("journal_commits", "Groups of readings stored.", figures.commits)
        yield _counter("journal_failures", "Groups of readings not stored.", figures.failures)
        yield _counter("journal_seconds", "Time spent on storing them.", figures.seconds)
        yield _gauge("journal_pending_readings", "Readings waiting.", writer.pending_rows)
        yield _gauge("listeners", "Event streams open.", self._context.listeners)
        yield _gauge("body_bytes", "Bytes of bodies held.", self._context.memory.used)

    def _of_pipeline(self) -> Iterator[Metric]:
        intake = self._context.intake
        failures = "Readings whose first look failed."
        yield _counter("first_look_failures", failures, intake.pipeline_failures)
        counts = getattr(intake.pipeline, "counts", None)
        if dataclasses.is_dataclass(counts) and not isinstance(counts, type):
            for name, value in dataclasses.asdict(counts).items():
                yield _counter(f"pipeline_{name}", "Counted by the pipeline.", value)

    def _of_sources(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "anomaly_assets_source_connected", "Whether it can be reached.", labels=["source"]
        )
        rows = CounterMetricFamily(
            "anomaly_assets_source_rows", "Rows from it, by what became.", labels=["source", "as"]
        )
        for pump in self._context.pumps:
            name, figures = pump.source.name, pump.figures
            connected.add_metric([name], float(pump.source.connected))
            for what in ("stored", "duplicate", "unsettled"):
                rows.add_metric([name, what], getattr(figures, what))
            rows.add_metric([name, "refused"], figures.refused.total())
        yield connected
        yield rows

    def _of_cache(self) -> Iterator[Metric]:
        figures = self._context.cache.figures
        for what in ("hits", "misses", "failures"):
            yield _counter(f"cache_{what}", "Latest scores in Redis.", getattr(figures, what))

    def _of_database(self) -> Iterator[Metric]:
        found = self._ask()
        yield _gauge("database_up", "Whether the database answers.", float(found is not None))
        yield _gauge("database_query_seconds", "Time the last look took.", self._seconds)
        for (name, meaning), value in zip(_GAUGES, found or (), strict=False):
            if value is not None:
                yield _gauge(name, meaning, float(value))

    def _ask(self) -> tuple[Any, ...] | None:
        if time.monotonic() - self._asked < _REMEMBER_SECONDS:
            return self._found
        self._asked = started = time.monotonic()
        deployment = self._context.deployment
        parameters = {
            "threshold": deployment.settings.explanation_threshold,
            "method": Method.ENSEMBLE,
            "false_alarm": Verdict.FALSE_ALARM,
        }
        try:
            with deployment.database.connect() as connection:
                connection.execute("SET statement_timeout = '5s'")
                self._found = connection.execute(_FOUND, parameters).fetchone()
        except psycopg.Error:
            self._found = None
        self._seconds = time.monotonic() - started
        return self._found


def _counter(name: str, meaning: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"anomaly_assets_{name}", meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"anomaly_assets_{name}", meaning, value=value)
