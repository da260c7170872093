"""A packed state is the state, to the last bit, and so is the one that the way back leads to."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.detection.packing import PackedState, WayBack
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.errors import StateError
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

if TYPE_CHECKING:
    from anomaly_assets.streams.windows import FloatArray

CATALOGUE = load_catalogue("default")
WINDOWS = WindowRange(0, 60 * WINDOW_SECONDS)


def some_values(seed: int = 1) -> FloatArray:
    """Return values of the windows, some of them missing."""
    random = np.random.default_rng(seed)
    values = random.normal(50.0, 3.0, (len(WINDOWS), len(CATALOGUE.streams)))
    values[random.random(values.shape) < 0.2] = np.nan
    return values


def block(start: int, stop: int) -> WindowBlock:
    """Return some of the windows."""
    return WindowBlock("ann", "UTC", WINDOWS, some_values()).part(start, stop)


def taught(until: int) -> DetectionState:
    """Return a state that has learnt the first windows."""
    state = DetectionState.fresh(CATALOGUE)
    detect(state, block(0, until))
    return state


def same(one: DetectionState, other: DetectionState) -> bool:
    """Whether two states say the same, to the last bit, of what follows."""
    first, second = detect(one, block(50, 60)), detect(other, block(50, 60))
    return pickle.dumps(first) == pickle.dumps(second)


def test_a_packed_state_goes_on_as_the_state_does() -> None:
    """It is not changed by what the state learns later, and gives another copy each time."""
    state = taught(50)
    packed = PackedState.of(state)
    stored, copy = pickle.loads(pickle.dumps(state)), packed.state()
    assert np.array_equal(PackedState.of(copy).words, packed.words)
    assert same(copy, state)
    assert np.array_equal(PackedState.of(copy).words, PackedState.of(state).words)
    assert not np.array_equal(PackedState.of(copy).words, packed.words)
    assert same(packed.state(), stored)


def test_the_way_back_leads_to_each_earlier_state() -> None:
    """Step by step from the newest, in a small part of the room of the states."""
    state = taught(40)
    packed = [PackedState.of(state)]
    for number in range(40, 50):
        detect(state, block(number, number + 1))
        packed.append(PackedState.of(state))
    ways = [WayBack.between(*pair) for pair in pairwise(packed)]
    assert max(way.words.nbytes for way in ways) < 0.1 * packed[0].words.nbytes
    found = packed[-1]
    for earlier, way in reversed(list(zip(packed, ways, strict=False))):
        found = way.go(found)
        assert np.array_equal(found.words, earlier.words)
    assert same(found.state(), taught(40))


def test_a_state_of_another_layout_is_kept_in_full() -> None:
    """Arrays may change their size from one state to the next."""
    state = taught(3)
    before = PackedState.of(state)
    state.cross_stream._slots = np.append(state.cross_stream._slots, 0)
    after = PackedState.of(state)
    way = WayBack.between(before, after)
    assert way.changed is None
    found = way.go(after).state().cross_stream._slots
    assert np.array_equal(found, taught(3).cross_stream._slots)


def test_arrays_keep_the_order_of_their_elements_in_memory() -> None:
    """Sums along columns that lie together are others, in the last bit, than along rows."""
    state = taught(3)
    column = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    state.gaps._recent_sums = column
    found = PackedState.of(state).state().gaps._recent_sums
    assert found.flags.f_contiguous
    assert np.array_equal(found, column)


def test_what_cannot_change_is_shared() -> None:
    """The splits of the forests are the same arrays for all entities with equal catalogues."""
    state, other = taught(3), DetectionState.fresh(CATALOGUE)
    copy = PackedState.of(state).state()
    loaded = pickle.loads(pickle.dumps(state))
    splits = [s.cross_stream._forests._trees._threshold for s in (state, other, copy, loaded)]
    assert all(one is splits[0] for one in splits)
    masses = [s.cross_stream._forests._trees.l_mass for s in (state, other, copy, loaded)]
    assert len({id(one) for one in masses}) == len(masses)


def test_what_it_does_not_know_it_refuses() -> None:
    """A foreign object may share what changes: it must not be taken for a constant."""
    state = taught(3)
    state.gaps._row = iter(())  # type: ignore[assignment]
    with pytest.raises(StateError, match="tuple_iterator"):
        PackedState.of(state)
