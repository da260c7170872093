"""``suggestions`` and ``patterns``: nothing changes until somebody accepts, and then only that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.storage.identifiers import SuggestionKind
from anomaly_assets.storage.suggestions import Proposal, list_suggestions, write_suggestions
from anomaly_assets.streams.loading import load_catalogue, shipped_text
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.home import CATALOGUE, END, store_week, write_home
from anomaly_assets_tests.pipeline.people import execute, query
from anomaly_assets_tests.pipeline.test_suggestions import store_courses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database


class Home:
    """A deployment with one person, a catalogue file, and a few suggestions."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.catalogue = write_home(folder)
        execute(
            database,
            "INSERT INTO entities (entity_id, catalogue) VALUES ('ann', %s), ('bob', NULL)",
            str(self.catalogue),
        )

    def suggest(self, cause: str, effect: str, entity: str = "ann") -> int:
        """Store a suggested edge, and return its number."""
        payload = {
            "cause": cause,
            "effect": effect,
            "reason": "Suggested by the data",
            "lag_minutes": 5,
            "strength": 0.5,
        }
        proposal = Proposal(SuggestionKind.EDGE, f"{cause} -> {effect}", payload, 0.9)
        return self._store(entity, proposal)

    def suggest_pattern(self, first: str, second: str) -> int:
        """Store a suggested course of events, and return its number."""
        template = {
            "name": f"{first}_then_{second}",
            "title": "One, then another",
            "steps": [{"event": first}, {"event": second, "offset_minutes": 4.0}],
            "recommended_action": "Ask what was going on.",
        }
        proposal = Proposal(
            SuggestionKind.PATTERN, f"{first} -> {second}", {"template": template}, 0.5
        )
        return self._store("ann", proposal)

    def _store(self, entity: str, proposal: Proposal) -> int:
        with self.database.connect() as connection:
            write_suggestions(connection, entity, END, [proposal])
            return max(one.suggestion_id for one in list_suggestions(connection))

    @property
    def edges(self) -> list[tuple[str, str]]:
        """The edges that the catalogue file holds."""
        return [(e.cause, e.effect) for e in load_catalogue(self.catalogue).causal_edges]


@pytest.fixture
def home(database: Database, tmp_path: Path) -> Iterator[Home]:
    """Return the deployment, made that of the settings."""
    with deployed(database, tmp_path):
        yield Home(database, tmp_path)


def documents(*arguments: object) -> list[dict[str, Any]]:
    """Return what the list command prints as JSON."""
    found: list[dict[str, Any]] = call("suggestions", "list", *arguments, "--json").document
    return found


class TestList:
    """``suggestions list``: what waits for a decision."""

    def test_open_ones_of_all_or_one(self, home: Home) -> None:
        """Open suggestions are listed, of one entity or kind if asked, all with ``--all``."""
        first, second = home.suggest("s00", "s01"), home.suggest("steps", "heart_rate", "bob")
        third = home.suggest_pattern("first_up", "second_up")
        assert call("suggestions", "reject", second).code == 0
        assert [one["suggestion_id"] for one in documents()] == [first, third]
        assert [one["subject"] for one in documents("--kind", "pattern")] == [
            "first_up -> second_up"
        ]
        assert documents("--entity", "bob") == []
        (rejected,) = documents("--entity", "bob", "--all")
        assert rejected["status"] == "rejected"
        assert [one["suggestion_id"] for one in documents("--status", "rejected")] == [second]

    def test_for_people(self, home: Home) -> None:
        """A table shows number, edge and support; without any, where they come from."""
        assert "structure_suggestions" in call("suggestions", "list").out
        home.suggest("s00", "s01")
        shown = call("suggestions", "list").out
        assert "s00 -> s01" in " ".join(shown.split())
        assert "0.90" in shown

    def test_unknown_entities_are_refused(self, home: Home) -> None:
        """Nobody of that name is an error, not an empty list."""
        assert home.edges == []
        assert "known entities: ann, bob" in refused("suggestions", "list", "--entity", "eve")


