"""Whatever happens: never too many messages, nothing lost, nothing twice, restarts do no harm."""

from __future__ import annotations

from collections import Counter
from datetime import time, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.episodes import joined
from anomaly_assets.live.alerts.alert import Rule
from anomaly_assets.live.alerts.book import is_digest
from anomaly_assets.live.alerts.policy import Policy, QuietHours
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets_tests.live.alerts.world import World, snooze

ENTITIES = {"ann": "Europe/Berlin", "bob": "America/New_York", "eve": "Asia/Kolkata"}
HOUR = timedelta(hours=1)

windows = st.tuples(
    st.just("see"),
    st.fixed_dictionaries(
        {
            "entity": st.sampled_from(sorted(ENTITIES)),
            "anomalous": st.booleans(),
            "score": st.sampled_from([0.75, 0.99]),
            "available": st.sampled_from([1.0, 0.6, 0.1]),
            "explained": st.booleans(),
            "provisional": st.booleans(),
            "windows_ago": st.sampled_from([0, 0, 0, 1, 5, 100]),
        }
    ),
)
snoozes = st.builds(
    lambda entity, rule, hours: ("snooze", (entity, rule, hours)),
    st.sampled_from([None, *ENTITIES]),
    st.sampled_from([None, *Rule]),
    st.integers(1, 30),
)
others = st.sampled_from(["decide", "arrive", "give_up", "restart", "unsnooze", "batch"])
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, 5, 5, 7, 30, 300]),
        st.one_of(windows, windows, windows, snoozes, others.map(lambda name: (name, None))),
    ),
    max_size=60,
)
policies = st.builds(
    Policy,
    per_hour=st.integers(1, 6),
    per_entity=st.integers(0, 4),
    digest_after=st.sampled_from([timedelta(0), timedelta(minutes=15), timedelta(hours=2)]),
    quiet_hours=st.sampled_from(
        [None, QuietHours(time(22), time(7)), QuietHours(time(13), time(13, 30))]
    ),
    passing=st.sampled_from(list(AlertSeverity)),
    max_age=st.sampled_from([timedelta(0), timedelta(hours=6)]),
)


def play(
    steps: list[tuple[int, tuple[str, Any]]], policy: Policy, *, restarts: bool = True
) -> World:
    """Let it all happen to a deployment that decides after every step."""
    world = World(policy)
    for minutes, (name, given_) in steps:
        world.pass_time(minutes=minutes)
        if name == "see":
            world.see(**given_, zone=ENTITIES[given_["entity"]])
        elif name == "snooze":
            entity, rule, hours = given_
            world.snoozes.append(snooze(world.now + timedelta(hours=hours), entity, rule))
        elif name == "unsnooze":
            world.snoozes.clear()
        elif name == "batch":
            world.batch(11.0)
        elif name == "restart":
            if restarts:
                world.restart()
        elif name != "decide":
            getattr(world, name)()
        world.decide()
    return world


@given(steps, policies)
def test_never_more_than_the_limits(
    steps: list[tuple[int, tuple[str, Any]]], policy: Policy
) -> None:
    """In no hour do more messages arrive than the policy allows, of all and of one entity."""
    world = play(steps, policy)
    world.arrive()
    for last, _ in world.arrived:
        hour = [message for at, message in world.arrived if last - HOUR < at <= last]
        assert len(hour) <= policy.per_hour
        single = Counter(one.alerts[0].entity_id for one in hour if not one.digest)
        assert max(single.values(), default=0) <= policy.per_entity


@given(steps, policies)
def test_nothing_is_lost_and_nothing_told_twice(
    steps: list[tuple[int, tuple[str, Any]]], policy: Policy
) -> None:
    """In the end every alert has arrived in one message, but what was withdrawn before it was sent.

    What was held back has come in a digest.
    """
    world = play(steps, policy)
    were_held = {alert.key for alert in world.book.open(AlertStatus.HELD)}
    already = {alert.key for _, message in world.arrived for alert in message.alerts}
    world.arrive()
    for _ in range(24 * 6):
        world.pass_time(minutes=20)
        world.tell()
    told = Counter(alert.key for _, message in world.arrived for alert in message.alerts)
    assert set(told) == {alert.key for alert in world.book if alert.sent_at is not None}
    assert set(told.values()) <= {1}
    assert {a.status for a in world.book if a.key in told} <= {
        AlertStatus.SENT,
        AlertStatus.WITHDRAWN,
    }
    assert {a.status for a in world.book if a.key not in told} <= {
        AlertStatus.GROUPED,
        AlertStatus.WITHDRAWN,
    }
    in_digests = {
        alert.key
        for _, message in world.arrived
        if is_digest(message.message_id)
        for alert in message.alerts
    }
    assert were_held - already <= in_digests


@given(steps, policies)
def test_who_was_told_hears_of_the_withdrawal(
    steps: list[tuple[int, tuple[str, Any]]], policy: Policy
) -> None:
    """Each notice tells of an alert that was told before and is withdrawn, and none is missing."""
    world = play(steps, policy)
    for _ in range(24 * 6):
        world.pass_time(minutes=20)
        world.tell()
    told = [alert for _, message in world.arrived for alert in message.alerts]
    order = {alert.key: number for number, alert in enumerate(told)}
    withdrawn = {
        alert.notice_key: alert.key
        for alert in world.book
        if alert.withdrawn and not alert.notice and alert.sent_at is not None
        if alert.rule in {Rule.EPISODE, Rule.AVAILABILITY}
    }
    assert {alert.key for alert in told if alert.notice} == set(withdrawn)
    assert all(order[key] < order[notice] for notice, key in withdrawn.items())


@given(steps, policies)
def test_restarts_change_nothing(steps: list[tuple[int, tuple[str, Any]]], policy: Policy) -> None:
    """The same messages with the same alerts are decided on, however often it is restarted."""
    with_, without = play(steps, policy), play(steps, policy, restarts=False)
    assert with_.decided == without.decided
    assert sorted(with_.book, key=lambda a: a.key) == sorted(without.book, key=lambda a: a.key)


@given(st.lists(st.booleans(), min_size=25, max_size=60), policies)
@settings(max_examples=50)
def test_an_episode_is_one_alert(anomalous: list[bool], policy: Policy) -> None:
    """There are as many alerts as explanations would have episodes, however long they go on."""
    world = World(policy)
    starts = []
    for yes in anomalous:
        world.pass_time(minutes=5)
        world.see(anomalous=yes)
        world.see(anomalous=yes)
        world.tell()
        if yes:
            starts.append(int(world.now.timestamp()))
    expected = len(joined(np.array(starts, dtype=np.int64)))
    assert len(world.book.of("ann", Rule.EPISODE)) == expected
