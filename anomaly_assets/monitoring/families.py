"""Every metric there is: name, kind, labels and meaning. docs/monitoring.md lists the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

Kind = Literal["counter", "gauge", "histogram"]

PREFIX: Final = "anomaly_assets_"


@dataclass(frozen=True)
class Family:
    """A metric.

    Parameters
    ----------
    name
        Without the prefix, and without the ``_total`` that Prometheus's format adds to a counter.
    kind
        What may be done with it.
    meaning
        One sentence.
    labels
        Names of its labels; each has few values, but for ``entity`` and ``stream``.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name by which Prometheus knows it."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")


def _all(kind: Kind, named: dict[str, str], *labels: str) -> tuple[Family, ...]:
    return tuple(Family(name, kind, meaning, labels) for name, meaning in named.items())


#: Of the process that serves the live API, counted as things happen.
LIVE: Final = (
    *_all("counter", {"requests": "Requests answered."}, "method", "route", "status"),
    *_all("histogram", {"request_seconds": "From a request to the end of its answer."}, "route"),
    *_all("gauge", {"requests_in_progress": "Requests being answered."}),
    *_all("counter", {"readings": "Readings that came, by what became of them."}, "as"),
    *_all(
        "histogram",
        {"result_delay_seconds": "From the end of a window to its first result."},
        "closed_by",
    ),
    *_all(
        "histogram",
        {"batch_seconds": "From taking a batch of readings to having stored and seen it."},
    ),
    *_all(
        "counter",
        {
            "journal_commits": "Groups of readings stored.",
            "journal_failures": "Groups of readings that could not be stored.",
            "journal_seconds": "Time spent on storing readings.",
            "first_look_failures": "Batches whose first look failed.",
        },
    ),
    *_all(
        "gauge",
        {
            "journal_pending_readings": "Readings that wait for the database.",
            "listeners": "Event streams open.",
            "body_bytes": "Bytes of request bodies held.",
        },
    ),
    *_all("gauge", {"source_connected": "Whether a source of readings is connected."}, "source"),
    *_all("counter", {"source_rows": "Rows of a source, by what became of them."}, "source", "as"),
    *_all(
        "counter",
        {
            "cache_hits": "Latest scores found in Redis.",
            "cache_misses": "Latest scores that Redis did not have.",
            "cache_failures": "Times Redis did not answer.",
            "webhooks_dropped": "Results not posted since too many waited.",
        },
    ),
)

#: Of the streaming pipeline; named as the fields of its counts.
PIPELINE: Final = (
    *_all(
        "counter",
        {
            "pipeline_readings": "Readings taken into the models' windows.",
            "pipeline_first_looks": "Readings scored at once.",
            "pipeline_refused": "Readings not taken in: unknown stream, future, quarantine.",
            "pipeline_late": "Readings for windows that were closed already.",
            "pipeline_windows": "Windows closed.",
            "pipeline_revised": "Results replaced by later ones.",
            "pipeline_restored": "Entities restored from the database.",
            "pipeline_snapshots_refused": "Snapshots that failed verification.",
            "pipeline_verified": "Windows found stored as they were said.",
            "pipeline_outdated": "Windows stored with readings that it was not told of.",
            "pipeline_differences": "Windows stored otherwise for no known reason: must stay 0.",
            "pipeline_explained": "Explanations made.",
            "pipeline_explanations_failed": "Explanations that failed.",
            "pipeline_explanations_dropped": "Explanations given up since too many waited.",
            "pipeline_subscribers_dropped": "Listeners that did not keep up.",
            "pipeline_database_errors": "Times the database was away; it is tried again.",
            "pipeline_caught_up": "Readings found in the journal that nobody had told of.",
        },
    ),
    *_all(
        "gauge",
        {
            "pipeline_entities": "Entities in memory.",
            "pipeline_waiting_explanations": "Windows that wait for their explanation.",
            "pipeline_quarantined": "Entities that it cannot process.",
        },
    ),
)

#: Of an instance among several that share entities out.
SHARING: Final = (
    *_all("gauge", {"shards": "Shards that entities are shared out among."}),
    *_all(
        "gauge",
        {"shard_owner": "Whether this instance scores the shard, 1, or stands by for it, 0."},
        "shard",
    ),
    *_all("counter", {"readings_handed_over": "Readings stored here that another one scores."}),
)

#: Of the alerts; named as the fields of their counts.
ALERTS: Final = _all(
    "counter",
    {
        "alerts_raised": "Alerts raised.",
        "alerts_sent": "Messages that have arrived.",
        "alerts_digests": "Messages that have arrived and were digests.",
        "alerts_failed_attempts": "Attempts at an address that failed.",
        "alerts_undelivered": "Messages that reached nobody.",
        "alerts_database_errors": "Times the database was away; it is tried again.",
    },
)

#: Of the process; on Linux only.
PROCESS: Final = (
    *_all(
        "gauge",
        {
            "process_virtual_memory_bytes": "Virtual memory.",
            "process_resident_memory_bytes": "Memory.",
            "process_start_time_seconds": "When it started, seconds since the epoch.",
            "process_open_fds": "Open files and connections.",
            "process_max_fds": "As many as may be open.",
        },
    ),
    *_all("counter", {"process_cpu_seconds": "Processor time used."}),
)

