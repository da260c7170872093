"""What addresses may ask for, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from anomaly_assets.dashboard.addresses import (
    QuestionError,
    number_asked,
    span_asked,
    with_query,
)
from anomaly_assets.dashboard.guard import safe_next

UNTIL = datetime(2026, 3, 2, 15, 10, tzinfo=UTC)


def test_a_preset_ends_where_the_data_do() -> None:
    """Old recordings are shown as they end, not an empty today."""
    span = span_asked({"range": "24h"}, "UTC", UNTIL)
    assert (span.start, span.end) == (UNTIL - timedelta(days=1), UNTIL)
    assert span.query == {"range": "24h"}


def test_times_without_an_offset_are_the_entitys() -> None:
    """What a person types is on the entity's clock; what an address holds says its offset."""
    typed = span_asked(
        {"from": "2026-03-02T10:02", "to": "2026-03-02T12:00"}, "Europe/Berlin", UNTIL
    )
    assert typed.query == {"from": "2026-03-02T09:00Z", "to": "2026-03-02T11:00Z"}
    assert span_asked(typed.query, "Asia/Kolkata", UNTIL) == typed


@pytest.mark.parametrize(
    "asked",
    [
        {"range": "8y"},
        {"from": "yesterday"},
        {"from": "2026-03-02T12:00Z", "to": "2026-03-02T11:00Z"},
        {"from": "2020-01-01T00:00Z", "to": "2026-01-01T00:00Z"},
    ],
)
def test_a_span_that_cannot_be_shown_is_refused(asked: dict[str, str]) -> None:
    """No range of that name, no such time, nothing between, or too much."""
    with pytest.raises(QuestionError):
        span_asked(asked, "Europe/Berlin", UNTIL)


def test_pages_are_numbered_from_one() -> None:
    """Whatever else an address says is the default or the last one."""
    asked = {"a": "0", "b": "12", "c": "9" * 5000, "d": "-1", "e": "\N{SUPERSCRIPT TWO}"}
    assert [number_asked(asked, name, 1, 10) for name in "abcdef"] == [1, 10, 1, 1, 1, 1]


def test_hostile_names_survive_an_address() -> None:
    """A name with slashes, dots and quotes is data in the query, never part of the path."""
    assert with_query("/ui/entity", {"id": "../x?y#z\"'<"}) == (
        "/ui/entity?id=..%2Fx%3Fy%23z%22%27%3C"
    )


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/ui/",
        "//evil.example/ui/",
        "/ui//evil.example",
        "/ui/\\evil.example",
        "/ui/../v1/readings",
        "/uix",
        "javascript:alert(1)",
        "/ui/\r\nLocation: https://evil.example",
        "\t/ui/",
    ],
)
def test_after_the_login_nobody_is_sent_elsewhere(wanted: str) -> None:
    """An address that leads away from the pages leads to the overview."""
    assert safe_next("/ui", wanted) == "/ui/"
