"""The page of models: versions, who keeps them and why, and the way back to one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.pipeline import models
from anomaly_assets_tests.dashboard.world import ANN, HOSTILE, Pages, mark_of
from anomaly_assets_tests.live.api.serving import wait_until
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from anomaly_assets.storage.model_versions import ModelVersion

HTMX = {"HX-Request": "true"}
SCORES = (
    "SELECT timestamp, stream_id, method, anomaly_score FROM anomaly_scores "
    "WHERE entity_id = %s ORDER BY 1, 2, 3"
)


@pytest.fixture(autouse=True)
def _clean(pages: Pages) -> Iterator[None]:
    """Leave no pin and no action behind."""
    yield
    execute(pages.deployment.database, "DELETE FROM model_pins")
    execute(pages.deployment.database, "DELETE FROM superseded_results")
    execute(pages.deployment.database, "DELETE FROM model_actions")


def version_of(pages: Pages, entity: str = ANN) -> ModelVersion:
    """Return the oldest version of an entity's streams."""
    return models.list_versions(pages.deployment, entity, "tier1_models")[-1]


def act(client: httpx.Client, version: object, action: str, why: str = "to see") -> httpx.Response:
    """Send the form of a version."""
    return client.post(
        "/ui/models/act",
        data={"mark": mark_of(client), "version": str(version), "action": action, "why": why},
        headers=HTMX,
    )


def recorded(pages: Pages) -> list[tuple[Any, ...]]:
    """Return what was done, by whom and why."""
    return query(
        pages.deployment.database,
        "SELECT entity_id, kind, who, why, outcome FROM model_actions ORDER BY action_id",
    )


def shown(client: httpx.Client, **asked: str) -> list[int]:
    """Return the numbers of the versions that the page lists."""
    answer = client.get("/ui/models", params=asked)
    assert answer.status_code == 200, answer.text
    return [
        int(one)
        for one in re.findall(
            r'<th scope="row" class="num">(\d+)</th>\s*<td><a',
            (answer.text.split('id="actions-title"')[0]),
        )
    ]


def test_every_version_is_listed_and_found(pages: Pages, person: httpx.Client) -> None:
    """Newest windows first, a page at a time; the filters leave what they name."""
    everything = models.list_versions(pages.deployment)
    page = person.get("/ui/models").text
    assert f"{len(everything)} version" in page
    assert "test" in page
    assert "<script>alert" not in page
    own = {one.version for one in everything if one.entity_id == ANN}
    assert set(shown(person, id=ANN)) <= own
    streams = {one.version for one in everything if one.component == "gap_patterns"}
    assert set(shown(person, component="gap_patterns")) <= streams
    assert shown(person, kept="pinned") == []
    assert shown(person, id="nobody") == []
    assert "No version matches" in person.get("/ui/models", params={"id": "nobody"}).text
    assert shown(person, page="99999", component="what", kept="x") == shown(person)


def test_a_version_is_kept_with_who_and_why(pages: Pages, person: httpx.Client) -> None:
    """Pinned it names the token and the reason, in safe letters; unpinned it does not."""
    one = version_of(pages)
    answer = act(person, one.version, "pin", "the <b>paper</b>")
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "the &lt;b&gt;paper&lt;/b&gt;" in answer.text
    assert shown(person, kept="pinned") == [one.version]
    assert f"Version {one.version} is left" in act(person, one.version, "unpin").text
    assert shown(person, kept="pinned") == []
    told = recorded(pages)
    assert [(kind, why) for _, kind, _, why, _ in told] == [
        ("pin", "the <b>paper</b>"),
        ("unpin", "to see"),
    ]
    assert all(who.startswith("Ann <b>Smith</b> (token ") for _, _, who, _, _ in told)


def test_going_back_replays_and_says_what_changed(pages: Pages, person: httpx.Client) -> None:
    """The answer does not wait for the replay; the page tells of it until it is done."""
    one = version_of(pages, HOSTILE)
    before = query(pages.deployment.database, SCORES, HOSTILE)
    answer = act(person, one.version, "rollback", "alarms all night")
    assert answer.status_code == 200
    assert f"set back to version {one.version}" in answer.text
    wait_until(lambda: recorded(pages)[0][4] == "done", "the replay is done", seconds=240)
    ((entity, kind, who, why, _),) = recorded(pages)
    assert (entity, kind, why) == (HOSTILE, "rollback", "alarms all night")
    assert who.startswith("Ann <b>Smith</b> (token ")
    page = person.get("/ui/models").text
    assert "being replayed" not in page
    assert 'hx-trigger="every 2s"' not in page
    assert "0 rows of" in page
    assert query(pages.deployment.database, SCORES, HOSTILE) == before


def test_while_it_is_replayed_the_page_looks_again(pages: Pages, person: httpx.Client) -> None:
    """A pending action is told as such, and the list asks for itself every other second."""
    execute(
        pages.deployment.database,
        "INSERT INTO model_actions (entity_id, kind, who, why, outcome, details) "
        "VALUES (%s, 'rollback', 'Ann', 'to see', 'pending', '{}')",
        ANN,
    )
    page = person.get("/ui/models").text
    assert "being replayed" in page
    assert 'hx-trigger="every 2s"' in page


@pytest.mark.parametrize("why", ["", "   ", "a\x01b"])
@pytest.mark.parametrize("action", ["pin", "rollback"])
def test_nothing_is_done_without_a_reason(
    pages: Pages, person: httpx.Client, action: str, why: str
) -> None:
    """The list comes back with what is lacking."""
    answer = act(person, version_of(pages).version, action, why)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert recorded(pages) == []


def test_who_may_not_is_refused(pages: Pages, reader: httpx.Client, person: httpx.Client) -> None:
    """Readers see no forms; of others' versions not even that they exist is told."""
    one = version_of(pages)
    assert 'name="action"' not in reader.get("/ui/models").text
    assert act(reader, one.version, "pin").status_code == 403
    theirs = version_of(pages, HOSTILE).version
    own = pages.person(entity_id=ANN)
    assert act(own, theirs, "rollback").status_code == 404
    assert "alert(" not in own.get("/ui/models").text
    assert set(shown(own)) <= {v.version for v in models.list_versions(pages.deployment, ANN)}
    for number in (0, 999_999_999, "x", "9" * 40):
        assert act(person, number, "pin").status_code == 404
    assert act(person, one.version, "delete").status_code == 422
    assert recorded(pages) == []
