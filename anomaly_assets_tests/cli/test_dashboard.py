"""``anomaly-assets dashboard``: the pages by themselves, until Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from anomaly_assets.live.tokens import TokenBook
from anomaly_assets_tests.live.api.serving import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@pytest.mark.parametrize("command", ["dashboard", "serve"])
def test_the_pages_are_served_until_ctrl_c(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Alone and beside the API: a token logs in, and the process ends in order."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
    port = free_port()
    options = ["--no-scoring"] if command == "serve" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly_assets", command, "--port", str(port), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, trust_env=False, follow_redirects=True) as client:

            def there() -> bool:
                assert process.poll() is None, "it ended by itself"
                try:
                    return client.get("/ui/login").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(there, "the pages are served", seconds=60)
            page = client.get("/")
            assert page.url.path == "/ui/login"
            before = re.findall(r'name="before" value="([^"]+)"', page.text)[0]
            token = TokenBook(database).create("Ann")
            fields = {"before": before, "token": token, "next": ""}
            assert "Nobody is watched yet" in client.post("/ui/login", data=fields).text
            api = client.get("/v1/health/live").status_code
            assert api == (200 if command == "serve" else 404)
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert f"{base}/ui/" in said
    assert said.endswith("stopped\n")


def test_the_pages_can_be_switched_off(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the setting off `serve` has the API alone."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv("ANOMALY_ASSETS_DASHBOARD", "false")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly_assets", "serve", "--port", str(port), "--no-scoring"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            def there() -> bool:
                assert process.poll() is None, "it ended by itself"
                try:
                    return client.get("/v1/health/live").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(there, "the API is served", seconds=60)
            assert client.get("/ui/login").status_code == 404
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert "/ui/" not in said
