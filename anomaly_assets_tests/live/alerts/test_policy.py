"""What is sent now and what is held back: limits, quiet hours, snoozes, digests, old news."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.live.alerts.alert import Hold, Rule
from anomaly_assets.live.alerts.policy import Policy, QuietHours
from anomaly_assets.settings import Settings
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets_tests.live.alerts.world import World, snooze

NIGHT = QuietHours(time(22), time(7))


def holds(world: World) -> list[Hold | None]:
    """Return why alerts are held back now."""
    return [alert.hold for alert in world.book.open(AlertStatus.HELD)]


def test_a_flood_comes_in_a_digest() -> None:
    """Beyond the limit alerts are held back, and told together a quarter of an hour later."""
    world = World(Policy(per_hour=4, per_entity=4))
    for number in range(10):
        world.see(f"e{number}")
    sent = world.tell()
    assert [len(message.alerts) for message in sent] == [1, 1, 1]
    assert holds(world) == [Hold.RATE_LIMIT] * 7
    world.pass_time(minutes=14)
    assert world.tell() == []
    world.pass_time(minutes=1)
    (digest,) = world.tell()
    assert digest.digest
    assert len(digest.alerts) == 7


def test_a_second_digest_waits_for_the_hour() -> None:
    """The limit counts digests, too: what comes after one waits until a place is free."""
    world = World(Policy(per_hour=1))
    world.see("a")
    world.tell()
    world.pass_time(minutes=15)
    assert len(world.tell()) == 1
    world.see("b")
    world.tell()
    world.pass_time(minutes=59)
    assert world.tell() == []
    world.pass_time(minutes=1)
    assert [message.digest for message in world.tell()] == [True]


def test_the_gravest_go_first() -> None:
    """Where not all can be sent, critical alerts are."""
    world = World(Policy(per_hour=2))
    world.see("mild", score=0.8)
    world.see("grave", score=0.99)
    (message,) = world.tell()
    assert message.alerts[0].entity_id == "grave"


def test_one_entity_does_not_use_up_the_limit_of_all() -> None:
    """A noisy entity is held back at its own limit, and another is still heard."""
    world = World(Policy(per_hour=12, per_entity=1))
    world.see("noisy", available=0.2)
    world.see("calm")
    sent = world.tell()
    assert sorted(message.alerts[0].entity_id for message in sent) == ["calm", "noisy"]
    assert holds(world) == [Hold.RATE_LIMIT]


def test_messages_on_their_way_count() -> None:
    """What has not arrived yet may arrive within the hour."""
    world = World(Policy(per_hour=2))
    world.see("a")
    world.decide()
    world.pass_time(hours=2)
    world.see("b")
    assert world.decide() == []


@pytest.mark.parametrize(
    ("zone", "hour", "quiet"),
    [
        ("UTC", 12, False),
        ("Asia/Tokyo", 12, False),
        ("Asia/Tokyo", 14, True),
        ("America/New_York", 11, True),
        ("America/New_York", 12, False),
    ],
)
def test_quiet_hours_are_those_of_the_entity(zone: str, hour: int, *, quiet: bool) -> None:
    """22:00 to 07:00 is taken on the clock of whom the alert is about."""
    world = World(Policy(quiet_hours=NIGHT), now=datetime(2026, 1, 5, hour, tzinfo=UTC))
    world.see(zone=zone)
    assert len(world.tell()) == (0 if quiet else 1)
    assert holds(world) == ([Hold.QUIET_HOURS] if quiet else [])


def test_the_night_is_told_in_the_morning() -> None:
    """What quiet hours held back comes in one digest when they end."""
    world = World(Policy(quiet_hours=NIGHT), now=datetime(2026, 1, 5, 23, tzinfo=UTC))
    world.see("ann")
    world.see("bob")
    while world.now < datetime(2026, 1, 6, 6, 59, tzinfo=UTC):
        assert world.tell() == []
        world.pass_time(minutes=5)
    world.now = datetime(2026, 1, 6, 7, tzinfo=UTC)
    (digest,) = world.tell()
    assert digest.digest
    assert len(digest.alerts) == 2


def test_the_clock_that_is_put_forward_is_followed() -> None:
    """On the night of summer time, 07:00 comes an hour earlier in UTC."""
    world = World(Policy(quiet_hours=NIGHT), now=datetime(2026, 3, 29, 0, tzinfo=UTC))
    world.see(zone="Europe/Berlin")
    world.now = datetime(2026, 3, 29, 4, 59, tzinfo=UTC)
    assert world.tell() == []
    world.now = datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert len(world.tell()) == 1


def test_critical_alerts_pass_quiet_hours_but_no_snooze() -> None:
    """Nobody sleeps through what is critical unless they asked for that."""
    policy = Policy(quiet_hours=NIGHT)
    world = World(policy, now=datetime(2026, 1, 5, 23, tzinfo=UTC))
    world.see(score=0.99)
    assert len(world.tell()) == 1
    world = World(policy, snoozes=[snooze(datetime(2026, 1, 5, 14, tzinfo=UTC))])
    world.see(score=0.99)
    assert world.tell() == []
    assert holds(world) == [Hold.SNOOZED]


def test_a_snooze_is_of_an_entity_and_a_rule() -> None:
    """What it does not name is sent as ever."""
    until = datetime(2026, 1, 5, 14, tzinfo=UTC)
    world = World(snoozes=[snooze(until, "ann", Rule.EPISODE)])
    world.see("ann", available=0.1)
    world.see("bob")
    told = {(m.alerts[0].entity_id, m.alerts[0].rule) for m in world.tell()}
    assert told == {("ann", Rule.AVAILABILITY), ("bob", Rule.EPISODE)}


def test_what_was_snoozed_is_told_when_it_ends() -> None:
    """At its end, or when it is lifted, a digest brings what came meanwhile."""
    world = World(snoozes=[snooze(datetime(2026, 1, 5, 14, tzinfo=UTC))])
    world.see()
    world.tell()
    world.pass_time(minutes=1)
    world.snoozes.clear()
    (digest,) = world.tell()
    assert digest.digest


def test_old_news_is_told_in_a_digest_only() -> None:
    """A backlog of days is one message, not a message an episode."""
    world = World()
    for number in range(1, 6):
        world.see(windows_ago=100 * number)
    assert world.tell() == []
    assert set(holds(world)) == {Hold.OLD}
    world.pass_time(minutes=15)
    (digest,) = world.tell()
    assert len(digest.alerts) == 5


def test_what_reached_nobody_comes_again() -> None:
    """A message that was given up is part of the next digest, once."""
    world = World()
    world.see()
    world.decide()
    world.give_up()
    assert holds(world) == [Hold.UNDELIVERED]
    world.pass_time(minutes=15)
    (digest,) = world.tell()
    assert [alert.entity_id for alert in digest.alerts] == ["ann"]
    world.pass_time(hours=5)
    assert world.tell() == []


def test_memory_stays_flat() -> None:
    """Alerts that are done with are forgotten after a week, open ones never."""
    world = World(Policy(per_hour=100, per_entity=100))
    for _ in range(60):
        world.see()
        world.tell()
        world.pass_time(hours=6)
        world.book.forget(world.now)
    assert len(world.book) <= 30
    world.snoozes.append(snooze(world.now + timedelta(days=30)))
    world.see("late")
    world.tell()
    world.pass_time(days=20)
    world.book.forget(world.now)
    assert [alert.entity_id for alert in world.book] == ["late"]


def test_limits_that_let_nothing_out_are_refused() -> None:
    """Nobody turns alerts off by a limit without noticing."""
    with pytest.raises(InputError, match="at least 1"):
        Policy(per_hour=0)


def test_the_settings_decide() -> None:
    """Limits, quiet hours and what passes them come from the settings."""
    settings = Settings(
        alerts_per_hour=5,
        alerts_per_hour_per_entity=2,
        alert_quiet_hours="21:30-06:00",
        alert_quiet_passing="warning",
    )
    policy = Policy.of(settings)
    assert (policy.per_hour, policy.per_entity) == (5, 2)
    assert policy.quiet_hours == QuietHours(time(21, 30), time(6))
    assert policy.passing is AlertSeverity.WARNING
