"""Repeated false alarms of one shape: the same sources, at the same time of the day or the week.

They become suggestions for rules, each with what it would have done. Whether a habit is to be
passed over is a person's decision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.detection.cross_stream.detector import VOICES
from anomaly_assets.detection.feedback.adjustment import Adjustment, Days, Rule
from anomaly_assets.detection.feedback.evidence import (
    GAP_PREFIX,
    STANDS_OUT,
    VOICE_PREFIX,
    minute_of_day,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.detection.feedback.labelled import Deciding, Effect, Labelled
    from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: So many false alarms of one shape are no accident.
LEAST_ALIKE: Final = 3
#: So many if nothing but the sources is alike: that holds at any hour.
LEAST_AT_ANY_TIME: Final = 5
#: Those that begin within so many minutes of each other are at the same time of the day.
ALIKE_WITHIN: Final = 90
#: A rule holds so many minutes earlier and later than was seen.
AROUND: Final = 30
#: Of what happens at any time, no more than half may lie within so many minutes of the day.
SPREAD_OVER: Final = 3 * 60
#: What is so much odder than ever seen is not the habit any more.
ABOVE_CEILING: Final = 0.05
_HIGHEST_CEILING: Final = 0.99
#: A rule covers the sources that stand out in this share of the alarms, and the voices of tier 2
#: that do from a lower score on: it is their sum that raises an alarm.
_COVERED_IN: Final = 0.3
#: The way back belongs to the shape if it stands out in this share of the alarms.
_BACK_IN: Final = 0.5
_VOICE_COVERED: Final = 0.6
_DAY: Final = 24 * 60
_ON: Final = {"all": "on any day", "workdays": "on workdays", "weekend": "at the weekend"}
_FIRST_FREE_DAY: Final = 5


@dataclass(frozen=True)
class SuggestedRule:
    """A rule that repeated false alarms suggest.

    Parameters
    ----------
    rule
        The rule.
    effect
        What it would have done to the judged alarms.
    contradicted_by
        Labels of confirmed anomalies that it would suppress: with any, it cannot be accepted.
    """

    rule: Rule
    effect: Effect
    contradicted_by: tuple[int, ...] = ()


def suggest_rules(
    labelled: Labelled, current: Adjustment, deciding: Deciding, *, expires: int
) -> list[SuggestedRule]:
    """Look for false alarms of one shape among those that are still raised.

    Parameters
    ----------
    labelled
        Every judged alarm of one entity.
    current
        What is in force.
    deciding
        How decisions are made.
    expires
        Epoch seconds until which the rules would hold.

    Returns
    -------
    list of SuggestedRule
        Those that remove most first. No false alarm counts for two of them.
    """
    found: list[SuggestedRule] = []
    left = deciding.raised(labelled, current) & ~labelled.confirmed
    while True:
        best: tuple[tuple[int, bool, float], SuggestedRule, BoolArray] | None = None
        for rule, at_once in _candidates(labelled, left, expires):
            raised = deciding.raised(labelled, replace(current, rules=(*current.rules, rule)))
            gone = left & ~raised
            lost = labelled.confirmed & deciding.raised(labelled, current) & ~raised
            bounded = rule.from_minute is not None
            if gone.sum() < (LEAST_ALIKE if bounded else LEAST_AT_ANY_TIME):
                continue
            removed = int(gone.sum()) - 2 * int(lost.sum())
            rank = (removed, bounded, at_once)
            if best is None or rank > best[0]:
                made = replace(rule, labels=_labels(labelled, gone))
                effect = deciding.effect(
                    labelled, current, replace(current, rules=(*current.rules, made))
                )
                best = rank, SuggestedRule(made, effect, _labels(labelled, lost)), gone
        if best is None:
            return found
        found.append(best[1])
        left &= ~best[2]


def _labels(labelled: Labelled, chosen: BoolArray) -> tuple[int, ...]:
    return tuple(labelled.label_ids[one] for one in np.flatnonzero(chosen).tolist())


def _candidates(labelled: Labelled, left: BoolArray, expires: int) -> Iterator[tuple[Rule, float]]:
    """Build the rules that some of the alarms left suggest.

    With each comes the share of its alarms in which the source that it is named after stands out
    from the first window on: what comes later is an aftermath.
    """
    if left.sum() < LEAST_ALIKE:
        return
    some = labelled.take(left)
    named = [one for one in some.evidence.anchors() if not one.startswith(VOICE_PREFIX)]
    for seed in named:
        with_seed = some.any_of(some.evidence.stands_out(seed))
        if with_seed.sum() < LEAST_ALIKE:
            continue
        members = some.take(with_seed)
        begins, _ = _spans(members)
        days = _days_of(members)
        for group in _at_the_same_time(begins):
            if len(np.unique(days[group])) >= LEAST_ALIKE:
                chosen = members.take(group)
                yield _rule(seed, chosen, expires, bounded=True), _at_once(seed, chosen)
        if (
            len(np.unique(days)) >= LEAST_AT_ANY_TIME
            and not seed.startswith(GAP_PREFIX)
            and _is_spread(begins)
        ):
            yield _rule(seed, members, expires, bounded=False), _at_once(seed, members)


def _days_of(members: Labelled) -> IntArray:
    """Return the day of each alarm: what happens three times in a day is no habit."""
    _, first = np.unique(members.alarm, return_index=True)
    return np.asarray(members.evidence.starts[first] // (_DAY * 60))


def _at_once(seed: str, members: Labelled) -> float:
    _, first = np.unique(members.alarm, return_index=True)
    return float(members.evidence.stands_out(seed)[first].mean())


def _spans(members: Labelled) -> tuple[IntArray, IntArray]:
    """Return local minute of the first window of each alarm, and minutes to its last one's end."""
    first = np.full(len(members), -1)
    seconds = np.zeros(len(members), dtype=np.int64)
    for row, (alarm, start) in enumerate(
        zip(members.alarm.tolist(), members.evidence.starts.tolist(), strict=True)
    ):
        if first[alarm] < 0:
            first[alarm] = row
        seconds[alarm] = start - members.evidence.starts[first[alarm]] + 300
    return minute_of_day(members.evidence.hour[first]), seconds // 60


