"""Repeated false alarms of one shape suggest a rule; what is not alike does not."""

from __future__ import annotations

from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.detection.feedback.shapes import SuggestedRule, suggest_rules
from anomaly_assets_tests.detection.feedback.made import DECIDING, alarms

HEART, NOISE, DAMP = range(3)
FOREVER = 2**40
MORNING = 7 * 60 + 30


def suggested(what: list[tuple[int, float, bool]], minutes: list[int]) -> list[SuggestedRule]:
    """Return the rules that judged alarms suggest."""
    return suggest_rules(alarms(what, minutes), Adjustment(), DECIDING, expires=FOREVER)


def test_three_alike_are_a_shape() -> None:
    """Same stream and direction, same time of day: two are none, and the effect is told."""
    what = [(NOISE, 0.97, False)] * 3 + [(HEART, 0.97, True)] * 2
    minutes = [MORNING, MORNING + 20, MORNING - 10, 600, 1200]
    (one,) = suggested(what, minutes)
    assert one.rule.name == "noise+ on workdays from 06:50"
    assert (one.rule.from_minute, one.rule.to_minute) == (410, 505)
    assert one.effect.sentence == "would have removed 3 of 3 false alarms, kept 2 of 2 confirmed"
    assert one.rule.labels == (100, 101, 102)
    assert suggested(what[1:], minutes[1:]) == []


def test_what_happens_at_any_hour_needs_more() -> None:
    """Five alarms of one stream at all hours are a shape, four are not."""
    what = [(NOISE, 0.97, False)] * 5
    minutes = [60, 300, 620, 900, 1300]
    (one,) = suggested(what, minutes)
    assert one.rule.name == "noise+ at any time"
    assert suggested(what[:4], minutes[:4]) == []


def test_around_midnight_is_one_time_of_the_day() -> None:
    """A habit may lie on both sides of it."""
    (one,) = suggested([(DAMP, 0.97, False)] * 3, [1430, 5, 1425])
    assert (one.rule.from_minute, one.rule.to_minute) == (1395, 40)


def test_the_label_that_contradicts_is_named() -> None:
    """A confirmed anomaly of the same shape is not passed over in silence."""
    what = [(NOISE, 0.97, False)] * 4 + [(NOISE, 0.97, True)]
    (one,) = suggested(what, [MORNING] * 5)
    assert one.contradicted_by == (104,)
    assert one.effect.confirmed_lost == 1


def test_what_is_suppressed_already_is_not_suggested() -> None:
    """Only what is still raised counts."""
    labelled = alarms([(NOISE, 0.97, False)] * 4, [MORNING] * 4)
    (one,) = suggest_rules(labelled, Adjustment(), DECIDING, expires=FOREVER)
    current = Adjustment(rules=(one.rule,))
    assert suggest_rules(labelled, current, DECIDING, expires=FOREVER) == []
