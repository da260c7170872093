"""Feedback decides, visibly and by window time, is replayed as it was, and can be taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline import feedback
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.stateless import combine
from anomaly_assets.storage.feedback import NewVersion, add_version
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.queries import top_anomalies
from anomaly_assets.storage.tables_feedback import FeedbackAction
from anomaly_assets_tests.pipeline.habits import (
    DAMP_DAYS,
    RACING,
    START,
    WINDOWS,
    damp,
    judge_everything,
    process_days,
    racing,
    say,
)
from anomaly_assets_tests.pipeline.people import execute, query
from anomaly_assets_tests.pipeline.support import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

SCORES = "SELECT * FROM anomaly_scores ORDER BY entity_id, timestamp, stream_id, method"
DECISIONS = "SELECT * FROM window_decisions ORDER BY entity_id, timestamp"


@pytest.fixture(scope="module")
def processed(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Database, Deployment]:
    """Share the processed days."""
    return module_database, process_days(module_database, tmp_path_factory.mktemp("home"))


@pytest.fixture
def days(processed: tuple[Database, Deployment]) -> Iterator[Deployment]:
    """Return the days without labels, feedback or decisions."""
    database, deployment = processed
    yield deployment
    execute(database, "TRUNCATE labels, feedback_versions, window_decisions, rule_suggestions")
    again(deployment)


def again(deployment: Deployment, windows: int = len(WINDOWS)) -> None:
    """Combine, decide and explain the days again, so many windows at a time."""
    for part in WINDOWS.parts(windows):
        for _ in combine(deployment, deployment.entities(), part):
            pass
    for part in WINDOWS.parts(windows):
        for _ in explain_windows(deployment, deployment.entities(), part):
            pass
    assert not deployment.failures


def everything(deployment: Deployment) -> tuple[Any, ...]:
    """Return all results and decisions, to the last bit."""
    database = deployment.database
    return fingerprint(database), query(database, DECISIONS)


def add(deployment: Deployment, adjustment: Adjustment, since: datetime) -> int:
    """Put an adjustment into force."""
    with deployment.database.connect() as connection:
        new = NewVersion(
            "ann", FeedbackAction.RECALIBRATE, since, "Ann", replaces=None, adjustment=adjustment
        )
        return add_version(connection, new).feedback_id


def alarms(deployment: Deployment) -> dict[datetime, tuple[bool, str | None]]:
    """Return whether each window that was decided about is an alarm, and what suppresses it."""
    rows = query(
        deployment.database,
        "SELECT timestamp, is_alarm, suppressed_by FROM window_decisions WHERE entity_id = 'ann'",
    )
    return {at: (alarm, rule) for at, alarm, rule in rows}


def test_without_labels_nothing_changes(days: Deployment) -> None:
    """Nothing is recalibrated, suggested or decided, and processing again leaves every bit."""
    before = everything(days)
    change = feedback.recalibrate(days, "ann", "Ann")
    assert change.version is None
    assert "0 judged alarms, and 10 are needed" in change.why
    assert feedback.suggestions(days) == []
    again(days)
    assert everything(days) == before
    assert query(days.database, DECISIONS) == []


def test_a_habit_is_suggested_accepted_and_visible(days: Deployment) -> None:
    """Its windows name the rule and raise no alarm; what was confirmed does; no score changes."""
    judge_everything(days)
    scores = query(days.database, SCORES)
    (one,) = feedback.suggestions(days)
    assert one.name == "humidity+ on any day from 07:00"
    # One of them has a window in which nothing stands out: that alarm is late, but raised.
    assert one.effect["sentence"] == (
        "would have removed 4 of 5 false alarms, kept 3 of 3 confirmed"
    )
    change = feedback.accept(days, one.suggestion_id, "Ann", since=START)
    assert change.effect.false_removed == len(DAMP_DAYS) - 1
    assert change.effect.confirmed_lost == 0
    decided = alarms(days)
    assert {decided[damp(day)] for day in DAMP_DAYS} == {(False, one.name)}
    assert {decided[racing(number)] for number in range(len(RACING))} == {(True, None)}
    assert query(days.database, SCORES) == scores
    with days.database.connect() as connection:
        shown = {a.window: a.suppressed_by for a in top_anomalies(connection, entity_id="ann")}
    assert shown[damp(1)] == one.name
    assert shown[racing(0)] is None
    assert feedback.suggestions(days) == []


def test_a_version_holds_from_its_first_window_on(days: Deployment) -> None:
    """Windows before stand by their scores; of two versions the later made one decides."""
    first = add(days, Adjustment(threshold=0.99), damp(3))
    second = add(days, Adjustment(trust={"humidity": 0.5}), racing(1))
    again(days)
    made_by = dict(query(days.database, "SELECT timestamp, feedback_id FROM window_decisions"))
    assert min(made_by) >= damp(3)
    assert made_by[damp(3)] == first
    assert made_by[racing(1)] == made_by[damp(5)] == second
    assert alarms(days)[damp(3)] == (False, None)


@pytest.mark.parametrize("windows", [288, 1000])
def test_a_replay_decides_as_was_decided(days: Deployment, windows: int) -> None:
    """However the range is cut, decisions and explanations are the same to the last bit."""
    judge_everything(days)
    (one,) = feedback.suggestions(days)
    feedback.accept(days, one.suggestion_id, "Ann", since=damp(2))
    add(days, Adjustment(threshold=0.93, trust={"humidity": 0.6}), damp(4))
    again(days)
    before = everything(days)
    assert before[1]
    again(days, windows)
    assert everything(days) == before


def test_reverting_restores_every_bit(days: Deployment) -> None:
    """Decisions and explanations are what they were, and the way there stays on record."""
    judge_everything(days)
    before = everything(days)
    (one,) = feedback.suggestions(days)
    accepted = feedback.accept(days, one.suggestion_id, "Ann", since=START).version
    assert accepted is not None
    assert everything(days) != before
    feedback.revert(days, accepted.feedback_id, "Bob")
    assert everything(days) == before
    told = [(s.version.action, s.status, s.version.author) for s in feedback.versions(days)]
    assert told == [("accept", "reverted", "Ann"), ("revert", "active", "Bob")]
    with pytest.raises(InputError, match="not active"):
        feedback.revert(days, accepted.feedback_id, "Bob")


def test_reverting_twice_goes_back_two_steps(days: Deployment) -> None:
    """Each revert goes to what was in force before the version that it takes back."""
    judge_everything(days)
    (one,) = feedback.suggestions(days)
    accepted = feedback.accept(days, one.suggestion_id, "Ann", since=START).version
    dropped = feedback.drop(days, "ann", one.name, "Ann", since=damp(3)).version
    assert accepted is not None
    assert dropped is not None
    assert alarms(days)[damp(2)] == (False, one.name)
    assert damp(4) not in alarms(days)
    feedback.revert(days, dropped.feedback_id, "Ann")
    assert alarms(days)[damp(4)] == (False, one.name)
    feedback.revert(days, accepted.feedback_id, "Ann")
    assert alarms(days) == {}


def test_by_default_nothing_stored_changes(days: Deployment) -> None:
    """Without a time, a change begins with the next window that is scored."""
    judge_everything(days)
    before = everything(days)
    (one,) = feedback.suggestions(days)
    change = feedback.accept(days, one.suggestion_id, "Ann")
    assert change.version is not None
    assert change.version.from_time == START + timedelta(days=6)
    assert everything(days) == before


def test_what_was_confirmed_is_never_suppressed(days: Deployment) -> None:
    """A contradicted rule is shown with the label that contradicts it, and cannot be accepted."""
    for day in (1, 3, 4, 5):
        say(days, damp(day), Verdict.EXPECTED)
    label = say(days, damp(2), Verdict.CONFIRMED)
    (one,) = feedback.suggestions(days)
    assert one.contradicted_by == [label.label_id]
    with pytest.raises(InputError, match=f"label {label.label_id}"):
        feedback.accept(days, one.suggestion_id, "Ann")


def test_what_was_rejected_is_not_suggested_again(days: Deployment) -> None:
    """It is listed among everything only."""
    judge_everything(days)
    (one,) = feedback.suggestions(days)
    feedback.reject(days, one.suggestion_id, "Ann")
    assert feedback.suggestions(days) == []
    (again_,) = feedback.suggestions(days, everything=True)
    assert (again_.status, again_.decided_by) == ("rejected", "Ann")


def test_labels_that_are_taken_back_count_for_nothing(days: Deployment) -> None:
    """Three of a shape are needed, and undone labels are none."""
    for day in DAMP_DAYS[:3]:
        say(days, damp(day), Verdict.FALSE_ALARM)
    assert len(feedback.suggestions(days)) == 1
    execute(
        days.database,
        "UPDATE labels SET undone_at = now(), undone_by = 'Bob' "
        "WHERE label_id = (SELECT min(label_id) FROM labels)",
    )
    assert feedback.suggestions(days) == []
