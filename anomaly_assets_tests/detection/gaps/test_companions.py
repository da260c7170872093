"""What goes silent although its companions still speak."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anomaly_assets.detection.gaps.companions import (
    LONGEST,
    MIN_WINDOWS,
    SMALLEST_P,
    CompanionSilence,
)
from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    BoolArray,
    FloatArray,
    WindowBlock,
    WindowRange,
)

#: Tuesday 6 January 2026, 08:00 UTC.
MORNING = 1_767_686_400
HOUR = 12


def judge(
    silence: CompanionSilence, there: BoolArray, waking: BoolArray | None = None
) -> FloatArray:
    """Judge windows of groups that are rows and companions at once."""
    if waking is None:
        waking = np.ones(len(there), dtype=bool)
    return silence.process(there, there, waking)


def groups(n: int) -> CompanionSilence:
    """Return what has learnt nothing of `n` groups, each a companion of all others."""
    return CompanionSilence(~np.eye(n, dtype=bool))


def there(n_windows: int, n_groups: int = 2) -> BoolArray:
    """Return windows in which everything speaks."""
    return np.ones((n_windows, n_groups), dtype=bool)


def test_a_silence_amid_companions_is_rarer_the_longer_it_lasts() -> None:
    """From window to window p falls, and the companion that speaks has p = 1."""
    silence = groups(2)
    judge(silence, there(2000))
    outage = there(HOUR)
    outage[:, 0] = False
    p = judge(silence, outage)
    assert (np.diff(p[:, 0]) < 0.0).all()
    assert p[-1, 0] < 1e-5
    assert (p[:, 1] == 1.0).all()


def test_an_outage_seen_before_is_still_found() -> None:
    """The first fault does not excuse the second, nor the third, of the same length."""
    silence = groups(2)
    outage = there(3 * HOUR)
    outage[:, 0] = False
    for _ in range(3):
        judge(silence, there(4 * 288))
        assert judge(silence, outage)[-1, 0] < 1e-4


def test_a_habit_of_silence_becomes_ordinary() -> None:
    """What is silent for an hour every day, while its companion speaks, is odd at first; after two
    weeks its deepest window, one of 288, is no rarer than that.
    """
    silence = groups(2)
    judge(silence, there(3 * 288))
    day = there(288)
    day[100 : 100 + HOUR, 0] = False
    lowest = [judge(silence, day)[:, 0].min() for _ in range(15)]
    assert lowest[0] < 1e-3
    assert lowest[-1] > 0.5 / 288


def test_what_never_spoke_is_not_silent() -> None:
    """Weeks with a companion make no silence of it, and its first silence counts from then on."""
    present = there(8 * 288)
    present[: 4 * 288, 0] = False
    p = judge(groups(2), present)[:, 0]
    assert (p == 1.0).all()


def test_what_is_gone_for_a_day_is_no_alarm_any_more() -> None:
    """A silence is odd from its second hour to its end or for a day, then said to be gone."""
    present = there(8 * 288)
    present[5 * 288 :, 0] = False
    p = judge(groups(2), present)[:, 0]
    assert (p[5 * 288 + 2 * HOUR : 6 * 288 - 1] < 1e-3).all()
    assert (p[6 * 288 - 1 :] == 1.0).all()


def test_sporadic_streams_are_rarely_odd() -> None:
    """Where 40 % of the windows are missing by chance, small p-values are hardly more frequent than
    stated.
    """
    present = there(6000)
    present[:, 0] = np.random.default_rng(0).random(6000) < 0.6
    p = judge(groups(2), present)[1000:, 0]
    assert (p < 0.01).mean() < 0.015
    assert (p < 0.001).mean() < 0.003


def test_nothing_is_said_while_the_companion_is_silent_too() -> None:
    """A watch that is taken off silences all it measures: p = 1, for hours, and nothing is learnt
    of either; a third group that goes on speaking is a companion of both.
    """
    silence = groups(2)
    judge(silence, there(2000))
    state = pickle.dumps(silence)
    assert (judge(silence, ~there(10 * HOUR)) == 1.0).all()
    assert pickle.dumps(silence) == state
    three = groups(3)
    judge(three, there(2000, 3))
    worn = there(HOUR, 3)
    worn[:, :2] = False
    assert (judge(three, worn)[-1, :2] < 1e-4).all()


def test_windows_without_the_companion_neither_lengthen_nor_end_a_silence() -> None:
    """After a break of both the silence is as long as it was before it."""
    straight, broken = groups(2), groups(2)
    judge(straight, there(2000))
    judge(broken, there(2000))
    outage = there(HOUR)
    outage[:, 0] = False
    judge(straight, outage)
    judge(broken, outage)
    judge(broken, ~there(HOUR))
    assert judge(broken, outage).tobytes() == judge(straight, outage).tobytes()


def test_a_sleeping_person_is_no_companion() -> None:
    """Windows that do not count have p = 1 and teach nothing."""
    silence = groups(2)
    judge(silence, there(2000))
    state = pickle.dumps(silence)
    outage = there(10 * HOUR)
    outage[:, 0] = False
    assert (judge(silence, outage, np.zeros(len(outage), dtype=bool)) == 1.0).all()
    assert pickle.dumps(silence) == state


def test_what_is_no_companion_is_not_asked() -> None:
    """Rows without companions have p = 1, however much of anything else is there."""
    silence = CompanionSilence(np.zeros((3, 1), dtype=bool))
    present = np.random.default_rng(0).random((3000, 3)) < 0.99
    p = silence.process(present, np.ones((3000, 1), dtype=bool), np.ones(3000, dtype=bool))
    assert (p == 1.0).all()


def test_nothing_is_said_before_the_companion_is_known() -> None:
    """In the first hours every silence has p = 1."""
    silence = groups(2)
    present = there(int(MIN_WINDOWS) - 1)
    present[-HOUR:, 0] = False
    assert (judge(silence, present) == 1.0).all()


def test_the_longest_silence_has_the_smallest_p_value_there_is() -> None:
    """It stops falling at the longest length that is told apart, and never reaches 0."""
    silence = groups(2)
    judge(silence, there(20_000))
    outage = there(5 * LONGEST)
    outage[:, 0] = False
    p = judge(silence, outage)[:, 0]
    assert (p >= SMALLEST_P).all()
    np.testing.assert_allclose(p[LONGEST:], p[LONGEST - 1], rtol=0.1)


@pytest.mark.parametrize("size", [1, 7, 288])
def test_cuts_and_pickles_change_no_bit(size: int) -> None:
    """Windows at once, or in parts with pickles in between, give the same to the last bit, also
    where what is known is halved after weeks.
    """
    rng = np.random.default_rng(3)
    present = rng.random((1500, 4)) < 0.8
    present[700:760, 1] = False
    companions, waking = rng.random((1500, 3)) < 0.9, rng.random(1500) < 0.7
    whole = CompanionSilence(np.array([0, 1, 2, 1])[:, np.newaxis] != np.arange(3))
    parts = pickle.loads(pickle.dumps(whole))
    expected = whole.process(present, companions, waking)
    found = []
    for start in range(0, 1500, size):
        part = slice(start, start + size)
        found.append(parts.process(present[part], companions[part], waking[part]))
        parts = pickle.loads(pickle.dumps(parts))
    assert np.concatenate(found).tobytes() == expected.tobytes()
    assert pickle.dumps(parts) == pickle.dumps(pickle.loads(pickle.dumps(whole)))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_whatever_is_there_p_values_are_p_values(data: st.DataObject) -> None:
    """In any pattern, of any number of groups and windows, none included, p lies in (0, 1], and is
    1 for what speaks.
    """
    n_groups = data.draw(st.integers(1, 4))
    n_rows = data.draw(st.integers(0, 4))
    n = data.draw(st.integers(0, 300))
    shapes = ((n_rows, n_groups), (n, n_rows), (n, n_groups), (n,))
    asked, present, companions, waking = (
        data.draw(arrays.arrays(np.bool_, shape)) for shape in shapes
    )
    silence = CompanionSilence(asked)
    p = silence.process(present, companions, waking)
    assert p.shape == present.shape
    assert ((p >= SMALLEST_P) & (p <= 1.0)).all()
    assert (p[present] == 1.0).all()


def _devices() -> Catalogue:
    streams = [
        Stream(id=f"{group}{k}", type=StreamType.CONTINUOUS_NOISY, group=group)
        for group in ("watch", "phone", "home")
        for k in range(3)
    ]
    return Catalogue(
        name="devices",
        groups=tuple(Group(id=g) for g in ("watch", "phone", "home")),
        streams=(*streams,),
    )


def _block(values: FloatArray) -> WindowBlock:
    windows = WindowRange(MORNING, MORNING + len(values) * WINDOW_SECONDS)
    return WindowBlock("someone", "UTC", windows, values)


def test_the_detector_finds_an_outage_it_has_seen_before() -> None:
    """Of a group that fails for two hours of the day while the others speak, the second hour of the
    fourth failure is flagged as that of the first is; the groups that speak are not.
    """
    values = np.random.default_rng(0).standard_normal((288 * 9, 9))
    starts = [288 * day + 4 * HOUR for day in (3, 5, 6, 8)]
    for start in starts:
        values[start : start + 2 * HOUR, :3] = np.nan
    scores = GapDetector(_devices()).process(_block(values))
    for start in starts:
        during = slice(start + HOUR, start + 2 * HOUR)
        assert (scores.score[during] > 0.7).all()
        assert (scores.group_score[during, 0] > 0.7).all()
        assert (scores.group_score[during, 1:] < 0.5).all()


def test_a_group_never_observed_is_neither_silent_nor_a_companion() -> None:
    """The rest is judged as if it were not there, and of itself nothing is said."""
    values = np.random.default_rng(0).standard_normal((1200, 9))
    values[1000:1024, :3] = np.nan
    values[:, 6:] = np.nan
    scores = GapDetector(_devices()).process(_block(values))
    assert np.isnan(scores.group_score[:, 2]).all()
    assert (scores.score[1004:1024] > 0.7).all()
    assert (scores.score[:400] < 0.7).all()
