"""The causal network of each entity, fitted on its last hours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.explanation.network.fitting import FitError, fit_network
from anomaly_assets.detection.explanation.network.model import STALE_AFTER_SECONDS
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.pipeline.together import each_entity
from anomaly_assets.storage import results
from anomaly_assets.storage.entities import hold_entity
from anomaly_assets.storage.networks import newest_fits, write_network
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.windows import WINDOW_SECONDS, Calendar, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

    from anomaly_assets.detection.explanation.network.model import CausalNetwork
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import FloatArray

    Connection = psycopg.Connection[Any]

STALE_AFTER = timedelta(seconds=STALE_AFTER_SECONDS)


@dataclass(frozen=True)
class Fit:
    """What became of one entity's network at the end of one span.

    Parameters
    ----------
    entity_id
        Whose.
    network
        What was fitted and stored; None where the history does not suffice.
    reason
        Why there is none; empty where there is one.
    seconds
        Time the fit took.
    """

    entity_id: str
    network: CausalNetwork | None
    reason: str
    seconds: float


def fit_networks(
    deployment: Deployment, entities: Iterable[Entity], ends: Iterable[datetime]
) -> Iterator[Fit]:
    """Fit and store the network of each entity at the end of each of some spans.

    A span is as long as the settings' `network_hours`. An entity without a single window in it is
    passed over; one whose history does not suffice says what is missing; one that fails otherwise
    is recorded in ``deployment.failures``, and the others go on.

    Parameters
    ----------
    deployment
        Whose windows and settings to use.
    entities
        Whose networks to fit.
    ends
        Ends of the spans, on the window grid.
    """
    moments = list(ends)
    hours = timedelta(hours=deployment.settings.network_hours)

    def run(connection: Connection, entity: Entity) -> Iterator[Fit]:
        structure = Structure.of(entity.catalogue)
        for end in moments:
            started = time.perf_counter()
            with connection.transaction():
                span = read_span(connection, entity, WindowRange.between(end - hours, end))
            if span is None:
                continue
            network, reason = None, ""
            try:
                network = fit_network(*span, structure, fitted_at=int(end.timestamp()))
            except FitError as error:
                reason = str(error)
            else:
                with connection.transaction():
                    hold_entity(connection, entity.entity_id)
                    write_network(connection, entity.entity_id, network)
            yield Fit(entity.entity_id, network, reason, time.perf_counter() - started)

    yield from each_entity(deployment, entities, run)


def read_span(
    connection: Connection, entity: Entity, windows: WindowRange
) -> tuple[FloatArray, FloatArray] | None:
    """Return an entity's values and local hours from its first window in a range to its end.

    Returns
    -------
    tuple of numpy.ndarray or None
        Values, shape ``(n_windows, n_streams)``, NaN where a stream or the whole window is missing,
        and hours, shape ``(n_windows,)``; None where no window of the range is stored.
    """
    stored = stored_ranges(connection, entity.entity_id, windows)
    if not stored:
        return None
    known = WindowRange(stored[0].start, windows.end)
    values = np.full((len(known), len(entity.catalogue.streams)), np.nan)
    for part in stored:
        first = (part.start - known.start) // WINDOW_SECONDS
        values[first : first + len(part)] = results.read_windows(
            connection, entity.entity_id, part, entity.catalogue, entity.time_zone
        ).values
    return values, Calendar.of(known, entity.time_zone).hour


def stale_networks(deployment: Deployment, at: datetime) -> dict[str, timedelta]:
    """Return the age of each reporting entity's network that is older than :data:`STALE_AFTER`.

    The network of an entity that has none counts as old as its first window. An entity with no
    window in the hour before `at` needs no network and is left out.
    """
    with deployment.database.connect() as connection:
        fitted = newest_fits(connection, at)
        rows = connection.execute(
            "SELECT DISTINCT t.entity_id, e.first_window FROM time_series_data AS t "
            "JOIN entities AS e USING (entity_id) "
            "WHERE t.timestamp >= %s AND t.timestamp < %s ORDER BY t.entity_id",
            (at - timedelta(hours=1), at),
        ).fetchall()
    ages = {entity: at - fitted.get(entity, first or at) for entity, first in rows}
    return {entity: age for entity, age in ages.items() if age > STALE_AFTER}


def hours_ending(start: datetime, end: datetime) -> list[datetime]:
    """Return the full hours in ``(start, end]``, in order.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> noon = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
    >>> [end.hour for end in hours_ending(noon, noon.replace(hour=14))]
    [13, 14]
    """
    first = int(start.timestamp()) // 3600 + 1
    last = int(end.timestamp()) // 3600
    return [datetime.fromtimestamp(hour * 3600, tz=UTC) for hour in range(first, last + 1)]
