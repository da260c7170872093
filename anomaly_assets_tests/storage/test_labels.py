"""Labels in their table: judged once at a time, taken back but never gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import (
    Opinion,
    add_label,
    find_label,
    list_labels,
    named_labels,
    undo_label,
)
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.streams.windows import WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection, Database

START = datetime(2026, 3, 2, tzinfo=UTC)
EVENTS = [("heat_up", 0.0), ("pulse_up", 3.5)]
SAUNA = Opinion(Verdict.CONFIRMED, "Ann", "sauna", "Sauna", "Drink some water.")


def some(first: int, last: int) -> WindowRange:
    """Return the windows from `first` up to but not including `last`."""
    return WindowRange.between(
        START + timedelta(minutes=5 * first), START + timedelta(minutes=5 * last)
    )


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """Connect to a database in which two people have twelve processed windows each."""
    with database.connect() as connection:
        ensure_partitions(connection, START, START)
        for entity in ("ann", "bob"):
            connection.execute("INSERT INTO entities (entity_id) VALUES (%s)", (entity,))
            for number in range(12):
                window = (entity, START + timedelta(minutes=5 * number))
                connection.execute(
                    "INSERT INTO time_series_data (entity_id, timestamp, stream_id, value, "
                    "is_missing) VALUES (%s, %s, 's', 1, false)",
                    window,
                )
                connection.execute(
                    "INSERT INTO anomaly_scores (entity_id, timestamp, stream_id, method, "
                    "anomaly_score) VALUES (%s, %s, '_entity', 'ensemble', 0.5)",
                    window,
                )
        yield connection


def test_everything_that_was_said_is_kept(connection: Connection) -> None:
    """A label is read as it was stored, with who said it and when."""
    opinion = Opinion(
        Verdict.CONFIRMED, " Ann ", "sauna", "Sauna", "Drink some water.", "We were\nthere."
    )
    label = add_label(connection, "ann", some(2, 4), opinion, events=EVENTS)
    assert find_label(connection, label.label_id) == label
    assert (label.start_time, label.end_time) == (some(2, 4).start_time, some(2, 4).end_time)
    assert label.verdict is Verdict.CONFIRMED
    assert (label.cause, label.title) == ("sauna", "Sauna")
    assert (label.recommended_action, label.reason) == ("Drink some water.", "We were\nthere.")
    assert label.events == EVENTS
    assert (label.author, label.anomaly_id, label.stream_ids) == ("Ann", None, None)
    assert label.created_at is not None
    assert (label.undone_at, label.undone_by) == (None, None)


def test_what_is_taken_back_stays_on_record(connection: Connection) -> None:
    """It is no longer listed unless asked for; the first to take it back stays the one who did."""
    label = add_label(connection, "ann", some(2, 4), SAUNA, events=EVENTS)
    undone = undo_label(connection, label.label_id, "Bob")
    assert undone.undone_by == "Bob"
    assert undone.undone_at is not None
    assert undo_label(connection, label.label_id, "Cat") == undone
    assert list_labels(connection) == []
    assert list_labels(connection, undone=True) == [undone]
    with pytest.raises(InputError, match="no label has the number 999"):
        undo_label(connection, 999, "Bob")
    with pytest.raises(InputError, match="name who does"):
        undo_label(connection, label.label_id, " ")


def test_windows_are_judged_once_at_a_time(connection: Connection) -> None:
    """A second opinion of the same windows waits until the first is taken back."""
    label = add_label(connection, "ann", some(2, 4), SAUNA, events=EVENTS)
    other = Opinion(Verdict.FALSE_ALARM, "Bob")
    with pytest.raises(InputError, match=rf"confirmed, by Ann.*labels undo {label.label_id}$"):
        add_label(connection, "ann", some(2, 4), other)
    add_label(connection, "ann", some(2, 3), other)
    add_label(connection, "bob", some(2, 4), other)
    undo_label(connection, label.label_id, "Bob")
    add_label(connection, "ann", some(2, 4), other)


def test_lists_by_entity_and_verdict(connection: Connection) -> None:
    """Labels come by entity and time, all or some."""
    late = add_label(connection, "ann", some(6, 8), Opinion(Verdict.EXPECTED, "Ann"))
    early = add_label(connection, "ann", some(2, 4), SAUNA, events=EVENTS)
    others = add_label(connection, "bob", some(1, 2), Opinion(Verdict.EXPECTED, "Ann"))
    assert list_labels(connection) == [early, late, others]
    assert list_labels(connection, entity_id="bob") == [others]
    assert list_labels(connection, verdict=Verdict.EXPECTED) == [late, others]


def test_exemplars_are_standing_confirmed_and_named(connection: Connection) -> None:
    """By their end, oldest first, of one entity, up to a time, and of one name if asked."""
    second = add_label(connection, "ann", some(5, 7), SAUNA, events=EVENTS)
    first = add_label(connection, "ann", some(2, 4), SAUNA, events=EVENTS)
    fall = Opinion(Verdict.CONFIRMED, "Ann", "fall", "Fall", "Ask how they are.")
    third = add_label(connection, "ann", some(8, 9), fall, events=EVENTS)
    add_label(connection, "ann", some(0, 1), Opinion(Verdict.CONFIRMED, "Ann"))
    add_label(connection, "ann", some(1, 2), Opinion(Verdict.EXPECTED, "Ann", "sauna"))
    add_label(connection, "ann", some(1, 3), Opinion(Verdict.FALSE_ALARM, "Ann", "sauna"))
    add_label(connection, "bob", some(2, 4), SAUNA, events=EVENTS)
    undone = add_label(connection, "ann", some(3, 4), SAUNA, events=EVENTS)
    undo_label(connection, undone.label_id, "Ann")
    assert named_labels(connection, "ann") == [first, second, third]
    assert named_labels(connection, "ann", until=second.end_time) == [first, second]
    assert named_labels(connection, "ann", until=second.start_time) == [first]
    assert named_labels(connection, "ann", cause="fall") == [third]


def test_what_cannot_be_judged_is_refused(connection: Connection) -> None:
    """Nobody, no window, windows that were never processed: each is said, nothing is stored."""
    opinion = Opinion(Verdict.EXPECTED, "Ann")
    for entity, windows, said in (
        ("eve", some(0, 1), "no entity 'eve'"),
        ("ann", some(3, 3), "holds no window"),
        ("ann", some(10, 13), r"has not been processed \(last processed: 2026-03-02 01:00\)"),
        ("ann", some(-3, -1), "has not been processed"),
    ):
        with pytest.raises(InputError, match=said):
            add_label(connection, entity, windows, opinion)
    connection.execute("DELETE FROM anomaly_scores WHERE entity_id = 'bob'")
    with pytest.raises(InputError, match="last processed: never"):
        add_label(connection, "bob", some(0, 1), opinion)
    assert list_labels(connection, undone=True) == []


@pytest.mark.parametrize("lacking", ["title", "recommended_action", "events"])
def test_a_confirmed_cause_is_complete(connection: Connection, lacking: str) -> None:
    """Without title, action or events it could not be recognised or shown, here or in SQL."""
    given: dict[str, Any] = {"title": "Sauna", "recommended_action": "Drink some water."}
    given.pop(lacking, None)
    events = None if lacking == "events" else EVENTS
    opinion = Opinion(Verdict.CONFIRMED, "Ann", "sauna", **given)
    with pytest.raises(InputError, match="cause 'sauna': give a title"):
        add_label(connection, "ann", some(0, 1), opinion, events=events)
    add_label(connection, "ann", some(0, 1), SAUNA, events=EVENTS)
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(f"UPDATE labels SET {lacking} = NULL")  # noqa: S608 - constants


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"author": " "}, "author"),
        ({"author": "a\x00b"}, "author"),
        ({"cause": "Sauna visit"}, "cause 'Sauna visit' is no name"),
        ({"cause": "1st"}, "cause '1st' is no name"),
        ({"cause": "a" * 101}, "is no name"),
        ({"cause": None}, "name the cause too"),
        ({"title": ""}, "title ''"),
        ({"title": "t" * 201}, "title"),
        ({"reason": "\x1b[31m"}, "reason"),
        ({"recommended_action": "\n"}, "recommended_action"),
    ],
)
def test_unusable_words_are_refused(changes: dict[str, Any], said: str) -> None:
    """Names that no template could have, and texts that nobody could read."""
    given: dict[str, Any] = {
        "verdict": Verdict.CONFIRMED,
        "author": "Ann",
        "cause": "sauna",
        "title": "Sauna",
    }
    with pytest.raises(InputError, match=said):
        Opinion(**{**given, **changes})
