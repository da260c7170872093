"""What the pages show: of everybody, of one entity, its episodes, its gaps; hostile names too."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from anomaly_assets.dashboard.lookups.overview import Doing, Status, everybody
from anomaly_assets.dashboard.lookups.scores import MOST_COLUMNS, MOST_POINTS
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.queries import final_scores
from anomaly_assets_tests.dashboard.world import (
    ANN,
    FULL,
    HOSTILE,
    HOSTILE_STREAM,
    NAMES,
    WINDOWS,
    Pages,
    episode_of,
    serving_pages,
)
from anomaly_assets_tests.pipeline.people import query

if TYPE_CHECKING:
    import httpx


def data(client: httpx.Client, name: str, **asked: str) -> Any:
    """Return the data of a drawing over all windows."""
    answer = client.get(f"/ui/data/{name}?{FULL}", params=asked)
    if asked:
        answer = client.get(f"/ui/data/{name}", params={**_full(), **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _full() -> dict[str, str]:
    return dict(pair.split("=") for pair in FULL.split("&"))


def shown(client: httpx.Client, path: str, **asked: str) -> str:
    """Return a page."""
    answer = client.get(f"/ui{path}", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_overview_names_everybody_with_state_and_sparkline(person: httpx.Client) -> None:
    """Every entity is there once; those without data say so instead of showing a zero."""
    text = shown(person, "/")
    names = [
        unescape(one)
        for one in re.findall(r'row-link" href="/ui/entity[^>]*><bdi>(.*?)</bdi>', text)
    ]
    assert sorted(names) == sorted([ANN, HOSTILE, *NAMES])
    assert text.count('class="spark"') == 2
    assert text.count("no scores yet") == len(NAMES)


def test_recordings_of_long_ago_show_their_last_days(pages: Pages, person: httpx.Client) -> None:
    """Lists of episodes end where the data do and say so; one's own data count, not others'."""
    for path in ("/", "/episodes"):
        text = shown(person, path, **({} if path == "/" else {"strong": "0"}))
        assert f'until <time datetime="{WINDOWS.end_time:%Y-%m-%dT%H:%M:%SZ}"' in text
        assert "/ui/episode?anomaly=" in text
    alone = pages.person(entity_id=NAMES[0])
    assert "until" not in shown(alone, "/").split("Latest episodes")[1][:300]
    assert "No episode matches" in shown(alone, "/episodes", strong="0")


def test_the_overview_filters_sorts_and_pages(person: httpx.Client) -> None:
    """Filters are in the address; HTMX gets the list alone."""
    one = shown(person, "/", q="AN")
    assert one.count('<tr>\n    <th scope="row"') == 1
    starting = shown(person, "/", status="starting", sort="name")
    assert starting.count("status-starting badge") + starting.count("badge status-starting") == len(
        NAMES
    )
    part = person.get("/ui/", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert 'id="entities"' in part
    assert "No entity matches" in shown(person, "/", q="nobody at all")
    assert shown(person, "/", page="99", sort="nonsense", status="nonsense")


def test_thousands_of_entities_come_in_pages(pages: Pages, person: httpx.Client) -> None:
    """Fifty to a page, and the last page has the rest."""
    with pages.deployment.database.connect() as connection:
        connection.execute(
            "INSERT INTO entities (entity_id) SELECT 'crowd-' || n FROM generate_series(1, 1203) n"
        )
        try:
            first = shown(person, "/", q="crowd-")
            assert "1,203 entities, page 1 of 25" in first
            last = shown(person, "/", q="crowd-", page="25")
            assert last.count('class="row-link"') == 3
        finally:
            connection.execute("DELETE FROM entities WHERE entity_id LIKE 'crowd-%'")


def test_status_says_the_most_urgent_thing(pages: Pages) -> None:
    """Quarantined before silent before anomalous before normal; without data it is starting."""
    with pages.deployment.database.connect() as connection:
        soon = WINDOWS.end_time + timedelta(minutes=5)
        found = {
            one.entity_id: one for one in everybody(connection, soon, threshold=0.7, only=None)
        }
        assert found[NAMES[0]].status is Status.STARTING
        assert found[ANN].status in {Status.NORMAL, Status.ANOMALOUS}
        later = everybody(connection, soon + timedelta(hours=2), threshold=0.7, only=ANN)
        assert later[0].status is Status.SILENT
        anomalous = everybody(connection, soon, threshold=0.0, only=ANN)
        assert anomalous[0].status is Status.ANOMALOUS
    assert isinstance(found[ANN], Doing)


def test_a_name_cannot_become_part_of_the_page(pages: Pages, person: httpx.Client) -> None:
    """Names with tags, quotes, slashes, dots and other directions are text on every page."""
    for name in (HOSTILE, *NAMES):
        for path, asked in (
            ("/entity", {"id": name}),
            ("/gaps", {"id": name}),
            ("/suggestions", {"id": name}),
            ("/episodes", {"id": name, "range": "90d"}),
            ("/", {"q": name}),
        ):
            text = shown(person, path, **asked)
            assert name not in text or not re.search(r"[<>\"&']", name)
            assert "<script>alert" not in text
            assert "<img src=x" not in text
    episode = shown(person, "/episode", anomaly=episode_of(pages.deployment, HOSTILE))
    assert "<script>alert" not in episode


def test_a_stream_cannot_become_part_of_the_page(person: httpx.Client) -> None:
    """A description with a script in it is text, in tables and in data."""
    text = shown(person, "/entity", id=ANN, stream="heart_rate", **_full())
    assert "Pulse&#34;&gt;&lt;script&gt;document" in text
    assert HOSTILE_STREAM not in text
    answer = person.get("/ui/data/heat", params={"id": ANN, **_full()})
    assert answer.headers["content-type"] == "application/json"


def test_addresses_with_odd_names_do_no_harm(person: httpx.Client) -> None:
    """Names of our own arguments in the query change nothing."""
    asked = {"id": ANN, "path": "x", "self": "y", "template": "z", "class": "a", "visit": "b"}
    assert person.get("/ui/entity", params=asked).status_code == 200
    assert person.get("/ui/", params=asked).status_code == 200
    assert person.get("/ui/suggestions", params=asked).status_code == 200


@pytest.mark.parametrize("path", ["/entity", "/gaps", "/data/scores", "/data/heat"])
@pytest.mark.parametrize("name", ["nobody", "", "a\x00b", "x" * 5000])
def test_an_unknown_entity_is_not_found(person: httpx.Client, path: str, name: str) -> None:
    """Whatever the name, the answer is 404."""
    assert person.get(f"/ui{path}", params={"id": name}).status_code == 404


def test_a_span_that_cannot_be_is_refused_with_a_page(person: httpx.Client) -> None:
    """The page says what to write instead."""
    answer = person.get("/ui/entity", params={"id": ANN, "from": "soon"})
    assert answer.status_code == 400
    assert "2026-03-02T15:10Z" in answer.text


def test_the_timeline_is_what_is_stored(pages: Pages, person: httpx.Client) -> None:
    """Over a short span each window is a point, and unknown is null."""
    found = data(person, "scores", id=ANN)
    with pages.deployment.database.connect() as connection:
        starts, scores = final_scores(connection, ANN)
    assert found["step"] == 300
    assert found["x"][0] == WINDOWS.start
    told = dict(zip(found["x"], found["score"], strict=True))
    for start, score in zip(starts.tolist(), scores.tolist(), strict=True):
        assert told[start] == pytest.approx(score, rel=1e-4)
    assert found["zone"] == "Europe/Berlin"
    assert found["episodes"]
    assert all(one["summary"] for one in found["episodes"])


def test_a_long_span_has_few_points_and_keeps_the_highest(
    pages: Pages, person: httpx.Client
) -> None:
    """However long, a screenful is sent; a step shows the highest score in it."""
    asked = {"id": ANN, "from": "2025-12-20T00:00Z", "to": "2026-01-20T00:00Z"}
    found = person.get("/ui/data/scores", params=asked).json()
    assert len(found["x"]) <= MOST_POINTS
    with pages.deployment.database.connect() as connection:
        _, scores = final_scores(connection, ANN)
    known = [one for one in found["score"] if one is not None]
    assert max(known) == pytest.approx(np.nanmax(scores), rel=1e-4)
    assert None in found["score"]
    heat = person.get("/ui/data/heat", params=asked).json()
    assert heat["columns"] <= MOST_COLUMNS


def test_gaps_are_gaps_and_no_zeros(pages: Pages, person: httpx.Client) -> None:
    """A cell is a gap exactly where nothing of its time was observed, else its highest score."""
    found = data(person, "heat", id=ANN)
    step = found["step"]
    rows = query(
        pages.deployment.database,
        "SELECT t.stream_id, floor((extract(epoch FROM t.timestamp) - %s) / %s)::int, "
        "bool_and(t.is_missing), max(s.anomaly_score) FROM time_series_data AS t "
        "JOIN anomaly_scores AS s USING (entity_id, timestamp, stream_id) "
        "WHERE t.entity_id = %s AND s.method = 'river_individual' GROUP BY 1, 2",
        found["start"],
        step,
        ANN,
    )
    cells = {one["id"]: one["cells"] for one in found["streams"]}
    gaps = 0
    for stream, column, missing, highest in rows:
        cell = cells[stream][column]
        if missing and highest is None:
            assert cell == -2
            gaps += 1
        elif highest is None:
            assert cell == -1
        else:
            assert cell == pytest.approx(highest * 100, abs=0.51)
    assert gaps > 20


def test_a_stream_shows_actual_and_expected(person: httpx.Client) -> None:
    """Values, the range of each step, what was expected, and the unit."""
    found = data(person, "stream", id=ANN, stream="heart_rate")
    assert found["unit"] == "bpm"
    known = [i for i, value in enumerate(found["actual"]) if value is not None]
    assert all(found["low"][i] <= found["actual"][i] <= found["high"][i] for i in known)
    assert any(value is not None for value in found["expected"])
    missing = person.get("/ui/data/stream", params={"id": ANN, "stream": "nothing"})
    assert missing.status_code == 404


def test_stream_health_can_be_filtered(person: httpx.Client) -> None:
    """By group, by name and by state; HTMX gets the table alone."""
    everything = shown(person, "/entity", id=ANN)
    assert "36 of 36 streams" in everything
    assert "7 of 36 streams" in shown(person, "/entity", id=ANN, group="motion")
    assert "1 of 36 stream" in shown(person, "/entity", id=ANN, find="heart_rate")
    there = shown(person, "/entity", id=ANN, state="there")
    missing = shown(person, "/entity", id=ANN, state="missing")
    counts = [int(re.findall(r"(\d+) of 36 streams", text)[0]) for text in (there, missing)]
    assert sum(counts) == 36
    headers = {"HX-Request": "true", "HX-Target": "streams"}
    part = person.get("/ui/entity", params={"id": ANN}, headers=headers).text
    assert part.lstrip().startswith('<div id="streams">')


def test_episodes_can_be_filtered_and_sorted(person: httpx.Client) -> None:
    """By words, by score, by judgement; the order is the one asked for."""
    full = _full()
    everything = shown(person, "/entity", id=ANN, **full)
    total = int(re.findall(r"(\d+) episodes?", everything.split('id="episodes"')[1])[0])
    strong = shown(person, "/entity", id=ANN, strong="1", **full).split('id="episodes"')[1]
    assert int((re.findall(r"(\d+) episodes?[,<]", strong) or ["0"])[0]) < total
    assert "No episode matches" in shown(person, "/entity", id=ANN, judged="expected", **full)
    assert "No episode matches" in shown(person, "/entity", id=ANN, q="no such words", **full)
    by_score = shown(person, "/entity", id=ANN, sort="score", **full).split('id="episodes"')[1]
    scores = [float(one) for one in re.findall(r'num">(0\.\d\d)<', by_score.split("</table>")[0])]
    assert scores == sorted(scores, reverse=True)


def test_times_are_on_the_entitys_clock_with_utc_on_hover(
    pages: Pages, person: httpx.Client
) -> None:
    """The zone is stated; every moment tells UTC too."""
    text = shown(person, "/episode", anomaly=episode_of(pages.deployment))
    assert "Europe/Berlin" in text
    for utc, title, local in re.findall(
        r'<time datetime="([^"]+)" title="(\d\d\d\d-[^"]+) UTC">[A-Z][a-z]+ ([^<]+)</time>', text
    ):
        at = datetime.fromisoformat(utc)
        assert f"{at:%Y-%m-%d %H:%M}" == title
        told = datetime.strptime(local, "%d %b %Y %H:%M").replace(tzinfo=UTC)
        assert told - at in {timedelta(hours=1), timedelta(hours=2)}


def test_an_episode_shows_all_that_was_explained(pages: Pages, person: httpx.Client) -> None:
    """Sentence, action, shares with unexplained, alternatives, what was missing and consulted."""
    name = episode_of(pages.deployment)
    (record,) = (
        row[0]
        for row in query(
            pages.deployment.database,
            "SELECT record FROM causal_explanations WHERE anomaly_id::text = %s",
            name,
        )
    )
    text = unescape(shown(person, "/episode", anomaly=name))
    assert record["summary"] in text
    assert record["recommended_action"] in text
    assert "Unexplained" in text
    assert "Another cause" in text or "other" in text.lower()
    assert str(len(record["missing_streams"])) in text
    assert record["methods_used"][0] in text
    minutes = person.get("/ui/data/minutes", params={"anomaly": name}).json()
    assert minutes["streams"]
    for one in minutes["streams"]:
        assert len(one["x"]) == len(one["y"]) == len(one["low"]) == len(one["high"])


@pytest.mark.parametrize("name", ["", "x", "0" * 36, "../..", "\x00", "9" * 500])
def test_an_unknown_episode_is_not_found(person: httpx.Client, name: str) -> None:
    """Whatever the identifier, the answer is 404."""
    assert person.get("/ui/episode", params={"anomaly": name}).status_code == 404
    assert person.get("/ui/data/minutes", params={"anomaly": name}).status_code == 404


def test_the_gap_calendar_holds_every_processed_hour(person: httpx.Client) -> None:
    """Thirty hours are thirty cells; a context leaves its own."""
    full = _full()
    text = shown(person, "/gaps", id=ANN, **full)
    grid = text.split("calendar-grid")[1].split("</svg>")[0]
    assert len(re.findall(r"<title>", grid)) == 30
    sleep = shown(person, "/gaps", id=ANN, context="sleep_hours", group="motion", **full)
    cells = sleep.split("calendar-grid")[1].split("</svg>")[0]
    assert 0 < len(re.findall(r"<title>", cells)) < 30
    assert "Nothing was processed" in shown(person, "/gaps", id=NAMES[0])


def test_the_settings_hide_what_is_secret(pages: Pages, person: httpx.Client) -> None:
    """Every setting is listed with its value, no secret and no password among them."""
    text = unescape(shown(person, "/settings"))
    for field in type(pages.deployment.settings).model_fields:
        assert field.upper() in text
    assert pages.deployment.key.decode() not in text
    assert "postgresql://" in text
    address = pages.deployment.settings.database_url or ""
    credentials = address.partition("//")[2].rpartition("@")[0]
    assert not credentials or f"{credentials}@" not in text


def test_quarantine_is_told_with_its_reason(pages: Pages, person: httpx.Client) -> None:
    """On the overview and on the entity's page, as text."""
    reason = "catalogue <b>gone</b>"
    with pages.deployment.database.connect() as connection:
        change = (
            "UPDATE entities SET quarantined_reason = %s, quarantined_at = now() "
            "WHERE entity_id = %s"
        )
        connection.execute(change, (reason, NAMES[1]))
        try:
            for text in (shown(person, "/"), shown(person, "/entity", id=NAMES[1])):
                assert "catalogue &lt;b&gt;gone&lt;/b&gt;" in text
        finally:
            connection.execute(
                "UPDATE entities SET quarantined_reason = NULL, quarantined_at = NULL"
            )


