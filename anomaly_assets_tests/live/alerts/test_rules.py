"""What raises an alert: each rule at its limit, once, and with what it tells."""

from __future__ import annotations

from datetime import timedelta

import pytest

from anomaly_assets.live.alerts.alert import DEPLOYMENT, Account, Alert, Rule
from anomaly_assets.live.alerts.rules import Observation, Thresholds, observe
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets_tests.live.alerts.world import World


def of(world: World, rule: Rule, entity: str = "ann") -> list[Alert]:
    """Return the alerts of a rule."""
    return world.book.of(entity, rule)


def test_an_ordinary_window_raises_nothing() -> None:
    """Nothing anomalous, every stream there: no alert."""
    assert World().see(anomalous=False) == []


def test_a_quarter_of_an_hour_of_quiet_does_not_end_an_episode() -> None:
    """Three quiet windows lie within an episode, four end it."""
    world = World()
    world.see()
    world.pass_time(minutes=20)
    world.see()
    assert len(of(world, Rule.EPISODE)) == 1
    world.pass_time(minutes=25)
    world.see()
    assert len(of(world, Rule.EPISODE)) == 2


def test_the_same_window_again_changes_nothing() -> None:
    """A result that comes twice is noticed once."""
    world = World()
    world.see()
    assert world.see() == []


@pytest.mark.parametrize(("apart", "raised"), [(11, 1), (12, 0)])
def test_two_of_twelve_windows_are_too_many(apart: int, raised: int) -> None:
    """Over 10 % within an hour raises an alert; an hour apart they are in no common hour."""
    world = World()
    world.see()
    world.pass_time(minutes=5 * apart)
    world.see()
    alerts = of(world, Rule.ANOMALY_RATE)
    assert len(alerts) == raised
    assert [alert.status for alert in alerts] == [AlertStatus.PENDING] * raised
    assert all("2 of the 12 windows" in alert.account.sentence for alert in alerts)


def test_the_rate_of_one_episode_is_told_by_its_alert() -> None:
    """It is on record as grouped; a second episode in the hour is an alert of its own."""
    world = World()
    for _ in range(3):
        world.see()
        world.pass_time(minutes=5)
    assert [a.status for a in of(world, Rule.ANOMALY_RATE)] == [AlertStatus.GROUPED]
    world.pass_time(minutes=25)
    world.see()
    statuses = [alert.status for alert in of(world, Rule.ANOMALY_RATE)]
    assert statuses == [AlertStatus.GROUPED, AlertStatus.PENDING]


@pytest.mark.parametrize(
    ("available", "severity"),
    [(0.7, None), (0.69, AlertSeverity.WARNING), (0.29, AlertSeverity.CRITICAL)],
)
def test_too_few_streams(available: float, severity: AlertSeverity | None) -> None:
    """Fewer than 70 % raise an alert; few are critical."""
    world = World()
    world.see(anomalous=False, available=available)
    alerts = of(world, Rule.AVAILABILITY)
    assert [alert.severity for alert in alerts] == ([] if severity is None else [severity])


def test_an_outage_is_one_alert() -> None:
    """A day without streams, with half an hour of them in between, is told once."""
    world = World()
    for window in range(288):
        world.see(anomalous=False, available=1.0 if 100 <= window < 106 else 0.2)
        world.pass_time(minutes=5)
        world.tell()
    assert len(of(world, Rule.AVAILABILITY)) == 1
    assert len(world.arrived) == 1


def test_streams_that_may_still_come_are_waited_for() -> None:
    """A provisional window raises no message at once; a revision takes it back."""
    world = World()
    world.see(anomalous=False, available=0.5, provisional=True)
    world.pass_time(minutes=9)
    assert world.tell() == []
    world.see(anomalous=False, available=0.9, windows_ago=1)
    world.pass_time(hours=3)
    assert world.tell() == []
    (alert,) = of(world, Rule.AVAILABILITY)
    assert alert.status is AlertStatus.WITHDRAWN


def test_streams_that_do_not_come_are_told_of() -> None:
    """After the wait the alert goes out, and noticing it later again needs no second one."""
    world = World()
    world.see(anomalous=False, available=0.5, provisional=True)
    world.pass_time(minutes=10)
    assert len(world.tell()) == 1


def test_a_withdrawn_alert_does_not_swallow_the_next() -> None:
    """What happens after a revision is told as if that had never been."""
    world = World()
    world.see(anomalous=False, available=0.5, provisional=True)
    world.see(anomalous=False, available=0.9)
    world.pass_time(minutes=5)
    world.see(anomalous=False, available=0.5)
    assert len(world.tell()) == 1


@pytest.mark.parametrize(("seconds", "raised"), [(10.0, 0), (10.1, 1)])
def test_a_slow_batch(seconds: float, raised: int) -> None:
    """More than 10 s raise an alert about the deployment, once an outbreak."""
    world = World()
    for _ in range(3):
        world.batch(seconds)
        world.pass_time(minutes=7)
    assert len(of(world, Rule.SLOW_BATCH, DEPLOYMENT)) == raised


def test_the_alert_waits_for_its_explanation() -> None:
    """It is sent at once when that comes, and after five seconds if it does not."""
    world = World()
    world.see(explained=False)
    assert world.tell() == []
    world.pass_time(seconds=1)
    world.see(explained=True)
    (message,) = world.tell()
    assert message.alerts[0].account.sentence == "ann did something odd."

    world = World()
    world.see(explained=False)
    world.pass_time(seconds=5)
    (message,) = world.tell()
    assert "no explanation" in message.alerts[0].account.sentence


def test_an_explanation_after_the_message_changes_nothing() -> None:
    """What people have read stays as they have read it."""
    world = World()
    world.see(explained=False)
    world.pass_time(seconds=5)
    world.tell()
    world.see(explained=True)
    assert world.tell() == []


def test_an_episode_that_waits_grows_more_severe() -> None:
    """Severity is that of the gravest window so far."""
    world = World()
    world.see(score=0.8, explained=False)
    world.pass_time(seconds=2)
    world.see(score=0.99, explained=False)
    assert of(world, Rule.EPISODE)[0].severity is AlertSeverity.CRITICAL


def test_thresholds_are_those_given() -> None:
    """Another limit holds as well."""
    strict = World(thresholds=Thresholds(available=0.95, explanation_wait=timedelta(0)))
    assert len(strict.see(anomalous=False, available=0.9)) == 1


def test_unknown_availability_says_nothing() -> None:
    """None is neither much nor little."""
    world = World()
    seen = Observation("ann", "UTC", 0, is_anomaly=False, score=None, available=None)
    assert observe(world.book, seen, world.thresholds, world.now) == []


def test_an_alert_survives_storage() -> None:
    """What comes back from its row is what went in, with everything set."""
    world = World()
    world.see()
    world.see(available=0.2)
    world.batch(11.0)
    world.decide()
    world.give_up()
    before = sorted(world.book, key=lambda alert: alert.key)
    world.restart()
    assert sorted(world.book, key=lambda alert: alert.key) == before
    assert isinstance(before[0].account, Account)
