"""The daily report says in Markdown what the tables hold of a day."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.report import report_of_day
from anomaly_assets_tests.pipeline.people import START, WINDOWS, execute, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

DAY = DEFAULT_START, DEFAULT_START + timedelta(days=1)


def test_the_numbers_of_the_day(database: Database, tmp_path: Path) -> None:
    """Windows, coverage, anomalies and the best explanation of each entity stand in the report."""
    load_people(database, ["ann", "bob"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    execute(database, "UPDATE anomaly_scores SET anomaly_score = 0.1 WHERE method = 'ensemble'")
    at = START + timedelta(hours=1)
    execute(
        database,
        "UPDATE anomaly_scores SET anomaly_score = 0.93 WHERE method = 'ensemble' "
        "AND entity_id = 'bob' AND timestamp = %s",
        at,
    )
    assert list(explain_windows(deployment, deployment.entities(), WINDOWS))

    report = report_of_day(deployment, *DAY)

    assert (report.entities, report.windows, report.anomalous) == (2, 2 * len(WINDOWS), 1)
    assert report.markdown.startswith("# Monday, 05 January 2026 (UTC)\n")
    heading, ann, bob = report.markdown.split("\n## ")
    assert heading.strip().count("\n") == 0
    coverage = dict(
        query(
            database,
            "SELECT entity_id, avg(confidence) FROM anomaly_scores WHERE method = 'ensemble' "
            "GROUP BY 1",
        )
    )
    for name, part in (("ann", ann), ("bob", bob)):
        assert part.startswith(f"{name}\n")
        observed = f"{coverage[name]:.0%}"
        assert f"- {len(WINDOWS)} windows, {observed} of the streams observed" in part
    assert "- 0 windows above 0.7, highest score 0.10" in ann
    assert "- 1 windows above 0.7, highest score 0.93" in bob
    ((summary, action),) = query(
        database,
        "SELECT summary, recommended_action FROM causal_explanations WHERE entity_id = 'bob' "
        "AND timestamp = %s",
        at,
    )
    assert f"- {at:%H:%M}: {summary} *{action}*" in bob
    silent = query(
        database,
        "SELECT DISTINCT ON (stream_id) stream_id, predictable FROM stream_health "
        "WHERE entity_id = 'ann' ORDER BY stream_id, timestamp DESC",
    )
    listed = ", ".join(stream for stream, predictable in silent if not predictable)
    assert (f"to be scored at the day's end: {listed}" in ann) is bool(listed)


def test_a_day_without_windows_says_so(database: Database, tmp_path: Path) -> None:
    """Nothing processed is said in a sentence, and counts as nothing."""
    report = report_of_day(deployment_of(database, tmp_path), *DAY)
    assert "No windows were processed on this day." in report.markdown
    assert (report.entities, report.windows, report.anomalous) == (0, 0, 0)
