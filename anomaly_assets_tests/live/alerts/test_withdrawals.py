"""Late readings that explain an alert: it is withdrawn, and who has read it hears so, once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anomaly_assets.live.alerts.alert import Alert, Message, Rule
from anomaly_assets.live.alerts.policy import Policy
from anomaly_assets.live.alerts.service import observation
from anomaly_assets.live.alerts.text import Links, render
from anomaly_assets.live.alerts.withdrawals import notices
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets_tests.live.alerts.results import result
from anomaly_assets_tests.live.alerts.world import NOON, World, snooze


def episode(world: World) -> Alert:
    """Return the only alert of an episode."""
    (found,) = (alert for alert in world.book.of("ann", Rule.EPISODE) if not alert.notice)
    return found


def told(world: World) -> list[Alert]:
    """Return what has arrived, in order."""
    return [alert for _, message in world.arrived for alert in message.alerts]


def explain_away(world: World) -> None:
    """Let late readings revise the window that was anomalous."""
    world.see(anomalous=False)


def test_what_still_waits_is_withdrawn_in_silence() -> None:
    """Nobody has heard of it, so nobody hears of its end."""
    world = World()
    world.see(explained=False)
    explain_away(world)
    world.pass_time(hours=1)
    assert world.tell() == []
    assert episode(world).status is AlertStatus.WITHDRAWN


def test_what_is_held_back_is_withdrawn_in_silence() -> None:
    """A digest tells nothing that is known to be wrong by then."""
    world = World(snoozes=[snooze(World().now.replace(hour=14))])
    world.see()
    world.tell()
    assert episode(world).status is AlertStatus.HELD
    explain_away(world)
    world.snoozes.clear()
    world.pass_time(hours=1)
    assert world.tell() == []
    assert episode(world).status is AlertStatus.WITHDRAWN


def test_what_was_sent_is_followed_by_one_notice() -> None:
    """It says why, and what it takes back; further revisions add nothing."""
    world = World()
    world.see()
    world.tell()
    explain_away(world)
    (message,) = world.tell()
    explain_away(world)
    assert world.tell() == []
    assert episode(world).status is AlertStatus.WITHDRAWN
    (notice,) = message.alerts
    assert notice.severity is AlertSeverity.INFO
    text = render(message, Links("https://watch.example"))
    assert text.title == "[info] ann: withdrawn: anomaly, 2026-01-05 12:00"
    assert text.body.startswith(
        "Withdrawn: late readings explain it. It had said: ann did something odd."
    )
    assert "https://watch.example/v1/anomalies?entity_id=ann" in text.body


@pytest.mark.parametrize("moment", ["sent", "on its way"])
def test_the_notice_says_what_explains_it(moment: str) -> None:
    """People's judgement is not called late readings, whichever process tells of it."""
    world = World()
    world.see()
    world.decide()
    if moment == "sent":
        world.arrive()
    world.see(anomalous=False, why_not="the rule 'habit' covers it")
    world.restart()
    world.arrive()
    (message,) = world.tell()
    assert render(message, Links()).body.startswith(
        "Withdrawn: the rule 'habit' covers it. It had said: ann did something odd."
    )


def test_an_alert_of_an_earlier_version_can_be_withdrawn() -> None:
    """Rows without the reason are read as those that late readings have explained."""
    world = World()
    world.see()
    world.decide()
    explain_away(world)
    (row,) = (alert.row() for alert in world.book)
    details = {name: one for name, one in row.details.items() if name != "withdrawn_for"}
    old = Alert.of_row(replace(row, details=details))
    (notice,) = notices(old, world.now)
    assert notice.account.sentence.startswith("Withdrawn: late readings explain it.")


@pytest.mark.parametrize(
    ("closed_by", "rule", "why"),
    [
        (ClosedBy.REVISION, None, "late readings explain it"),
        (ClosedBy.FEEDBACK, None, "what people have judged speaks against it"),
        (ClosedBy.FEEDBACK, "habit", "the rule 'habit', made of people's judgement, covers it"),
        (ClosedBy.STORED, None, "computed anew"),
    ],
)
def test_a_result_knows_why_it_is_no_anomaly(
    closed_by: ClosedBy, rule: str | None, why: str
) -> None:
    """Late readings, a rule, other feedback, or what is stored by now."""
    told = replace(result(NOON, score=0.3), closed_by=closed_by, suppressed_by=rule)
    assert observation(told, None).why_not.startswith(why)


