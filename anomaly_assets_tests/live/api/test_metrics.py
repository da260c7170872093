"""What ``/metrics`` serves: figures to everybody, names to those who may read everything."""

from __future__ import annotations

import dataclasses
import logging
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from anomaly_assets.live.alerts.service import AlertCounts
from anomaly_assets.live.api.server import LiveServer
from anomaly_assets.live.results import ClosedBy, LiveCounts, LiveResult
from anomaly_assets.monitoring.families import (
    ALERTS,
    DEPLOYMENT,
    ENTITIES,
    FAMILIES,
    LIVE,
    PIPELINE,
    PREFIX,
    PROCESS,
)
from anomaly_assets_tests.live.api.serving import URL, Served, reading, serving
from anomaly_assets_tests.monitoring.promtool import needs_promtool

if TYPE_CHECKING:
    import pytest


def test_everything_listed_is_served(served: Served) -> None:
    """Each family of the list is there, with its kind, meaning and labels, and no other."""
    served.client.post(URL, json=reading(0, "somebody"))
    text = served.client.get("/metrics").text
    found = {
        family.name: family
        for family in text_string_to_metric_families(text)
        # When a series began; the client adds it.
        if not family.name.endswith("_created")
    }
    # This application neither scores nor alerts.
    wanted = {family.name: family for family in (*LIVE, *PROCESS, *DEPLOYMENT, *ENTITIES)}
    wanted.pop("webhooks_dropped")
    optional = {"process_max_fds", "process_open_fds", "webhooks_dropped"}
    assert set(found) | {PREFIX + name for name in optional} == {
        PREFIX + name for name in set(wanted) | optional
    }
    for name, family in wanted.items():
        if PREFIX + name not in found:
            continue
        served_one = found[PREFIX + name]
        assert served_one.type == family.kind, name
        if name not in {one.name for one in PROCESS}:
            assert served_one.documentation == family.meaning
        labels = {label for sample in served_one.samples for label in sample.labels} - {"le"}
        assert labels <= set(family.labels), name


def test_names_keep_to_the_conventions() -> None:
    """Base units, no abbreviation of them, and a counter counts."""
    for family in FAMILIES.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|percent)(_|$)", family.name)
        assert not family.name.endswith("_total"), "the format adds it"
        assert family.meaning.endswith(".")


def test_counts_of_the_pipeline_and_the_alerts_are_listed() -> None:
    """Whatever these begin to count gets its line in the list."""
    for counts, families, prefix in (
        (LiveCounts, PIPELINE, "pipeline_"),
        (AlertCounts, ALERTS, "alerts_"),
    ):
        fields = {prefix + field.name for field in dataclasses.fields(counts)}
        assert fields == {one.name for one in families if one.kind == "counter"}


def test_names_are_for_those_who_may_read_everything(served: Served) -> None:
    """With such a token entities are named; other tokens, and wrong ones, are refused."""
    served.client.post(URL, json=reading(0, "somebody"))
    with served.deployment.database.connect() as connection:
        connection.execute("UPDATE entities SET last_reading_at = now(), aggregated_until = now()")
    text = served.client.get("/metrics").text
    assert 'anomaly_assets_entity_newest_window_age_seconds{entity="somebody"}' in text
    assert "somebody" not in served.as_token(None).get("/metrics").text
    assert served.of_entity("somebody").get("/metrics").status_code == 403
    assert served.of_entity("somebody", read=False).get("/metrics").status_code == 403
    assert served.as_token("aa_" + "x" * 43).get("/metrics").status_code == 401


def test_the_delay_of_results_is_measured(served: Served) -> None:
    """From the end of a window to its first result, by why it was closed; revisions are none."""
    context = served.app.state.context
    end = datetime.now(tz=UTC) - timedelta(seconds=7)
    result = LiveResult(
        entity_id="ann",
        window_start=end - timedelta(minutes=5),
        window_end=end,
        score=0.1,
        confidence=1.0,
        is_anomaly=False,
        trigger=None,
        streams={},
        cross_stream_score=None,
        gap_score=None,
        missing=(),
        closed_by=ClosedBy.TIME,
        provisional=False,
    )
    event = context.events.publish(result)
    for one in (result, dataclasses.replace(result, revision=1)):
        for follower in context.telling.followers:
            follower(one, event)
    text = served.client.get("/metrics").text
    count = 'anomaly_assets_result_delay_seconds_count{closed_by="time"} 1.0'
    assert count in text
    assert re.search(r'result_delay_seconds_bucket\{closed_by="time",le="5\.0"\} 0\.0', text)
    assert re.search(r'result_delay_seconds_bucket\{closed_by="time",le="10\.0"\} 1\.0', text)


def test_batches_are_measured(served: Served) -> None:
    """Each batch of readings counts once, with the time it took."""
    for number in range(3):
        served.client.post(URL, json=reading(number, "ann"))
    text = served.client.get("/metrics").text
    assert "anomaly_assets_batch_seconds_count 3.0" in text


def test_requests_are_logged_where_that_is_set(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the setting there is no access log; with it a line for each request."""
    deployment = served.deployment
    assert LiveServer(served.app).config.access_log is False
    options = {"log_access": True}
    deployment.settings = deployment.settings.model_copy(update=options)
    # The first server has cut it off.
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
    with caplog.at_level("INFO", "uvicorn.access"), serving(deployment) as other:
        other.client.get("/v1/health/live")
    assert '"GET /v1/health/live HTTP/1.1" 200' in caplog.text


@needs_promtool
def test_prometheus_finds_nothing_to_complain_about(served: Served) -> None:
    """Promtool reads what is served, and its lint of names and meanings is content."""
    served.client.post(URL, json=reading(0, "ann"))
    text = served.client.get("/metrics").text
    run = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    complaints = [line for line in (run.stdout + run.stderr).splitlines() if "_created" not in line]
    assert complaints == []
