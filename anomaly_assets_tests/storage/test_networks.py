"""Causal networks in their table: the same bits back, the right one for a time, old ones gone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.networks import (
    newest_fits,
    prune_networks,
    read_network,
    write_network,
)
from anomaly_assets_tests.storage.networks import FITTED, small_network

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

HOUR = timedelta(hours=1)


def test_a_network_comes_back_to_the_last_bit(database: Database) -> None:
    """Every array, NaN included, and every reason is what was written."""
    network = small_network(mean=np.array([1 / 3, 1e-300, np.nan]))
    with database.connect() as connection:
        write_network(connection, "ann", network)
        found = read_network(connection, "ann", FITTED)
        row = connection.execute(
            "SELECT fitted_at, n_windows, fit_quality FROM causal_networks"
        ).fetchone()
    assert found is not None
    assert found.to_dict() == network.to_dict()
    for name in ("mean", "scale", "coefficients", "noise", "r_squared", "n_observed"):
        np.testing.assert_array_equal(getattr(found, name), getattr(network, name))
    assert row == (FITTED, 288, 0.64)


def test_the_newest_network_of_the_past_is_read(database: Database) -> None:
    """A window is explained by the last network before it, never by one that knows the future."""
    with database.connect() as connection:
        for hours in (0, 1, 3):
            write_network(connection, "ann", small_network(FITTED + hours * HOUR))
        write_network(connection, "bob", small_network(FITTED + 2 * HOUR))
        for hours_later, fitted in (
            (-0.1, None),
            (0, 0),
            (0.9, 0),
            (1, 1),
            (2.9, 1),
            (3, 3),
            (99, 3),
        ):
            found = read_network(connection, "ann", FITTED + hours_later * HOUR)
            expected = None if fitted is None else int((FITTED + fitted * HOUR).timestamp())
            assert (None if found is None else found.fitted_at) == expected, hours_later
        assert read_network(connection, "eve", FITTED) is None
        at = FITTED + 2 * HOUR
        assert newest_fits(connection, at) == {"ann": FITTED + HOUR, "bob": at}


def test_fitting_again_replaces(database: Database) -> None:
    """One entity has one network for one end."""
    with database.connect() as connection:
        write_network(connection, "ann", small_network())
        write_network(connection, "ann", small_network(n_windows=100))
        rows = connection.execute("SELECT n_windows FROM causal_networks").fetchall()
    assert rows == [(100,)]


def test_a_quality_nobody_knows_is_null(database: Database) -> None:
    """Without any cause there is nothing to be explained: unknown, not zero."""
    with database.connect() as connection:
        write_network(connection, "ann", small_network(r_squared=np.full(3, np.nan)))
        rows = connection.execute("SELECT fit_quality FROM causal_networks").fetchall()
    assert rows == [(None,)]


def test_old_networks_go_and_the_newest_stays(database: Database) -> None:
    """Retention counts from each entity's newest network, so that a dormant one keeps its own."""
    with database.connect() as connection:
        for days in range(10):
            write_network(connection, "ann", small_network(FITTED + timedelta(days=days)))
        write_network(connection, "bob", small_network(FITTED - timedelta(days=400)))
        assert prune_networks(connection, 3) == 6
        rows = connection.execute(
            "SELECT entity_id, count(*), max(fitted_at) FROM causal_networks GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert prune_networks(connection, 3) == 0
    assert rows == [
        ("ann", 4, FITTED + timedelta(days=9)),
        ("bob", 1, FITTED - timedelta(days=400)),
    ]


def test_a_damaged_network_is_refused(database: Database) -> None:
    """What is no network any more is an error that says so."""
    with database.connect() as connection:
        write_network(connection, "ann", small_network())
        connection.execute("UPDATE causal_networks SET network = network - 'coefficients'")
        with pytest.raises(InputError, match="fit it again"):
            read_network(connection, "ann", FITTED)
