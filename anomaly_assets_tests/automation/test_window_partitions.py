"""Our methods on partitions return what Dagster's do, and are in their place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster import TimeWindowPartitionsDefinition
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.subset import TimeWindowPartitionsSubset
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.assets.partitions import KEY_FORMAT, SCHEDULE
from anomaly_assets.automation import window_partitions as ours
from anomaly_assets_tests.automation.support import Live, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 2, 27, 22, tzinfo=UTC)
NOW = START + timedelta(hours=30, minutes=2)
moments = st.integers(-30, 400).map(lambda number: START + timedelta(minutes=5 * number))
keys = st.one_of(
    moments.map(lambda moment: moment.strftime(KEY_FORMAT)),
    moments.map(lambda moment: (moment + timedelta(minutes=1)).strftime(KEY_FORMAT)),
    st.sampled_from(["", "2026-2-28-0:00", "2026-02-30-00:00", "2026-02-28T00:00", "x" * 16]),
)


def windows(
    start: datetime = START, end: datetime | None = None, **options: object
) -> TimeWindowPartitionsDefinition:
    """Return partitions such as those of a deployment."""
    values = {"cron_schedule": SCHEDULE, "fmt": KEY_FORMAT, "timezone": "UTC", **options}
    return TimeWindowPartitionsDefinition(
        start=start.strftime(KEY_FORMAT),
        end=None if end is None else end.strftime(KEY_FORMAT),
        **values,  # type: ignore[arg-type]
    )


def empty(partitions: TimeWindowPartitionsDefinition) -> TimeWindowPartitionsSubset:
    """Return a subset without partitions."""
    return TimeWindowPartitionsSubset(partitions, 0, [])


@pytest.mark.parametrize(
    "partitions",
    [
        windows(),
        windows(end=START + timedelta(hours=3)),
        windows(end=START),
        windows(NOW + timedelta(days=1)),
        windows(START + timedelta(minutes=2)),
        windows(timezone="Europe/Berlin"),
        windows(cron_schedule="*/15 * * * *"),
        windows(exclusions=["0 0 * * *"]),
        windows(end_offset=2),
    ],
    ids=["open", "ended", "empty", "ahead", "odd", "Berlin", "quarters", "exclusions", "offset"],
)
def test_all_keys_are_those_of_dagster(partitions: TimeWindowPartitionsDefinition) -> None:
    """Of windows and of any other partitions, as of any time."""
    for now in (START, START + timedelta(minutes=5), NOW):
        assert list(ours.list_all(partitions, now)) == list(ours._list_all(partitions, now))


@given(st.sets(keys), st.booleans())
def test_valid_keys_are_those_of_dagster(some: set[str], ended: bool) -> None:  # noqa: FBT001
    """What lies outside, is no whole window or no key at all is left out."""
    partitions = windows(end=START + timedelta(hours=3) if ended else None)
    with partition_loading_context(NOW):
        assert ours.filter_valid(partitions, some) == ours._filter_valid(partitions, some)


@given(st.lists(st.sets(moments), min_size=1, max_size=3))
def test_subsets_are_those_of_dagster(parts: list[set[datetime]]) -> None:
    """Keys added in several steps, in any order, with gaps and twice, to the last byte stored."""
    partitions = windows()
    one = other = empty(partitions)
    with partition_loading_context(NOW):
        for part in parts:
            some = ours._filter_valid(partitions, {each.strftime(KEY_FORMAT) for each in part})
            one = ours.with_keys(one, some)
            other = ours._with_keys(other, some)
            assert one.serialize() == other.serialize()


@pytest.mark.parametrize("key", ["2020-01-01-00:00", "2026-02-28-00:01", "tomorrow"])
def test_a_wrong_key_is_taken_or_refused_as_before(key: str) -> None:
    """Among others or alone: the same subset, or Dagster's own error."""

    def outcome(method: Callable[..., TimeWindowPartitionsSubset], some: list[str]) -> str:
        try:
            return method(empty(windows()), some).serialize()
        except ValueError as error:
            return str(error)

    with partition_loading_context(NOW):
        for some in ([key], ["2026-02-28-00:00", key]):
            assert outcome(ours.with_keys, some) == outcome(ours._with_keys, some)


def test_after_a_run_the_pages_know_its_windows(live: Live) -> None:
    """What is materialised is stored with the asset when a backfill ends, before anybody asks."""
    from anomaly_assets.automation.runs import run_windows  # noqa: PLC0415 - reads the settings
    from anomaly_assets.streams.windows import WindowRange  # noqa: PLC0415

    assert TimeWindowPartitionsDefinition.get_partition_keys is ours.list_all
    live.ingest(live.start, live.now)
    run_windows(
        live.job, live.instance, WindowRange.between(live.start, live.start + timedelta(hours=1))
    )
    (record,) = live.instance.get_asset_records([dg.AssetKey("explanations")])
    partitions = live.job.partitions_def
    known = record.asset_entry.cached_status
    assert known is not None
    assert partitions is not None
    stored = known.deserialize_materialized_partition_subsets(partitions)
    assert sorted(stored.get_partition_keys()) == recorded(live, "explanations")
    assert len(recorded(live, "explanations")) == 12