#: Of the deployment as a whole, from its database and its machine.
DEPLOYMENT: Final = (
    *_all("gauge", {"build_info": "Always 1."}, "version", "python"),
    *_all(
        "gauge",
        {
            "disk_free_bytes": "Free space where the home folder is.",
            "disk_size_bytes": "Size of the disk on which the home folder is.",
            "database_up": "Whether the database answered the last look.",
            "database_size_bytes": "Size of the database.",
            "database_look_time_seconds": "When the last good look was, seconds since the epoch.",
        },
    ),
    *_all("counter", {"database_look_failures": "Looks into the database that failed."}, "query"),
    *_all("histogram", {"database_query_seconds": "Time a query of a look took."}, "query"),
    *_all(
        "gauge",
        {
            "entities": "Entities that are watched.",
            "entities_reporting": "Entities with a reading within the last day.",
            "entities_quarantined": "Entities that cannot be processed.",
            "entities_few_streams": "Entities with fewer streams than the alert's limit.",
            "entities_many_anomalies": "Entities with more anomalies an hour than the limit.",
            "streams": "Streams of the newest windows.",
            "streams_available": "Streams with a value in the newest windows.",
            "streams_available_ratio": "Share of streams with a value in the newest windows.",
            "anomaly_rate_ratio": "Share of the last hour's windows that are anomalous.",
            "false_positive_ratio": "Share of labels that call an anomaly a false alarm.",
            "labels": "Labels that stand.",
            "model_accuracy_ratio": "Mean share of readings within their forecast's interval.",
            "streams_need_retraining": "Streams whose models are to be rebuilt.",
            "missing_longest_seconds": "Longest silence of a stream of a reporting entity.",
            "windows_behind": "Complete windows not aggregated yet, of the slowest entity.",
            "newest_reading_age_seconds": "Age of the newest reading.",
            "late_windows": "Windows that wait for a replay.",
            "rejected_readings_1h": "Readings refused in the last hour.",
            "open_alerts": "Alerts that wait to be sent.",
        },
    ),
    *_all(
        "gauge",
        {"entity_streams_available_ratio": "Distribution of that share over the entities."},
        "quantile",
    ),
    *_all("gauge", {"dagster_up": "Whether Dagster's database answered the last look."}),
    *_all(
        "gauge",
        {"dagster_heartbeat_age_seconds": "Since a daemon of Dagster gave a sign of life."},
        "daemon",
    ),
    *_all("gauge", {"dagster_runs_1d": "Runs of the last day."}, "job_name", "status"),
    *_all(
        "gauge",
        {
            "dagster_last_success_time_seconds": "End of the last good run, since the epoch.",
            "dagster_last_run_seconds": "Time the last good run took.",
        },
        "job_name",
    ),
    *_all("gauge", {"dagster_failed_checks": "Checks that failed when they last ran."}),
    *_all("gauge", {"dagster_ticks_failed_1h": "Failed ticks of sensors and schedules."}),
)

#: Of single entities and streams: at most `metrics_entities` of them, those that reported last.
ENTITIES: Final = (
    *_all(
        "gauge",
        {
            "entity_streams": "Streams of its newest window.",
            "entity_streams_available": "Streams with a value in its newest window.",
            "entity_anomaly_rate_ratio": "Share of its last hour's windows that are anomalous.",
            "entity_score": "Its newest final score.",
            "entity_false_positive_ratio": "Share of its labels that say false alarm.",
            "entity_newest_window_age_seconds": "Since the end of its newest window.",
        },
        "entity",
    ),
    *_all(
        "gauge",
        {
            "stream_availability_ratio": "Share of the recent windows with a value.",
            "stream_missing_seconds": "How long it has been silent up to its newest window.",
            "stream_accuracy_ratio": "Share of readings within their forecast's interval.",
            "stream_health_ratio": "Its health score.",
        },
        "entity",
        "stream",
    ),
    *_all("gauge", {"entities_unnamed": "Reporting entities beyond those that are named."}),
)

FAMILIES: Final = {
    family.name: family
    for family in (*LIVE, *PIPELINE, *SHARING, *ALERTS, *PROCESS, *DEPLOYMENT, *ENTITIES)
}


def gauge(name: str, samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Metric:
    """Return a gauge with its samples, pairs of label values and value; None is left out."""
    known = FAMILIES[name]
    made = GaugeMetricFamily(PREFIX + name, known.meaning, labels=known.labels)
    for labels, value in samples:
        if value is not None:
            made.add_metric(labels, float(value))
    return made


def counter(name: str, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Return a counter with its samples, pairs of label values and value."""
    known = FAMILIES[name]
    made = CounterMetricFamily(PREFIX + name, known.meaning, labels=known.labels)
    for labels, value in samples:
        made.add_metric(labels, float(value))
    return made


def histogram(
    name: str, samples: Iterable[tuple[tuple[str, ...], list[tuple[str, float]], float]]
) -> Metric:
    """Return a histogram; its samples are label values, cumulated buckets and the sum."""
    known = FAMILIES[name]
    made = HistogramMetricFamily(PREFIX + name, known.meaning, labels=known.labels)
    for labels, buckets, total in samples:
        made.add_metric(labels, buckets, total)
    return made


def single(name: str, value: float | None) -> Metric:
    """Return a metric without labels; without a sample where the value is unknown."""
    if FAMILIES[name].kind == "counter":
        return counter(name, [] if value is None else [((), value)])
    return gauge(name, [((), value)])
