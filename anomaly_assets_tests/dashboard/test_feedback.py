"""The page of feedback: rules and versions with their effect, decided, told of and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.detection.feedback.labelled import Effect
from anomaly_assets.pipeline import feedback
from anomaly_assets.pipeline.feedback import Proposal
from anomaly_assets.pipeline.meta_model import layout_of
from anomaly_assets.storage.feedback import NewVersion, add_version
from anomaly_assets.storage.tables_feedback import FeedbackAction
from anomaly_assets_tests.dashboard.world import ANN, HOSTILE, START, Pages, mark_of, suggest_rule
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

HTMX = {"HX-Request": "true"}
HOSTILE_NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _clean(pages: Pages) -> Iterator[None]:
    """Leave no feedback behind."""
    yield
    tables = "feedback_versions, window_decisions, rule_suggestions"
    execute(pages.deployment.database, f"TRUNCATE {tables}")


def send(client: httpx.Client, what: str, **fields: object) -> httpx.Response:
    """Send a form of the page."""
    return client.post(
        f"/ui/feedback/{what}", data={"mark": mark_of(client), **fields}, headers=HTMX
    )


def version(pages: Pages, scope: str = ANN, **options: Any) -> int:
    """Put a version into force that somebody else has made."""
    new = NewVersion(
        scope,
        options.pop("action", FeedbackAction.RECALIBRATE),
        START,
        "Bob",
        replaces=None,
        adjustment=Adjustment(0.8, {"heart_rate": 0.5}),
        effect={
            "labels": Effect(20, 6, 9, 9).to_dict(),
            "later_labels": Effect(6, 2, 3, 3).to_dict(),
        },
        reason=HOSTILE_NAME,
        **options,
    )
    with pages.deployment.database.connect() as connection:
        return add_version(connection, new).feedback_id


def actions(pages: Pages) -> list[tuple[Any, ...]]:
    """Return what was made, and by whom."""
    return query(
        pages.deployment.database,
        "SELECT action, author FROM feedback_versions ORDER BY feedback_id",
    )


def test_without_any_the_page_says_how_to_begin(person: httpx.Client) -> None:
    """Empty lists tell what they would hold and what it takes."""
    page = person.get("/ui/feedback").text
    assert "No rule waits for a decision." in page
    assert "Nothing was changed yet." in page
    assert "Name an entity above" in page
    assert "There is no entity of that name" in person.get("/ui/feedback?id=nobody").text


def test_a_rule_is_accepted_ended_and_taken_back(pages: Pages, person: httpx.Client) -> None:
    """It shows before and after, quiets the last week, names who, and leaves no trace in force."""
    number = suggest_rule(pages.deployment, ANN)
    page = person.get("/ui/feedback", params={"id": ANN}).text
    assert "5 → 1" in page
    assert "3 → 3" in page
    answer = send(person, "decide", suggestion=number, decision="accept", reach="week")
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "is in force" in answer.text
    assert "decided about anew" in answer.text, answer.text[:400]
    quiet = query(
        pages.deployment.database,
        "SELECT count(*) FROM window_decisions JOIN anomaly_scores USING (entity_id, timestamp) "
        "WHERE entity_id = %s AND NOT is_alarm AND method = 'ensemble' AND anomaly_score > 0.7",
        ANN,
    )[0][0]
    assert quiet > 0
    told = person.get("/ui/feedback", params={"id": ANN, "status": "all"}).text
    assert "accepted" in told
    assert f"{quiet} window" in told
    ended = send(person, "decide", suggestion=number, decision="drop")
    assert "has ended" in ended.text
    assert "accepted, ended" in person.get("/ui/feedback", params={"status": "all"}).text
    for _ in range(2):
        ((newest,),) = query(
            pages.deployment.database,
            "SELECT content_of FROM feedback_versions ORDER BY feedback_id DESC LIMIT 1",
        )
        assert "is taken back" in send(person, "revert", version=newest).text
    assert query(pages.deployment.database, "SELECT count(*) FROM window_decisions") == [(0,)]
    made = actions(pages)
    assert [action for action, _ in made] == ["accept", "drop", "revert", "revert"]
    assert all(author.startswith("Ann <b>Smith</b> (token ") for _, author in made)


def test_a_rejected_rule_is_listed_among_all_only(pages: Pages, person: httpx.Client) -> None:
    """It names who has turned it down, and can still be accepted."""
    number = suggest_rule(pages.deployment, ANN, HOSTILE_NAME)
    assert "is rejected" in send(person, "decide", suggestion=number, decision="reject").text
    assert f'name="suggestion" value="{number}"' not in person.get("/ui/feedback").text
    page = person.get("/ui/feedback", params={"status": "rejected"}).text
    assert "Ann &lt;b&gt;Smith&lt;/b&gt;" in page
    assert HOSTILE_NAME not in page
    assert f'aria-label="Accept rule {number}"' in page


def test_a_contradicted_rule_cannot_be_accepted(pages: Pages, person: httpx.Client) -> None:
    """There is no button, the label is named, and a form is refused with the reason."""
    number = suggest_rule(pages.deployment, ANN, contradicted_by=[77])
    page = person.get("/ui/feedback").text
    assert f'aria-label="Accept rule {number}"' not in page
    assert "label 77" in page
    answer = send(person, "decide", suggestion=number, decision="accept")
    assert "would suppress what was confirmed" in answer.text.split('role="alert"')[1][:400]
    assert actions(pages) == []


def test_versions_tell_their_effect_and_stand(pages: Pages, person: httpx.Client) -> None:
    """Before and after, on all and on later labels; only the one in force can be taken back."""
    first, second = version(pages), version(pages)
    page = person.get("/ui/feedback", params={"id": ANN}).text
    for told in ("20 → 6", "6 → 2", "9 → 9", "superseded", "active", "trusted by 0.5"):
        assert told in page, told
    assert HOSTILE_NAME not in page
    assert f'aria-label="Take back version {second}"' in page
    assert f'aria-label="Take back version {first}"' not in page
    answer = send(person, "revert", version=first)
    assert "not active" in answer.text.split('role="alert"')[1][:300]


def test_what_the_labels_would_change_is_measured_first(
    person: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few labels are said so; a proposal shows before and after, and a button."""
    page = person.get("/ui/feedback/proposal", params={"id": ANN}).text
    assert "0 judged alarms, and 10 are needed" in page
    answer = send(person, "recalibrate", entity=ANN)
    assert "10 are needed" in answer.text.split('role="alert"')[1][:300]
    new = Adjustment(0.85, {"heart_rate": 0.5})
    found = Proposal(Adjustment(), new, Effect(20, 6, 9, 9), Effect(6, 2, 3, 3), (1, 2), "")
    monkeypatch.setattr(feedback, "propose", lambda *_: found)
    page = person.get("/ui/feedback/proposal", params={"id": ANN}).text
    for told in ("0.700 → 0.850", "1 → 0.5", "20 → 6", "6 → 2", "Put in force"):
        assert told in page, told
    lost = Proposal(Adjustment(), new, Effect(2, 1, 1, 1), Effect(1, 1, 1, 0), (1,), "it loses")
    monkeypatch.setattr(feedback, "propose", lambda *_: lost)
    page = person.get("/ui/feedback/proposal", params={"id": ANN}).text
    assert "cannot be put in force: it loses" in page
    assert "Put in force" not in page


