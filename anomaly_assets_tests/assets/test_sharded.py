"""A run in shards: the same rows, the same records in Dagster, and a fault stays in its shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import psycopg
import pytest

from anomaly_assets.assets import sharded as module
from anomaly_assets.assets.measures import of_process
from anomaly_assets.assets.resources import DeploymentResource, model_state
from anomaly_assets.assets.sharded import Shard, sharded
from anomaly_assets.assets.windows import SINGLE, window_assets
from anomaly_assets.automation.jobs import process_windows
from anomaly_assets.automation.sensors import range_tags
from anomaly_assets.pipeline.tiers import IndividualTier
from anomaly_assets.settings import Settings, settings
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.pipeline.people import WINDOWS, execute, load_people
from anomaly_assets_tests.pipeline.support import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

#: With three shards: bob's has nobody else, and one has several.
PEOPLE = ("ann", "bob", "cat", "dan", "eve")
SHARDS = 3
ORDER = ("raw_readings", "tier1_models", "gap_patterns", "cross_stream_models", "ensemble_results")


def definitions(shards: int) -> dg.Definitions:
    """Return the pipeline's assets in so many shards, carried out in this process."""
    return dg.Definitions(
        assets=window_assets(Settings(_env_file=None, shards=shards)),
        jobs=[process_windows],
        resources={"deployment": DeploymentResource(), "model_state": model_state},
        executor=dg.in_process_executor,
    )


SINGLE_STEPS = definitions(1)
IN_SHARDS = definitions(SHARDS)


