"""Upkeep: partitions before they are needed, and no more snapshots than retention keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.pipeline.upkeep import prepare_partitions, prune_networks, prune_snapshots
from anomaly_assets.storage.networks import write_network
from anomaly_assets.storage.tables import PARTITIONED
from anomaly_assets_tests.pipeline.people import execute, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of
from anomaly_assets_tests.storage.networks import FITTED, small_network

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


def test_partitions_are_made_for_the_months_ahead(database: Database, tmp_path: Path) -> None:
    """The month and the three to come get a partition in every large table, once."""
    deployment = deployment_of(database, tmp_path)
    now = datetime(2031, 11, 23, tzinfo=UTC)
    created = prepare_partitions(deployment, now)
    months = ("2031_11", "2031_12", "2032_01", "2032_02")
    assert sorted(created) == sorted(f"{t}_{month}" for t in PARTITIONED for month in months)
    assert prepare_partitions(deployment, now) == []
    later = prepare_partitions(deployment, datetime(2031, 12, 24, tzinfo=UTC))
    assert sorted(later) == sorted(f"{table}_2032_03" for table in PARTITIONED)


def test_snapshots_beyond_retention_are_deleted(database: Database, tmp_path: Path) -> None:
    """Of many hourly snapshots the last hours, days and months remain, for each entity its own."""
    load_people(database, ["ann", "bob"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    columns = (
        "format_version, detector, catalogue_digest, code_version, river_version, numpy_version, "
        "sha256, signature, size, blob, created_by"
    )
    execute(
        database,
        f"INSERT INTO model_snapshots (entity_id, component, as_of, {columns}) "  # noqa: S608 - ours
        f"SELECT entity_id, component, moment, {columns} FROM model_snapshots, "
        "generate_series('2025-12-01T00:30Z'::timestamptz, '2025-12-31T23:30Z', '1 hour') "
        "AS moment WHERE entity_id = 'ann' AND component = 'gap_patterns'",
    )
    ((before,),) = query(database, "SELECT count(*) FROM model_snapshots")
    kept_of_bob = query(
        database, "SELECT * FROM model_snapshots WHERE entity_id = 'bob' ORDER BY 2"
    )
    few = deployment.settings.model_copy(
        update={
            "keep_hourly_snapshots": 3,
            "keep_daily_snapshots": 4,
            "keep_monthly_snapshots": 5,
        }
    )

    deleted = prune_snapshots(replace(deployment, settings=few))

    ((after,),) = query(database, "SELECT count(*) FROM model_snapshots")
    assert deleted == before - after > 700
    moments = [
        moment.isoformat(" ", "minutes").removesuffix("+00:00")
        for (moment,) in query(
            database,
            "SELECT as_of FROM model_snapshots WHERE entity_id = 'ann' "
            "AND component = 'gap_patterns' ORDER BY 1",
        )
    ]
    # The day of the run has one; two more hours, and three more days of December.
    assert moments == [
        "2025-12-29 23:30",
        "2025-12-30 23:30",
        "2025-12-31 22:30",
        "2025-12-31 23:30",
        "2026-01-05 08:00",
    ]
    rest = query(database, "SELECT * FROM model_snapshots WHERE entity_id = 'bob' ORDER BY 2")
    assert rest == kept_of_bob
    assert prune_snapshots(replace(deployment, settings=few)) == 0


def test_networks_beyond_retention_are_deleted(database: Database, tmp_path: Path) -> None:
    """The setting says how many days before its newest one an entity's networks are kept."""
    deployment = deployment_of(database, tmp_path)
    with database.connect() as connection:
        for days in range(10):
            write_network(connection, "ann", small_network(FITTED - timedelta(days=days)))
    assert prune_networks(deployment) == 0
    few = deployment.settings.model_copy(update={"keep_network_days": 4})
    assert prune_networks(replace(deployment, settings=few)) == 5
    assert query(database, "SELECT count(*) FROM causal_networks") == [(5,)]
