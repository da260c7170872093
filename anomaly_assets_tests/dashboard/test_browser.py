"""The pages as people use them: Chromium walks every page and action, axe looks for barriers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, expect

from anomaly_assets.pipeline import feedback
from anomaly_assets_tests.chromium import PATIENCE_MS
from anomaly_assets_tests.dashboard.browsing import (
    NARROW,
    NEEDS_CHROMIUM,
    WIDE,
    Window,
    barriers,
    drawn,
)
from anomaly_assets_tests.dashboard.world import (
    ANN,
    FULL,
    HOSTILE,
    Pages,
    episode_of,
    suggest,
    suggest_rule,
)
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def window(browser: Browser, pages: Pages) -> Iterator[Window]:
    """Return a window that has logged in with a token for everything."""
    made = Window(browser, pages.url, viewport=WIDE)
    made.login(pages.tokens.create("Ann"))
    yield made
    made.context.close()
    execute(pages.deployment.database, "DELETE FROM labels")
    assert made.complaints == []


def paths_of(pages: Pages) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return every page with its drawings."""
    own = episode_of(pages.deployment)
    return {
        "overview": ("/ui/", ()),
        "entity": (f"/ui/entity?id={ANN}&{FULL}", ("score-chart", "heat")),
        "stream": (
            f"/ui/entity?id={ANN}&{FULL}&stream=heart_rate",
            ("score-chart", "stream-chart", "heat"),
        ),
        "episode": (f"/ui/episode?anomaly={own}", ("minutes-chart",)),
        "episodes": ("/ui/episodes?range=90d&strong=0", ()),
        "gaps": (f"/ui/gaps?id={ANN}&{FULL}", ()),
        "suggestions": ("/ui/suggestions?status=all", ()),
        "feedback": (f"/ui/feedback?status=all&id={ANN}", ()),
        "models": ("/ui/models", ()),
        "settings": ("/ui/settings", ()),
        "not found": ("/ui/entity?id=nobody", ()),
    }


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_no_serious_barrier(browser: Browser, pages: Pages, size: Any) -> None:
    """On every page, in both themes, wide and narrow: nothing serious, nothing cut off."""
    window = Window(browser, pages.url, viewport=size, color_scheme="light")
    page = window.page
    rule = suggest_rule(pages.deployment, ANN)
    feedback.accept(pages.deployment, rule, "Ann")
    page.goto("/ui/login")
    found = {"login": barriers(page)}
    window.login(pages.tokens.create("Ann"))
    for name, (path, drawings) in paths_of(pages).items():
        page.goto(path)
        drawn(page, *drawings)
        if name == "episode":
            page.get_by_text("Cause, range and streams").click()
        if name == "models":
            page.locator("details.act summary").first.click()
        if name == "feedback":
            expect(page.locator("#proposal")).to_contain_text("Nothing to change")
        found[name] = barriers(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
    window.context.close()
    forget_feedback(pages)
    assert {name: one for name, one in found.items() if one} == {}
    assert window.complaints == []


def forget_feedback(pages: Pages) -> None:
    """Leave no feedback behind."""
    tables = "feedback_versions, window_decisions, rule_suggestions"
    execute(pages.deployment.database, f"TRUNCATE {tables}")


def test_log_in_be_refused_and_log_out(browser: Browser, pages: Pages) -> None:
    """A wrong token is refused with a sentence; a right one leads to the page first asked for."""
    window = Window(browser, pages.url, viewport=WIDE)
    page = window.page
    page.goto(f"/ui/entity?id={ANN}")
    assert "/ui/login" in page.url
    page.get_by_label("Token", exact=True).fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("Not accepted")
    page.goto(f"/ui/entity?id={ANN}")
    page.get_by_label("Token", exact=True).fill(pages.tokens.create("Ann"))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(ANN)
    page.locator("details.menu summary").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status").first).to_contain_text("logged out")
    page.goto("/ui/")
    assert "/ui/login" in page.url
    window.context.close()


def test_judge_and_undo(window: Window, pages: Pages) -> None:
    """A verdict by mouse and one by keyboard, both taken back; the history tells all."""
    page = window.page
    page.goto(f"/ui/episode?anomaly={episode_of(pages.deployment)}")
    drawn(page, "minutes-chart")
    page.get_by_label("Why you think so").fill("Nobody <b>wore</b> it")
    page.get_by_role("button", name="False alarm").click()
    judgement = page.locator("#judgement")
    expect(judgement.get_by_role("status")).to_contain_text("Recorded")
    expect(judgement.locator(".history q")).to_have_text("Nobody <b>wore</b> it")
    judgement.get_by_role("button", name="Take back").click()
    expect(judgement.get_by_role("status")).to_contain_text("Taken back")
    page.locator("body").press("1")
    expect(judgement.locator(".history > li")).to_have_count(2)
    expect(judgement.locator("#judge-title + p, .panel-head ~ p").first).to_be_visible()
    page.reload()
    expect(page.locator("#judgement .history > li")).to_have_count(2)
    expect(page.locator(".lead .verdict-confirmed")).to_be_visible()


def test_filter_and_share(window: Window) -> None:
    """Typing filters the list, the address follows, and opened anew it shows the same."""
    page = window.page
    page.goto("/ui/")
    page.locator("#filter-q").fill(ANN)
    expect(page.locator("#entities .row-link")).to_have_count(1)
    page.wait_for_url(re.compile(r"\?.*q=ann"))
    page.reload()
    expect(page.locator("#entities .row-link")).to_have_count(1)
    page.goto(f"/ui/entity?id={ANN}&{FULL}")
    page.locator("#streams-find").fill("heart")
    expect(page.locator("#streams .row-link")).to_have_count(2)
    page.wait_for_url(re.compile("find=heart"))
    page.locator("#episodes select[name=judged]").select_option("judged")
    expect(page.locator("#episodes")).to_contain_text("No episode matches")


@pytest.mark.parametrize("where", ["#score-chart .u-over", "#heat canvas"])
def test_dragging_zooms_and_back_leads_out(window: Window, where: str) -> None:
    """A drag across a chart or the map becomes the time in the address; Back shows all again."""
    page = window.page
    page.goto(f"/ui/entity?id={ANN}&{FULL}")
    drawn(page, "score-chart", "heat")
    before = page.url
    area = page.locator(where).first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    y = box["y"] + 20
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=8)
    page.mouse.up()
    page.wait_for_url(lambda url: url != before)
    drawn(page, "score-chart", "heat")
    moments = re.findall(r"(?:from|to)=([^&]+)", page.url)
    assert len(moments) == 2
    page.go_back()
    assert page.url == before
    drawn(page, "score-chart")


