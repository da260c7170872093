"""The daily report says in Markdown and on a page what the tables hold of a day."""

from __future__ import annotations

import asyncio
import email
from datetime import timedelta
from email.policy import default
from typing import TYPE_CHECKING

from pydantic import SecretStr

from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.mail import mail_report
from anomaly_assets.pipeline.report import report_of_day, save_report
from anomaly_assets.settings import Settings
from anomaly_assets_tests.live.receivers import HOST, mail_sink
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


HOSTILE = "<script>alert(1)</script>"


def test_the_page_shows_every_entity_and_runs_nothing(database: Database, tmp_path: Path) -> None:
    """The page has a drawn day for each, stands alone, and a hostile name stays a name."""
    load_people(database, [HOSTILE, "bob"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    report = report_of_day(deployment, *DAY)
    assert sorted(report.pictures) == sorted([HOSTILE, "bob"])
    assert all(png.startswith(b"\x89PNG") for png in report.pictures.values())
    path = save_report(report, tmp_path / "reports")
    assert path.name == "2026-01-05.html"
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count('src="data:image/png;base64,') == 2
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_report_is_mailed_with_its_page(database: Database, tmp_path: Path) -> None:
    """A mail carries the figures in its subject, the report as text and the page as a file."""
    report = report_of_day(deployment_of(database, tmp_path), *DAY)
    page = save_report(report, tmp_path / "reports")

    async def send() -> str:
        async with mail_sink() as box:
            to = f"mailto://{HOST}:{box.port}?from=watch@example.com&to=ann@example.com"
            settings = Settings(report_urls=(SecretStr(f"{to}&mode=insecure"),))
            (attempt,) = await asyncio.to_thread(mail_report, report, page, settings)
            assert attempt.error is None
            return box.mails[0]

    mail = email.message_from_string(asyncio.run(send()), policy=default)
    assert mail["Subject"] == "05 January 2026: 0 anomalous windows of 0, 0 entities"
    names = [part.get_filename() for part in mail.iter_attachments()]
    assert names == ["2026-01-05.html"]


def test_a_report_that_cannot_be_sent_is_told(database: Database, tmp_path: Path) -> None:
    """An address that does not answer is named by its place, and its secret is not."""
    report = report_of_day(deployment_of(database, tmp_path), *DAY)
    page = save_report(report, tmp_path / "reports")
    settings = Settings(report_urls=(SecretStr("json://user:secret-word@127.0.0.1:9/"),))
    (attempt,) = mail_report(report, page, settings)
    assert attempt.address.startswith("1: ")
    assert attempt.error
    assert "secret-word" not in attempt.error
