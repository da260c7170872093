"""``anomaly-assets up``: a daemon processes readings, the pages show it, Ctrl-C ends it all."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from anomaly_assets.assets.partitions import key_of
from anomaly_assets.storage.connect import connect_database
from anomaly_assets_tests.chromium import CHROMIUM, PATIENCE_MS, chromium
from anomaly_assets_tests.cli.running import BESIDE, ENTITY, HOST, PIPELINE, Running, wait_until
from anomaly_assets_tests.pipeline.people import query

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One deployment for all: with ``--dist loadgroup`` a single test process starts it.
pytestmark = pytest.mark.xdist_group("up")
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """Share one deployment with readings that end now."""
    running = Running()
    try:
        running.ingest()
        yield running
    finally:
        running.remove()


@pytest.fixture
def running(shared: Running) -> Running:
    """Return the deployment with ``up`` running, started again if a test has stopped it."""
    shared.start()
    return shared


@pytest.fixture
def processed(running: Running) -> Running:
    """Return the deployment once the daemon's sensor has had every window processed."""
    wait_until(
        lambda: running.materialised("explanations") == len(running.windows),
        "the daemon's sensor has all windows explained",
    )
    return running


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    """Return a page of the system's Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path; install it to test the pages (apt install chromium)")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page


def test_it_serves_the_pages(running: Running) -> None:
    """The webserver answers as Dagster's, with our assets loaded."""
    status, body = running.get("/server_info")
    assert status == 200
    assert "dagster_version" in json.loads(body)
    nodes = running.graphql("{ assetNodes { assetKey { path } } }")["assetNodes"]
    assert {node["assetKey"]["path"][0] for node in nodes} == {*PIPELINE, *BESIDE}


def test_the_daemon_processes_readings_by_itself(processed: Running) -> None:
    """Without anybody's doing, a sensor's run takes readings that end now to explanations."""
    for asset in PIPELINE:
        assert processed.materialised(asset) == len(processed.windows), asset
    runs = processed.graphql(
        '{ runsOrError(filter: {tags: [{key: "dagster/sensor_name", value: "complete_windows"}]}) '
        "{ ... on Runs { results { status } } } }"
    )["runsOrError"]["results"]
    assert [run["status"] for run in runs] == ["SUCCESS"]
    database = connect_database(processed.settings)
    rows = query(
        database,
        "SELECT entity_id, count(*), max(timestamp) FROM anomaly_scores WHERE method = 'ensemble' "
        "GROUP BY 1",
    )
    last = processed.windows.end_time - timedelta(minutes=5)
    assert rows == [(ENTITY, len(processed.windows), last)]


def test_the_daemon_fits_networks_by_itself(processed: Running) -> None:
    """Once the windows are processed, the network of the last full hour follows."""
    pytest.importorskip("pgmpy", reason="needs the extra `causal`")
    wait_until(
        lambda: processed.materialised("causal_network") == 1, "the network of an hour is fitted"
    )
    rows = query(
        connect_database(processed.settings), "SELECT entity_id, fitted_at FROM causal_networks"
    )
    full_hour = processed.windows.end_time.replace(minute=0)
    assert rows == [(ENTITY, full_hour)]


