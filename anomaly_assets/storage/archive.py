"""The file of a backup: a tar with a manifest and one dump a database, each with its digest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from anomaly_assets.errors import StorageError

FORMAT: Final = 1
#: Dagster's comes first: what it has recorded must not be ahead of the results, or windows would
#: be passed over after a restore. Behind, they are merely computed again, to the same results.
ROLES: Final = ("dagster", "anomaly_assets")
_MANIFEST = "manifest.json"
_DIGEST = "manifest.sha256"
_LARGEST_MANIFEST = 10_000_000


@dataclass(frozen=True)
class Dump:
    """One database of a backup.

    Parameters
    ----------
    name
        Name it had on its server.
    bytes, sha256
        Size and digest of the dump.
    timescaledb
        Version of the extension it had; None without.
    rows
        Number of rows of each table, by ``schema.table``, in the snapshot that was dumped.
    """

    name: str
    bytes: int
    sha256: str
    timescaledb: str | None
    rows: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """What a backup holds, and what made it.

    Parameters
    ----------
    format
        Version of the format of this file.
    created_at
        When, ISO 8601.
    version, revision, dagster_version
        Of the code, of the schema and of Dagster.
    postgresql
        Major version of the server.
    key_fingerprint
        Fingerprint of the key that signed the snapshots; the key itself is not here.
    databases
        The dumps by role, see :data:`ROLES`; ``dagster`` only where there was one.
    """

    format: int
    created_at: str
    version: str
    revision: str
    dagster_version: str
    postgresql: int
    key_fingerprint: str
    databases: dict[str, Dump]


def dump_file(role: str) -> str:
    """Return the name of a database's dump within the archive."""
    return f"{role}.dump"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(manifest: Manifest, folder: Path) -> Path:
    """Put manifest and dumps of a folder into one file there, and return it."""
    archive = folder / "backup.tar"
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True).encode()
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, _MANIFEST, text)
        _add(tar, _DIGEST, hashlib.sha256(text).hexdigest().encode())
        for role in manifest.databases:
            path = folder / dump_file(role)
            tar.add(path, path.name, recursive=False)
            path.unlink()
    return archive


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, BytesIO(content))


def unpack(archive: Path, folder: Path, shown: str) -> Manifest:
    """Extract and verify a backup.

    Parameters
    ----------
    archive
        The file.
    folder
        Where the dumps go.
    shown
        What to call the file in errors.

    Raises
    ------
    StorageError
        If it is no backup, of a format unknown here, incomplete or damaged. Nothing of it may be
        used then.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            manifest = _read_manifest(tar, shown)
            for role in manifest.databases:
                _extract(tar, dump_file(role), folder / dump_file(role))
    except (tarfile.TarError, KeyError, EOFError) as error:
        msg = f"{shown} is no whole backup of anomaly-assets ({error}); take another one"
        raise StorageError(msg) from error
    for role, dump in manifest.databases.items():
        path = folder / dump_file(role)
        if path.stat().st_size != dump.bytes or digest_of(path) != dump.sha256:
            msg = f"{shown} is damaged: {path.name} is not what was written; take another backup"
            raise StorageError(msg)
    return manifest


def _extract(tar: tarfile.TarFile, name: str, target: Path) -> None:
    source = tar.extractfile(name)
    if source is None:
        raise KeyError(name)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _read_manifest(tar: tarfile.TarFile, shown: str) -> Manifest:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.name == _MANIFEST else None
    if first is None or file is None or first.size > _LARGEST_MANIFEST:
        msg = f"{shown} is no backup of anomaly-assets: it does not begin with {_MANIFEST}"
        raise StorageError(msg)
    try:
        text = file.read()
        digest = tar.extractfile(_DIGEST)
        if digest is None or digest.read().decode() != hashlib.sha256(text).hexdigest():
            raise _damaged(shown)
        content: dict[str, Any] = json.loads(text)
        if content["format"] != FORMAT:
            msg = (
                f"{shown} has format {content['format']}, this version reads {FORMAT}; restore it "
                f"with anomaly-assets {content.get('version', 'of its time')}"
            )
            raise StorageError(msg)
        dumps = {_known(role): Dump(**dump) for role, dump in content.pop("databases").items()}
        return Manifest(**content, databases=dumps)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(shown) from error


def _damaged(shown: str) -> StorageError:
    return StorageError(f"{shown} is damaged: its manifest cannot be read; take another backup")


def _known(role: str) -> str:
    if role not in ROLES:
        raise KeyError(role)
    return role


def shown(url: str) -> str:
    """Return an address without user and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def put(source: Path, url: str) -> None:
    """Move a file to a path or an address of fsspec; there it is whole, or is not there.

    Raises
    ------
    StorageError
        If something is there already, or it cannot be written.
    """
    with _reporting(url):
        system, path = fsspec.core.url_to_fs(url)
        if system.exists(path):
            msg = f"{shown(url)} exists; backups are never overwritten: choose another name"
            raise StorageError(msg)
        if isinstance(system, LocalFileSystem):
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                with source.open("rb") as content, draft.open("xb") as file:
                    draft.chmod(0o600)
                    shutil.copyfileobj(content, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
        else:
            partial = f"{path}.partial"
            system.makedirs(system._parent(path), exist_ok=True)  # noqa: SLF001 - fsspec has no other
            system.put_file(str(source), partial)
            system.mv(partial, path)


def get(url: str, target: Path) -> None:
    """Fetch the file of a path or an address of fsspec.

    Raises
    ------
    StorageError
        If it is not there or cannot be read.
    """
    with _reporting(url):
        system, path = fsspec.core.url_to_fs(url)
        if not system.isfile(path):
            msg = f"there is no file {shown(url)}"
            raise StorageError(msg)
        system.get_file(path, str(target))


class _reporting:  # noqa: N801 - used as a function
    """Turn what file systems raise into one clear error."""

    def __init__(self, url: str) -> None:
        self._shown = shown(url)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ImportError | ValueError):
            msg = (
                f"{self._shown}: {error}; addresses are those of fsspec, such as "
                "s3://bucket/name.tar with the package s3fs"
            )
            raise StorageError(msg) from error
        if isinstance(error, OSError):
            msg = f"{self._shown}: {error.strerror or error}; is the place there and writable?"
            raise StorageError(msg) from error
