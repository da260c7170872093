"""With feedback in force the live path decides as the pipeline does, to the last bit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from anomaly_assets.detection.cross_stream.detector import VOICES
from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.detection.feedback.training import fit
from anomaly_assets.evaluation.simulator import Fault, FaultKind
from anomaly_assets.pipeline.meta_model import layout_of, sealed
from anomaly_assets.storage.feedback import NewVersion, add_version
from anomaly_assets.storage.tables_feedback import FeedbackAction
from anomaly_assets_tests.detection.feedback.made import alarms
from anomaly_assets_tests.live.following import CATALOGUE, MINUTES, Following, people_sending
from anomaly_assets_tests.live.test_pipeline import (
    FIRST_HOUR,
    SECOND_HOUR,
    TWO_HOURS,
    assert_as_stored,
    newest,
)
from anomaly_assets_tests.pipeline.people import START, query

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from anomaly_assets.storage.database import Database

FAULTS = [
    Fault("ann", FaultKind.SPIKE, START + 35 * MINUTES, 10, "heart_rate", 60.0),
    Fault("ann", FaultKind.SPIKE, START + 75 * MINUTES, 10, "heart_rate", 200.0),
    Fault("ann", FaultKind.SPIKE, START + 95 * MINUTES, 5, "audio_level", 200.0),
]
EVERYTHING = (*CATALOGUE.stream_ids, *(f"voice:{name}" for name in VOICES))
RULE = Rule("a habit", ("heart_rate+", "audio_level+"), EVERYTHING, 1.0, 2**40)


@pytest.fixture
def following(database: Database, tmp_path: Path) -> Following:
    """Return a pipeline over an empty database, not started."""
    return Following(database, tmp_path)


def add(following: Following, since: datetime, adjustment: Adjustment) -> None:
    """Put an adjustment of ann's into force."""
    with following.database.connect() as connection:
        add_version(
            connection,
            NewVersion(
                "ann",
                FeedbackAction.RECALIBRATE,
                since,
                "Ann",
                replaces=None,
                adjustment=adjustment,
            ),
        )


def add_forest(following: Following, since: datetime) -> None:
    """Put a meta-learner into force that knows nothing, but has an opinion of everything."""
    rng = np.random.default_rng(4)
    labelled = alarms([(0, 0.97, bool(kind)) for kind in rng.random(30) < 0.5])
    n_channels = len(CATALOGUE.streams) + 1 + len(CATALOGUE.groups)
    recent = rng.random((30, 12, n_channels))
    known = replace(labelled, evidence=replace(labelled.evidence, recent=recent))
    layout = layout_of(CATALOGUE.stream_ids, CATALOGUE.group_ids)
    forest = replace(fit(known, seed=1), cut=0.5)
    blob, seal = sealed(forest, layout, 0, following.deployment().key)
    with following.database.connect() as connection:
        add_version(
            connection,
            NewVersion(
                layout,
                FeedbackAction.TRAIN,
                since,
                "meta_learner",
                replaces=None,
                is_meta=True,
                model=blob,
                seal=seal,
            ),
        )


def assert_decided_as_stored(following: Following) -> list[tuple[Any, ...]]:
    """Compare every decision that was told with the stored ones; return these."""
    rows = query(
        following.database,
        "SELECT extract(epoch FROM timestamp)::bigint, score, is_alarm, suppressed_by, option, "
        "trigger_code FROM window_decisions WHERE entity_id = 'ann' ORDER BY 1",
    )
    said = newest(following.told)
    for window, score, is_alarm, suppressed_by, option, code in rows:
        result = said["ann", window]
        assert (result.decided_score, result.is_anomaly) == (score, is_alarm), window
        assert (result.suppressed_by, result.option) == (suppressed_by, option), window
        assert (result.trigger is None) == (code == 0), window
    decided = {row[0] for row in rows}
    for (entity, window), result in said.items():
        if entity == "ann" and window not in decided:
            assert result.suppressed_by is None
            assert result.decided_score == result.score
    return rows


@pytest.mark.parametrize("with_forest", [False, True])
def test_live_and_pipeline_decide_alike(following: Following, *, with_forest: bool) -> None:
    """Threshold, weights, rules and the meta-learner, over a restart, from amid an hour on."""

    async def work() -> None:
        if with_forest:
            pytest.importorskip("sktime")
            add_forest(following, START)
        adjustment = Adjustment(0.75, {"audio_level": 0.3}, () if with_forest else (RULE,))
        add(following, START + 30 * MINUTES, adjustment)
        sent = people_sending(["ann"], TWO_HOURS, faults=FAULTS)
        cut = FIRST_HOUR.end_time + 22 * MINUTES
        await following.start()
        await following.send([r for r in sent if r.sent_at < cut])
        following.run(FIRST_HOUR)
        await following.pipeline.stop()
        await following.start()
        await following.send([r for r in sent if r.sent_at >= cut])
        await following.wait(TWO_HOURS.end_time + 11 * MINUTES)
        following.told = [r for r in following.told if r.window_start < TWO_HOURS.end_time]
        following.run(SECOND_HOUR)
        assert_as_stored(following, TWO_HOURS, ("ann",))
        rows = assert_decided_as_stored(following)
        if with_forest:
            assert any(option == "B" for *_, option, _ in rows)
        else:
            assert any(rule == RULE.name for _, _, _, rule, *_ in rows)
        await following.pipeline.stop()

    asyncio.run(asyncio.wait_for(work(), 300))


def test_a_change_shows_in_what_was_said(following: Following) -> None:
    """A version that reaches back revises the windows it decides otherwise, and no others."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS, faults=FAULTS)
        await following.start()
        await following.send(sent, until=TWO_HOURS.end_time + 11 * MINUTES)
        before = newest(following.told)
        alarm = [at for at, result in before.items() if result.is_anomaly]
        assert alarm
        listener = following.pipeline.subscribe()
        add(following, START, Adjustment(rules=(RULE,)))
        count = await following.pipeline.take_feedback()
        changed = [await anext(aiter(listener)) for _ in range(count)]
        told = {("ann", int(r.window_start.timestamp())): r for r in changed}
        quiet = list(told)
        assert set(quiet) & set(alarm)
        assert {result.suppressed_by for result in told.values()} == {RULE.name}
        assert all(told[at].revision == before[at].revision + 1 for at in quiet)
        assert all(told[at].score == before[at].score for at in quiet)
        assert not any(told[at].is_anomaly for at in quiet)
        await following.pipeline.stop()

    asyncio.run(asyncio.wait_for(work(), 300))
