"""Streams that are missing throughout, or for stretches."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import MissingStreams, SilencePattern, simulate
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.sensors import GROUP_IDS, SENSORS, streams_of_group
from anomaly_assets.evaluation.simulator.silence import silent

_GROUPS = [sensor.group for sensor in SENSORS]
_INTERMITTENT = SilencePattern.INTERMITTENT


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8])
def test_absent_streams_are_spread_over_the_groups(share: float) -> None:
    """That share of all streams is away throughout, and about that share of each group."""
    off = silent(MissingStreams(share), _GROUPS, 100, 5, generator(1, "silence"))
    assert (off.all(axis=1) == off.any(axis=1)).all()
    assert off[:, 0].sum() == round(36 * share)
    for group in GROUP_IDS:
        members = np.array([name == group for name in _GROUPS])
        assert abs(off[members, 0].sum() - share * members.sum()) <= 1.0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_intermittent_streams_are_silent_for_the_share(share: float) -> None:
    """Each on its own, in stretches of hours that begin and end with windows."""
    missing = MissingStreams(share, _INTERMITTENT, hours=3.0)
    off = silent(missing, _GROUPS, 60 * 1440, 5, generator(1, "silence"))
    assert off.mean() == pytest.approx(share, abs=0.05)
    changes = np.flatnonzero(np.diff(off[0].astype(np.int64))) + 1
    assert (changes % 5 == 0).all()
    assert len({row.tobytes() for row in off}) == len(off)


def test_silent_streams_send_nothing_and_leave_the_others_alone() -> None:
    """The readings that remain are those of the simulation without silence."""
    whole = simulate(1, ["ann"], days=2).readings
    for missing in (MissingStreams(0.5), MissingStreams(0.5, _INTERMITTENT)):
        some = simulate(1, ["ann"], days=2, silence=missing).readings
        assert 0.3 * len(whole) < len(some) < 0.7 * len(whole)
        assert len(some.merge(whole)) == len(some)


def test_silence_is_drawn_for_each_person() -> None:
    """Two people lack different streams, and always the same ones."""
    readings = simulate(1, ["ann", "bob"], days=1, silence=MissingStreams(0.5)).readings
    there = {
        entity: set(rows["stream_id"].astype(str))
        for entity, rows in readings.groupby("entity_id", observed=True)
    }
    assert there["ann"] != there["bob"]
    again = simulate(1, ["ann"], days=1, silence=MissingStreams(0.5)).readings
    assert set(again["stream_id"].astype(str)) == there["ann"]
    assert all(set(streams_of_group(group)) & there["ann"] for group in GROUP_IDS)


@pytest.mark.parametrize("share", [-0.1, 0.81, float("nan")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    """The message gives the range."""
    with pytest.raises(InputError, match=r"\[0, 0.8\]"):
        MissingStreams(share)


@pytest.mark.parametrize("hours", [0.0, float("nan"), 1e9])
def test_stretches_out_of_range_are_refused(hours: float) -> None:
    """The message names the hours."""
    with pytest.raises(InputError, match="hours"):
        MissingStreams(0.5, _INTERMITTENT, hours)


def test_a_pattern_may_be_given_by_its_name() -> None:
    """Another name is refused, with those there are."""
    assert MissingStreams(0.5, SilencePattern("absent")) == MissingStreams(0.5)
    assert MissingStreams(0.5, "intermittent").pattern is SilencePattern.INTERMITTENT  # type: ignore[arg-type]
    with pytest.raises(InputError, match="absent"):
        MissingStreams(0.5, "nonsense")  # type: ignore[arg-type]
