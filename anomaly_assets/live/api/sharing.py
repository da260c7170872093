"""Which entities this instance scores, as the API tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import HTTPException
from prometheus_client.registry import Collector

from anomaly_assets.monitoring.families import gauge, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from anomaly_assets.live.ownership import Ownership
    from anomaly_assets.live.writer import JournalWriter

#: Names the shard that an answer is about, for proxies.
SHARD_HEADER: Final = "Anomaly-Assets-Shard"
_MISDIRECTED: Final = 421


def require_here(ownership: Ownership | None, entity_id: str | None) -> None:
    """Refuse to tell events of entities that another instance scores.

    Parameters
    ----------
    ownership
        This instance's; None where there is no other.
    entity_id
        The entity; None for all that this instance scores, of which there must be some.

    Raises
    ------
    HTTPException
        421 where it is of no shard of this instance's, 503 where this one stands by for it; both
        name the shard.
    """
    if ownership is None or not ownership.wanted:
        return
    if entity_id is None:
        if not ownership.owned:
            raise _standing_by(sorted(ownership.wanted))
        return
    shard = ownership.shard(entity_id)
    if shard in ownership.owned:
        return
    if shard in ownership.wanted:
        raise _standing_by([shard])
    why = (
        f"this entity is of shard {shard} of {ownership.shards}, which another instance scores; "
        "ask that one for its events"
    )
    raise HTTPException(_MISDIRECTED, why, {SHARD_HEADER: str(shard)})


def _standing_by(shards: list[int]) -> HTTPException:
    named = ", ".join(map(str, shards))
    why = f"this instance stands by for shard {named}; ask the one that scores it for events"
    return HTTPException(503, why, {SHARD_HEADER: named, "Retry-After": "1"})


def told_here(ownership: Ownership | None) -> dict[str, object] | None:
    """Return what somebody who listens to all entities must know of those left out; or None."""
    if ownership is None or not ownership.wanted or ownership.owned == ownership.all:
        return None
    return {
        "shards": ownership.shards,
        "told_here": sorted(ownership.owned),
        "reason": "other instances tell the events of the other shards",
    }


class SharingFigures(Collector):
    """Shards and their roles, for Prometheus.

    Parameters
    ----------
    ownership
        This instance's.
    writer
        Counts what was handed over.
    """

    def __init__(self, ownership: Ownership, writer: JournalWriter) -> None:
        self._ownership = ownership
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        own = self._ownership
        yield single("shards", own.shards)
        roles = [((str(shard),), float(shard in own.owned)) for shard in sorted(own.wanted)]
        yield gauge("shard_owner", roles)
        yield single("readings_handed_over", self._writer.figures.handed_over)
