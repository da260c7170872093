"""All checks, one after the other; what becomes of one stops no other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from anomaly_assets.doctor import dagster, database, machine, models, services
from anomaly_assets.doctor.finding import Check, Finding, Installation, ok, problem, warning
from anomaly_assets.errors import AnomalyAssetsError, SettingsError
from anomaly_assets.settings import load_settings
from anomaly_assets.storage.connect import connect_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database

#: Those that need the database.
_WITHIN: Sequence[Check] = (
    *database.CHECKS,
    *models.CHECKS,
    *dagster.CHECKS,
)
_FIRST_SECONDS = 60.0


def examine() -> list[Finding]:
    """Check the installation that the environment describes.

    Returns
    -------
    list of Finding
        At least one of each check, in a fixed order, without secrets.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        advice = "Correct them in the environment or in .env (docs/settings.md), then look again."
        found = [problem("settings", " ".join(str(error).split()), advice)]
        return [one.safe() for one in found]
    findings = [ok("settings", "all usable")]
    for check in machine.CHECKS:
        findings += look(check, Installation(settings))
    reached: list[Database] = []
    findings += look(
        Check("database", lambda _: _reach(settings, reached), _FIRST_SECONDS),
        Installation(settings),
    )
    if reached:
        whole = Installation(settings, reached[0])
        for check in _WITHIN:
            findings += look(check, whole)
    for check in services.CHECKS:
        findings += look(check, Installation(settings))
    return [finding.safe() for finding in findings]


def look(check: Check, installation: Installation) -> list[Finding]:
    """Do a check: its findings, or that it failed, or that it took too long."""
    found: list[Finding] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            made = check.look(installation)
            found.extend([made] if isinstance(made, Finding) else made)
        except Exception as error:  # noqa: BLE001 - one check's fault must not stop the others
            failed.append(error)

    # A daemon: one that hangs does not keep the command from ending.
    thread = threading.Thread(target=work, name=f"doctor: {check.name}", daemon=True)
    thread.start()
    thread.join(check.seconds)
    if thread.is_alive():
        advice = "Look whether what it asks is overloaded, or a network lets nothing through."
        return [problem(check.name, f"no answer within {check.seconds:.0f} s", advice)]
    if failed:
        (error,) = failed
        advice = "The message says what; anomaly-assets up may not have run yet."
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return [*found, problem(check.name, what, advice)]
    return found


def _reach(settings: Settings, reached: list[Database]) -> Finding:
    if settings.database_url is None and not (settings.home / "postgres").exists():
        advice = "anomaly-assets up makes the embedded one; or set DATABASE_URL."
        return warning("database", "there is none yet", advice)
    advice = (
        f"Is the server up, and DATABASE_URL right? {len(_WITHIN)} further checks need it, and "
        "were left out."
    )
    try:
        found = connect_database(settings)
        with found.connect() as connection:
            connection.execute("SELECT 1")
    except AnomalyAssetsError as error:
        return problem("database", " ".join(str(error).split()), advice)
    reached.append(found)
    return ok("database", f"{found!r} answers")
