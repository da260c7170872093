"""One seeded deployment for all tests of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets.storage import migrate
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets_tests.chromium import chromium
from anomaly_assets_tests.dashboard.world import Pages, seeded, serving_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def pages(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Serve the pages of simulated people; whoever judges takes it back, or uses an own episode."""
    url = ensure_database(server_url, "dashboard_world")
    migrate.upgrade(url)
    with serving_pages(seeded(Database(url), tmp_path_factory.mktemp("home"))) as running:
        yield running


@pytest.fixture(scope="session")
def person(pages: Pages) -> httpx.Client:
    """Return somebody who may see and judge everything."""
    return pages.person()


@pytest.fixture(scope="session")
def reader(pages: Pages) -> httpx.Client:
    """Return somebody who may only look."""
    return pages.person(write=False)


# Playwright keeps an event loop in the thread, which tests of other modules may want to run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the system's Chromium."""
    with chromium() as running:
        yield running
