"""What a check has found, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from anomaly_assets.logs import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    check
        What was looked at.
    state
        How it is.
    found
        In one sentence.
    advice
        What to do; empty where nothing is to be done.
    """

    check: str
    state: State
    found: str
    advice: str = ""

    def safe(self) -> Finding:
        """Return it without any secret that an error's message may have held."""
        return replace(self, found=mask(self.found), advice=mask(self.advice))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return what does not stop the work, but will or should not be."""
    return Finding(check, "warning", found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Return what keeps something from working."""
    return Finding(check, "problem", found, advice)


@dataclass(frozen=True)
class Installation:
    """What the checks look at.

    Parameters
    ----------
    settings
        The deployment's.
    database
        Its database; None where it cannot be reached, and then no check that needs one is called.
    """

    settings: Settings
    database: Database | None = None

    @property
    def reachable(self) -> Database:
        """The database of a check that needs one."""
        if self.database is None:
            msg = "this check needs the database"
            raise RuntimeError(msg)
        return self.database


@dataclass(frozen=True)
class Check:
    """A check: its name, how to do it, and how long it may take in seconds."""

    name: str
    look: Callable[[Installation], Finding | Iterable[Finding]]
    seconds: float = 15.0
