"""``labels``: judged, listed and taken back at the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.courses import ONSETS, WINDOWS, at, process_day
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

FIRST, SECOND, _ = (f"{at(onset):%Y-%m-%dT%H:%M}" for onset in ONSETS)
NAMED = ("--verdict", "confirmed", "--cause", "sauna", "--title", "Time in the [sauna]")
ACTION = "Drink a glass of water."


@pytest.fixture(scope="module")
def processed(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Share a processed day."""
    process_day(module_database, tmp_path_factory.mktemp("home"))
    return module_database


@pytest.fixture
def day(processed: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the day without labels, its deployment being that of the settings."""
    with deployed(processed, tmp_path):
        yield processed
    execute(processed, "TRUNCATE labels")


def test_a_label_is_listed_used_and_taken_back(day: Database) -> None:
    """What is confirmed and named explains a later window, until it is taken back."""
    label = call(
        *("labels", "add", "ann", FIRST, *NAMED, "--action", ACTION),
        *("--reason", "We were there", "--by", "Ann B.", "--json"),
    ).document
    assert (label["verdict"], label["cause"], label["author"]) == ("confirmed", "sauna", "Ann B.")
    assert label["reason"] == "We were there"
    assert ["pulse_up", 4.0] in label["events"]
    assert call("labels", "list", "--json").document == [label]
    explain = ("explain", "--entity", "ann", "--at", SECOND, "--mode", "fast", "--json")
    told = call(*explain).document
    assert (told["primary_cause"], told["recommended_action"]) == ("Time in the [sauna]", ACTION)
    number = label["label_id"]
    undone = call("labels", "undo", number, "--by", "Bob", "--json").document
    assert undone["undone_by"] == "Bob"
    assert call(*explain).document["primary_cause"] != "Time in the [sauna]"
    assert call("labels", "list", "--json").document == []
    assert call("labels", "list", "--all", "--json").document == [undone]
    assert query(day, "SELECT count(*) FROM labels") == [(1,)]


def test_for_people(day: Database) -> None:
    """Sentences say what was recorded and how it is recognised; the table shows brackets."""
    assert day.url
    assert "labels add ENTITY TIME" in call("labels", "list").out
    said = call("labels", "add", "ann", FIRST, *NAMED, "--action", ACTION, "--by", "Ann").out
    assert "confirmed: Time in the [sauna]" in said
    assert "known from now on by: normal_state at 0 min, humidity_up at 0 min" in said
    quiet = call("labels", "add", "ann", "2026-03-02T06:00", "--verdict", "false_alarm").out
    assert "ann, 2026-03-02 06:00 to 06:05 UTC, false alarm" in quiet
    listed = " ".join(call("labels", "list", "--verdict", "confirmed").out.split())
    assert "Ann" in listed
    assert "false alarm" not in listed
    number = call("labels", "list", "--verdict", "false_alarm", "--json").document[0]["label_id"]
    assert f"label {number} taken back by Eve" in call("labels", "undo", number, "--by", "Eve").out


def test_what_cannot_be_recorded_is_refused_in_one_line(day: Database) -> None:
    """Nobody, a wrong time or range, a bad name, nothing to recognise: each says what."""
    expected = ("--verdict", "expected")
    assert "known entities: ann" in refused("labels", "add", "eve", FIRST, *expected)
    assert "known entities: ann" in refused("labels", "list", "--entity", "eve")
    assert "'soon' is no date" in refused("labels", "add", "ann", "soon", *expected)
    assert "cannot end" in refused("labels", "add", "ann", SECOND, FIRST, *expected)
    beyond = f"{WINDOWS.end_time:%Y-%m-%dT%H:%M}"
    assert "not been processed" in refused("labels", "add", "ann", beyond, *expected)
    assert "is no name" in refused("labels", "add", "ann", FIRST, *expected, "--cause", "No way")
    assert "is new for entity" in refused("labels", "add", "ann", FIRST, *NAMED)
    calm = ("labels", "add", "ann", "2026-03-02T06:40", *NAMED, "--action", ACTION)
    assert "nothing happened" in refused(*calm)
    assert "no label has the number 999" in refused("labels", "undo", 999)
    assert query(day, "SELECT count(*) FROM labels") == [(0,)]