def test_a_stream_is_opened_from_the_map(window: Window) -> None:
    """A click on a row of the map, and its name, show the stream's values."""
    page = window.page
    page.goto(f"/ui/entity?id={ANN}&{FULL}")
    drawn(page, "heat")
    page.locator(".heat-names a").nth(3).click()
    drawn(page, "stream-chart")
    page.locator("#heat canvas").click(position={"x": 300, "y": 5})
    page.wait_for_url(re.compile("stream="))
    drawn(page, "stream-chart")


def test_accept_and_reject_suggestions(window: Window, pages: Pages) -> None:
    """One edge is accepted into the catalogue, another is turned down."""
    suggest(pages.deployment, ANN, "keystrokes")
    suggest(pages.deployment, ANN, "notifications")
    page = window.page
    page.goto(f"/ui/suggestions?id={ANN}")
    row = page.locator("tr", has_text="keystrokes")
    row.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("status").first).to_contain_text("accepted into own.yaml")
    page.locator("tr", has_text="notifications").get_by_role("button", name="Reject").click()
    expect(page.locator("#suggestions > .notice.ok")).to_contain_text("rejected")
    assert "keystrokes" in (pages.deployment.settings.home / "own.yaml").read_text()


def test_accept_a_rule_take_it_back_and_reject_another(window: Window, pages: Pages) -> None:
    """A rule is in force at once with its effect beside it; taken back, all is as before."""
    suggest_rule(pages.deployment, ANN, "the bike")
    suggest_rule(pages.deployment, ANN, "the hair dryer")
    page = window.page
    page.goto(f"/ui/feedback?id={ANN}")
    expect(page.locator("#proposal")).to_contain_text("Nothing to change")
    row = page.locator("#feedback tr", has_text="the bike")
    expect(row).to_contain_text("5 → 1 false alarms")
    row.get_by_label("Since when").select_option("week")
    row.get_by_role("button", name="Accept").click()
    notice = page.locator("#feedback > .notice")
    expect(notice).to_contain_text("Rule the bike is in force")
    page.locator("#feedback tr", has_text="the hair dryer").get_by_role(
        "button", name="Reject"
    ).click()
    expect(notice).to_contain_text("Rule the hair dryer is rejected")
    expect(page.locator("#feedback")).to_contain_text("No rule waits for a decision")
    page.get_by_role("button", name="Take back").click()
    expect(notice).to_contain_text("is taken back")
    page.get_by_label("Status").select_option("all")
    row = page.locator("#feedback tr", has_text="the bike").first
    expect(row).to_contain_text("accepted, ended")
    page.wait_for_url(re.compile("status=all"))
    forget_feedback(pages)