def test_the_labels_are_looked_through_on_demand(pages: Pages, person: httpx.Client) -> None:
    """What they do not show any more goes, of one entity or of all."""
    suggest_rule(pages.deployment, ANN)
    assert "0 rules open" in send(person, "search", entity=ANN).text
    assert "0 rules open" in send(person, "search", entity="").text
    assert send(person, "search", entity="nobody").status_code == 404


def test_tokens_reach_as_far_as_they_are_good_for(pages: Pages, reader: httpx.Client) -> None:
    """Readers decide nothing, an entity's own token nothing of others or of the meta-learner."""
    number = suggest_rule(pages.deployment, ANN)
    theirs = suggest_rule(pages.deployment, HOSTILE)
    mine, other = version(pages), version(pages, HOSTILE)
    entity = pages.deployment.entity(ANN)
    layout = layout_of(entity.catalogue.stream_ids, entity.catalogue.group_ids)
    meta = version(
        pages, layout, action=FeedbackAction.FALL_BACK, is_meta=True, changes_nothing=False
    )
    page = reader.get("/ui/feedback").text
    for name in ("decision", "version", "reach"):
        assert f'name="{name}"' not in page
    for what, fields in (
        ("decide", {"suggestion": number, "decision": "accept"}),
        ("revert", {"version": mine}),
        ("recalibrate", {"entity": ANN}),
        ("search", {}),
    ):
        assert send(reader, what, **fields).status_code == 403
    own = pages.person(entity_id=ANN)
    page = own.get("/ui/feedback", params={"status": "all"}).text
    assert f'name="suggestion" value="{number}"' in page
    assert f'name="suggestion" value="{theirs}"' not in page
    assert f'name="version" value="{other}"' not in page
    assert "everybody with" not in page
    assert send(own, "decide", suggestion=theirs, decision="reject").status_code == 404
    assert send(own, "revert", version=other).status_code == 404
    assert send(own, "recalibrate", entity=HOSTILE).status_code == 404
    assert own.get("/ui/feedback/proposal", params={"id": HOSTILE}).status_code == 404
    assert send(own, "revert", version=meta).status_code == 403
    assert send(own, "decide", suggestion=number, decision="maybe").status_code == 422
    for odd in ("x", "0", "9" * 40):
        assert send(own, "revert", version=odd).status_code == 404
        assert send(own, "decide", suggestion=odd, decision="reject").status_code == 404
    assert [action for action, _ in actions(pages)] == ["recalibrate", "recalibrate", "fall_back"]
    assert "is taken back" in send(own, "revert", version=mine).text


def test_a_form_from_elsewhere_changes_nothing(pages: Pages, person: httpx.Client) -> None:
    """Without the mark of the session, or from another origin, nothing is taken back."""
    number = version(pages)
    asked: dict[str, Any] = {"data": {"mark": "0" * 64, "version": number}}
    assert person.post("/ui/feedback/revert", **asked).status_code == 403
    asked["data"]["mark"] = mark_of(person)
    asked["headers"] = {"Origin": "https://evil.example"}
    assert person.post("/ui/feedback/revert", **asked).status_code == 403
    assert len(actions(pages)) == 1