class TestAccept:
    """``suggestions accept``: into the file, once, and safely."""

    def test_an_edge_goes_into_the_file(self, home: Home) -> None:
        """The file has the edge and everything else as it was; who and when are on record."""
        number = home.suggest("s00", "s01")
        done = call("suggestions", "accept", number, "--by", "Ann B.", "--json").document
        assert (done["status"], done["decided_by"], done["changed"]) == ("accepted", "Ann B.", True)
        assert done["decided_at"] is not None
        assert done["entities"] == ["ann"]
        assert done["catalogue_file"] == str(home.catalogue.resolve())
        text = home.catalogue.read_text()
        assert text.startswith(CATALOGUE)
        assert "{cause: s00, effect: s01, reason: Suggested by the data}" in text
        assert home.edges == [("s00", "s01")]
        assert documents() == []

    def test_twice_is_once(self, home: Home) -> None:
        """Accepting again changes neither the file nor who decided."""
        number = home.suggest("s00", "s01")
        first = call("suggestions", "accept", number, "--by", "Ann", "--json").document
        text = home.catalogue.read_bytes()
        again = call("suggestions", "accept", number, "--by", "Bob", "--json").document
        assert again == {**first, "changed": False}
        assert home.catalogue.read_bytes() == text
        assert "is already in" in call("suggestions", "accept", number).out

    def test_what_was_removed_by_hand_can_be_accepted_again(self, home: Home) -> None:
        """Accepting puts the edge back where somebody has taken it out."""
        number = home.suggest("s00", "s01")
        assert call("suggestions", "accept", number).code == 0
        home.catalogue.write_text(CATALOGUE)
        assert call("suggestions", "accept", number, "--json").document["changed"]
        assert home.edges == [("s00", "s01")]

    def test_a_course_of_events_becomes_a_template(self, home: Home) -> None:
        """A pattern is written as a template that explanations can match."""
        number = home.suggest_pattern("first_up", "second_up")
        assert call("suggestions", "accept", number).code == 0
        (template,) = load_catalogue(home.catalogue).templates
        assert template.name == "first_up_then_second_up"
        assert [step.event for step in template.steps] == ["first_up", "second_up"]

    def test_cycles_and_unknown_streams_change_nothing(self, home: Home) -> None:
        """What the catalogue would refuse is refused before the file is touched; it stays open."""
        assert call("suggestions", "accept", home.suggest("s00", "s01")).code == 0
        text = home.catalogue.read_bytes()
        back = home.suggest("s01", "s00")
        assert "closes a cycle" in refused("suggestions", "accept", back)
        assert "unknown stream 's99'" in refused(
            "suggestions", "accept", home.suggest("s00", "s99")
        )
        unknown = home.suggest_pattern("first_up", "fourth_up")
        assert "fourth_up" in refused("suggestions", "accept", unknown)
        assert home.catalogue.read_bytes() == text
        assert [one["status"] for one in documents()] == ["open"] * 3
        assert [p.name for p in home.folder.iterdir() if p.name.startswith(".home")] == []

    def test_a_catalogue_of_the_package_needs_a_file(self, home: Home) -> None:
        """It is not written to: a named file becomes a copy with the edge, and the entity's."""
        number = home.suggest("heart_rate", "skin_temperature", "bob")
        assert "--catalogue-file" in refused("suggestions", "accept", number)
        path = home.folder / "bob.yaml"
        done = call("suggestions", "accept", number, "--catalogue-file", path, "--json").document
        assert done["entities"] == ["bob"]
        added = set(path.read_text().splitlines()) - set(shipped_text("default").splitlines())
        assert len(added) == 1
        assert query(home.database, "SELECT catalogue FROM entities WHERE entity_id = 'bob'") == [
            (str(path),)
        ]
        other = home.suggest("heart_rate", "respiration_rate", "bob")
        assert call("suggestions", "accept", other).code == 0
        assert len(load_catalogue(path).causal_edges) == (
            len(load_catalogue("default").causal_edges) + 2
        )

    def test_a_file_of_other_streams_is_not_taken(self, home: Home) -> None:
        """An entity is never moved to a catalogue that describes something else."""
        number = home.suggest("heart_rate", "skin_temperature", "bob")
        said = refused("suggestions", "accept", number, "--catalogue-file", home.catalogue)
        assert "describes other streams" in said
        assert home.catalogue.read_text() == CATALOGUE

    def test_a_file_that_cannot_be_written_leaves_the_suggestion_open(self, home: Home) -> None:
        """The record and the file change together or not at all."""
        number = home.suggest("heart_rate", "skin_temperature", "bob")
        path = home.folder / "nowhere" / "bob.yaml"
        said = refused("suggestions", "accept", number, "--catalogue-file", path)
        assert "cannot be written" in said
        assert [one["status"] for one in documents()] == ["open"]
        assert query(home.database, "SELECT catalogue FROM entities WHERE entity_id = 'bob'") == [
            (None,)
        ]

    def test_nobody_cannot_decide(self, home: Home) -> None:
        """A decision has an author, and a suggestion to be about."""
        number = home.suggest("s00", "s01")
        assert "name who decides" in refused("suggestions", "accept", number, "--by", " ")
        assert home.edges == []
        assert "no suggestion has the number 999" in refused("suggestions", "accept", 999)


