"""Which snapshots to keep: the last hours, days and months, and always the latest."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def snapshots_to_keep(
    as_of: Iterable[datetime], *, hourly: int, daily: int, monthly: int
) -> set[datetime]:
    """Return which of an entity's snapshots of one component retention keeps.

    Parameters
    ----------
    as_of
        Moments of all snapshots.
    hourly, daily, monthly
        How many hours, days and months keep their last snapshot; only those that have one count.

    Returns
    -------
    set of datetime
        Always holds the latest, if there is any.

    Examples
    --------
    >>> from datetime import timedelta
    >>> noon = datetime(2026, 1, 2, 12)
    >>> kept = snapshots_to_keep(
    ...     [noon - timedelta(hours=h) for h in range(48)], hourly=2, daily=2, monthly=1
    ... )
    >>> sorted(moment.isoformat(" ", "hours") for moment in kept)
    ['2026-01-01 23', '2026-01-02 11', '2026-01-02 12']
    """
    newest_first = sorted(as_of, reverse=True)
    kept = set(newest_first[:1])
    for most, period in ((hourly, "%Y-%m-%d %H"), (daily, "%Y-%m-%d"), (monthly, "%Y-%m")):
        last_of: dict[str, datetime] = {}
        for moment in newest_first:
            last_of.setdefault(moment.strftime(period), moment)
        kept.update(list(last_of.values())[:most])
    return kept
