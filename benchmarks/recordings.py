"""Real recordings the way a user takes them: ingested, one Dagster run, then compared with labels.

Each set has a process and a database server of its own, since the definitions read the settings
when they are loaded. Servers have anomaly labels; wearables have known contexts, and an alarm
outside of those is no false alarm. No point adjustment anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from anomaly_assets.evaluation import recordings as known
from anomaly_assets.evaluation.recordings import Recording, Shape
from anomaly_assets.streams.windows import WindowRange
from benchmarks._recordings_found import judge

if TYPE_CHECKING:
    import dagster as dg

    from anomaly_assets.pipeline.deployment import Deployment

#: What each set takes of the recordings, by the beginning of their names.
SETS = {
    "extrasensory": "extrasensory/",
    "fitbit1": "fitbit1/fitbit1_1min",
    "asd": "asd/",
    "smd": "smd/machine-2-1",
}
#: Columns of the server files that are no streams.
IGNORED = frozenset({"split", "label"})
console = Console(width=160)


def main() -> None:
    """Run the sets named on the command line, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], default=[], help="default: all")
    parser.add_argument("--keep", type=Path, help="folder to keep; what it holds is judged again")
    parser.add_argument(
        "--plain", action="store_true", help="the same steps in the same order without Dagster"
    )
    arguments = parser.parse_args()
    if len(arguments.sets) == 1:
        figures = run_set(arguments.sets[0], arguments.keep, plain=arguments.plain)
        print(json.dumps(figures, allow_nan=False))
        return
    plain = ["--plain"] if arguments.plain else []
    figures = {name: _in_own_process(name, *plain) for name in arguments.sets or SETS}
    print(json.dumps(figures))


