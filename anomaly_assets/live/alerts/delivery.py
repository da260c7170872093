"""Messages to people by apprise: mail, Slack, Telegram, ntfy, webhooks, one address each."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from anomaly_assets.errors import AnomalyAssetsError, SettingsError
from anomaly_assets.storage.alerts import AlertSeverity

if TYPE_CHECKING:
    from anomaly_assets.live.alerts.text import Text

logger = logging.getLogger(__name__)

#: Seconds before the second, third, ... attempt at an address.
RETRY_DELAYS: Final = (2.0, 15.0, 60.0, 300.0)
_TIMEOUT_SECONDS: Final = 30.0
_LONGEST_ERROR: Final = 300
#: Parts of an address this short are no secrets, and taking them out of an error would garble it.
_SHORTEST_SECRET: Final = 6


class DeliveryError(AnomalyAssetsError):
    """A message could not be delivered; what it says holds no part of an address."""


@dataclass(frozen=True)
class Attempt:
    """How one attempt at one address went.

    Parameters
    ----------
    address
        Which address, by its place and service.
    number
        1 for the first attempt.
    error
        Why it failed; None where it did not.
    """

    address: str
    number: int
    error: str | None


class Address:
    """One apprise address.

    Parameters
    ----------
    position
        Its place among the addresses, from 1: an address itself is a secret and is never shown.
    url
        As apprise understands it, such as ``mailto://user:password@example.com``.
    timeout
        Seconds it may take.

    Raises
    ------
    SettingsError
        If apprise does not understand it, or is not installed.
    """

    def __init__(self, position: int, url: str, timeout: float = _TIMEOUT_SECONDS) -> None:
        apprise = _apprise()
        scheme = url.partition(":")[0][:20] if "://" in url else "no scheme"
        service = apprise.Apprise.instantiate(url)
        if service is None:
            msg = (
                f"ANOMALY_ASSETS_ALERT_URLS: address {position} ({scheme}) is not one that apprise "
                "understands; see https://appriseit.com for how each service is written"
            )
            raise SettingsError(msg)
        self.name = f"{position}: {service.service_name}"
        self._timeout = timeout
        self._secrets = _secrets(url)
        self._sender = apprise.Apprise()
        self._sender.add(service)
        self._kinds = {
            AlertSeverity.INFO: apprise.NotifyType.INFO,
            AlertSeverity.WARNING: apprise.NotifyType.WARNING,
            AlertSeverity.CRITICAL: apprise.NotifyType.FAILURE,
        }

    def __repr__(self) -> str:
        """Return which one it is, without its secrets."""
        return f"Address({self.name!r})"

    async def send(self, text: Text) -> None:
        """Send a message.

        Raises
        ------
        DeliveryError
            If it did not arrive.
        """
        try:
            result = await self._sender.async_notify(
                body=text.body,
                title=text.title,
                notify_type=self._kinds[text.severity],
                body_format="text",
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


class Deliverer:
    """Sends messages to every address, with retries at each.

    Parameters
    ----------
    urls
        The addresses; without any, messages go to the log only.
    delays
        Seconds before the second, third, ... attempt.
    timeout
        Seconds that an attempt may take.

    Raises
    ------
    SettingsError
        If an address is unusable.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        delays: tuple[float, ...] = RETRY_DELAYS,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.addresses = [Address(n, url, timeout) for n, url in enumerate(urls, start=1)]
        self._delays = delays

    async def deliver(
        self, text: Text, noted: Callable[[Attempt], None] = lambda _: None
    ) -> list[Attempt]:
        """Send a message to all addresses; returns the last attempt at each.

        Parameters
        ----------
        text
            The message.
        noted
            Called with every attempt, as it ends.
        """
        if not self.addresses:
            logger.warning("%s: %s", text.title, text.body.partition("\n")[0])
            return [Attempt("log", 1, None)]
        tries = (self._try(address, text, noted) for address in self.addresses)
        return list(await asyncio.gather(*tries))

    async def _try(self, address: Address, text: Text, noted: Callable[[Attempt], None]) -> Attempt:
        attempt = Attempt(address.name, 0, "not tried")
        for number, delay in enumerate((0.0, *self._delays), start=1):
            await asyncio.sleep(delay)
            try:
                await address.send(text)
            except DeliveryError as error:
                attempt = Attempt(address.name, number, str(error))
                logger.warning("alert to %s, attempt %d: %s", address.name, number, error)
            else:
                attempt = Attempt(address.name, number, None)
            noted(attempt)
            if attempt.error is None:
                break
        return attempt


def _apprise() -> Any:  # noqa: ANN401 - an untyped module
    # Needs half a second, and only a deployment that sends alerts needs it at all.
    try:
        import apprise  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = "alerts are sent by apprise, which is not installed: pip install anomaly-assets[live]"
        raise SettingsError(msg) from error
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
