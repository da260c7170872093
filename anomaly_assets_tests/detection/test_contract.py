"""What every detector promises, whatever it is given."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anomaly_assets.detection.cross_stream.detector import CrossStreamDetector
from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.detection.individual.reference import RiverIndividualDetector
from anomaly_assets.detection.results import GapScores, IndividualScores
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.errors import InputError
from anomaly_assets.state.format import Detector, Provenance, seal, unseal
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange
from anomaly_assets_tests.detection.individual.samples import mixed_series

Results = dict[str, np.ndarray]

#: Monday 5 January 2026, 18:00 UTC: midnight falls into even the short series.
START = 1_767_571_200 + 18 * 3600
KEY = b"key of these tests"
#: Every float result of these names lies in [0, 1]; so do all voices of tier 2.
SHARES = {
    "score",
    "group_score",
    "group_available",
    "pattern_frequency",
    "availability",
    "accuracy",
    "confidence",
}


def catalogue_of(n_streams: int) -> Catalogue:
    """Return streams of all types, some zero-suppressed, in two groups and an empty one."""
    types = list(StreamType)
    streams = tuple(
        Stream(
            id=f"s{i}",
            type=types[i % 4],
            group=("left", "right")[i // 2 % 2],
            zero_suppressed=i % 8 == 2,
        )
        for i in range(n_streams)
    )
    return Catalogue(
        name="contract",
        groups=(Group(id="left"), Group(id="empty"), Group(id="right")),
        streams=streams,
    )


def block_of(values: np.ndarray) -> WindowBlock:
    windows = WindowRange(START, START + len(values) * WINDOW_SECONDS)
    return WindowBlock("someone", "Europe/Berlin", windows, values)


def sealed_and_unsealed(detector: Detector) -> Any:
    """Return what the next run would find: sealed, and read by the restricted unpickler."""
    provenance = Provenance.of(
        detector, entity_id="someone", component="test", as_of=START, catalogue_digest="digest"
    )
    return unseal(seal(detector, provenance, KEY), provenance, KEY)


class Subject(Protocol):
    """A detector under test, with whatever else it needs to score a block."""

    def process(self, block: WindowBlock) -> object:
        """Return its results, a dataclass of arrays, window first."""

    def stored(self) -> Subject:
        """Return the subject as it comes back from where its state is kept."""


class Individual:
    """Tier 1."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.detector: Any = IndividualDetector(catalogue)

    def process(self, block: WindowBlock) -> object:
        """Process the block with the one detector there is."""
        return self.detector.process(block)

    def stored(self) -> Subject:
        """Seal and unseal."""
        self.detector = sealed_and_unsealed(self.detector)
        return self


class River(Individual):
    """Tier 1 with River's objects: a reference, whose state is never sealed, only pickled."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.detector: Any = RiverIndividualDetector(catalogue)

    def stored(self) -> Subject:
        """Pickle and read again."""
        self.detector = pickle.loads(pickle.dumps(self.detector))
        return self


class Gaps(Individual):
    """The gap detector."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.detector: Any = GapDetector(catalogue)


class CrossStream(Individual):
    """Tier 2, over the real tier 1 and gap detector, which nothing happens to in between."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.detector: Any = CrossStreamDetector(catalogue)
        self.below = (IndividualDetector(catalogue), GapDetector(catalogue))

    def process(self, block: WindowBlock) -> object:
        """Process the block with what tier 2 needs, then with tier 2."""
        individual: IndividualScores = self.below[0].process(block)
        gaps: GapScores = self.below[1].process(block)
        return self.detector.process(block, individual, gaps)


class System:
    """Tiers 1 to 3, as the front door and the replay run them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.state = DetectionState.fresh(catalogue)

    def process(self, block: WindowBlock) -> object:
        """Process the block with all tiers."""
        return detect(self.state, block)

    def stored(self) -> Subject:
        """Seal and unseal each detector, as every model asset does with its own."""
        parts = dataclasses.fields(self.state)
        self.state = DetectionState(
            **{part.name: sealed_and_unsealed(getattr(self.state, part.name)) for part in parts}
        )
        return self


SUBJECTS: dict[str, type[Individual | System]] = {
    cls.__name__: cls for cls in (Individual, River, Gaps, CrossStream, System)
}
every_subject = pytest.mark.parametrize("subject", SUBJECTS)