def test_a_backfill_from_the_pages_ends_well(processed: Running) -> None:
    """What the pages launch over all assets and windows completes, though state must go in order.

    Dagster cuts it into three runs, since an asset that depends on its own past cannot share a run
    with what it reads, and looks after a backfill twice a minute: it takes two minutes.
    """
    keys = [key_of(datetime.fromtimestamp(s, tz=UTC)) for s in processed.windows.starts().tolist()]
    launched = processed.graphql(
        "mutation ($what: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $what) "
        "{ __typename ... on LaunchBackfillSuccess { backfillId } "
        "... on PythonError { message } } }",
        what={"assetSelection": [{"path": [a]} for a in PIPELINE], "partitionNames": keys},
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def status() -> str:
        answer = processed.graphql(
            "query ($id: String!) { partitionBackfillOrError(backfillId: $id) "
            "{ ... on PartitionBackfill { status } } }",
            id=launched["backfillId"],
        )
        return str(answer["partitionBackfillOrError"]["status"])

    underway = {"REQUESTED", "COMPLETING"}
    wait_until(lambda: status() not in underway, "the backfill has ended", seconds=240)
    assert status() == "COMPLETED_SUCCESS"


def test_the_curl_lines_of_the_readme_work(running: Running) -> None:
    """As written, but for the place of the command and the port: a reading in, answers out."""
    (block,) = re.findall(r"```\n(TOKEN=.*?)```", README.read_text(), flags=re.DOTALL)
    wait_until(running.live_answers, "the live API answers")
    script = block.replace(
        ".venv/bin/anomaly-assets", f"{shlex.quote(sys.executable)} -m anomaly_assets"
    ).replace(":8000/", f":{running.live_port}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("\n", "\necho\n")],
        env=running.environment,
        cwd=running.home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    taken, latest, anomalies = (
        json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")
    )
    assert taken["accepted"] == 1
    assert taken["first_look"]["stream_id"] == "heart_rate"
    assert [one["entity_id"] for one in latest["entities"]] == [ENTITY]
    assert "anomalies" in anomalies


@pytest.mark.browser
def test_the_lineage_page_shows_every_asset(running: Running, browser_page: Page) -> None:
    """All groups opened, the graph has a node for each asset."""
    groups = running.graphql("{ assetNodes { groupName assetKey { path } } }")["assetNodes"]
    names: dict[str, set[str]] = {}
    for node in groups:
        names.setdefault(node["groupName"], set()).add(node["assetKey"]["path"][0])
    assert set().union(*names.values()) == {*PIPELINE, *BESIDE}
    browser_page.goto(f"http://{HOST}:{running.port}/asset-groups")
    graph = browser_page.locator("foreignObject")
    for group in names:
        expect(graph.get_by_text(group, exact=True).first).to_be_visible()
    for group, assets in names.items():
        url = f"/locations/__repository__@anomaly_assets.definitions/asset-groups/{group}"
        browser_page.goto(f"http://{HOST}:{running.port}{url}")
        for asset in assets:
            expect(graph.get_by_text(asset, exact=True).first).to_be_visible()


@pytest.mark.browser
def test_the_partitions_page_shows_all_materialised(processed: Running, browser_page: Page) -> None:
    """No window of the final scores is missing or failed."""
    browser_page.goto(f"http://{HOST}:{processed.port}/assets/ensemble_results?view=partitions")
    body = browser_page.locator("body")
    expect(body).to_contain_text(f"Materialized ({len(processed.windows)})")
    expect(body).to_contain_text("Missing (0)")
    expect(body).to_contain_text("Failed (0)")


@pytest.mark.browser
def test_an_asset_page_describes_the_asset(processed: Running, browser_page: Page) -> None:
    """Description, number of rows, columns, owner and group stand on the page."""
    browser_page.goto(f"http://{HOST}:{processed.port}/assets/tier1_models")
    body = browser_page.locator("body")
    for text in (
        "State of every stream's River model after each window",
        "Row count",
        "snapshot_bytes",
        "catalogue_digest",
        "This asset depends on earlier partitions of itself.",
        "public.model_snapshots",
        "anomaly-assets",
        "individual",
    ):
        expect(body).to_contain_text(text)


@pytest.mark.browser
def test_the_checks_page_shows_a_passed_check(processed: Running, browser_page: Page) -> None:
    """The check has been evaluated by the daemon's run, and what it counted can be read."""
    browser_page.goto(f"http://{HOST}:{processed.port}/assets/tier1_scores?view=checks")
    body = browser_page.locator("body")
    for text in ("scores_valid", "Passed", "blocking asset check", "scored_while_missing"):
        expect(body).to_contain_text(text)


def test_a_taken_port_is_a_clear_error(shared: Running) -> None:
    """Somebody else's port is named before anything is started."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        result = subprocess.run(
            [sys.executable, "-m", "anomaly_assets", "up", "--port", str(port)],
            env=shared.environment,
            cwd=shared.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: port {port} on {HOST} is taken")
    assert "--port or ANOMALY_ASSETS_PORT" in result.stderr
    assert result.stderr.count("\n") == 1


def test_ctrl_c_ends_everything(running: Running) -> None:
    """Within 30 seconds all processes and the embedded server are gone, with exit code 0."""
    assert len(running.processes()) >= 4
    assert (running.home / "postgres" / "cluster" / "postmaster.pid").exists()
    assert running.stop() == 0, running.log()
    assert running.processes() == []
    assert not (running.home / "postgres" / "cluster" / "postmaster.pid").exists()
    with pytest.raises(OSError, match="refused"):
        running.get("/server_info")
