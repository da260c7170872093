"""Files of an export, be it a folder, a zip archive or one file; nothing is unpacked on disk."""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from anomaly_assets.errors import IngestionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

#: Texts of an export shrink about thirtyfold; what shrinks far more was made to fill memory.
_LARGEST_RATIO: Final = 200
_RATIO_COUNTS_FROM: Final = 64 << 20
#: Whatever a broken or encrypted archive makes its reader raise.
BROKEN: Final = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Member:
    """One file of an export.

    Parameters
    ----------
    name
        Path within the export, with slashes.
    size
        Bytes, not compressed.
    """

    name: str
    size: int

    @property
    def file_name(self) -> str:
        """The last part of the name."""
        return PurePosixPath(self.name).name


class Archive:
    """The files of an export.

    Parameters
    ----------
    path
        Where the export is.
    members
        Its files, by name.
    packed
        The open archive, or None for a folder or a single file.
    """

    def __init__(
        self, path: Path, members: tuple[Member, ...], packed: zipfile.ZipFile | None
    ) -> None:
        self.path = path
        self.members = members
        self._packed = packed

    @contextmanager
    def open(self, member: Member, largest: int) -> Iterator[BinaryIO]:
        """Open a file of at most `largest` bytes.

        Raises
        ------
        IngestionError
            If it is larger, was compressed suspiciously well, or cannot be read to its end.
        """
        what = f"{member.name} in {self.path}" if self._packed else str(self._place(member))
        if member.size > largest:
            msg = f"{what} has {member.size:,} bytes; at most {largest:,} are read, split it"
            raise IngestionError(msg)
        try:
            if self._packed is None:
                with self._place(member).open("rb") as file:
                    yield file
                return
            self._refuse_bomb(member, what)
            # The reader stops at the size that the archive declares, so the limits above hold.
            with self._packed.open(member.name) as unpacked:
                yield unpacked  # type: ignore[misc]
        except BROKEN as error:
            msg = f"cannot read {what}: {error}; export it again"
            raise IngestionError(msg) from error

    def _place(self, member: Member) -> Path:
        return self.path / member.name if self.path.is_dir() else self.path.parent / member.name

    def _refuse_bomb(self, member: Member, what: str) -> None:
        assert self._packed is not None  # noqa: S101 - only called for archives
        packed_size = self._packed.getinfo(member.name).compress_size
        if member.size > _RATIO_COUNTS_FROM and member.size > _LARGEST_RATIO * packed_size:
            msg = (
                f"{what} grows from {packed_size:,} to {member.size:,} bytes; no export does; "
                "unpack it yourself if you trust it, and give the folder"
            )
            raise IngestionError(msg)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a folder, a zip archive or a single file (with the files beside and below it).

    Raises
    ------
    IngestionError
        If there is nothing, or the archive is broken.
    """
    if path.is_dir():
        yield Archive(path, _below(path), None)
        return
    if not path.is_file():
        msg = f"there is no {path}; give the export as it was downloaded, or its folder"
        raise IngestionError(msg)
    if not zipfile.is_zipfile(path):
        yield Archive(path, (Member(path.name, path.stat().st_size),), None)
        return
    try:
        packed = zipfile.ZipFile(path)
    except BROKEN as error:
        msg = f"cannot read {path}: {error}; export it again"
        raise IngestionError(msg) from error
    with packed:
        members = (
            Member(info.filename, info.file_size) for info in packed.infolist() if not info.is_dir()
        )
        yield Archive(path, tuple(sorted(members, key=lambda one: one.name)), packed)


def _below(folder: Path) -> tuple[Member, ...]:
    found = (
        Member(path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in folder.rglob("*")
        # A link could lead anywhere.
        if path.is_file() and not path.is_symlink()
    )
    return tuple(sorted(found, key=lambda one: one.name))
