"""Alerts to people: every address, with retries at each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anomaly_assets.pipeline.addresses import TIMEOUT_SECONDS, Address, DeliveryError, Kind
from anomaly_assets.storage.alerts import AlertSeverity

if TYPE_CHECKING:
    from anomaly_assets.live.alerts.text import Text

logger = logging.getLogger(__name__)

#: Seconds before the second, third, ... attempt at an address.
RETRY_DELAYS: Final = (2.0, 15.0, 60.0, 300.0)
_KINDS: Final[dict[AlertSeverity, Kind]] = {
    AlertSeverity.INFO: "info",
    AlertSeverity.WARNING: "warning",
    AlertSeverity.CRITICAL: "failure",
}


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
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.addresses = [Address(n, url, timeout=timeout) for n, url in enumerate(urls, start=1)]
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
                await address.send(text.title, text.body, kind=_KINDS[text.severity])
            except DeliveryError as error:
                attempt = Attempt(address.name, number, str(error))
                logger.warning("alert to %s, attempt %d: %s", address.name, number, error)
            else:
                attempt = Attempt(address.name, number, None)
            noted(attempt)
            if attempt.error is None:
                break
        return attempt