def test_what_is_on_its_way_is_followed_once_it_has_arrived() -> None:
    """The notice never overtakes the alert; a message that is given up needs none."""
    world = World()
    world.see()
    world.decide()
    explain_away(world)
    assert world.decide() == []
    world.arrive()
    assert [alert.notice for alert in [*told(world), *world.tell()[0].alerts]] == [False, True]

    world = World()
    world.see()
    world.decide()
    explain_away(world)
    world.give_up()
    world.pass_time(hours=1)
    assert world.tell() == []
    assert episode(world).status is AlertStatus.WITHDRAWN


def test_a_notice_counts_against_the_limit() -> None:
    """Beyond it the notice is held back for a digest, like everything else."""
    world = World(Policy(per_entity=1))
    world.see()
    world.tell()
    explain_away(world)
    assert world.tell() == []
    world.pass_time(minutes=15)
    (digest,) = world.tell()
    assert digest.digest
    assert [alert.notice for alert in digest.alerts] == [True]


def test_an_episode_stands_while_a_window_of_it_does() -> None:
    """Part of it explained, it is shorter; all of it explained, it is withdrawn."""
    world = World()
    world.see()
    world.tell()
    world.pass_time(minutes=5)
    world.see()
    world.see(anomalous=False, windows_ago=1)
    alert = episode(world)
    assert (alert.status, alert.first, alert.last) == (AlertStatus.SENT, alert.last, alert.last)
    explain_away(world)
    assert episode(world).status is AlertStatus.WITHDRAWN


def test_a_long_episode_is_not_withdrawn_for_its_last_hour() -> None:
    """Windows that are not remembered one by one still count."""
    world = World()
    for _ in range(20):
        world.see()
        world.tell()
        world.pass_time(minutes=5)
    for ago in range(1, 13):
        world.see(anomalous=False, windows_ago=ago)
    assert episode(world).status is AlertStatus.SENT
    assert len(told(world)) == 1


def test_right_after_all_before_anybody_read_otherwise() -> None:
    """The notice does not go out, and the alert is not told twice."""
    world = World(Policy(per_entity=1))
    world.see()
    world.tell()
    explain_away(world)
    world.tell()
    world.see()
    world.pass_time(hours=2)
    assert world.tell() == []
    assert episode(world).status is AlertStatus.SENT
    assert len(told(world)) == 1


def test_right_after_all_once_people_read_otherwise() -> None:
    """That is told anew: an alert of its own, with a notice of its own."""
    world = World()
    for _ in range(2):
        world.see()
        world.tell()
        explain_away(world)
        world.tell()
    assert [alert.notice for alert in told(world)] == [False, True, False, True]
    assert len({alert.key for alert in told(world)}) == 4


def test_a_rate_goes_with_its_episodes() -> None:
    """Fewer anomalies than it told of withdraw it; the notice of the episode says why."""
    world = World()
    world.see()
    world.tell()
    world.pass_time(minutes=30)
    world.see()
    world.tell()
    assert [alert.rule for alert in told(world)].count(Rule.ANOMALY_RATE) == 1
    explain_away(world)
    (message,) = world.tell()
    assert [(alert.rule, alert.notice) for alert in message.alerts] == [(Rule.EPISODE, True)]
    (rate,) = world.book.of("ann", Rule.ANOMALY_RATE)
    assert rate.status is AlertStatus.WITHDRAWN


def test_streams_that_came_after_all() -> None:
    """An alert of too few streams that was sent is taken back by late readings, too."""
    world = World()
    world.see(anomalous=False, available=0.5)
    world.tell()
    world.see(anomalous=False, available=0.9)
    (message,) = world.tell()
    assert "Withdrawn: late readings explain it." in message.alerts[0].account.sentence


@pytest.mark.parametrize("moment", ["sent", "on its way"])
def test_a_restart_in_between_changes_nothing(moment: str) -> None:
    """The notice follows once, whichever process has sent the alert."""
    world = World()
    world.see()
    world.decide()
    if moment == "sent":
        world.arrive()
    world.restart()
    explain_away(world)
    world.restart()
    world.arrive()
    assert [len(message.alerts) for message in world.decide()] == [1]
    world.restart()
    world.arrive()
    world.restart()
    assert world.tell() == []
    assert [alert.notice for alert in told(world)] == [False, True]


def test_a_digest_of_notices_says_so() -> None:
    """Several at once are one message, each with what it takes back."""
    world = World(Policy(per_hour=3))
    for entity in ("ann", "bob"):
        world.see(entity)
    world.tell()
    for entity in ("ann", "bob"):
        world.see(entity, anomalous=False)
    world.tell()
    world.pass_time(minutes=15)
    (digest,) = world.tell()
    assert isinstance(digest, Message)
    body = render(digest, Links()).body
    assert body.count("Withdrawn: late readings explain it.") == 2
