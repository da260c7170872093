"""What people read holds the sentence, the streams, what to do and where to look."""

from __future__ import annotations

from dataclasses import replace

from anomaly_assets.live.alerts.alert import Account, Alert, Message, StreamFact
from anomaly_assets.live.alerts.policy import Policy
from anomaly_assets.live.alerts.text import Links, render
from anomaly_assets_tests.live.alerts.world import World, snooze

ACCOUNT = Account(
    "Heart rate rose while nobody moved.",
    (StreamFact("Heart rate", "bpm", 141.0, 72.0), StreamFact("Steps", "", None, 30.0)),
    "6d3c2b7e-4c2b-5c8f-9d84-1f4f4d3c2b7e",
    "Ask how Ann is.",
)
LINKS = Links("https://watch.example")


def alert() -> Alert:
    """Return an alert with everything in it."""
    (found,) = World().see(zone="Europe/Berlin")
    return replace(found, account=ACCOUNT)


def test_an_alert_tells_all() -> None:
    """Sentence, each stream with actual and expected, advice and link; local time in the title."""
    text = render(Message("alert-1", (alert(),), digest=False), LINKS)
    assert text.title == "[warning] ann: anomaly, 2026-01-05 13:00"
    assert text.body.splitlines() == [
        "Heart rate rose while nobody moved.",
        "",
        "- Heart rate: 141 bpm, expected 72 bpm",
        "- Steps: missing, expected 30",
        "",
        "Do: Ask how Ann is.",
        "",
        f"More: https://watch.example/v1/explanations/{ACCOUNT.anomaly_id}",
    ]


def test_without_an_address_the_command_is_named() -> None:
    """There is always something that leads further."""
    body = render(Message("alert-1", (alert(),), digest=False), Links()).body
    assert f"More: anomaly-assets explain {ACCOUNT.anomaly_id}" in body


def test_names_are_quoted_in_links() -> None:
    """An entity called as nobody should be breaks no address."""
    odd = replace(alert(), entity_id="a&b=/é", account=Account("Odd."))
    body = render(Message("alert-1", (odd,), digest=False), LINKS).body
    assert "entity_id=a%26b%3D%2F%C3%A9" in body


def test_a_digest_tells_how_many_and_why() -> None:
    """Counts by reason, the first alerts each on a line, the rest counted; nothing unmentioned."""
    world = World(Policy(per_hour=1))
    for number in range(50):
        world.see(f"e{number:02d}")
    world.tell()
    world.pass_time(minutes=15)
    (digest,) = world.tell()
    text = render(digest, LINKS)
    assert text.title == "[warning] 50 alerts of 50 entities that were held back"
    assert "50 (there were too many)" in text.body
    assert "And 30 more:" in text.body
    assert "anomaly-assets alerts list" in text.body
    assert len(text.body) < 4000


def test_a_digest_of_one_is_the_alert_itself() -> None:
    """It only adds why it comes late."""
    world = World(snoozes=[snooze(World().now.replace(hour=13))])
    world.see()
    world.tell()
    world.pass_time(hours=1)
    (digest,) = world.tell()
    body = render(digest, LINKS).body
    assert body.startswith("ann did something odd.")
    assert body.endswith("Held back: snoozed.")