def _at_the_same_time(begins: IntArray) -> Iterator[BoolArray]:
    """Yield the groups of alarms that begin at the same time of the day."""
    seen = set()
    for begin in np.unique(begins).tolist():
        group = (begins - begin) % _DAY <= ALIKE_WITHIN
        if group.sum() >= LEAST_ALIKE and group.tobytes() not in seen:
            seen.add(group.tobytes())
            yield group


def _is_spread(begins: IntArray) -> bool:
    """Whether alarms come at any time of the day."""
    most = max(int(((begins - one) % _DAY <= SPREAD_OVER).sum()) for one in begins.tolist())
    return 2 * most <= len(begins)


def _rule(seed: str, members: Labelled, expires: int, *, bounded: bool) -> Rule:
    evidence = members.evidence
    days = _days(evidence.weekday) if bounded else "all"
    minutes: tuple[int | None, int | None] = (None, None)
    when = "at any time"
    if bounded:
        begins, lengths = _spans(members)
        around = _around(begins, lengths)
        minutes = around
        when = f"{_ON[days]} from {around[0] // 60:02d}:{around[0] % 60:02d}"
    return Rule(
        name=f"{seed} {when}",
        anchors=_anchors(seed, members),
        covers=_covers(members),
        ceiling=round(min(float(evidence.final.max()) + ABOVE_CEILING, _HIGHEST_CEILING), 3),
        expires=expires,
        days=days,
        from_minute=minutes[0],
        to_minute=minutes[1],
    )


def _anchors(seed: str, members: Labelled) -> tuple[str, ...]:
    """Return the source that the shape is named after, and its way back where that belongs to it.

    What jumps falls back in the next window, which is as odd.
    """
    if seed.startswith(GAP_PREFIX):
        return (seed,)
    back = seed[:-1] + ("-" if seed.endswith("+") else "+")
    often = float(members.any_of(members.evidence.stands_out(back)).mean()) >= _BACK_IN
    return (seed, back) if often else (seed,)


def _covers(members: Labelled) -> tuple[str, ...]:
    evidence = members.evidence
    covered = [
        stream
        for column, stream in enumerate(evidence.streams)
        if _share(members, evidence.score[:, column], STANDS_OUT) >= _COVERED_IN
    ]
    covered += [
        f"{VOICE_PREFIX}{name}"
        for column, name in enumerate(VOICES)
        if _share(members, evidence.voices[:, column], _VOICE_COVERED) >= _COVERED_IN
    ]
    # An alarm of gaps alone may have no stream that stands out.
    return tuple(covered) or (f"{VOICE_PREFIX}gaps",)


def _share(members: Labelled, score: FloatArray, limit: float) -> float:
    return float(members.any_of(score >= limit).mean())


def _days(weekday: IntArray) -> Days:
    free = weekday >= _FIRST_FREE_DAY
    if free.all():
        return "weekend"
    return "all" if free.any() else "workdays"


def _around(begins: IntArray, lengths: IntArray) -> tuple[int, int]:
    """Return from when to when a rule holds, minutes of the day."""
    order = np.sort(begins)
    apart = np.diff(order, append=order[0] + _DAY)
    first = int(order[(int(np.argmax(apart)) + 1) % len(order)])
    reach = int((((begins - first) % _DAY) + lengths).max())
    return (first - AROUND) % _DAY, (first + reach + AROUND) % _DAY
