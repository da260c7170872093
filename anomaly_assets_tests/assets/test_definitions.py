"""What Dagster loads: every asset described, partitioned, versioned, and cheap to import."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from anomaly_assets.assets.partitions import PREVIOUS_WINDOW, WINDOWS
from anomaly_assets.definitions import defs

MODELS = {"tier1_models", "gap_patterns", "cross_stream_models"}
PIPELINE = {
    "raw_readings",
    *MODELS,
    "tier1_scores",
    "stream_health",
    "gap_features",
    "cross_stream_scores",
    "ensemble_results",
    "explanations",
}
#: What has partitions of its own, with the schedule of their ends.
BESIDE = {
    "daily_report": "0 0 * * *",
    "causal_network": "0 * * * *",
    "structure_suggestions": "0 0 * * *",
    "model_backups": "0 0 * * *",
}
#: What is made from all there is, whenever it is made.
UNPARTITIONED = {"meta_learner"}
#: Table, and a column that a reader of the asset's page looks for.
TABLES = {
    "raw_readings": ("public.time_series_data", "missing_reason"),
    "tier1_models": ("public.model_snapshots", "signature"),
    "tier1_scores": ("public.anomaly_scores", "anomaly_score"),
    "stream_health": ("public.stream_health", "needs_retraining"),
    "gap_patterns": ("public.model_snapshots", "signature"),
    "gap_features": ("public.gap_patterns", "entity_id"),
    "cross_stream_models": ("public.model_snapshots", "signature"),
    "cross_stream_scores": ("public.anomaly_scores", "anomaly_score"),
    "ensemble_results": ("public.anomaly_scores", "confidence"),
    "explanations": ("public.causal_explanations", "primary_cause"),
    "causal_network": ("public.causal_networks", "fit_quality"),
    "structure_suggestions": ("public.suggestions", "status"),
}
BLOCKING = {
    ("raw_readings", "windows_complete"): True,
    ("tier1_scores", "scores_valid"): True,
    ("cross_stream_scores", "scores_valid"): True,
    ("ensemble_results", "scores_valid"): True,
    # A person may have a bad day: an alert, and the explanations are wanted all the more.
    ("ensemble_results", "anomaly_rate"): False,
    ("raw_readings", "streams_available"): False,
    ("explanations", "batch_time"): False,
    # Explanations do with an old network, or without, and say so.
    ("causal_network", "network_fresh"): False,
    # A refused model is rebuilt by replay; the backup holds the others.
    ("model_backups", "backup_sound"): False,
}
GRAPH = defs.resolve_asset_graph()
SPECS = {spec.key.path[-1]: spec for spec in defs.resolve_all_asset_specs()}


def definition_of(name: str) -> dg.AssetsDefinition:
    """Return the definition that makes an asset."""
    definition = GRAPH.get(dg.AssetKey(name)).assets_def
    assert isinstance(definition, dg.AssetsDefinition)
    return definition


def test_the_assets_are_those_of_the_architecture() -> None:
    """Ten assets from readings to explanations, and those that stand beside them."""
    assert set(SPECS) == PIPELINE | set(BESIDE) | UNPARTITIONED


@pytest.mark.parametrize("name", sorted(PIPELINE | set(BESIDE) | UNPARTITIONED))
def test_every_asset_is_described(name: str) -> None:
    """Whoever opens an asset's page finds group, owners, kinds, tags, description and version."""
    spec = SPECS[name]
    assert spec.group_name not in {None, "default"}
    assert list(spec.owners) == ["team:anomaly-assets"]
    assert "python" in spec.kinds
    assert len(spec.kinds) > 1
    assert spec.tags["domain"] == "anomaly_detection"
    assert len(spec.description or "") > 40
    assert spec.code_version
    assert (spec.partitions_def is None) == (name in UNPARTITIONED)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_assets_of_a_table_show_its_columns(name: str) -> None:
    """The column schema comes from the table, with types and what may be NULL."""
    table, column = TABLES[name]
    metadata = SPECS[name].metadata
    assert metadata["dagster/table_name"] == table
    schema = metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    columns = {one.name: one for one in schema.columns}
    assert column in columns
    assert all(one.type for one in schema.columns)
    assert not columns["entity_id"].constraints.nullable


