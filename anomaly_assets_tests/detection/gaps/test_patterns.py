"""Availability patterns and coordinated failures."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.gaps.patterns import (
    PatternFrequency,
    coordinated_failures,
    group_patterns,
    lost_together,
    presence_runs,
)


def test_frequency_fades() -> None:
    """Recent windows weigh more than old ones, by the fade per window."""
    patterns = PatternFrequency(fade=0.5)
    assert patterns.frequency(0, b"a") == 0.0
    for pattern in (b"a", b"b", b"b"):
        patterns.learn(0, pattern)
    assert patterns.frequency(0, b"b") == pytest.approx(1.5 / 1.75)
    assert patterns.frequency(1, b"b") == 0.0


def test_memory_is_bounded_and_keeps_the_common() -> None:
    """The rarest pattern makes room, so that a stream of new ones never displaces the usual."""
    patterns = PatternFrequency(capacity=4)
    for i in range(1000):
        patterns.learn(0, b"usual")
        patterns.learn(0, i.to_bytes(2, "big"))
    assert patterns.frequency(0, b"usual") == pytest.approx(0.5, abs=0.01)
    known = [i for i in range(1000) if patterns.frequency(0, i.to_bytes(2, "big")) > 0.0]
    assert len(known) == 3


def test_frequencies_survive_rescaling() -> None:
    """Growing increments are scaled down long before they overflow, unnoticed."""
    patterns = PatternFrequency(fade=0.5)
    for _ in range(2000):
        patterns.learn(2, b"a")
        patterns.learn(2, b"b")
    assert patterns.frequency(2, b"b") == pytest.approx(2 / 3)


def test_patterns_say_none_some_all_or_unknown() -> None:
    """Groups are told apart by whether none, some or all of their known streams are there."""
    seen = np.array([[3, 3, 3, 0]])
    here = np.array([[0, 2, 3, 0]])
    assert group_patterns(here, seen) == [bytes([0, 1, 2, 3])]


def test_runs_carry_over() -> None:
    """Runs count on from the windows before, and a stream that is missing keeps its last run."""
    here = np.array([[True], [False], [False], [True]])
    runs, missing = presence_runs(here, np.array([4]), np.array([0]))
    assert runs[:, 0].tolist() == [5, 5, 5, 1]
    assert missing[:, 0].tolist() == [0, 1, 2, 0]


def test_only_steady_streams_can_be_lost() -> None:
    """A stream that flickers is neither recent nor lost; one long gone is not either."""
    recent, lost = lost_together(np.array([[9, 1, 9, 9]]), np.array([[1, 1, 3, 0]]))
    assert recent.tolist() == [[True, False, False, True]]
    assert lost.tolist() == [[True, False, False, False]]


@pytest.mark.parametrize(
    ("recent", "lost", "expected"), [(5, 3, True), (5, 2, False), (1, 1, False), (0, 0, False)]
)
def test_coordinated_means_two_streams_and_sixty_percent(
    recent: int, lost: int, *, expected: bool
) -> None:
    """One stream alone never fails in a coordinated way."""
    assert bool(coordinated_failures(np.array([recent]), np.array([lost]))[0]) is expected