def test_an_entity_without_a_readable_catalogue_still_has_a_page(
    pages: Pages, person: httpx.Client
) -> None:
    """The page says what is wrong; its drawings say so too."""
    with pages.deployment.database.connect() as connection:
        change = "UPDATE entities SET catalogue = %s WHERE entity_id = %s"
        connection.execute(change, ("/nowhere.yaml", NAMES[1]))
        try:
            assert "cannot be read" in shown(person, "/entity", id=NAMES[1])
            assert shown(person, "/gaps", id=NAMES[1])
            assert shown(person, "/")
            answer = person.get("/ui/data/heat", params={"id": NAMES[1]})
            assert answer.status_code == 409
        finally:
            connection.execute(change, (None, NAMES[1]))


def test_a_database_that_is_away_is_told_as_such(pages: Pages, person: httpx.Client) -> None:
    """The page says to try again, and nothing about the server; the session goes on afterwards."""
    away = replace(pages.deployment, database=Database("postgresql://127.0.0.1:9/hidden_name"))
    with serving_pages(away) as own:
        client = own.stranger()
        client.cookies.update(person.cookies)
        answer = client.get("/ui/")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert "hidden_name" not in answer.text
    assert person.get("/ui/").status_code == 200


def test_pages_are_compressed(person: httpx.Client) -> None:
    """What a browser takes packed is sent packed."""
    for path in ("/ui/", f"/ui/entity?id={ANN}", f"/ui/data/heat?id={ANN}"):
        assert person.get(path).headers["content-encoding"] == "gzip"
    assert json.loads(person.get(f"/ui/data/scores?id={ANN}&{FULL}").content)