def leaves(results: object, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array of nested results with its dotted name."""
    if isinstance(results, np.ndarray):
        yield prefix, results
        return
    assert isinstance(results, dict) or dataclasses.is_dataclass(results)
    parts = results if isinstance(results, dict) else vars(results)
    for name, part in parts.items():
        yield from leaves(part, f"{prefix}.{name}" if prefix else name)


def run(
    subject: str,
    catalogue: Catalogue,
    values: np.ndarray,
    cuts: Sequence[int] = (),
    stored_every: int = 0,
) -> Results:
    """Process `values`, cut before the given windows, its state stored and read in between."""
    detector: Subject = SUBJECTS[subject](catalogue)
    block = block_of(values)
    parts = []
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(values)], strict=True)):
        parts.append(dict(leaves(detector.process(block.part(start, stop)))))
        if stored_every and number % stored_every == 0:
            detector = detector.stored()
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same_bits(left: Results, right: Results) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype, name
        assert array.tobytes() == right[name].tobytes(), name


def assert_sound(results: Results, values: np.ndarray) -> None:
    """Check what holds of all results: one row a window, nothing infinite, scores in [0, 1]."""
    for name, array in results.items():
        assert len(array) == len(values), name
        if array.dtype == np.float64:
            assert not np.isinf(array).any(), name
        if name.rsplit(".", 1)[-1] in SHARES or "voices." in name:
            known = array[~np.isnan(array)]
            assert ((known >= 0.0) & (known <= 1.0)).all(), name


def series(kind: str) -> np.ndarray:
    """Return 300 windows, just over a day, of a kind that detectors may stumble over."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 9))
    drawn = rng.random(values.shape)
    half = np.where(drawn < 0.5, np.nan, values)
    late = values.copy()
    late[:250, [1, 4, 6]] = np.nan
    late[:, [2, 7]] = np.nan
    blank = values.copy()
    blank[:40], blank[100:200] = np.nan, np.nan
    return {
        "ordinary": values,
        "constant": np.full(values.shape, 5.0),
        "zero": np.zeros(values.shape),
        "huge": values * 1e300,
        "tiny": values * 1e-300,
        "largest floats": np.where(drawn < 0.1, np.sign(values) * 1.7e308, values),
        "all sizes": values * 10.0 ** rng.integers(-300, 300, values.shape),
        "one stream": values[:, :1],
        "half missing": half,
        "late": late,
        "outages": blank,
        "all missing": np.full(values.shape, np.nan),
        "begins to vary": np.where(np.arange(300)[:, np.newaxis] < 292, 5.0, values),
        "leaps": np.where(np.arange(300)[:, np.newaxis] < 150, 1e-100, 1e100) * values,
        "group outages": np.where(
            (np.arange(300)[:, np.newaxis] % 150 > 135) & (np.arange(9) // 2 % 2 == 1),
            np.nan,
            values,
        ),
        "one stream, gone": np.where(np.arange(300)[:, np.newaxis] < 150, values[:, :1], np.nan),
    }[kind]


KINDS = (
    *("ordinary", "constant", "zero", "huge", "tiny", "largest floats", "all sizes", "one stream"),
    *("half missing", "late", "outages", "all missing", "begins to vary", "leaps"),
    *("group outages", "one stream, gone"),
)


@cache
def results_of(subject: str, kind: str) -> Results:
    values = series(kind)
    return run(subject, catalogue_of(values.shape[1]), values)


@every_subject
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_sound_whatever_the_values(subject: str, kind: str) -> None:
    """Results are finite or unknown and scores lie in [0, 1], without a warning."""
    assert_sound(results_of(subject, kind), series(kind))


@pytest.mark.parametrize("subject", ["Individual", "River", "System"])
@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_scored_where_there_is_something_to_score(subject: str, kind: str) -> None:
    """Tier 1 scores a stream where it is observed and healthy, and is silent everywhere else."""
    values, results = series(kind), results_of(subject, kind)
    prefix = "individual." if subject == "System" else ""
    observed = np.isfinite(values)
    scored = np.isfinite(results[f"{prefix}score"])
    np.testing.assert_array_equal(scored, observed & results[f"{prefix}health.predictable"])
    seen = np.cumsum(observed, axis=0) - observed
    np.testing.assert_array_equal(np.isfinite(results[f"{prefix}expected"]), seen > 0)
    np.testing.assert_array_equal(np.isfinite(results[f"{prefix}deviation"]), observed & (seen > 1))


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("Gaps", "score"),
        ("CrossStream", "score"),
        ("System", "gaps.score"),
        ("System", "cross_stream.score"),
        ("System", "ensemble.score"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_scored_from_the_first_reading_on(subject: str, name: str, kind: str) -> None:
    """Scores of whole windows are unknown before anything was observed, and never after it."""
    ever = np.logical_or.accumulate(np.isfinite(series(kind)).any(axis=1))
    np.testing.assert_array_equal(np.isfinite(results_of(subject, kind)[name]), ever)


def test_confidence_is_the_share_of_streams_scored() -> None:
    """It is 0 with nothing at all, 0.3 where tier 2 speaks alone, and the share otherwise."""
    values, results = series("outages"), results_of("System", "outages")
    share = np.isfinite(results["individual.score"]).mean(axis=1)
    ever = np.logical_or.accumulate(np.isfinite(values).any(axis=1))
    expected = np.where(share > 0, share, np.where(ever, 0.3, 0.0))
    np.testing.assert_allclose(results["ensemble.confidence"], expected)


@every_subject
@pytest.mark.parametrize("size", [1, 7, 288])
def test_cuts_and_stored_states_change_no_bit(subject: str, size: int) -> None:
    """A range at once, or in parts with the state sealed and unsealed in between, is the same."""
    catalogue, values = mixed_series(seed=1, n_windows=330)
    cuts = range(size, len(values), size)
    parts = run(subject, catalogue, values, cuts, stored_every=10 if size == 1 else 1)
    assert_same_bits(parts, _whole(subject))


@cache
def _whole(subject: str) -> Results:
    return run(subject, *mixed_series(seed=1, n_windows=330))


def eventful() -> np.ndarray:
    """Return windows in which levels, evidence and companions all have something to say."""
    values = np.random.default_rng(5).standard_normal((1300, 9))
    values[:980, 3] = 7.0
    values[880:910, [2, 3, 6, 7]] = np.nan
    values[960:970] = np.nan
    values[1060:1120] += 4.0
    values[1160:1184, [0, 1, 4, 5, 8]] = np.nan
    values[np.random.default_rng(6).random(values.shape) < 0.02] = np.nan
    return values


@pytest.mark.parametrize("subject", ["Gaps", "CrossStream"])
@pytest.mark.parametrize("size", [1, 7, 288])
def test_states_that_last_change_no_bit_when_cut(subject: str, size: int) -> None:
    """Shifts, a stream that begins to vary and silences amid companions say the same when cut."""
    values, catalogue = eventful(), catalogue_of(9)
    cuts = range(size, len(values), size)
    parts = run(subject, catalogue, values, cuts, stored_every=10 if size == 1 else 1)
    assert_same_bits(parts, _eventful(subject))


@cache
def _eventful(subject: str) -> Results:
    return run(subject, catalogue_of(9), eventful())


def test_states_that_last_are_heard() -> None:
    """The series of the test before is no empty one: its outages are gaps, its shift a level."""
    gaps, levels = _eventful("Gaps")["score"], _eventful("CrossStream")["voices.levels"]
    assert (gaps[892:910] > 0.7).all()
    assert (gaps[1175:1184] > 0.7).all()
    assert levels[1070:1120].min() > np.nanmax(levels[1010:1060])


@pytest.mark.parametrize(("subject", "name"), [("CrossStream", ""), ("System", "cross_stream.")])
@pytest.mark.parametrize("kind", KINDS)
def test_evidence_is_known_where_a_stream_is_observed(subject: str, name: str, kind: str) -> None:
    """It is NaN where a stream is missing, and finite and at least 0 everywhere else."""
    evidence = results_of(subject, kind)[f"{name}evidence"]
    observed = np.isfinite(series(kind))
    np.testing.assert_array_equal(np.isfinite(evidence), observed)
    assert (evidence[observed] >= 0.0).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_never_reach_a_detector(value: float) -> None:
    """The block itself refuses them, and says what to give instead."""
    values = series("ordinary").copy()
    values[3, 2] = value
    with pytest.raises(InputError, match=r"someone.*infinite values; give NaN"):
        block_of(values)


@every_subject
def test_two_detectors_say_the_same(subject: str) -> None:
    """There is no chance, clock or order of memory in any result."""
    assert_same_bits(run(subject, *mixed_series(seed=1, n_windows=330)), _whole(subject))


@pytest.mark.parametrize("subject", ["Gaps", "CrossStream"])
def test_more_streams_than_can_be_tracked_change_no_bit_either(subject: str) -> None:
    """With 60 streams, whose tracked ones are chosen anew at midnight, cuts make no difference."""
    catalogue = catalogue_of(60)
    rng = np.random.default_rng(2)
    values = rng.standard_normal((600, 60)) + 3.0 * rng.standard_normal((600, 1))
    values[rng.random(values.shape) < 0.2] = np.nan
    whole = run(subject, catalogue, values)
    assert_same_bits(run(subject, catalogue, values, range(11, 600, 11), stored_every=1), whole)


@every_subject
@settings(max_examples=15, deadline=None)
@given(
    values=arrays.arrays(
        np.float64,
        st.tuples(st.integers(2, 40), st.integers(1, 5)),
        elements=st.one_of(
            st.just(np.nan),
            st.sampled_from([0.0, -0.0, 1.0, 1e300, -1e300, 1e-300, 5e-324, 1.7e308]),
            st.floats(-1e3, 1e3),
        ),
    ),
    cut=st.floats(0.0, 1.0),
)
def test_any_windows_cut_anywhere(subject: str, values: np.ndarray, cut: float) -> None:
    """Whatever the values are, results are sound, and the same when cut and stored anywhere."""
    catalogue = catalogue_of(values.shape[1])
    whole = run(subject, catalogue, values)
    assert_sound(whole, values)
    at = [round(cut * len(values))]
    assert_same_bits(run(subject, catalogue, values, at, stored_every=1), whole)


@every_subject
def test_the_first_window_alone_can_be_scored(subject: str) -> None:
    """A detector that has learnt nothing takes a window, and the next, and calls neither odd."""
    values = series("ordinary")[:2]
    results = run(subject, catalogue_of(9), values, [1])
    assert_sound(results, values)
    for name in ("score", "ensemble.score", "individual.score"):
        if name in results:
            assert np.isfinite(results[name]).all()
            assert (results[name] < 0.7).all()


@pytest.mark.parametrize("subject", ["Individual", "River"])
def test_a_stream_that_comes_late_does_not_touch_the_others(subject: str) -> None:
    """Tier 1 says of every other stream, to the bit, what it says where that one never comes."""
    values, without = series("late"), series("late")
    without[:, [1, 4, 6]] = np.nan
    others = [0, 2, 3, 5, 7, 8]
    left, right = results_of(subject, "late"), run(subject, catalogue_of(9), without)
    for name, array in left.items():
        assert array[:, others].tobytes() == right[name][:, others].tobytes(), name
    first = left["score"][250, [1, 4, 6]]
    np.testing.assert_array_equal(first, [0.0, 0.0, 0.0])
    assert np.isfinite(left["score"][values.shape[0] - 1, [1, 4, 6]]).all()


def test_streams_that_come_late_are_soon_normal() -> None:
    """Three of nine streams that first appear on the second day are no gap at all; the forests,
    which have never seen them, may find that odd, but not for longer than an hour.
    """
    results = results_of("System", "late")
    assert results["gaps.score"][250:].max() < 0.7
    assert results["ensemble.score"][262:].max() < 0.7


def test_streams_that_never_come_stay_unknown() -> None:
    """Nothing is known of them, of their availability or of a group made of nothing."""
    results = results_of("System", "late")
    never = [2, 7]
    for name in ("individual.score", "individual.expected", "gaps.surprise"):
        assert np.isnan(results[name][:, never]).all(), name
    assert (results["individual.health.score"][:, never] == 0.0).all()
    for name in ("gaps.group_score", "gaps.group_available", "cross_stream.group_score"):
        assert np.isnan(results[name][:, 1]).all(), name


@every_subject
def test_no_windows_give_no_results_and_teach_nothing(subject: str) -> None:
    """An empty block is answered with empty arrays, and the results after it are the same."""
    values = series("half missing")[:60]
    catalogue = catalogue_of(9)
    empty = run(subject, catalogue, values[:0])
    assert all(len(array) == 0 for array in empty.values())
    whole = run(subject, catalogue, values)
    assert_same_bits(run(subject, catalogue, values, [0, 30, 30, 60]), whole)


@pytest.mark.parametrize("subject", ["Individual", "Gaps", "CrossStream", "System"])
def test_a_block_of_other_streams_is_refused(subject: str) -> None:
    """A block of other width than the catalogue is an error that says both numbers."""
    with pytest.raises(InputError, match=r"\b3\b.*\b9\b"):
        run(subject, catalogue_of(9), np.zeros((5, 3)))


@pytest.mark.parametrize("subject", ["Individual", "River", "System"])
def test_no_value_poisons_what_comes_after(subject: str) -> None:
    """After the largest floats there are, ordinary values are scored, and never infinitely odd."""
    values = np.random.default_rng(3).standard_normal((700, 4))
    values[300], values[301] = 1.7e308, -1.7e308
    results = run(subject, catalogue_of(4), values)
    prefix = "individual." if subject == "System" else ""
    assert_sound(results, values)
    score = results[f"{prefix}score"]
    assert (score[300] > 0.7).all()
    assert np.isfinite(score).all()
