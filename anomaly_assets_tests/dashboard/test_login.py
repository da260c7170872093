"""Who is let in, who is kept out, and what keeps strangers from acting for somebody."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.dashboard.app import NAVIGATION, PAGES
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets_tests.dashboard.world import (
    ANN,
    HOSTILE,
    Pages,
    episode_of,
    mark_of,
    serving_pages,
)

if TYPE_CHECKING:
    import httpx


@pytest.mark.parametrize(("path", "method"), [(path, method) for path, _, method in PAGES])
def test_nothing_private_without_a_login(pages: Pages, path: str, method: str) -> None:
    """Every page sends a stranger to the login, and says nothing of anybody."""
    address = f"/ui{path}?id={ANN}&anomaly={episode_of(pages.deployment)}"
    form = {} if method == "GET" else {"data": {"mark": "0" * 96}}
    answer = pages.stranger().request(method, address, **form)  # type: ignore[arg-type]
    assert answer.status_code in {303, 401}
    assert ANN not in answer.text
    assert answer.headers.get("location", "/ui/login").startswith("/ui/login")


def test_a_stranger_gets_the_form_the_files_and_nothing_else(pages: Pages) -> None:
    """The login page works with its files alone, and the address `/` leads there."""
    stranger = pages.stranger()
    page = stranger.get("/ui/login")
    assert page.status_code == 200
    files = re.findall(r'(?:href|src)="(/ui/static/[^"]+)"', page.text)
    assert len(files) > 3
    for file in files:
        answer = stranger.get(file)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert stranger.get("/").headers["location"] == "/ui/"
    assert stranger.get("/ui/static/../app.py").status_code == 404
    assert stranger.get("/ui/static/%2e%2e/app.py").status_code == 404


def test_every_answer_carries_the_security_headers(pages: Pages, person: httpx.Client) -> None:
    """Pages, data, files, errors: no foreign script, no frame, and nothing private is kept."""
    for client, path in (
        (pages.stranger(), "/ui/login"),
        (person, "/ui/"),
        (person, "/ui/entity?id=nobody"),
        (person, f"/ui/data/scores?id={ANN}"),
        (person, "/ui/static/app.css"),
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        if "static" not in path:
            assert headers["cache-control"] == "no-store"


def test_pages_have_no_inline_scripts_or_styles(person: httpx.Client) -> None:
    """What the policy forbids is not there to be forbidden."""
    for item in NAVIGATION:
        text = person.get(f"/ui{item.path}").text
        tags = re.findall(r"<[a-z][^>]*>", re.sub(r'="[^"]*"|=\'[^\']*\'', "=", text))
        inline = r"<script(?!.*\bsrc=)|<style|\sstyle=|\son[a-z]+="
        assert [tag for tag in tags if re.search(inline, tag)] == []


def test_a_token_opens_a_session_whose_cookie_scripts_cannot_read(pages: Pages) -> None:
    """The cookie is HttpOnly and SameSite, for the pages only; the secret is not in it."""
    secret = pages.tokens.create("somebody")
    client = pages.login(secret, next=f"/ui/entity?id={ANN}")
    answer = client.last  # type: ignore[attr-defined]
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/ui/entity?id={ANN}"
    cookie = next(
        one for one in answer.headers.get_list("set-cookie") if "anomaly_assets_session" in one
    )
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/ui" in cookie
    assert secret not in cookie
    assert client.get("/ui/").status_code == 200
    assert secret not in client.get("/ui/").text


def test_behind_a_trusted_proxy_with_https_the_cookie_is_secure(pages: Pages) -> None:
    """The word of a proxy that is not trusted changes nothing."""
    headers = {"X-Forwarded-Proto": "https"}
    form = pages.stranger().get("/ui/login", headers=headers)
    assert "Secure" not in form.headers["set-cookie"]
    trusting = {"live_trusted_proxies": (ip_network("127.0.0.0/8"),)}
    deployment = replace(
        pages.deployment, settings=pages.deployment.settings.model_copy(update=trusting)
    )
    with serving_pages(deployment) as own:
        form = own.stranger().get("/ui/login", headers=headers)
        assert "Secure" in form.headers["set-cookie"]


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example", "/ui/\\evil"])
def test_the_login_leads_to_our_pages_only(pages: Pages, wanted: str) -> None:
    """An address that somebody put into a link to the login is not followed."""
    client = pages.login(pages.tokens.create("somebody"), next=wanted)
    assert client.last.headers["location"] == "/ui/"  # type: ignore[attr-defined]


@pytest.mark.parametrize("secret", ["", "wrong", "aa_" + "x" * 43, "<script>", "\N{SNOWMAN}"])
def test_a_wrong_token_is_refused_and_not_repeated(pages: Pages, secret: str) -> None:
    """The answer says what to do, opens no session and does not show what was typed."""
    with serving_pages(pages.deployment) as own:
        client = own.login(secret)
        answer = client.last  # type: ignore[attr-defined]
        assert answer.status_code == 401
        assert "anomaly-assets tokens create" in answer.text
        assert not secret or secret not in re.sub("anomaly.*?create", "", answer.text)
        assert client.get("/ui/").status_code == 303


def test_a_token_that_may_not_read_is_refused(pages: Pages) -> None:
    """A phone's token opens no page."""
    client = pages.login(pages.tokens.create("phone", read=False))
    assert client.last.status_code == 403  # type: ignore[attr-defined]
    assert client.get("/ui/").status_code == 303


