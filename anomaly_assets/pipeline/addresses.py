"""Messages to people by apprise: mail, Slack, Telegram, ntfy, webhooks, one address each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote

from anomaly_assets.errors import AnomalyAssetsError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["info", "warning", "failure"]
Form = Literal["text", "html", "markdown"]

TIMEOUT_SECONDS: Final = 30.0
_LONGEST_ERROR: Final = 300
#: Parts of an address this short are no secrets, and taking them out of an error would garble it.
_SHORTEST_SECRET: Final = 6


class DeliveryError(AnomalyAssetsError):
    """A message could not be delivered; what it says holds no part of an address."""


class Address:
    """One apprise address.

    Parameters
    ----------
    position
        Its place among the addresses, from 1: an address itself is a secret and is never shown.
    url
        As apprise understands it, such as ``mailto://user:password@example.com``.
    setting
        Where it is set, for the error.
    timeout
        Seconds it may take.

    Raises
    ------
    SettingsError
        If apprise does not understand it, or is not installed.
    """

    def __init__(
        self,
        position: int,
        url: str,
        *,
        setting: str = "ANOMALY_ASSETS_ALERT_URLS",
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        apprise = _apprise()
        scheme = url.partition(":")[0][:20] if "://" in url else "no scheme"
        service = apprise.Apprise.instantiate(url)
        if service is None:
            msg = (
                f"{setting}: address {position} ({scheme}) is not one that apprise "
                "understands; see https://appriseit.com for how each service is written"
            )
            raise SettingsError(msg)
        self.name = f"{position}: {service.service_name}"
        self._timeout = timeout
        self._secrets = _secrets(url)
        self._sender = apprise.Apprise()
        self._sender.add(service)

    def __repr__(self) -> str:
        """Return which one it is, without its secrets."""
        return f"Address({self.name!r})"

    async def send(
        self,
        title: str,
        body: str,
        *,
        kind: Kind,
        form: Form = "text",
        attached: Path | None = None,
    ) -> None:
        """Send a message.

        Parameters
        ----------
        title, body
            What it says.
        kind
            How it is marked, where the service marks messages.
        form
            What the body is written in.
        attached
            A file that goes with it, where the service takes files.

        Raises
        ------
        DeliveryError
            If it did not arrive.
        """
        try:
            result = await self._sender.async_notify(
                body=body,
                title=title,
                notify_type=kind,
                body_format=form,
                attach=None if attached is None else str(attached),
                timeout=self._timeout,
            )
        except Exception as error:  # noqa: BLE001 - a hundred services, any may raise anything
            msg = self._public(f"{type(error).__name__}: {error}")
            raise DeliveryError(msg) from None
        if not result:
            raise DeliveryError(self._public(_reason(result)))

    def _public(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:_LONGEST_ERROR]


def _apprise() -> Any:  # noqa: ANN401 - an untyped module
    # Needs half a second, and only a deployment that sends messages needs it at all.
    try:
        import apprise  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = (
            "messages are sent by apprise, which is not installed: pip install anomaly-assets[live]"
        )
        raise SettingsError(msg) from error
    # It logs addresses, which are secrets; what failed is asked of it and told without them.
    apprise.logger.propagate = False
    return apprise


def _reason(result: Any) -> str:  # noqa: ANN401 - of an untyped module
    """Return what apprise has logged of a failure, in one line."""
    logged = [entry.message for entry in result.logs() if entry.level in {"WARNING", "ERROR"}]
    return " ".join(" ".join(logged).split()) or f"not delivered ({result.status.name.lower()})"


def _secrets(url: str) -> list[str]:
    """Return the parts of an address that an error must not show, longest first."""
    written = re.split(r"[/:@?&=,]+", url)[1:]
    parts = {*written, *map(unquote, written)}
    return sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)
