"""The page of settings: what the deployment runs with; secrets are never shown."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from anomaly_assets.settings import Settings

if TYPE_CHECKING:
    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit

_HIDDEN: Final = "•••••• (set)"
#: What the first word of a setting's name says of its subject, in the page's order.
_SUBJECTS: Final = {
    "live": "Live path",
    "idempotency": "Live path",
    "redis": "Sources",
    "mqtt": "Sources",
    "alert": "Alerts",
    "alerts": "Alerts",
    "webhook": "Webhooks",
    "dashboard": "Pages",
    "explanation": "Detection",
    "network": "Detection",
    "ensemble": "Detection",
    "seed": "Detection",
    "feedback": "Detection",
    "meta": "Detection",
    "keep": "What is kept",
    "partition": "What is kept",
    "signing": "What is kept",
}
_GENERAL: Final = "General"


@dataclass(frozen=True)
class Row:
    """A setting.

    Parameters
    ----------
    variable, value, description
        Its environment variable, what it is, and what it is for.
    changed
        Whether it differs from the default.
    """

    variable: str
    value: str
    description: str
    changed: bool


def show(visit: Visit) -> Response:
    """Return the page."""
    visit.require_everybody()
    return visit.render(
        "settings.html",
        subjects=rows_of(visit.deployment.settings),
        version=version("anomaly-assets"),
    )


def rows_of(settings: Settings) -> dict[str, list[Row]]:
    """Return the settings by subject, secrets masked."""
    found: dict[str, list[Row]] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        alias = field.validation_alias
        row = Row(
            alias if isinstance(alias, str) else f"ANOMALY_ASSETS_{name.upper()}",
            masked(name, value),
            (field.description or "").strip(),
            value != field.get_default(call_default_factory=True),
        )
        subject = _SUBJECTS.get(name.split("_")[0], _GENERAL)
        found.setdefault(subject, []).append(row)
    return dict(sorted(found.items(), key=lambda item: item[0] != _GENERAL))


def masked(name: str, value: object) -> str:
    """Return a value for people; of a secret only whether it is set, of an address no password.

    Examples
    --------
    >>> masked("webhook_secret", SecretStr("0123456789abcdef"))
    '•••••• (set)'
    >>> masked("database_url", "postgresql://ann:secret@db.example:5432/watch")
    'postgresql://db.example:5432/watch'
    """
    if value is None:
        return "not set"
    if isinstance(value, SecretStr):
        return _HIDDEN
    if isinstance(value, tuple):
        if any(isinstance(one, SecretStr) for one in value):
            return f"{len(value)} set"
        return ", ".join(map(str, value)) or "none"
    text = str(value)
    if name.endswith("_url") and "://" in text:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"
    return text
