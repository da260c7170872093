"""Feedback in force breaks no law: whichever way windows are cut or shared, the same is decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from anomaly_assets.detection.cross_stream.detector import VOICES
from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.detection.feedback.training import fit
from anomaly_assets.evaluation.simulator import Fault, FaultKind
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.meta_model import layout_of, sealed
from anomaly_assets.pipeline.stateless import combine
from anomaly_assets.pipeline.whole import steps
from anomaly_assets.storage.feedback import NewVersion, add_version, list_decisions
from anomaly_assets.storage.tables_feedback import FeedbackAction
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.detection.feedback.made import alarms
from anomaly_assets_tests.live.following import CATALOGUE, append, people_sending
from anomaly_assets_tests.pipeline.people import START, WINDOWS, execute, query, run
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint, process_in_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

PEOPLE = ("ann", "bob", "cat")
MINUTES = timedelta(minutes=1)
FAULTS = [
    Fault(name, FaultKind.SPIKE, START + minute * MINUTES, 10, stream, size)
    for name in PEOPLE
    for minute, stream, size in (
        (35, "heart_rate", 60.0),
        (75, "heart_rate", 200.0),
        (115, "audio_level", 200.0),
        (150, "heart_rate", 250.0),
    )
]
#: What covers everything a spike can be seen by.
RULE = Rule(
    "a habit",
    ("heart_rate+", "audio_level+"),
    (*CATALOGUE.stream_ids, *(f"voice:{name}" for name in VOICES)),
    1.0,
    2**40,
)
#: Amid the range, so that versions begin within groups and within parts.
LATER = START + 60 * MINUTES
TABLES = (
    "time_series_data, anomaly_scores, stream_health, gap_patterns, causal_explanations, "
    "model_snapshots, window_decisions, late_windows"
)
DECISIONS = "SELECT * FROM window_decisions ORDER BY entity_id, timestamp"


@pytest.fixture(scope="module")
def loaded(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Return people with readings, of whom two have feedback in force, and one has none."""
    append(module_database, people_sending(PEOPLE, WINDOWS, faults=FAULTS))
    deployment = deployment_of(module_database, tmp_path_factory.mktemp("home"))
    with module_database.connect() as connection:
        for scope, since, adjustment in (
            ("ann", START, Adjustment(0.75, {"audio_level": 0.3})),
            ("ann", LATER, Adjustment(rules=(RULE,))),
            ("bob", LATER, Adjustment(threshold=0.999)),
        ):
            add_version(
                connection,
                NewVersion(
                    scope,
                    FeedbackAction.RECALIBRATE,
                    since,
                    "Ann",
                    replaces=None,
                    adjustment=adjustment,
                ),
            )
    return deployment


@pytest.fixture
def deployment(loaded: Deployment) -> Iterator[Deployment]:
    """Return them with nothing processed."""
    forget(loaded)
    yield deployment_of(loaded.database, loaded.settings.home)
    execute(loaded.database, "DELETE FROM feedback_versions WHERE is_meta")


def forget(deployment: Deployment) -> None:
    """Delete all results and states."""
    execute(deployment.database, f"TRUNCATE {TABLES}")
    execute(deployment.database, "UPDATE entities SET aggregated_until = NULL")


def everything(deployment: Deployment) -> tuple[Any, ...]:
    """Return all results and decisions, to the last bit."""
    return fingerprint(deployment.database), query(deployment.database, DECISIONS)


def add_forest(deployment: Deployment) -> None:
    """Put a meta-learner into force for everybody that has an opinion of everything."""
    pytest.importorskip("sktime")
    rng = np.random.default_rng(4)
    labelled = alarms([(0, 0.97, bool(kind)) for kind in rng.random(30) < 0.5])
    n_channels = len(CATALOGUE.streams) + 1 + len(CATALOGUE.groups)
    recent = rng.random((30, 12, n_channels))
    known = replace(labelled, evidence=replace(labelled.evidence, recent=recent))
    layout = layout_of(CATALOGUE.stream_ids, CATALOGUE.group_ids)
    blob, seal = sealed(replace(fit(known, seed=1), cut=0.5), layout, 0, deployment.key)
    with deployment.database.connect() as connection:
        add_version(
            connection,
            NewVersion(
                layout,
                FeedbackAction.TRAIN,
                LATER,
                "meta_learner",
                replaces=None,
                is_meta=True,
                model=blob,
                seal=seal,
            ),
        )


def one_by_one(deployment: Deployment) -> tuple[Any, ...]:
    """Return everything after one range in which everybody goes alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("anomaly_assets.pipeline.together.MOST_ENTITIES", 1)
        run(deployment)
    assert not deployment.failures
    found = everything(deployment)
    forget(deployment)
    return found


@pytest.mark.parametrize("with_forest", [False, True])
@pytest.mark.parametrize("size", [1, 7])
def test_groups_decide_as_everybody_alone_does(
    deployment: Deployment, size: int, *, with_forest: bool
) -> None:
    """A range one by one, windows or parts in groups, and the same again: not a bit differs."""
    if with_forest:
        add_forest(deployment)
    alone = one_by_one(deployment)
    decided = {(row[0], row[6]) for row in alone[1]}
    assert ("ann", RULE.name) in decided
    assert {name for name, _ in decided} >= {"ann", "bob"}
    if with_forest:
        assert "cat" in {name for name, _ in decided}
        assert "B" in {row[7] for row in alone[1]}

    process_in_parts(deployment, WINDOWS, size)
    assert everything(deployment) == alone
    again = WindowRange(WINDOWS.start + 17 * WINDOW_SECONDS, WINDOWS.end)
    process_in_parts(deployment, again, size)
    assert everything(deployment) == alone


def test_shards_decide_as_one_step_does(deployment: Deployment) -> None:
    """Some entities in one step, the others in another, as shards are: the same rows."""
    alone = one_by_one(deployment)
    for names in (("cat", "ann"), ("bob",)):
        shard = [one for one in deployment.entities() if one.entity_id in names]
        for part in WINDOWS.parts(9):
            for _, commits in steps(deployment, shard, part):
                list(commits)
    assert not deployment.failures
    assert everything(deployment) == alone


def test_who_is_decided_quiet_is_passed_over_in_a_group(deployment: Deployment) -> None:
    """A window below an entity's own threshold is no reason to look at it by itself."""
    add = NewVersion(
        "cat",
        FeedbackAction.RECALIBRATE,
        START,
        "Ann",
        replaces=None,
        adjustment=Adjustment(0.9999, dict.fromkeys(CATALOGUE.stream_ids, 0.01)),
    )
    with deployment.database.connect() as connection:
        number = add_version(connection, add).feedback_id
    process_in_parts(deployment, WINDOWS, len(WINDOWS))
    with deployment.database.connect() as connection:
        decided = list_decisions(connection, "cat", WINDOWS)
    quiet = [one.timestamp for one in decided if one.trigger_code == 0]
    assert quiet, "nothing called at all"
    explained = query(
        deployment.database,
        "SELECT count(*) FROM causal_explanations WHERE entity_id = 'cat' AND timestamp = ANY(%s)",
        quiet,
    )
    assert explained == [(0,)]
    before = everything(deployment)
    for part in WINDOWS.parts(1):
        for step in (combine, explain_windows):
            for _ in step(deployment, deployment.entities(), part):
                pass
    assert everything(deployment) == before
    execute(deployment.database, "DELETE FROM feedback_versions WHERE feedback_id = %s", number)
