"""The pages of a real person: two days of ExtraSensory, walked from the overview to a rollback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from anomaly_assets.evaluation.recordings import recording
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.storage import migrate
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.streams.loading import shipped_text
from anomaly_assets_tests.chromium import PATIENCE_MS
from anomaly_assets_tests.dashboard.browsing import (
    NEEDS_CHROMIUM,
    WIDE,
    Window,
    barriers,
    drawn,
)
from anomaly_assets_tests.dashboard.world import Pages, episode_of, serving_pages, suggest
from anomaly_assets_tests.pipeline.people import execute
from anomaly_assets_tests.pipeline.recorded import NEEDS_RECORDINGS, process_two_days
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [*NEEDS_CHROMIUM, *NEEDS_RECORDINGS]

WHO: Final = "es_098A72A5"


@pytest.fixture(scope="module")
def recorded(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pages, str]]:
    """Serve the pages of the recording, and return them with the range it covers."""
    url = ensure_database(server_url, "dashboard_recorded")
    migrate.upgrade(url)
    home = tmp_path_factory.mktemp("recorded")
    deployment = deployment_of(Database(url), home)
    windows = process_two_days(deployment, recording(f"extrasensory/{WHO}"))
    # A catalogue of one's own, as what is shipped takes no edges.
    (home / "own.yaml").write_text(shipped_text("extrasensory"))
    execute(
        deployment.database,
        "UPDATE entities SET catalogue = %s WHERE entity_id = %s",
        str(home / "own.yaml"),
        WHO,
    )
    between = f"from={windows.start_time:%Y-%m-%dT%H:%MZ}&to={windows.end_time:%Y-%m-%dT%H:%MZ}"
    with serving_pages(deployment, tokens=TokenBook(deployment.database)) as pages:
        yield pages, between


def test_a_recording_is_looked_at_and_judged(browser: Browser, recorded: tuple[Pages, str]) -> None:
    """From the list to the charts, into one stream and one episode; judged, and taken back."""
    pages, between = recorded
    window = Window(browser, pages.url, viewport=WIDE, color_scheme="light")
    page = window.login(pages.tokens.create("Ann"))
    found = {"overview": barriers(page)}
    page.locator("#filter-q").fill(WHO)
    expect(page.locator("#entities .row-link")).to_have_count(1)
    page.locator("#entities .row-link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(WHO)
    page.goto(f"/ui/entity?id={WHO}&{between}")
    drawn(page, "score-chart", "heat")
    found["entity"] = barriers(page)
    _zoom(page)
    page.locator(".heat-names a").first.click()
    drawn(page, "stream-chart")
    found["stream"] = barriers(page)
    page.goto(f"/ui/episode?anomaly={episode_of(pages.deployment, WHO)}")
    drawn(page, "minutes-chart")
    found["episode"] = barriers(page)
    page.get_by_role("button", name="False alarm").click()
    judgement = page.locator("#judgement")
    expect(judgement.get_by_role("status")).to_contain_text("Recorded")
    judgement.get_by_role("button", name="Take back").click()
    expect(judgement.get_by_role("status")).to_contain_text("Taken back")
    for name in ("episodes?range=all&strong=0", f"gaps?id={WHO}&{between}", "feedback", "settings"):
        page.goto(f"/ui/{name}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        found[name] = barriers(page)
    window.context.close()
    assert {name: one for name, one in found.items() if one} == {}
    assert window.complaints == []


def _zoom(page: Page) -> None:
    before = page.url
    box = page.locator("#heat canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=8)
    page.mouse.up()
    page.wait_for_url(lambda url: url != before)
    drawn(page, "score-chart", "heat")


def test_a_recording_s_edges_and_models_are_decided_on(
    browser: Browser, recorded: tuple[Pages, str]
) -> None:
    """An edge goes into the catalogue, and the models go back to an older version."""
    pages, _ = recorded
    window = Window(browser, pages.url, viewport=WIDE)
    page = window.login(pages.tokens.create("Ann"))
    catalogue = pages.deployment.entity(WHO).catalogue
    suggest(pages.deployment, WHO, *catalogue.stream_ids[:2])
    page.goto(f"/ui/suggestions?id={WHO}")
    page.get_by_role("button", name="Accept").first.click()
    expect(page.get_by_role("status").first).to_contain_text("accepted into own.yaml")
    page.goto(f"/ui/models?id={WHO}&component=tier1_models")
    row = page.locator("#models tbody tr").last
    row.get_by_text("Roll back", exact=True).click()
    row.get_by_label("Why").last.fill("the walk of a test")
    row.get_by_role("button", name=re.compile("Roll back to version")).click()
    done = page.locator("#models tr", has_text="the walk of a test")
    expect(done).to_contain_text("done", timeout=8 * PATIENCE_MS)
    window.context.close()
    assert window.complaints == []
