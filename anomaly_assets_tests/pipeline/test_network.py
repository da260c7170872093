"""Networks of entities: fitted on the right windows, one entity's trouble left to itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.pipeline.network import (
    STALE_AFTER,
    Fit,
    fit_networks,
    hours_ending,
    read_span,
    stale_networks,
)
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.storage.networks import read_network
from anomaly_assets.storage.results import read_windows
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.people import START, WINDOWS, execute, load_people, query
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

pytest.importorskip("pgmpy", reason="needs the extra `causal`")

END = WINDOWS.end_time
HOUR = timedelta(hours=1)


def aggregated(database: Database, home: Path, people: Sequence[str]) -> Deployment:
    """Return a deployment with three aggregated hours of some people."""
    load_people(database, people)
    deployment = deployment_of(database, home)
    assert list(aggregate_windows(deployment, deployment.entities(), WINDOWS))
    return deployment


def fit(deployment: Deployment, *ends: datetime) -> dict[str, list[Fit]]:
    """Fit everybody's networks, and return what became of them."""
    fits: dict[str, list[Fit]] = {}
    for one in fit_networks(deployment, deployment.entities(), ends):
        fits.setdefault(one.entity_id, []).append(one)
    return fits


def test_everybody_gets_a_network_of_the_windows_before_the_end(
    database: Database, tmp_path: Path
) -> None:
    """A network is stored under its end and rests on the windows before it, and no others."""
    deployment = aggregated(database, tmp_path, ["ann", "bob"])
    earlier = END - timedelta(minutes=15)
    fits = fit(deployment, earlier, END)
    assert {entity: len(found) for entity, found in fits.items()} == {"ann": 2, "bob": 2}
    with database.connect() as connection:
        for entity, (early, late) in fits.items():
            stored = read_network(connection, entity, END)
            assert stored is not None
            assert late.network is not None
            assert early.network is not None
            assert stored.to_dict() == late.network.to_dict()
            assert stored.fitted_at == int(END.timestamp())
            assert (early.network.n_windows, late.network.n_windows) == (33, 36)
            before = read_network(connection, entity, END - timedelta(seconds=1))
            assert before is not None
            assert before.to_dict() == early.network.to_dict()
    assert deployment.failures == {}


def test_fitting_again_gives_the_same_bits(database: Database, tmp_path: Path) -> None:
    """The same windows give the same network, and it replaces the one before."""
    deployment = aggregated(database, tmp_path, ["ann"])
    once, again = fit(deployment, END), fit(deployment, END)
    assert once["ann"][0].network is not None
    assert again["ann"][0].network is not None
    assert once["ann"][0].network.to_dict() == again["ann"][0].network.to_dict()
    assert query(database, "SELECT count(*) FROM causal_networks") == [(1,)]


def test_two_hours_are_needed_and_said_to_be(database: Database, tmp_path: Path) -> None:
    """Too short a history is no failure: it says how much there is and how much is needed."""
    deployment = aggregated(database, tmp_path, ["ann"])
    ((short,),) = fit(deployment, START + HOUR).values()
    assert short.network is None
    assert "24" in short.reason
    assert deployment.failures == {}
    assert query(database, "SELECT count(*) FROM causal_networks") == [(0,)]


def test_a_dormant_entity_is_passed_over(database: Database, tmp_path: Path) -> None:
    """Without any window in the span there is nothing to fit and nothing to complain about."""
    deployment = aggregated(database, tmp_path, ["ann"])
    assert fit(deployment, END + timedelta(days=3)) == {}
    assert deployment.failures == {}


def test_one_entitys_trouble_is_its_own(database: Database, tmp_path: Path) -> None:
    """An entity whose windows cannot be read is on record; the others have their networks."""
    deployment = aggregated(database, tmp_path, ["ann", "bob", "cat"])
    execute(
        database,
        "DELETE FROM time_series_data WHERE entity_id = 'bob' AND stream_id = 'heart_rate' "
        "AND timestamp = %s",
        START,
    )
    fits = fit(deployment, END)
    assert set(fits) == {"ann", "cat"}
    assert list(deployment.failures) == ["bob"]
    assert "heart_rate" in deployment.failures["bob"]


def test_a_span_has_a_row_for_every_window(database: Database, tmp_path: Path) -> None:
    """From the first stored window to the end there are no holes: a lost window is a row of NaN."""
    deployment = aggregated(database, tmp_path, ["ann"])
    lost = START + HOUR
    execute(database, "DELETE FROM time_series_data WHERE timestamp = %s", lost)
    (entity,) = deployment.entities()
    with database.connect() as connection:
        span = read_span(
            connection, entity, WindowRange.between(START - 2 * HOUR, END + timedelta(minutes=10))
        )
        assert span is not None
        values, hours = span
        before = read_windows(
            connection, "ann", WindowRange.between(START, lost), entity.catalogue, "UTC"
        )
    assert values.shape == (len(WINDOWS) + 2, 36)
    np.testing.assert_array_equal(values[:12], before.values)
    assert np.isnan(values[12]).all()
    assert np.isfinite(values[13]).any()
    assert np.isnan(values[-2:]).all()
    # The default catalogue's people live in Berlin, an hour ahead of UTC in winter.
    assert hours[0] == START.hour + 1
    assert hours[13] == pytest.approx(START.hour + 2 + 5 / 60)


def test_stale_networks_are_found(database: Database, tmp_path: Path) -> None:
    """Who reports and whose network is older than three hours is named with its age; who has
    stopped reporting, or begun only now, is not.
    """
    deployment = aggregated(database, tmp_path, ["ann", "bob"])
    assert stale_networks(deployment, END) == {}
    # Three hours after the first window a network was due; here one is counted from that window.
    execute(database, "UPDATE entities SET first_window = first_window - interval '1 hour'")
    assert stale_networks(deployment, END) == {"ann": 4 * HOUR, "bob": 4 * HOUR}
    fit(deployment, END)
    assert stale_networks(deployment, END) == {}
    execute(
        database,
        "UPDATE causal_networks SET fitted_at = fitted_at - interval '4 hours' "
        "WHERE entity_id = 'bob'",
    )
    assert stale_networks(deployment, END) == {"bob": 4 * HOUR}
    assert STALE_AFTER < 4 * HOUR
    assert stale_networks(deployment, END + timedelta(days=1)) == {}


def test_hours_of_a_range_are_its_full_hours() -> None:
    """A range of partitions stands for the ends of its hours."""
    assert hours_ending(START, START + HOUR) == [START + HOUR]
    assert hours_ending(START, START + 3 * HOUR) == [START + n * HOUR for n in (1, 2, 3)]
    half = timedelta(minutes=30)
    assert hours_ending(START + half, START + HOUR + half) == [START + HOUR]
    assert hours_ending(START, START + half) == []
