"""Suggestions in their table: found again they stay one, decided they stay decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.identifiers import Decision, SuggestionKind
from anomaly_assets.storage.suggestions import (
    Proposal,
    decide,
    find_suggestion,
    list_suggestions,
    write_suggestions,
)

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

SEEN = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def edge(effect: str = "pulse", support: float = 0.9, **payload: object) -> Proposal:
    """Return an edge from steps."""
    return Proposal(
        SuggestionKind.EDGE, f"steps -> {effect}", {"effect": effect, **payload}, support
    )


PATTERN = Proposal(SuggestionKind.PATTERN, "steps -> pulse", {"template": {}}, 0.4)


def test_what_is_found_again_is_one_suggestion(database: Database) -> None:
    """Its number and first day stay; support, payload and last day are those of the newest."""
    with database.connect() as connection:
        assert write_suggestions(connection, "ann", SEEN, [edge(), edge("sweat"), PATTERN]) == 3
        assert write_suggestions(connection, "ann", SEEN + DAY, [edge(support=0.8, lag=5)]) == 0
        assert write_suggestions(connection, "bob", SEEN, [edge()]) == 1
        # A day of long ago, processed again, changes nothing but the first day.
        assert write_suggestions(connection, "ann", SEEN - DAY, [edge(support=0.1)]) == 0
        of_ann = list_suggestions(connection, entity_id="ann")
    assert [one.subject for one in of_ann] == ["steps -> sweat", "steps -> pulse", "steps -> pulse"]
    again = of_ann[1]
    assert again.kind is SuggestionKind.EDGE
    assert (again.support, again.payload) == (0.8, {"effect": "pulse", "lag": 5})
    assert (again.first_seen, again.last_seen) == (SEEN - DAY, SEEN + DAY)
    assert again.status is Decision.OPEN
    assert (again.decided_at, again.decided_by) == (None, None)


def test_a_rejected_suggestion_does_not_come_back(database: Database) -> None:
    """Found again it is still rejected; the list of open ones does not show it."""
    with database.connect() as connection:
        write_suggestions(connection, "ann", SEEN, [edge(), PATTERN])
        first, other = list_suggestions(connection)
        rejected = decide(connection, first.suggestion_id, Decision.REJECTED, "Ann")
        write_suggestions(connection, "ann", SEEN + DAY, [edge()])
        assert list_suggestions(connection, status=Decision.OPEN) == [other]
        (kept,) = list_suggestions(connection, status=Decision.REJECTED)
        assert list_suggestions(connection, kind=SuggestionKind.PATTERN) == [other]
    assert (rejected.decided_by, kept.decided_by) == ("Ann", "Ann")
    assert kept.decided_at == rejected.decided_at is not None
    assert kept.last_seen == SEEN + DAY


def test_the_first_of_equal_decisions_stays(database: Database) -> None:
    """Who accepts what is accepted changes nothing; another decision replaces it."""
    with database.connect() as connection:
        write_suggestions(connection, "ann", SEEN, [edge()])
        (one,) = list_suggestions(connection)
        first = decide(connection, one.suggestion_id, Decision.ACCEPTED, "Ann")
        assert decide(connection, one.suggestion_id, Decision.ACCEPTED, "Bob") == first
        changed = decide(connection, one.suggestion_id, Decision.REJECTED, " Bob ")
    assert (changed.status, changed.decided_by) == (Decision.REJECTED, "Bob")


def test_decisions_of_nobody_and_about_nothing_are_refused(database: Database) -> None:
    """A decision has an author, and there is something to decide."""
    with database.connect() as connection:
        write_suggestions(connection, "ann", SEEN, [edge()])
        (one,) = list_suggestions(connection)
        for status, by in (
            (Decision.ACCEPTED, " "),
            (Decision.ACCEPTED, "a\nb"),
            (Decision.OPEN, "Ann"),
        ):
            with pytest.raises(InputError, match="name who decides"):
                decide(connection, one.suggestion_id, status, by)
        with pytest.raises(InputError, match="no suggestion has the number 999"):
            decide(connection, 999, Decision.ACCEPTED, "Ann")
        assert find_suggestion(connection, one.suggestion_id) == one


def test_the_table_refuses_a_decision_without_author(database: Database) -> None:
    """Whoever writes the table by hand cannot forget who decided."""
    with database.connect() as connection:
        write_suggestions(connection, "ann", SEEN, [edge()])
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE suggestions SET status = 'accepted'")
