"""``feedback``: suggested, accepted, shown and taken back at the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.habits import START, judge_everything, process_days
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SINCE = ("--since", START.isoformat())


@pytest.fixture(scope="module")
def processed(module_database: object, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Share the processed days."""
    return process_days(module_database, tmp_path_factory.mktemp("home"))  # type: ignore[arg-type]


@pytest.fixture
def days(processed: Deployment, tmp_path: Path) -> Iterator[Deployment]:
    """Return the days, their deployment being that of the settings."""
    with deployed(processed.database, tmp_path):
        yield processed
    execute(
        processed.database,
        "TRUNCATE labels, feedback_versions, window_decisions, rule_suggestions",
    )


def test_from_labels_to_a_rule_and_back(days: Deployment) -> None:
    """A habit is suggested with its effect, accepted, visible, and gone once it is reverted."""
    assert "no rule to suggest" in call("feedback", "suggestions").out
    judge_everything(days)
    (one,) = call("feedback", "suggestions", "--entity", "ann", "--json").document
    number = one["suggestion_id"]
    shown = " ".join(call("feedback", "suggestions").out.split())
    assert "feedback accept NUMBER" in shown
    done = call("feedback", "accept", number, *SINCE, "--by", "Ann", "--json").document
    assert done["effect"]["sentence"].endswith("kept 3 of 3 confirmed")
    assert done["decided_again"] == 6 * 288
    version = done["version"]["feedback_id"]
    assert "model" not in done["version"]
    (listed,) = call("feedback", "list", "--entity", "ann", "--json").document
    assert (listed["feedback_id"], listed["status"], listed["author"]) == (version, "active", "Ann")
    told = call("feedback", "show", version).out
    assert "no alert for humidity higher than expected" in told
    assert "would have removed 4 of 5 false alarms" in told
    rules = {a["suppressed_by"] for a in call("anomalies", "--entity", "ann", "--json").document}
    assert rules == {None, one["name"]}
    assert (
        f"version {version + 1}: revert" in call("feedback", "revert", version, "--by", "Bob").out
    )
    assert [v["status"] for v in call("feedback", "list", "--json").document] == [
        "reverted",
        "active",
    ]


def test_what_cannot_be_done_is_said(days: Deployment) -> None:
    """Each refusal is a line that says what to do instead."""
    assert days.database.url
    assert "nothing changed: 0 judged alarms" in call("feedback", "recalibrate", "ann").out
    assert "feedback suggestions" in refused("feedback", "accept", 99)
    assert "feedback list" in refused("feedback", "show", 99)
    assert "in force: none" in refused("feedback", "drop", "ann", "habit")
    assert "no entity 'bob'" in refused("feedback", "recalibrate", "bob")
    assert "nothing has been changed" in call("feedback", "list").out


def test_a_rule_is_dropped_or_rejected(days: Deployment) -> None:
    """A rule in force has to be dropped before its suggestion can be rejected."""
    judge_everything(days)
    (one,) = call("feedback", "suggestions", "--json").document
    number, name = one["suggestion_id"], one["name"]
    call("feedback", "accept", number, "--by", "Ann")
    assert "feedback drop" in refused("feedback", "reject", number)
    assert "drop: " in call("feedback", "drop", "ann", name, "--by", "Ann").out
    assert "rejected by Ann" in call("feedback", "reject", number, "--by", "Ann").out
