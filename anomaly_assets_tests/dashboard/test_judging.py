"""Judging and deciding on the pages: recorded with who and when, taken back, refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets.storage.identifiers import Decision, Verdict
from anomaly_assets.storage.labels import list_labels
from anomaly_assets.storage.suggestions import list_suggestions
from anomaly_assets_tests.dashboard.world import (
    ANN,
    HOSTILE,
    Pages,
    episode_of,
    mark_of,
    suggest,
)
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from anomaly_assets.storage.labels import Label

HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _clean(pages: Pages) -> Iterator[None]:
    """Leave no label behind."""
    yield
    execute(pages.deployment.database, "DELETE FROM labels")


def said(pages: Pages, entity: str = ANN) -> list[Label]:
    """Return the labels of an entity, those taken back too."""
    with pages.deployment.database.connect() as connection:
        return list_labels(connection, entity_id=entity, undone=True)


def judge(client: httpx.Client, anomaly: str, **fields: object) -> httpx.Response:
    """Send the form of an episode's page."""
    return client.post(
        "/ui/episode/judge",
        params={"anomaly": anomaly},
        data={"mark": mark_of(client), **fields},
        headers=HTMX,
    )


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_is_recorded_with_who_and_taken_back(
    pages: Pages, person: httpx.Client, verdict: Verdict
) -> None:
    """The label covers the episode and names the token; undone it stays, with by whom."""
    anomaly = episode_of(pages.deployment)
    answer = judge(person, anomaly, verdict=str(verdict), reason="I was <b>there</b>")
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "I was &lt;b&gt;there&lt;/b&gt;" in answer.text
    (label,) = said(pages)
    assert (label.verdict, label.anomaly_id) == (verdict, anomaly)
    assert str(label.author).startswith("Ann <b>Smith</b> (token ")
    assert label.stream_ids is None
    undone = person.post(
        "/ui/episode/undo",
        params={"anomaly": anomaly},
        data={"mark": mark_of(person), "label": str(label.label_id)},
        headers=HTMX,
    )
    assert "Taken back" in undone.text
    (label,) = said(pages)
    assert label.undone_by == label.author


def test_without_scripts_a_form_leads_back_to_the_page(pages: Pages, person: httpx.Client) -> None:
    """A browser without JavaScript is sent to the episode, which shows what was recorded."""
    anomaly = episode_of(pages.deployment)
    answer = person.post(
        "/ui/episode/judge",
        params={"anomaly": anomaly},
        data={"mark": mark_of(person), "verdict": "confirmed"},
        follow_redirects=True,
    )
    assert answer.status_code == 200
    assert "Recorded" in answer.text


def test_range_streams_and_cause_are_recorded(pages: Pages, person: httpx.Client) -> None:
    """What is said in the details arrives in the label, times on the entity's clock."""
    anomaly = episode_of(pages.deployment)
    page = person.get("/ui/episode", params={"anomaly": anomaly}).text
    assert 'name="stream"' in page
    answer = judge(
        person,
        anomaly,
        verdict="confirmed",
        cause="sauna_visit",
        title="In the sauna",
        action="Drink a glass of water.",
        stream=["heart_rate", "skin_temperature"],
        **{"from": "2026-01-06T12:00", "to": "2026-01-06T13:00"},
    )
    assert answer.status_code == 200, answer.text
    labels = said(pages)
    if not labels:
        # Nothing happened in that hour that could be recognised again: the page says so.
        assert "notice bad" in answer.text
        return
    assert labels[0].stream_ids == ["heart_rate", "skin_temperature"]
    assert labels[0].start_time.hour == 11
    assert labels[0].title == "In the sauna"


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "maybe"},
        {"verdict": ""},
        {"verdict": "confirmed", "cause": "No Name!"},
        {"verdict": "confirmed", "cause": "brand_new"},
        {"verdict": "expected", "stream": "no_such_stream"},
        {"verdict": "expected", "from": "soon"},
        {"verdict": "expected", "from": "2026-01-06T12:00", "to": "2026-01-06T11:00"},
        {"verdict": "expected", "from": "2030-01-06T12:00"},
        {"verdict": "expected", "reason": "a\x01b"},
    ],
)
def test_what_cannot_be_recorded_is_explained_and_not_recorded(
    pages: Pages, person: httpx.Client, fields: dict[str, str]
) -> None:
    """The form comes back with the reason."""
    answer = judge(person, episode_of(pages.deployment), **fields)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert said(pages) == []


def test_judging_twice_says_how_to_change_it(pages: Pages, person: httpx.Client) -> None:
    """The same windows are not counted twice."""
    anomaly = episode_of(pages.deployment)
    judge(person, anomaly, verdict="confirmed")
    again = judge(person, anomaly, verdict="expected")
    assert "labelled already" in again.text
    assert len(said(pages)) == 1