class TestReject:
    """``suggestions reject``: for good, but not beyond recall."""

    def test_a_rejected_one_can_still_be_accepted(self, home: Home) -> None:
        """Rejecting twice is once; accepting afterwards is a change of mind."""
        number = home.suggest("s00", "s01")
        first = call("suggestions", "reject", number, "--by", "Ann", "--json").document
        assert (first["status"], first["decided_by"]) == ("rejected", "Ann")
        again = call("suggestions", "reject", number, "--by", "Bob", "--json").document
        assert again == first
        home.suggest("s00", "s01")
        assert documents() == []
        assert call("suggestions", "accept", number).code == 0
        assert home.edges == [("s00", "s01")]

    def test_what_is_in_the_catalogue_is_removed_there(self, home: Home) -> None:
        """An accepted suggestion is not rejected behind the file's back."""
        number = home.suggest("s00", "s01")
        assert call("suggestions", "accept", number, "--by", "Ann").code == 0
        assert "accepted by Ann; remove it" in refused("suggestions", "reject", number)


class TestPatterns:
    """``patterns suggest``: mining now."""

    def test_what_recurs_is_suggested(self, home: Home) -> None:
        """The course that the anomalies share gets a number, and can be accepted by it."""
        assert "no window has been processed" in refused("patterns", "suggest", "--entity", "ann")
        store_week(home.database, "ann", home.catalogue)
        store_courses(home.database, "ann", home.catalogue, 5)
        shown = call("patterns", "suggest", "--entity", "ann")
        assert "first_up -> second_up (support 1.00, open)" in shown.out
        document = call("patterns", "suggest", "--entity", "ann", "--json").document
        (mined,) = document["patterns"]
        assert document["new"] == 0
        assert mined["last_seen"] == END.isoformat()
        assert call("suggestions", "accept", mined["suggestion_id"]).code == 0
        assert len(load_catalogue(home.catalogue).templates) == 1

    def test_nothing_in_common_is_said(self, home: Home) -> None:
        """Without anomalies there is nothing to mine, and nobody unknown is mined."""
        store_week(home.database, "ann", home.catalogue)
        assert "frequent enough" in call("patterns", "suggest", "--entity", "ann").out
        assert "known entities" in refused("patterns", "suggest", "--entity", "eve")