def _in_own_process(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.recordings", name, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - ourselves
    *shown, last = done.stdout.splitlines()
    print("\n".join(shown))
    return dict(json.loads(last))


def run_set(name: str, keep: Path | None = None, *, plain: bool = False) -> dict[str, Any]:
    """Process one set of recordings and return what was found.

    Parameters
    ----------
    name
        One of `SETS`.
    keep
        Folder of database and home; a run that is in it already is judged, not repeated.
    plain
        Whether to do without Dagster: the same rows, without its bookkeeping of each partition.
    """
    from anomaly_assets.storage.embedded import EmbeddedServer  # noqa: PLC0415

    taken = [found for found in known.recordings() if found.name.startswith(SETS[name])]
    with ExitStack() as stack:
        if keep is None:
            temporary = tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-")
            keep = Path(stack.enter_context(temporary))
        keep.mkdir(parents=True, exist_ok=True)
        # Under root the server runs as another user, who has to get in.
        keep.chmod(0o755)
        server = EmbeddedServer(keep / "postgres")
        stack.callback(server.stop)
        _set_environment(taken, server.start(), keep)
        figures = _processed(taken, keep / "run.json", plain=plain)
        figures |= judge(taken)
    _show(name, figures)
    return figures


def _set_environment(taken: list[Recording], url: str, home: Path) -> None:
    from anomaly_assets.settings import settings  # noqa: PLC0415

    spans = [_span(recording) for recording in taken]
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    os.environ |= {
        "DATABASE_URL": url,
        "ANOMALY_ASSETS_HOME": str(home),
        "ANOMALY_ASSETS_WINDOW_START": first.floor("D").isoformat(),
        "ANOMALY_ASSETS_WINDOW_END": (last + pd.Timedelta(minutes=5)).ceil("D").isoformat(),
    }
    settings.cache_clear()


def _span(recording: Recording) -> tuple[pd.Timestamp, pd.Timestamp]:
    if recording.shape is Shape.LONG:
        times = pd.read_csv(recording.files[0], usecols=["timestamp"])["timestamp"]
        return pd.Timestamp(times.min()), pd.Timestamp(times.max())
    # A wide recording always has a start; the type does not know.
    start = pd.Timestamp(recording.start or datetime.now(tz=UTC))
    rows = len(known.labels(recording))
    return start, start + pd.Timedelta(seconds=rows * recording.step_seconds)


def _processed(taken: list[Recording], note: Path, *, plain: bool) -> dict[str, Any]:
    """Take the recordings in and process them, unless that was done here before."""
    from anomaly_assets.cli.common import open_deployment  # noqa: PLC0415
    from anomaly_assets.pipeline.replay import range_of_readings  # noqa: PLC0415

    if note.exists():
        return dict(json.loads(note.read_text()))
    deployment = open_deployment()
    figures: dict[str, Any] = {"ingestion": _ingest(deployment, taken)}
    readings = range_of_readings(deployment)
    if readings is None:
        msg = "nothing was ingested"
        raise SystemExit(msg)
    windows = WindowRange.between(*readings)
    figures |= {"partitions": len(windows), "dagster": not plain}
    started, busy = time.perf_counter(), time.process_time()
    figures |= (_plainly if plain else _through_dagster)(deployment, windows)
    figures["run_seconds"] = round(time.perf_counter() - started, 1)
    figures["processor_seconds"] = round(time.process_time() - busy, 1)
    note.write_text(json.dumps(figures))
    return figures


def _plainly(deployment: Deployment, windows: WindowRange) -> dict[str, Any]:
    from anomaly_assets.pipeline.whole import process  # noqa: PLC0415

    rows = sum(commit.rows for commit in process(deployment, windows))
    return {"rows": rows, "failed_entities": [*deployment.failures.items()]}


def _through_dagster(deployment: Deployment, windows: WindowRange) -> dict[str, Any]:
    from anomaly_assets.automation.instance import open_instance, prepare  # noqa: PLC0415
    from anomaly_assets.automation.runs import run_windows  # noqa: PLC0415
    from anomaly_assets.definitions import defs  # noqa: PLC0415

    with open_instance(prepare(deployment.settings, deployment.database)) as instance:
        job = defs.resolve_job_def("process_windows")
        outcome = run_windows(job, instance, windows)
        steps = instance.get_run_step_stats(outcome.run_id)
        failed = _failed_entities(instance, job)
    return {
        "succeeded": outcome.succeeded,
        "error": outcome.error,
        "failed_checks": list(outcome.failed_checks),
        "failed_entities": failed,
        "step_seconds": {
            step.step_key: round((step.end_time or 0.0) - (step.start_time or 0.0), 1)
            for step in steps
        },
    }


def _ingest(deployment: Deployment, taken: list[Recording]) -> dict[str, float]:
    from anomaly_assets.ingestion.ingest import IngestOptions, ingest_files  # noqa: PLC0415

    totals: Counter[str] = Counter()
    for recording in taken:
        wide = recording.shape is Shape.WIDE
        report = ingest_files(
            deployment.database,
            recording.files,
            catalogue=deployment.catalogue(recording.catalogue),
            catalogue_name=recording.catalogue,
            entity_id=recording.entity,
            options=IngestOptions(
                start=recording.start,
                step=timedelta(seconds=recording.step_seconds) if wide else None,
                ignore_columns=IGNORED if wide else frozenset(),
            ),
        )
        totals.update(
            accepted=report.accepted,
            duplicate=report.duplicate,
            late=report.late + report.too_late,
            rejected=report.rejected.total(),
        )
        totals["milliseconds"] += round(1000 * report.seconds)
    return dict(totals)


def _failed_entities(instance: dg.DagsterInstance, job: dg.JobDefinition) -> list[str]:
    """Return what the newest materialisations say of entities that failed."""
    found = set()
    # One event an asset: a run leaves one for each partition, all with the same metadata.
    for key in job.asset_layer.selected_asset_keys:
        event = instance.get_latest_materialization_event(key)
        done = None if event is None else event.asset_materialization
        if done is not None and "failed_entities" in done.metadata:
            found.add(str(done.metadata["failed_entities"].value))
    return sorted(found)


def _show(name: str, figures: dict[str, Any]) -> None:
    console.rule(name)
    summary = {
        key: value
        for key, value in figures.items()
        if key not in {"entities", "contexts", "sentences"}
    }
    for key, value in summary.items():
        console.print(f"{key}: {value}", markup=False, highlight=False)
    for part in ("entities", "contexts"):
        _table(f"{name}: {part}", figures[part])
    for sentence in figures["sentences"]:
        console.print(sentence, markup=False, highlight=False)


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
