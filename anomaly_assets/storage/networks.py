"""Causal networks, to and from their table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from psycopg.types.json import Jsonb

from anomaly_assets.detection.explanation.network.model import CausalNetwork

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection


def write_network(connection: Connection, entity_id: str, network: CausalNetwork) -> None:
    """Store a fitted network; one that ends at the same moment is replaced.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        Whose network.
    network
        It is stored under the end of the span it was fitted on.
    """
    quality = network.fit_quality
    connection.execute(
        "INSERT INTO causal_networks (entity_id, fitted_at, network, n_windows, fit_quality) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (entity_id, fitted_at) DO UPDATE SET "
        "network = excluded.network, n_windows = excluded.n_windows, "
        "fit_quality = excluded.fit_quality, created_at = now()",
        (
            entity_id,
            datetime.fromtimestamp(network.fitted_at, tz=UTC),
            Jsonb(network.to_dict()),
            network.n_windows,
            quality if np.isfinite(quality) else None,
        ),
    )


def read_network(connection: Connection, entity_id: str, at: datetime) -> CausalNetwork | None:
    """Return the newest network that was fitted on windows before `at`; None without any.

    What an explanation is given so never depends on what was observed after it.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        Whose network.
    at
        Start of the window to explain.

    Raises
    ------
    InputError
        If what is stored is no network; fit it again.
    """
    row = connection.execute(
        "SELECT network FROM causal_networks WHERE entity_id = %s AND fitted_at <= %s "
        "ORDER BY fitted_at DESC LIMIT 1",
        (entity_id, at),
    ).fetchone()
    return None if row is None else CausalNetwork.from_dict(row[0])


def newest_fits(connection: Connection, at: datetime) -> dict[str, datetime]:
    """Return when each entity's newest network as of `at` was fitted, by entity."""
    rows = connection.execute(
        "SELECT entity_id, max(fitted_at) FROM causal_networks WHERE fitted_at <= %s "
        "GROUP BY entity_id ORDER BY entity_id",
        (at,),
    ).fetchall()
    return dict(rows)


def prune_networks(connection: Connection, keep_days: int) -> int:
    """Delete networks fitted more than `keep_days` before their entity's newest; return how many.

    The newest one stays however old it is.
    """
    return connection.execute(
        "DELETE FROM causal_networks AS old USING (SELECT entity_id, max(fitted_at) AS newest "
        "FROM causal_networks GROUP BY entity_id) AS of_entity "
        "WHERE old.entity_id = of_entity.entity_id "
        "AND old.fitted_at < of_entity.newest - make_interval(days => %s)",
        (keep_days,),
    ).rowcount
