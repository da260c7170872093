"""Windows of Chromium, and what axe says of a page."""

from __future__ import annotations

from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from anomaly_assets_tests.chromium import CHROMIUM, PATIENCE_MS

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.xdist_group("pages"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path (apt install chromium)"),
]
WIDE: Final = {"width": 1440, "height": 900}
NARROW: Final = {"width": 390, "height": 840}


class Window:
    """A browser window; whatever its console complains about fails the test."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context = browser.new_context(base_url=url, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self._note(line.type, line.text))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and "Failed to load resource" not in text:
            self.complaints.append(text)

    def login(self, secret: str, leads_to: str = "**/ui/**") -> Page:
        """Type a token into the form."""
        self.page.goto("/ui/login")
        self.page.get_by_label("Token", exact=True).fill(secret)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(leads_to)
        return self.page


def drawn(page: Page, *names: str) -> None:
    """Wait until drawings are there."""
    for name in names:
        expect(page.locator(f"#{name}")).to_have_attribute("data-drawn", "yes", timeout=PATIENCE_MS)


def barriers(page: Page) -> list[str]:
    """Return what axe calls serious or critical; the dark page differs in its colours only."""
    colours = {"runOnly": ["color-contrast", "link-in-text-block"], "resultTypes": ["violations"]}
    violations = Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    violations += Axe().run(page, options=colours).response["violations"]
    page.emulate_media(color_scheme="light")
    return [
        f"{one['id']}: {node['html'][:160]}: {node.get('failureSummary', '')[:200]}"
        for one in violations
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"][:3]
    ]
