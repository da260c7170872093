"""Looks into the databases, off the hot path: bounded, timed, remembered, and never an error."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.monitoring import queries
from anomaly_assets.monitoring.families import counter, gauge, single
from anomaly_assets.monitoring.timing import Timing
from anomaly_assets.storage.connect import dagster_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database

logger = logging.getLogger(__name__)

Rows = list[tuple[Any, ...]]

#: What a statement may take before the server ends it.
_STATEMENT_SECONDS: Final = 5
#: How long whoever asks waits for a look that is under way; then the last one must do.
_PATIENCE_SECONDS: Final = 3.0
#: A look that takes longer hangs on a line that was cut: what was known is no more.
_LOST_SECONDS: Final = 30.0
#: A look is not repeated before so many times the time it took: a share of the server at most.
_REST: Final = 20.0


@dataclass
class Seen:
    """What one look has found; empty where the database was away.

    Parameters
    ----------
    size
        Of the database, bytes; None where it is away.
    totals
        The row of the totals.
    entities, streams
        Rows of those that are named.
    heartbeats, runs, successes, failures
        Rows of Dagster's tables.
    """

    size: int | None = None
    totals: tuple[Any, ...] | None = None
    entities: Rows = field(default_factory=list)
    streams: Rows = field(default_factory=list)
    heartbeats: Rows | None = None
    runs: Rows = field(default_factory=list)
    successes: Rows = field(default_factory=list)
    failures: tuple[Any, ...] | None = None
    finished: float = 0.0


class Looks:
    """Asks the databases now and then, in a thread of its own.

    Whoever wants the figures gets the newest there are; where they are too old a look is begun,
    and waited for briefly. Two looks are never under way at once.

    Parameters
    ----------
    settings
        Thresholds, and how often and about how many entities it is asked.
    database
        The deployment's.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._seen = Seen()
        self._failures: dict[str, int] = {}
        self._timing = Timing("database_query_seconds")
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="looks")
        self._under_way: Future[None] | None = None
        self._begun = self._due = float("-inf")

    def seen(self) -> Seen:
        """Return what is known, looking again if that is due."""
        with self._lock:
            now = time.monotonic()
            if self._under_way is None and now >= self._due:
                self._begun = now
                self._under_way = self._pool.submit(self._look)
            under_way = self._under_way
        if under_way is not None:
            wait([under_way], _PATIENCE_SECONDS)
        with self._lock:
            if self._under_way is not None and time.monotonic() - self._begun > _LOST_SECONDS:
                return Seen(finished=self._seen.finished)
            return self._seen

    def totals(self) -> Iterator[Metric]:
        """Yield the metrics of the deployment as a whole; no entity is named in them."""
        seen = self.seen()
        yield single("database_up", float(seen.size is not None))
        yield single("database_size_bytes", seen.size)
        yield single("database_look_time_seconds", seen.finished or None)
        failures = sorted(self._failures.items())
        yield counter("database_look_failures", [((name,), n) for name, n in failures])
        yield self._timing.metric()
        found = seen.totals or (None,) * (len(queries.TOTALS_COLUMNS) + 1)
        for name, value in zip(queries.TOTALS_COLUMNS, found, strict=False):
            yield single(name, value)
        quantiles = zip(queries.QUANTILES, found[-1] or (), strict=False)
        yield gauge("entity_streams_available_ratio", [((q,), value) for q, value in quantiles])
        yield from _of_dagster(seen)

    def named(self) -> Iterator[Metric]:
        """Yield the metrics of single entities and streams."""
        seen = self.seen()
        for position, name in enumerate(queries.ENTITY_COLUMNS, 1):
            yield gauge(name, [((row[0],), row[position]) for row in seen.entities])
        for position, name in enumerate(queries.STREAM_COLUMNS, 2):
            yield gauge(name, [((row[0], row[1]), row[position]) for row in seen.streams])
        reporting = None if seen.totals is None else seen.totals[1] - len(seen.entities)
        yield single("entities_unnamed", reporting)

    def _look(self) -> None:
        seen = Seen()
        try:
            self._of_ours(seen)
            self._of_dagsters(seen)
        finally:
            took = time.monotonic() - self._begun
            if seen.totals is not None:
                seen.finished = time.time()
            else:
                seen.finished = self._seen.finished
            with self._lock:
                self._seen = seen
                self._under_way = None
                self._due = self._begun + max(self._settings.metrics_seconds, _REST * took)

    def _of_ours(self, seen: Seen) -> None:
        options = self._settings
        parameters = {
            "threshold": options.explanation_threshold,
            "available": options.alert_streams_available,
            "anomaly_rate": options.alert_anomaly_rate,
            "lateness": options.allowed_lateness,
            "most": options.metrics_entities,
        }

        def ask(fetch: Callable[..., Rows]) -> None:
            ((seen.size,),) = fetch("size", queries.SIZE)
            (totals,) = fetch("totals", queries.TOTALS, parameters)
            if options.metrics_entities:
                seen.entities = fetch("entities", queries.ENTITIES, parameters)
                names = [row[0] for row in seen.entities]
                seen.streams = fetch("streams", queries.STREAMS, {"names": names})
            seen.totals = totals

        self._ask("database", self._database, ask)

    def _of_dagsters(self, seen: Seen) -> None:
        def ask(fetch: Callable[..., Rows]) -> None:
            heartbeats = fetch("heartbeats", queries.HEARTBEATS)
            seen.runs = fetch("runs", queries.RUNS)
            seen.successes = fetch("successes", queries.SUCCESSES)
            (seen.failures,) = fetch("failures", queries.FAILURES)
            seen.heartbeats = heartbeats

        self._ask("dagster", dagster_database(self._database), ask)

    def _ask(
        self, what: str, database: Database, ask: Callable[[Callable[..., Rows]], None]
    ) -> None:
        asking = what
        try:
            with database.connect() as connection, connection.transaction():
                connection.execute("SET TRANSACTION READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")

                def fetch(name: str, query: str, parameters: Any = None) -> Rows:  # noqa: ANN401 - as psycopg takes them
                    nonlocal asking
                    asking = name
                    started = time.perf_counter()
                    rows = connection.execute(query, parameters).fetchall()
                    self._timing.observe(time.perf_counter() - started, name)
                    return rows

                ask(fetch)
        except Exception as error:  # noqa: BLE001 - a figure less, which is a figure itself
            self._failures[asking] = self._failures.get(asking, 0) + 1
            logger.debug("no figures, %s: %s", asking, error)


def _of_dagster(seen: Seen) -> Iterator[Metric]:
    yield single("dagster_up", float(seen.heartbeats is not None))
    yield gauge("dagster_heartbeat_age_seconds", _labelled(seen.heartbeats or []))
    # Zeros too: of a series that begins with the first failure no increase can be told.
    counts = {(job, status): 0 for job, _, _ in seen.runs for status in ("SUCCESS", "FAILURE")}
    counts |= {(job, status): count for job, status, count in seen.runs}
    yield gauge("dagster_runs_1d", counts.items())
    yield gauge(
        "dagster_last_success_time_seconds", [((job,), at) for job, at, _ in seen.successes]
    )
    yield gauge("dagster_last_run_seconds", [((job,), took) for job, _, took in seen.successes])
    checks, ticks = seen.failures or (None, None)
    yield single("dagster_failed_checks", checks)
    yield single("dagster_ticks_failed_1h", ticks)


def _labelled(rows: Sequence[tuple[str, float]]) -> list[tuple[tuple[str, ...], float | None]]:
    return [((label,), value) for label, value in rows]
