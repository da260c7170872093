"""Backups of sealed models: files, and a signed list of them that is written last.

A folder without its list is no backup. Everything is read whole and held against the list before
any of it is used, and the list against the deployment's key before it is believed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]

from anomaly_assets.errors import SnapshotRefusedError, StorageError
from anomaly_assets.state.format import Provenance, Refusal, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"
ARCHIVE_FORMAT = 1
_NAME = re.compile(r"\d{8}T\d{12}Z")


@dataclass(frozen=True)
class ArchivedSnapshot:
    """A sealed model in a backup.

    Parameters
    ----------
    path
        Its file, from the backup's folder.
    provenance, sha256, signature, size
        As in :class:`~anomaly_assets.state.format.Snapshot`; the length in bytes.
    version, created_at, created_by
        Its number where it was backed up, when and by whom it was made.
    learnt_from, learnt_windows, learnt_values
        On which data.
    latest
        Whether it was the newest of its component.
    pin
        Who pinned it and why, or None.
    """

    path: str
    provenance: Provenance
    sha256: str
    signature: str
    size: int
    version: int
    created_at: str
    created_by: str
    learnt_from: int | None
    learnt_windows: int | None
    learnt_values: int | None
    latest: bool
    pin: tuple[str, str] | None


@dataclass(frozen=True)
class ArchivedTable:
    """Rows of a table in a backup: file, table, how many, digest of the file."""

    path: str
    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Parameters
    ----------
    created_at, created_by, code_version
        When, by whom and with which version of the package it was made.
    entities
        By identifier: catalogue (None: the default one), time zone.
    snapshots, tables
        Its files.
    format
        Version of the backup's own form.
    """

    created_at: str
    created_by: str
    code_version: str
    entities: dict[str, dict[str, str | None]]
    snapshots: tuple[ArchivedSnapshot, ...] = ()
    tables: tuple[ArchivedTable, ...] = ()
    format: int = field(default=ARCHIVE_FORMAT)


