"""Structures: what is refused, the order of nodes, nodes left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.network.structure import TIME_NODES, Structure
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import (
    Catalogue,
    CausalEdge,
    Group,
    Stream,
    StreamType,
)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    n = draw(st.integers(1, 8))
    names = draw(st.permutations([f"n{i}" for i in range(n)]))
    pairs = [(names[i], names[j]) for i in range(n) for j in range(i + 1, n)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return Structure.from_edges(sorted(names), edges)


def reaches(structure: Structure) -> set[tuple[str, str]]:
    return {
        (structure.nodes[a], node)
        for i, node in enumerate(structure.nodes)
        for a in structure.ancestors(i)
    }


def test_a_catalogue_gives_its_streams_and_the_time_of_day_as_two_nodes() -> None:
    """Streams come in catalogue order, the time nodes last, and an edge from the time of day comes
    from both of them.
    """
    catalogue = Catalogue(
        name="two",
        groups=(Group(id="g"),),
        streams=(
            Stream(id="steps", type=StreamType.CONTINUOUS_NOISY, group="g"),
            Stream(id="pulse", type=StreamType.CONTINUOUS_SMOOTH, group="g"),
        ),
        causal_edges=(
            CausalEdge(cause="time_of_day", effect="steps"),
            CausalEdge(cause="steps", effect="pulse"),
        ),
    )
    structure = Structure.of(catalogue)
    assert structure.nodes == ("steps", "pulse", *TIME_NODES)
    assert structure.parents == ((2, 3), (0,), (), ())
    assert structure.streams == ("steps", "pulse")
    assert structure.stream_positions == (0, 1)


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ([("a", "b"), ("b", "c"), ("c", "a")], r"cycle: .*a.*b"),
        ([("a", "a")], "cycle: a -> a"),
        ([("a", "x")], r"unknown node 'x'; the nodes are a, b, c"),
        ([("x", "a")], "unknown node 'x'"),
        ([("a", "b"), ("a", "b")], "edge 'a' -> 'b' is stated twice"),
    ],
)
def test_unusable_edges_are_refused_by_name(edges: list[tuple[str, str]], said: str) -> None:
    """A cycle, an unknown node and a repeated edge are errors that name the nodes."""
    with pytest.raises(InputError, match=said):
        Structure.from_edges(("a", "b", "c"), edges)


def test_unusable_nodes_are_refused() -> None:
    """Repeated names, positions that do not exist, parents of the wrong number, and anything that
    drives the time of day are errors.
    """
    with pytest.raises(InputError, match="named more than once: a"):
        Structure(("a", "a"), ((), ()))
    with pytest.raises(InputError, match="parent 7 is no position among 2"):
        Structure(("a", "b"), ((7,), ()))
    with pytest.raises(InputError, match="parent -1"):
        Structure(("a", "b"), ((-1,), ()))
    with pytest.raises(InputError, match="2 nodes but parents of 1"):
        Structure(("a", "b"), ((),))
    with pytest.raises(InputError, match="nothing drives the time of day"):
        Structure.from_edges(("a", *TIME_NODES), [("a", TIME_NODES[0])])


@given(structures())
def test_causes_come_before_their_effects(structure: Structure) -> None:
    """The order holds every node once, after all of its parents."""
    place = {node: i for i, node in enumerate(structure.order)}
    assert sorted(place) == list(range(len(structure.nodes)))
    for child, parents in enumerate(structure.parents):
        assert all(place[parent] < place[child] for parent in parents)


@given(structures(), st.data())
def test_leaving_nodes_out_keeps_who_drives_whom(structure: Structure, data: st.DataObject) -> None:
    """Among the nodes that stay, ancestors are the same with and without those left out; these have
    neither causes nor effects.
    """
    left_out = set(data.draw(st.lists(st.sampled_from(structure.nodes), unique=True)))
    rest = structure.without(left_out)
    assert rest.nodes == structure.nodes
    assert reaches(rest) == {
        (a, b) for a, b in reaches(structure) if a not in left_out and b not in left_out
    }