def test_who_may_only_look_does_not_judge(pages: Pages, reader: httpx.Client) -> None:
    """There are no buttons, and a form is refused."""
    anomaly = episode_of(pages.deployment)
    assert 'name="verdict"' not in reader.get("/ui/episode", params={"anomaly": anomaly}).text
    assert judge(reader, anomaly, verdict="confirmed").status_code == 403
    assert said(pages) == []
    one = suggestion(pages, ANN)
    assert decide(reader, one, "reject").status_code == 403
    assert 'name="decision"' not in reader.get("/ui/suggestions").text


def test_somebody_elses_label_cannot_be_taken_back(pages: Pages, person: httpx.Client) -> None:
    """Neither through an own episode nor with another's number."""
    judge(person, episode_of(pages.deployment, HOSTILE), verdict="confirmed")
    (theirs,) = said(pages, HOSTILE)
    client = pages.person(entity_id=ANN)
    answer = client.post(
        "/ui/episode/undo",
        params={"anomaly": episode_of(pages.deployment)},
        data={"mark": mark_of(client), "label": str(theirs.label_id)},
        headers=HTMX,
    )
    assert 'role="alert"' in answer.text
    assert said(pages, HOSTILE)[0].undone_at is None


def test_similar_episodes_show_how_they_were_judged(pages: Pages, person: httpx.Client) -> None:
    """An episode of the same kind about the same streams tells what was said of the other."""
    database = pages.deployment.database
    first, second = (episode_of(pages.deployment, ANN, number) for number in (0, 1))
    judge(person, first, verdict="false_alarm", reason="The sensor was loose")
    execute(
        database,
        "UPDATE causal_explanations AS c SET record = c.record || jsonb_build_object("
        "'cause_kind', o.record -> 'cause_kind', 'cause_streams', o.record -> 'cause_streams') "
        "FROM causal_explanations AS o WHERE o.anomaly_id::text = %s AND c.anomaly_id::text = %s",
        first,
        second,
    )
    text = person.get("/ui/episode", params={"anomaly": second}).text
    assert "The sensor was loose" in text
    assert "false alarm" in text.split('id="alike-title"')[1].split("</section>")[0]


def suggestion(pages: Pages, entity: str) -> int:
    """Return the number of an open suggestion of an entity."""
    with pages.deployment.database.connect() as connection:
        found = list_suggestions(connection, entity_id=entity, status=Decision.OPEN)
    if not found:
        cause = f"stream_{entity[:1]}"
        suggest(pages.deployment, entity, cause)
        return suggestion(pages, entity)
    return found[0].suggestion_id


def decide(client: httpx.Client, number: int, decision: str) -> httpx.Response:
    """Send the form of a suggestion."""
    return client.post(
        "/ui/suggestions/decide",
        data={"mark": mark_of(client), "suggestion": str(number), "decision": decision},
        headers=HTMX,
    )


def test_an_accepted_edge_stands_in_the_catalogue(pages: Pages, person: httpx.Client) -> None:
    """It is written to the entity's own file, or to a copy where the catalogue is shipped."""
    number = suggestion(pages, HOSTILE)
    answer = decide(person, number, "accept")
    assert "accepted into default-" in answer.text
    (path,) = (pages.deployment.settings.home / "catalogues").glob("default-*.yaml")
    assert "app_launches" in path.read_text().split("causal_edges")[1]
    with pages.deployment.database.connect() as connection:
        (one,) = list_suggestions(connection, entity_id=HOSTILE, status=Decision.ACCEPTED)
    assert str(one.decided_by).startswith("Ann <b>Smith</b> (token ")


def test_a_rejected_suggestion_is_shown_no_more(pages: Pages, person: httpx.Client) -> None:
    """It disappears from the open ones, and stays among all."""
    suggest(pages.deployment, ANN, "battery_level")
    number = suggestion(pages, ANN)
    answer = decide(person, number, "reject")
    assert f"Suggestion {number} rejected" in answer.text
    assert f'name="suggestion" value="{number}"' not in person.get("/ui/suggestions").text
    assert "rejected" in person.get("/ui/suggestions", params={"status": "all"}).text


def test_a_token_of_one_entity_changes_no_catalogue(pages: Pages) -> None:
    """A catalogue may be others' too; and another's suggestion does not exist for it."""
    suggest(pages.deployment, ANN, "audio_level")
    client = pages.person(entity_id=ANN)
    assert decide(client, suggestion(pages, ANN), "accept").status_code == 403
    suggest(pages.deployment, HOSTILE, "audio_level")
    assert decide(client, suggestion(pages, HOSTILE), "reject").status_code == 404
    assert decide(client, 999_999, "reject").status_code == 404


def test_what_the_catalogue_refuses_is_told(pages: Pages, person: httpx.Client) -> None:
    """An edge of a stream that there is not is refused with the reason, and stays open."""
    suggest(pages.deployment, ANN, "no_such_stream")
    with pages.deployment.database.connect() as connection:
        (one,) = (
            one
            for one in list_suggestions(connection, entity_id=ANN)
            if one.payload["cause"] == "no_such_stream"
        )
    answer = decide(person, one.suggestion_id, "accept")
    assert "no_such_stream" in answer.text.split('role="alert"')[1][:400]
