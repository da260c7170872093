"""How fast Dagster's pages are there with a year materialised, in a headless browser."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from statistics import median
from typing import TYPE_CHECKING

from anomaly_assets_tests.chromium import CHROMIUM, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROUNDS = 3
#: Path and a text that is there once the page has what it shows.
PAGES = {
    "assets": ("/assets", "explanations"),
    "lineage": ("/asset-groups", "cross_stream"),
    "overview": ("/assets/explanations?view=overview", "Latest materialization"),
    "partitions": ("/assets/tier1_scores?view=partitions", "Materialized ("),
}


def measure(environment: dict[str, str]) -> dict[str, float]:
    """Return the median seconds until each page shows its content; nothing without Chromium."""
    if CHROMIUM is None:
        return {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-p", str(port)]
    server = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*command, "-m", "anomaly_assets.definitions", "--log-level", "warning"],
        env=environment,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/server_info")
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            figures = {
                f"page_{name}_seconds": load_time(page, f"http://127.0.0.1:{port}{path}", text)
                for name, (path, text) in PAGES.items()
            }
    finally:
        # A server that still answers an abandoned page does not hear a polite request for minutes.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    return figures


def load_time(page: Page, url: str, text: str) -> float:
    """Return the median seconds until the page shows `text`, after a first visit."""
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        page.goto(url)
        page.get_by_text(text).first.wait_for(timeout=60_000)
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


def wait_for(url: str, seconds: float = 60.0) -> None:
    """Wait until somebody answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own server
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
