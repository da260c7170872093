"""The contract of the gap detector: identity to the bit, and finite answers whatever is missing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    FloatArray,
    WindowBlock,
    WindowRange,
)
from anomaly_assets_tests.detection.gaps.simulation import Person, catalogue

MONDAY = 1_767_571_200


def block_of(values: FloatArray, start: int = MONDAY) -> WindowBlock:
    """Return `values` as a block in UTC."""
    end = start + len(values) * WINDOW_SECONDS
    return WindowBlock("e", "UTC", WindowRange(start, end), values)


def single(*, zero_suppressed: bool = False) -> Catalogue:
    """Return a catalogue of one stream."""
    stream = Stream(id="a", type=StreamType.SPORADIC, group="g", zero_suppressed=zero_suppressed)
    return Catalogue(name="one", groups=(Group(id="empty"), Group(id="g")), streams=(stream,))


def test_nothing_ever_observed_is_unknown() -> None:
    """Before the first reading of any stream the score is NaN and nothing is flagged."""
    scores = GapDetector(catalogue()).process(block_of(np.full((600, 16), np.nan)))
    assert np.isnan(scores.score).all()
    assert np.isnan(scores.group_score).all()
    assert np.isnan(scores.group_available).all()
    assert np.isnan(scores.surprise).all()
    assert not scores.is_anomalous.any()


def test_everything_missing_still_has_a_score() -> None:
    """Once anything was observed the score stays finite, through an outage of any length."""
    values = np.full((12 * WINDOWS_PER_DAY, 16), np.nan)
    values[:WINDOWS_PER_DAY] = 1.0
    scores = GapDetector(catalogue()).process(block_of(values))
    assert np.isfinite(scores.score).all()
    assert ((scores.score >= 0.0) & (scores.score <= 1.0)).all()
    assert np.isfinite(scores.group_score).all()
    assert (scores.group_available[-1] == 0.0).all()


def test_streams_dead_for_a_week_fall_silent() -> None:
    """After seven days without a single reading nothing is surprising any more."""
    values = np.full((22 * WINDOWS_PER_DAY, 16), 1.0)
    values[10 * WINDOWS_PER_DAY :] = np.nan
    scores = GapDetector(catalogue()).process(block_of(values))
    assert scores.is_anomalous[10 * WINDOWS_PER_DAY + 1]
    dead = slice(17 * WINDOWS_PER_DAY + 10, None)
    assert not scores.is_anomalous[dead].any()
    assert (scores.surprise[dead] == 0.0).all()


def test_a_stream_never_seen_changes_nothing() -> None:
    """Streams that never reported are unknown, not missing: the others score as without them."""
    person = Person(2, 4)
    values = person.values.copy()
    values[:, person.columns("eda")] = np.nan
    fewer = person.catalogue.model_copy(
        update={"streams": tuple(s for s in person.catalogue.streams if s.id != "eda")}
    )
    kept = [i for i, s in enumerate(person.catalogue.streams) if s.id != "eda"]
    window_block = WindowBlock("e", person.zone, person.windows, values)
    without = WindowBlock("e", person.zone, person.windows, values[:, kept])
    scores = GapDetector(person.catalogue).process(window_block)
    expected = GapDetector(Catalogue(**fewer.model_dump())).process(without)
    np.testing.assert_allclose(scores.score, expected.score, rtol=1e-9)
    assert np.isnan(scores.surprise[:, person.columns("eda")]).all()


def test_a_stream_that_comes_late_raises_no_alarm() -> None:
    """A stream first seen after ten days is as unsurprising as the first reading of all."""
    values = np.full((14 * WINDOWS_PER_DAY, 16), 1.0)
    values[: 10 * WINDOWS_PER_DAY, 12] = np.nan
    scores = GapDetector(catalogue()).process(block_of(values))
    assert not scores.is_anomalous.any()
    assert np.isnan(scores.surprise[10 * WINDOWS_PER_DAY - 1, 12])
    assert np.isfinite(scores.surprise[10 * WINDOWS_PER_DAY :, 12]).all()


@pytest.mark.parametrize("zero_suppressed", [False, True])
def test_one_stream_and_an_empty_group(*, zero_suppressed: bool) -> None:
    """A catalogue of one stream works; a group without streams stays unknown."""
    values = np.full((10 * WINDOWS_PER_DAY, 1), 3.0)
    values[8 * WINDOWS_PER_DAY + 150 : 8 * WINDOWS_PER_DAY + 180] = np.nan
    scores = GapDetector(single(zero_suppressed=zero_suppressed)).process(block_of(values))
    assert np.isnan(scores.group_score[:, 0]).all()
    assert np.isnan(scores.group_available[:, 0]).all()
    assert np.isfinite(scores.group_score[:, 1]).all()
    assert not scores.is_anomalous[: 8 * WINDOWS_PER_DAY].any()
    assert scores.is_anomalous[8 * WINDOWS_PER_DAY + 150 : 8 * WINDOWS_PER_DAY + 180].any()


def test_streams_that_are_always_there_never_alarm() -> None:
    """Constant, complete data is never flagged, from the first window on."""
    values = np.full((15 * WINDOWS_PER_DAY, 16), 5.0)
    scores = GapDetector(catalogue()).process(block_of(values))
    assert not scores.is_anomalous.any()
    assert scores.score.max() < 0.5


def test_availability_at_random_is_learnt_in_the_first_day() -> None:
    """Streams there half of the time raise less than 3 % false alarms on every day."""
    rng = np.random.default_rng(3)
    values = np.where(rng.random((8 * WINDOWS_PER_DAY, 16)) < 0.5, 1.0, np.nan)
    flagged = GapDetector(catalogue()).process(block_of(values)).is_anomalous
    assert (flagged.reshape(8, -1).mean(axis=1) < 0.03).all()


def test_coordinated_failures_are_told_from_single_ones() -> None:
    """A whole group vanishing together is coordinated, for two windows; one stream of it is not."""
    cat = catalogue()
    group = cat.group_ids.index("biometric")
    columns = [i for i, stream in enumerate(cat.streams) if stream.group == "biometric"]
    values = np.full((60, 16), 1.0)
    values[20:24, columns] = np.nan
    values[40:44, columns[0]] = np.nan
    scores = GapDetector(cat).process(block_of(values))
    assert np.flatnonzero(scores.coordinated[:, group]).tolist() == [20, 21]
    assert not np.delete(scores.coordinated, group, axis=1).any()
    assert scores.group_available[20, group] == 0.0
    assert scores.group_available[40, group] == pytest.approx(2 / 3)


def test_pattern_frequency_tells_the_usual_from_the_new() -> None:
    """The frequency is that of the pattern before the window: 0 at first, then near its share."""
    values = np.full((200, 16), 1.0)
    values[100, :4] = np.nan
    frequency = GapDetector(catalogue()).process(block_of(values)).pattern_frequency
    assert frequency[0] == 0.0
    assert frequency[50] == 1.0
    assert frequency[100] == 0.0
    assert ((frequency >= 0.0) & (frequency <= 1.0)).all()


def test_a_block_of_other_width_is_refused() -> None:
    """The message names the entity and both numbers of streams."""
    with pytest.raises(InputError, match=r"'e': the block has 3 streams.*16"):
        GapDetector(catalogue()).process(block_of(np.zeros((5, 3))))


def test_the_state_stays_small() -> None:
    """After three weeks of 32 streams the pickled state is below 200 kB."""
    person = Person(4, 21, copies=2)
    detector = GapDetector(person.catalogue)
    detector.process(person.block())
    assert len(pickle.dumps(detector)) < 200_000