class BackupFolder:
    """A place for backups.

    Parameters
    ----------
    url
        Any that fsspec knows: ``file:///backups``, ``s3://bucket/models``, a plain path.
    key
        The deployment's signing key.

    Raises
    ------
    StorageError
        If nothing installed can reach such an address.
    """

    def __init__(self, url: str, key: bytes) -> None:
        self.shown = _without_secrets(url)
        self._key = key
        with self._reaching():
            self._files, self._root = fsspec.core.url_to_fs(url)

    def names(self) -> list[str]:
        """Return the names of complete backups, newest first."""
        with self._reaching():
            return [name for name in self._folders() if self._complete(name)]

    def newest(self) -> str:
        """Return the newest complete backup; empty if the address is that of one itself.

        Raises
        ------
        StorageError
            If there is none.
        """
        with self._reaching():
            if self._files.exists(f"{self._root}/{MANIFEST}"):
                return ""
        names = self.names()
        if not names:
            msg = f"there is no complete backup at {self.shown}; make one with models backup"
            raise StorageError(msg)
        return names[0]

    def write(self, name: str, path: str, content: bytes) -> str:
        """Store a file of a backup that is being made; returns its digest."""
        with self._reaching():
            where = self._at(name, path)
            self._files.makedirs(where.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(where, content)
        return hashlib.sha256(content).hexdigest()

    def finish(self, name: str, manifest: Manifest) -> None:
        """Sign and store the list, from which moment on the backup is one."""
        document = asdict(manifest)
        document["signature"] = self._sign(document)
        content = json.dumps(document, indent=1).encode()
        with self._reaching():
            # A half-written list must not stand under its name.
            self._files.pipe_file(self._at(name, f"{MANIFEST}.part"), content)
            self._files.mv(self._at(name, f"{MANIFEST}.part"), self._at(name, MANIFEST))

    def manifest(self, name: str) -> Manifest:
        """Read and verify the list of a backup.

        Raises
        ------
        SnapshotRefusedError
            If it is unreadable, unsigned, or signed with another key.
        """
        what = f"backup {name or self.shown}"
        try:
            document = json.loads(self._read(name, MANIFEST))
            signature = str(document.pop("signature", ""))
        except (ValueError, AttributeError) as error:
            msg = f"{what}: its list cannot be read ({error})"
            raise SnapshotRefusedError(msg, Refusal.CONTENT) from error
        if not signature:
            msg = f"{what}: its list is not signed"
            raise SnapshotRefusedError(msg, Refusal.UNSIGNED)
        ours = self._sign(document).encode()
        if not hmac.compare_digest(signature.encode(errors="surrogatepass"), ours):
            msg = f"{what}: the signature is not ours (tampered with, or another deployment's key)"
            raise SnapshotRefusedError(msg, Refusal.SIGNATURE)
        if document.get("format") != ARCHIVE_FORMAT:
            msg = f"{what}: it has format {document.get('format')}, needed is {ARCHIVE_FORMAT}"
            raise SnapshotRefusedError(msg, Refusal.FORMAT_VERSION)
        return _manifest(document)

    def snapshot(self, name: str, entry: ArchivedSnapshot) -> Snapshot:
        """Read one sealed model; whoever opens it verifies it.

        Raises
        ------
        SnapshotRefusedError
            If its file is not there.
        """
        blob = self._read(name, entry.path)
        return Snapshot(entry.provenance, entry.sha256, entry.signature, blob)

    def table(self, name: str, entry: ArchivedTable) -> str:
        """Read the rows of a table, as JSON.

        Raises
        ------
        SnapshotRefusedError
            If its file is not there, or not the one that was listed.
        """
        content = self._read(name, entry.path)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            msg = f"backup {name or self.shown}: {entry.path} does not match its digest: damaged"
            raise SnapshotRefusedError(msg, Refusal.DIGEST)
        return content.decode()

    def prune(self, before: datetime) -> list[str]:
        """Delete the backups that were begun before a time, but never the newest complete one."""
        with self._reaching():
            kept = next((name for name in self._folders() if self._complete(name)), None)
            old = [name for name in self._folders() if name < name_of(before) and name != kept]
            for name in old:
                self._files.rm(self._at(name), recursive=True)
        return old

    def _folders(self) -> list[str]:
        """Return the names of all folders that look like a backup's, newest first."""
        if not self._files.exists(self._root):
            return []
        self._files.invalidate_cache()
        listed = self._files.ls(self._root, detail=False)
        names = {str(path).rstrip("/").rpartition("/")[2] for path in listed}
        return sorted((name for name in names if _NAME.fullmatch(name)), reverse=True)

    def _complete(self, name: str) -> bool:
        return bool(self._files.exists(self._at(name, MANIFEST)))

    def _read(self, name: str, path: str) -> bytes:
        if ".." in path.split("/"):
            msg = f"backup {name or self.shown}: {path!r} leads out of it"
            raise SnapshotRefusedError(msg, Refusal.CONTENT)
        with self._reaching():
            try:
                return bytes(self._files.cat_file(self._at(name, path)))
            except FileNotFoundError as error:
                msg = f"backup {name or self.shown}: {path} is missing"
                raise SnapshotRefusedError(msg, Refusal.DIGEST) from error

    def _at(self, *parts: str) -> str:
        return "/".join([self._root.rstrip("/"), *(part for part in parts if part)])

    def _sign(self, document: dict[str, Any]) -> str:
        signed = json.dumps(document, sort_keys=True).encode()
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError, ValueError) as error:
            msg = (
                f"{self.shown} cannot be used for backups ({type(error).__name__}: {error}); look "
                "at ANOMALY_ASSETS_BACKUP_URL, at what may be written there, and whether fsspec's "
                "package for such addresses is installed"
            )
            raise StorageError(msg) from error


def name_of(moment: datetime) -> str:
    """Return the name of a backup begun at a time: names sort as times do."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%S%f}Z"


def _manifest(document: dict[str, Any]) -> Manifest:
    snapshots = [
        ArchivedSnapshot(
            **{
                **entry,
                "provenance": Provenance(**entry["provenance"]),
                "pin": None if entry["pin"] is None else tuple(entry["pin"]),
            }
        )
        for entry in document["snapshots"]
    ]
    tables = [ArchivedTable(**entry) for entry in document["tables"]]
    return Manifest(**{**document, "snapshots": tuple(snapshots), "tables": tuple(tables)})


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the backup's address"
    if "@" not in parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