@pytest.mark.parametrize("name", sorted(PIPELINE))
def test_a_range_of_windows_is_one_run(name: str) -> None:
    """Every asset of the pipeline has 5-minute partitions and is backfilled in a single run."""
    assert SPECS[name].partitions_def == WINDOWS
    assert definition_of(name).backfill_policy == dg.BackfillPolicy.single_run()
    assert WINDOWS.cron_schedule == "*/5 * * * *"


@pytest.mark.parametrize(("name", "schedule"), sorted(BESIDE.items()))
def test_what_is_beside_the_windows_follows_its_own_clock(name: str, schedule: str) -> None:
    """Networks have hours, the others days; each says what it is made from."""
    partitions = SPECS[name].partitions_def
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    assert partitions.cron_schedule == schedule
    above = {dep.asset_key.path[-1] for dep in SPECS[name].deps}
    assert above <= PIPELINE
    assert ("raw_readings" in above) == (name not in {"daily_report", "model_backups"})


def test_only_model_assets_look_back_and_only_at_themselves() -> None:
    """The one edge with an offset is a model asset's on its own previous window."""
    looking_back = {
        (name, dep.asset_key.path[-1])
        for name, spec in SPECS.items()
        for dep in spec.deps
        if isinstance(dep.partition_mapping, dg.TimeWindowPartitionMapping)
        and (dep.partition_mapping.start_offset or dep.partition_mapping.end_offset)
    }
    assert looking_back == {(name, name) for name in MODELS}
    for name in MODELS:
        (own,) = (d for d in SPECS[name].deps if d.asset_key.path[-1] == name)
        assert own.partition_mapping == PREVIOUS_WINDOW


def test_state_has_one_writer_at_a_time() -> None:
    """The assets that write state share a pool; no other asset is held up by it."""
    pools = {name: definition_of(name).op.pool for name in PIPELINE}
    writers = {name for name, pool in pools.items() if pool == "model_state"}
    assert writers == {*MODELS, "tier1_scores", "stream_health", "gap_features"} | {
        "cross_stream_scores"
    }
    assert {pools[name] for name in PIPELINE - writers} == {None}


def test_checks_exist_and_the_ones_that_guard_what_follows_block() -> None:
    """Impossible rows stop what builds on them; a high rate of anomalies only warns."""
    found = {}
    for key in GRAPH.asset_check_keys:
        spec = GRAPH.get_check_spec(key)
        assert spec.description
        found[key.asset_key.path[-1], key.name] = spec.blocking
    assert found == BLOCKING


def test_sensors_and_schedules_run_from_the_start() -> None:
    """Nobody has to switch anything on in the pages for a new deployment to work."""
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor.default_status for sensor in repository.sensor_defs}
    schedules = {one.name: one.default_status for one in repository.schedule_defs}
    assert sensors == dict.fromkeys(
        ("complete_windows", "late_readings", "networks_due"), dg.DefaultSensorStatus.RUNNING
    )
    assert schedules == dict.fromkeys(
        (
            "hourly_upkeep",
            "daily_report_schedule",
            "nightly_suggestions",
            "hourly_models",
            "daily_model_backups",
            "nightly_meta_learner",
        ),
        dg.DefaultScheduleStatus.RUNNING,
    )


def test_the_pipeline_job_is_the_whole_pipeline() -> None:
    """One run of ``process_windows`` makes every asset with 5-minute partitions."""
    job = defs.resolve_job_def("process_windows")
    keys = {key.path[-1] for key in job.asset_layer.executable_asset_keys}
    assert keys == PIPELINE


def test_loading_the_definitions_is_light() -> None:
    """Each run is a process that loads them: nothing heavy and unneeded is imported on the way.

    numba, which compiles the loops, asks scipy for its version and takes its wrapper of BLAS.
    """
    script = (
        "import sys, anomaly_assets.definitions\n"
        "heavy = ('pgmpy', 'scipy.stats', 'scipy.optimize', 'matplotlib', 'sklearn', 'sktime', "
        "'torch', 'statsmodels')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