def test_guessing_tokens_is_stopped_after_a_while(pages: Pages) -> None:
    """The limit is that of the API: too many wrong ones, and no unknown one is looked up."""
    tokens = TokenBook(pages.deployment.database, failures_per_minute=3)
    with serving_pages(pages.deployment, tokens=tokens) as own:
        codes = [
            own.login("aa_" + str(number) * 43).last.status_code  # type: ignore[attr-defined]
            for number in range(5)
        ]
        assert codes == [401, 401, 401, 429, 429]


def test_a_login_form_of_another_browser_is_refused(pages: Pages) -> None:
    """Nobody can be logged in by a stranger's form: it lacks the cookie that belongs to it."""
    answer = pages.stranger().post(
        "/ui/login", data={"before": "x" * 32, "token": pages.tokens.create("mine"), "next": ""}
    )
    assert answer.status_code == 403
    assert "anomaly_assets_session" not in answer.headers.get("set-cookie", "")


def test_a_revoked_token_ends_its_sessions_at_once(pages: Pages) -> None:
    """The very next page asks for a login."""
    secret, token = pages.tokens.issue("short-lived")
    client = pages.login(secret)
    assert client.get("/ui/").status_code == 200
    pages.tokens.revoke(token.token_id)
    assert client.get("/ui/").status_code == 303


def test_an_expired_token_ends_its_sessions(pages: Pages) -> None:
    """A session lives no longer than its token."""
    secret, token = pages.tokens.issue("old", expires=datetime.now(tz=UTC) + timedelta(hours=1))
    client = pages.login(secret)
    with pages.deployment.database.connect() as connection:
        connection.execute(
            "UPDATE api_tokens SET created_at = now() - interval '2 days', "
            "expires_at = now() - interval '1 day' WHERE token_id = %s",
            (token.token_id,),
        )
    assert client.get("/ui/").status_code == 303


def test_logging_out_ends_the_session_for_every_copy(pages: Pages) -> None:
    """The cookie of before is worth nothing afterwards."""
    client = pages.person()
    copy = pages.stranger()
    copy.cookies.update(client.cookies)
    assert copy.get("/ui/").status_code == 200
    answer = client.post("/ui/logout", data={"mark": mark_of(client)})
    assert answer.headers["location"].startswith("/ui/login")
    assert copy.get("/ui/").status_code == 303


@pytest.mark.parametrize(
    ("headers", "mark"),
    [
        ({}, ""),
        ({}, "0" * 96),
        ({"Origin": "https://evil.example"}, None),
        ({"Origin": "null"}, None),
        ({"Referer": "https://evil.example/ui/"}, None),
        ({"Sec-Fetch-Site": "cross-site"}, None),
    ],
)
def test_a_form_from_elsewhere_changes_nothing(
    pages: Pages, headers: dict[str, str], mark: str | None
) -> None:
    """Without the session's mark, or from another origin, a form is refused."""
    client = pages.person()
    fields = {"mark": mark_of(client) if mark is None else mark}
    assert client.post("/ui/logout", data=fields, headers=headers).status_code == 403
    assert client.get("/ui/").status_code == 200


def test_a_mark_of_another_session_is_refused(pages: Pages) -> None:
    """Who has a session of their own cannot act in somebody else's."""
    mine, theirs = pages.person(), pages.person()
    answer = theirs.post("/ui/logout", data={"mark": mark_of(mine)})
    assert answer.status_code == 403


def test_what_is_no_form_is_refused(pages: Pages) -> None:
    """JSON, huge bodies and broken encodings are refused with a page, not an error of ours."""
    client = pages.person()
    assert client.post("/ui/logout", json={"mark": mark_of(client)}).status_code == 415
    assert client.post("/ui/logout", data={"mark": "x" * 70_000}).status_code == 413
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/ui/logout", content=b"mark=\xff\xfe", headers=form).status_code == 422
    assert client.get("/ui/logout").status_code == 405


def test_a_token_of_one_entity_sees_that_entity_only(pages: Pages) -> None:
    """Another's pages, data and episodes are as if they did not exist; so are the settings."""
    client = pages.person(entity_id=ANN)
    assert client.get("/ui/", params={"q": ""}).text.count('class="row-link" href="/ui/entity') == 1
    assert client.get("/ui/entity", params={"id": ANN}).status_code == 200
    other = episode_of(pages.deployment, HOSTILE)
    for path, query in (
        ("/ui/entity", {"id": HOSTILE}),
        ("/ui/gaps", {"id": HOSTILE}),
        ("/ui/data/scores", {"id": HOSTILE}),
        ("/ui/data/heat", {"id": HOSTILE}),
        ("/ui/episode", {"anomaly": other}),
        ("/ui/data/minutes", {"anomaly": other}),
    ):
        answer = client.get(path, params=query)
        assert answer.status_code == 404, path
        missing = client.get(path, params=dict.fromkeys(query, "nobody"))
        assert missing.text.replace("nobody", "") == answer.text.replace(other, "")
    assert client.get("/ui/settings").status_code == 403
    listed = client.get("/ui/episodes", params={"id": HOSTILE, "range": "90d"}).text
    assert "No episode matches" in listed
    assert "<bdi>&lt;script" not in client.get("/ui/suggestions", params={"id": HOSTILE}).text
