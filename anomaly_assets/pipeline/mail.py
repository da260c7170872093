"""The daily report on its way to people."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly_assets.pipeline.addresses import Address, DeliveryError

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.report import DailyReport
    from anomaly_assets.settings import Settings


@dataclass(frozen=True)
class Posted:
    """How sending to one address went.

    Parameters
    ----------
    address
        Which address, by its place and service.
    error
        Why it failed; None where it did not.
    """

    address: str
    error: str | None


def mail_report(report: DailyReport, page: Path, settings: Settings) -> list[Posted]:
    """Send a report to every address of `report_urls`, once, with its page attached.

    A report that does not arrive stays in its folder, and is sent again when the day's asset is
    materialised again; nothing else waits for it.

    Raises
    ------
    SettingsError
        If an address is unusable, or apprise is not installed.
    """
    addresses = [
        Address(number, url.get_secret_value(), setting="ANOMALY_ASSETS_REPORT_URLS")
        for number, url in enumerate(settings.report_urls, start=1)
    ]
    title = (
        f"{report.start:%d %B %Y}: {report.anomalous} anomalous windows of {report.windows}, "
        f"{report.entities} entities"
    )
    return asyncio.run(_send(addresses, title, report.markdown, page))


async def _send(addresses: list[Address], title: str, body: str, page: Path) -> list[Posted]:
    return list(await asyncio.gather(*(_post(one, title, body, page) for one in addresses)))


async def _post(address: Address, title: str, body: str, page: Path) -> Posted:
    try:
        await address.send(title, body, kind="info", form="markdown", attached=page)
    except DeliveryError as error:
        return Posted(address.name, str(error))
    return Posted(address.name, None)
