"""Reading catalogues from YAML, and saying in plain words what is wrong with one.

A catalogue file holds the fields of :class:`~anomaly_assets.streams.catalogue.Catalogue`, and may
state health limits once for each stream type instead of once for each stream::

    health:
      continuous_smooth: {min_availability: 0.2, availability_window: 288}
      sporadic: {min_availability: 0.02}

Each stream takes the limits of its type, and overrides any of them under its own ``health``.
Anchors and aliases are refused: they make small files that unfold into enormous ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from anomaly_assets.errors import CatalogueError
from anomaly_assets.streams._catalogue_problems import check, did_you_mean
from anomaly_assets.streams._located_yaml import MAX_CHARACTERS, UnreadableYamlError, read_located
from anomaly_assets.streams.catalogue import Catalogue

_SUFFIX = ".yaml"
_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$")
#: UTF-8 takes at most four bytes for a character.
_MAX_BYTES = 4 * MAX_CHARACTERS


def shipped_catalogues() -> tuple[str, ...]:
    """Return the names of the catalogues that come with the package, sorted.

    Examples
    --------
    >>> "default" in shipped_catalogues()
    True
    """
    folder = resources.files("anomaly_assets.streams") / "catalogues"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def load_catalogue(
    name_or_path: str | Path, *, extra_directories: Sequence[Path] = ()
) -> Catalogue:
    """Load a stream catalogue by its name or from a file.

    Parameters
    ----------
    name_or_path
        A name such as ``default``, or the path of a YAML file (anything with a folder or the suffix
        ``.yaml`` or ``.yml``, and any :class:`~pathlib.Path`).
    extra_directories
        Folders with further catalogues ``<name>.yaml``, searched in order before the shipped ones.

    Returns
    -------
    Catalogue
        The valid catalogue.

    Raises
    ------
    CatalogueError
        If there is no such catalogue, or it is refused; the message has a line for each problem:
        file, line number, what it concerns, and the reason.

    Examples
    --------
    >>> load_catalogue("default").time_zone
    'Europe/Berlin'
    """
    path = catalogue_file(name_or_path, extra_directories=extra_directories)
    if path is not None:
        return parse_catalogue(_read(path), str(path))
    name = str(name_or_path)
    return parse_catalogue(shipped_text(name), f"{name}{_SUFFIX}")


def catalogue_file(
    name_or_path: str | Path, *, extra_directories: Sequence[Path] = ()
) -> Path | None:
    """Return the file that :func:`load_catalogue` reads; None of a catalogue of the package.

    Raises
    ------
    CatalogueError
        If there is no catalogue of that name.
    """
    if isinstance(name_or_path, Path) or not _NAME.match(name_or_path):
        return Path(name_or_path)
    for folder in extra_directories:
        candidate = folder / f"{name_or_path}{_SUFFIX}"
        if candidate.is_file():
            return candidate
    if name_or_path not in shipped_catalogues():
        raise CatalogueError(_no_such_name(name_or_path, extra_directories))
    return None


def shipped_text(name: str) -> str:
    """Return the YAML of a catalogue that comes with the package."""
    shipped = resources.files("anomaly_assets.streams") / "catalogues" / f"{name}{_SUFFIX}"
    return shipped.read_text(encoding="utf-8")


def parse_catalogue(text: str, source: str) -> Catalogue:
    """Read a catalogue from YAML text.

    Parameters
    ----------
    text
        The YAML document.
    source
        What to call it in messages, usually the file's path.

    Raises
    ------
    CatalogueError
        If it is refused; a line for each problem: ``source:line: subject: reason``.
    """
    try:
        document = read_located(text)
    except UnreadableYamlError as error:
        problems = error.problems
    else:
        outcome = check(document)
        if isinstance(outcome, Catalogue):
            return outcome
        problems = outcome
    raise CatalogueError("\n".join(f"{source}:{line}: {reason}" for line, reason in problems))


def _read(path: Path) -> str:
    content = _content(path)
    # A file cut at the limit is refused for its length; the cut may have split a character.
    errors = "ignore" if len(content) > _MAX_BYTES else "strict"
    try:
        return content.decode("utf-8-sig", errors=errors)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        msg = f"{path}:{line}: catalogue: not UTF-8 text; save the file as UTF-8"
        raise CatalogueError(msg) from error


def _content(path: Path) -> bytes:
    """Return the beginning of a file, no longer than what already is too much."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_MAX_BYTES + 1)
        reason = "is not a regular file" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:
        msg = f"catalogue file {str(path)!r} cannot be read: {error}"
        raise CatalogueError(msg) from error
    msg = (
        f"catalogue file {str(path)!r} {reason}; give the path of a YAML file, "
        f"or one of the names {', '.join(shipped_catalogues())}"
    )
    raise CatalogueError(msg)


def _no_such_name(name: str, extra_directories: Sequence[Path]) -> str:
    known = set(shipped_catalogues())
    for folder in extra_directories:
        known.update(file.stem for file in folder.glob(f"*{_SUFFIX}"))
    return (
        f"no catalogue is called {name!r}{did_you_mean(name, known)}; there are "
        f"{', '.join(sorted(known))}; or give the path of a .yaml file"
    )