def test_roll_back_a_model(window: Window, pages: Pages) -> None:
    """A version is kept, its models are set back to it, and the page tells when that is done."""
    page = window.page
    page.goto(f"/ui/models?id={ANN}&component=tier1_models")
    row = page.locator("#models tbody tr").nth(0)
    number = row.locator("th").inner_text()
    row.get_by_text("Pin", exact=True).click()
    row.get_by_label("Why").first.fill("the model of the paper")
    row.get_by_role("button", name="Keep it").click()
    notice = page.locator("#models > .notice")
    expect(notice).to_contain_text(f"Version {number} is kept")
    row = page.locator("#models tr", has_text="the model of the paper").first
    row.get_by_text("Roll back", exact=True).click()
    row.get_by_label("Why").last.fill("alarms all night")
    row.get_by_role("button", name=f"Roll back to version {number}").click()
    expect(notice).to_contain_text(f"set back to version {number}")
    done = page.locator("#models tr", has_text="alarms all night")
    expect(done).to_contain_text("done", timeout=8 * PATIENCE_MS)
    expect(done).to_contain_text("rows of")
    execute(pages.deployment.database, "DELETE FROM superseded_results")
    execute(pages.deployment.database, "DELETE FROM model_actions")
    execute(pages.deployment.database, "DELETE FROM model_pins")


def test_keys_alone_lead_everywhere(window: Window, pages: Pages) -> None:
    """Shortcuts, rows, help and the skip link work without a mouse."""
    page = window.page
    page.goto("/ui/")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("j")
    expect(page.locator("#entities .row-link").first).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("e")
    page.wait_for_url("**/ui/episodes")
    page.keyboard.press("/")
    expect(page.locator("#quick")).to_be_focused()
    page.goto(f"/ui/episode?anomaly={episode_of(pages.deployment)}")
    before = page.url
    with page.expect_navigation():
        page.keyboard.press("[" if page.locator("[data-key='[']").count() else "]")
    assert page.url != before


def test_the_colours_are_remembered(window: Window) -> None:
    """The choice holds on the next page, and as the system is the third choice."""
    page = window.page
    page.goto("/ui/")
    button = page.locator("[data-act=theme]")
    button.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    button.click()
    page.goto("/ui/settings")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("[data-act=theme]").click()
    assert page.locator("html").get_attribute("data-theme") is None


def test_hostile_names_do_nothing(window: Window) -> None:
    """Scripts in names of entities and streams are shown, never run."""
    page = window.page
    page.goto("/ui/")
    page.get_by_role("link", name="alert('x')", exact=False).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    drawn(page, "score-chart", "heat")
    page.goto(f"/ui/entity?id={ANN}&{FULL}&stream=heart_rate")
    drawn(page, "stream-chart", "heat")
    assert page.title().startswith(ANN)


def test_who_may_only_look_sees_no_buttons(browser: Browser, pages: Pages) -> None:
    """The page says why; a token of one entity meets a closed door elsewhere."""
    window = Window(browser, pages.url, viewport=WIDE)
    page = window.login(pages.tokens.create("Reader", write=False, entity_id=ANN))
    page.goto(f"/ui/episode?anomaly={episode_of(pages.deployment)}")
    expect(page.locator("#judgement")).to_contain_text("may only look")
    expect(page.locator(".verdicts")).to_have_count(0)
    page.goto("/ui/settings")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not for this token")
    page.goto(f"/ui/episode?anomaly={episode_of(pages.deployment, HOSTILE)}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing here")
    window.context.close()


def test_drawings_that_fail_say_so_and_can_be_tried_again(window: Window) -> None:
    """A server that is away leaves a sentence and a button, not an empty box."""
    page = window.page
    page.route("**/data/heat*", lambda route: route.abort())
    page.goto(f"/ui/entity?id={ANN}&{FULL}")
    failed = page.locator("#heat [role=alert]")
    expect(failed).to_contain_text("cannot be reached")
    page.unroute("**/data/heat*")
    failed.get_by_role("button", name="Try again").click()
    drawn(page, "heat")


def test_the_api_documentation_works_offline(window: Window) -> None:
    """The page lists the routes with nothing from another host, under its strict policy."""
    page = window.page
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("/docs")
    expect(page.get_by_text("/v1/readings", exact=True)).to_be_visible()
    assert hosts == {page.url.split("/")[2]}
