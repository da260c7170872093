"""The age of gaps against life tables."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.gaps.survival import GapSurvival

WORK, SLEEP, _, OTHER = range(4)
YES, NO = np.array([True]), np.array([False])


def gap(model: GapSurvival, length: int, context: int = WORK, *, ends: bool = True) -> float:
    """Let a gap of `length` windows pass and return the last surprise of its age."""
    nats = 0.0
    for _ in range(length):
        nats = float(model.update(context, NO, YES, waking=True)[0])
    if ends:
        model.update(context, YES, YES, waking=True)
        model.refresh()
    return nats


def test_surprise_is_minus_log_of_the_survival_of_known_gaps() -> None:
    """With 200 gaps of geometric length the surprise of an age is that of the geometric law."""
    rng = np.random.default_rng(0)
    model = GapSurvival(1, memory=10_000)
    for length in rng.geometric(0.2, 2000):
        gap(model, int(length))
    assert gap(model, 11) == pytest.approx(-10 * np.log(0.8), rel=0.15)


def test_gaps_longer_than_any_before_go_on_geometrically() -> None:
    """Beyond the longest gap every further window adds about the same surprise."""
    rng = np.random.default_rng(1)
    model = GapSurvival(1)
    for _ in range(200):
        gap(model, int(rng.integers(1, 5)))
    beyond = model.nats_per_window[0, WORK, 5:]
    np.testing.assert_allclose(beyond, beyond[0], rtol=0.05)
    assert beyond[0] > 1.0


def test_sleep_does_not_age_a_gap() -> None:
    """A night adds neither age nor surprise, and the gap goes on in the morning."""
    model = GapSurvival(1)
    before = gap(model, 5, ends=False)
    night = [float(model.update(SLEEP, NO, YES, waking=False)[0]) for _ in range(96)]
    assert night == [before] * 96
    assert model.age.tolist() == [5.0]


def test_a_gap_does_not_excuse_itself() -> None:
    """However long a gap lasts, nothing is learnt of it before it ends."""
    model = GapSurvival(1)
    for _ in range(30):
        gap(model, 1)
        gap(model, 6)
    before = model.nats_per_window.copy()
    gap(model, 200, ends=False)
    model.refresh()
    assert model.nats_per_window.tobytes() == before.tobytes()
    gap(model, 1)
    assert model.nats_per_window.tobytes() != before.tobytes()


def test_long_gaps_become_usual_when_they_recur() -> None:
    """After ten gaps of 40 windows another one is no surprise."""
    model = GapSurvival(1)
    for _ in range(30):
        gap(model, 3)
    first = gap(model, 40)
    for _ in range(10):
        gap(model, 40)
    assert gap(model, 40) < 0.4 * first


def test_a_strange_context_borrows_from_the_others() -> None:
    """The first gap of a context is judged by the gaps of all, not by a guess."""
    model = GapSurvival(1)
    for _ in range(30):
        gap(model, 24)
    assert gap(model, 20, OTHER) < 3.0


def test_rows_that_take_no_part_have_no_gap() -> None:
    """An unknown or dead row is never in a gap, and ends the one it was in."""
    model = GapSurvival(1)
    gap(model, 9, ends=False)
    assert model.update(WORK, NO, NO, waking=True).tolist() == [0.0]
    assert model.age.tolist() == [0.0]


def test_surprise_is_limited() -> None:
    """A gap of a month has a finite surprise."""
    assert gap(GapSurvival(1, limit=40.0), 9000) == 40.0