@pytest.fixture
def watched(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """Return a database with the readings of a few people, and the settings that name it."""
    _use(monkeypatch, database, tmp_path)
    load_people(database, PEOPLE)
    yield database
    settings.cache_clear()


@dataclass(frozen=True)
class Outcome:
    """What a run with single steps leaves, which one in shards has to leave too."""

    rows: dict[str, tuple[int, str]]
    told: dict[str, dict[str, object]]
    passed: dict[tuple[dg.AssetKey, str], bool]


@pytest.fixture(scope="module")
def single(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return the outcome of a run with single steps, on a database of its own."""
    with pytest.MonkeyPatch.context() as patch:
        _use(patch, module_database, tmp_path_factory.mktemp("home"))
        load_people(module_database, PEOPLE)
        result = execute_run(SINGLE_STEPS)
    settings.cache_clear()
    assert result.success
    return Outcome(fingerprint(module_database), told(result), passed(result))


def execute_run(
    definitions: dg.Definitions,
    windows: WindowRange = WINDOWS,
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    """Run the job over windows, and return what became of it."""
    job = definitions.resolve_job_def("process_windows")
    with dg.DagsterInstance.ephemeral() as fresh:
        return job.execute_in_process(
            instance=instance or fresh, tags=range_tags(windows), raise_on_error=False
        )


def told(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    """Return the metadata of each asset, without the time and the memory it took."""
    spent = {"seconds", "seconds_per_window", "database_query_seconds", *of_process()}
    return {
        event.asset_key.path[-1]: {
            name: value.value
            for name, value in event.materialization.metadata.items()
            if name not in spent
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def passed(result: dg.ExecuteInProcessResult) -> dict[tuple[dg.AssetKey, str], bool]:
    """Return whether each check passed."""
    return {
        (one.asset_key, one.check_name): one.passed for one in result.get_asset_check_evaluations()
    }


def _use(patch: pytest.MonkeyPatch, database: Database, home: Path) -> None:
    patch.setenv("DATABASE_URL", database.url)
    patch.setenv("ANOMALY_ASSETS_HOME", str(home))
    patch.setenv("ANOMALY_ASSETS_WINDOW_START", WINDOWS.start_time.isoformat())
    settings.cache_clear()


def test_the_assets_are_the_same_to_whoever_looks() -> None:
    """Keys, groups, descriptions, columns, edges with their partitions, checks: all unchanged."""
    single = {spec.key: spec for spec in SINGLE_STEPS.resolve_all_asset_specs()}
    shards = {spec.key: spec for spec in IN_SHARDS.resolve_all_asset_specs()}
    assert shards.keys() == single.keys()
    for key, spec in single.items():
        assert shards[key] == spec, key
    graphs = [one.resolve_asset_graph() for one in (SINGLE_STEPS, IN_SHARDS)]
    checks = [
        {key: graph.get_check_spec(key) for key in graph.asset_check_keys} for graph in graphs
    ]
    assert checks[0] == checks[1]
    for key in single:
        nodes = [graph.get(key) for graph in graphs]
        assert nodes[0].parent_keys == nodes[1].parent_keys
        assert nodes[0].partition_mappings == nodes[1].partition_mappings
        assert nodes[0].backfill_policy == nodes[1].backfill_policy
    assert graphs[1].get(dg.AssetKey("tier1_models")).pools == {"model_state"}


def test_shards_leave_the_rows_and_records_of_single_steps(
    watched: Database, single: Outcome
) -> None:
    """Same rows to the last bit, same metadata of every asset, same partitions and checks."""
    result = execute_run(IN_SHARDS)

    assert result.success
    assert fingerprint(watched) == single.rows
    assert told(result) == single.told
    assert told(result)["tier1_models"]["entities"] == len(PEOPLE)
    assert passed(result) == single.passed
    shards = {Shard(number, SHARDS).key for number in range(SHARDS)}
    steps = {event.step_key for event in result.all_events if event.is_step_success}
    assert {step.partition("[")[2].rstrip("]") for step in steps if step} - {""} == {
        key for key in shards if any(name in Shard.from_key(key) for name in PEOPLE)
    }


def test_window_by_window_leaves_the_same_rows_too(watched: Database, single: Outcome) -> None:
    """Single windows, where entities of a shard share transactions, leave the rows of one range."""
    half = WindowRange(WINDOWS.start, WINDOWS.end - 6 * WINDOW_SECONDS)
    assert execute_run(IN_SHARDS, half).success
    for start in range(half.end, WINDOWS.end, WINDOW_SECONDS):
        windows = WindowRange(start, start + WINDOW_SECONDS)
        assert execute_run(IN_SHARDS, windows).success
    assert fingerprint(watched) == single.rows


def test_a_shard_that_fails_leaves_the_others_done_and_nothing_recorded(
    watched: Database, single: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails visibly, the other shards' rows are there, and the same run again mends it."""
    processed = module._processed

    def failing(deployment: object, shard: Shard, windows: WindowRange) -> object:
        if "bob" in shard:
            msg = "this machine is on fire"
            raise OSError(msg)
        return processed(deployment, shard, windows)  # type: ignore[arg-type]

    with dg.DagsterInstance.ephemeral() as instance:
        with monkeypatch.context() as patched:
            patched.setattr(module, "_processed", failing)
            failed = execute_run(IN_SHARDS, instance=instance)
        assert not failed.success
        assert not failed.get_asset_materialization_events()
        key = dg.AssetKey("explanations")
        assert instance.get_latest_materialization_event(key) is None
        done = {row for row in PEOPLE if row not in _shard_of("bob")}
        with watched.connect() as connection:
            found = connection.execute("SELECT DISTINCT entity_id FROM gap_patterns").fetchall()
        assert {entity for (entity,) in found} == done

        assert execute_run(IN_SHARDS, instance=instance).success
        assert len(instance.get_materialized_partitions(key)) == len(WINDOWS)
    assert fingerprint(watched) == single.rows


@pytest.mark.usefixtures("watched")
def test_one_entity_s_fault_is_told_with_its_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entity that fails in its shard is named from that step on; the run succeeds."""
    working = IndividualTier.process

    def process(self: IndividualTier, detector: object, inputs: object) -> object:
        if inputs.entity_id == "cat":  # type: ignore[attr-defined]
            msg = "the model diverged"
            raise FloatingPointError(msg)
        return working(self, detector, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(IndividualTier, "process", process)
    result = execute_run(IN_SHARDS)
    assert result.success
    metadata = told(result)
    assert "failed_entities" not in metadata["raw_readings"]
    for asset in ("tier1_models", "cross_stream_models", "explanations"):
        assert (
            metadata[asset]["failed_entities"] == "- `cat`: FloatingPointError: the model diverged"
        )
        assert metadata[asset]["entities"] == len(PEOPLE) - 1


@pytest.mark.usefixtures("watched")
def test_a_database_that_goes_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection lost in a shard is no failure of the run: the step is tried again."""
    processed = module._processed
    tried: list[Shard] = []

    def losing(deployment: object, shard: Shard, windows: WindowRange) -> object:
        tried.append(shard)
        if len(tried) == 1:
            msg = "server closed the connection unexpectedly"
            raise psycopg.OperationalError(msg)
        return processed(deployment, shard, windows)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_processed", losing)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    assert execute_run(IN_SHARDS).success
    assert tried.count(tried[0]) == 2


@pytest.mark.usefixtures("watched")
def test_a_step_that_is_handed_out_twice_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run's log knows of a shard is told again, instead of being done again."""
    with dg.DagsterInstance.ephemeral() as instance:
        first = execute_run(IN_SHARDS, instance=instance)
        known = module.progress_of_steps(instance, [first.run_id])
    assert sum(one.steps["raw_readings"].entities for one in known.values()) == len(PEOPLE)
    monkeypatch.setattr(module, "progress_of_steps", lambda *_: known)

    def never(*_: object) -> None:
        pytest.fail("a shard that was done is processed again")

    monkeypatch.setattr(module, "_processed", never)
    again = execute_run(IN_SHARDS)
    assert again.success
    assert told(again)["tier1_models"]["entities"] == len(PEOPLE)


def test_a_check_that_blocks_keeps_what_follows_from_being_recorded(watched: Database) -> None:
    """An impossible row fails the run at its asset, as with single steps."""
    assert execute_run(IN_SHARDS).success
    # A row that no catalogue has, of somebody whose windows are not made anew.
    execute(
        watched,
        "INSERT INTO time_series_data "
        "(entity_id, timestamp, stream_id, is_missing, missing_reason) "
        "SELECT 'ann', timestamp, 'nobody', true, 'absent' FROM time_series_data LIMIT 1",
    )
    execute(watched, "UPDATE entities SET first_window = NULL WHERE entity_id = 'ann'")
    result = execute_run(IN_SHARDS)
    assert not result.success
    assert set(told(result)) == {"raw_readings"}
    failed = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert [one.check_name for one in failed] == ["windows_complete"]


def test_without_entities_a_run_still_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A deployment that has heard of nobody yet records its windows like one with single steps."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        result = execute_run(IN_SHARDS)
    finally:
        settings.cache_clear()
    assert result.success
    assert set(told(result)) >= set(ORDER)


def test_the_key_of_a_shard_says_which_of_how_many() -> None:
    """A step knows its entities by its own key, whatever the settings of its machine say."""
    shard = Shard.from_key(Shard(2, 7).key)
    assert (shard.number, shard.of) == (2, 7)
    assert sum("ann" in Shard(number, 7) for number in range(7)) == 1
    assert isinstance(sharded(SINGLE, 2), dg.AssetsDefinition)


def _shard_of(entity_id: str) -> set[str]:
    shard = next(Shard(n, SHARDS) for n in range(SHARDS) if entity_id in Shard(n, SHARDS))
    return {name for name in PEOPLE if name in shard}
