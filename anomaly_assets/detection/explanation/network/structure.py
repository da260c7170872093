"""Which node of a causal network drives which: the expert's edges, checked and put in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import TIME_OF_DAY, Catalogue

#: The time of day as two nodes, so that one minute before and after midnight are neighbours.
TIME_NODES = ("time_of_day:sin", "time_of_day:cos")


@dataclass(frozen=True)
class Structure:
    """A directed acyclic graph over streams and, where there are any, the time nodes.

    Parameters
    ----------
    nodes
        Unique names. Those of :data:`TIME_NODES` are the time of day, all others are streams.
    parents
        For each node the positions of its direct causes in `nodes`.

    Raises
    ------
    InputError
        If a name is repeated, a parent does not exist or is given twice, anything drives the time
        of day, or the edges form a cycle; the message names the nodes.

    Examples
    --------
    >>> structure = Structure.from_edges(("a", "b", "c"), [("a", "b"), ("b", "c")])
    >>> structure.parents
    ((), (0,), (1,))
    >>> structure.without({"b"}).edges
    (('a', 'c'),)
    """

    nodes: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.parents) != len(self.nodes):
            msg = (
                f"{len(self.nodes)} nodes but parents of {len(self.parents)}: give a tuple of "
                "parents, which may be empty, for every node"
            )
            raise InputError(msg)
        repeated = sorted({node for node in self.nodes if self.nodes.count(node) > 1})
        if repeated:
            msg = f"nodes named more than once: {', '.join(repeated)}; names must be unique"
            raise InputError(msg)
        for node, parents in zip(self.nodes, self.parents, strict=True):
            self._check_parents(node, parents)
        _ = self.order

    def _check_parents(self, node: str, parents: tuple[int, ...]) -> None:
        unknown = [p for p in parents if not 0 <= p < len(self.nodes)]
        if unknown:
            msg = f"node {node!r}: parent {unknown[0]} is no position among {len(self.nodes)} nodes"
            raise InputError(msg)
        if len(set(parents)) != len(parents):
            twice = next(p for p in parents if parents.count(p) > 1)
            msg = f"edge {self.nodes[twice]!r} -> {node!r} is stated twice; remove one of them"
            raise InputError(msg)
        if parents and node in TIME_NODES:
            msg = f"edge {self.nodes[parents[0]]!r} -> {node!r}: nothing drives the time of day"
            raise InputError(msg)

    @classmethod
    def of(cls, catalogue: Catalogue) -> Structure:
        """Return the structure a catalogue states.

        Nodes are the streams in catalogue order, then the two time nodes; an edge from the time of
        day comes from both of them.

        Raises
        ------
        InputError
            If the catalogue's edges are unusable, which validation of a catalogue rules out.
        """
        edges = [
            (cause, edge.effect)
            for edge in catalogue.causal_edges
            for cause in (TIME_NODES if edge.cause == TIME_OF_DAY else (edge.cause,))
        ]
        return cls.from_edges((*catalogue.stream_ids, *TIME_NODES), edges)

    @classmethod
    def from_edges(cls, nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> Structure:
        """Return the structure with the given edges, each ``(cause, effect)`` by name.

        Raises
        ------
        InputError
            As the class, and if an edge names an unknown node.
        """
        position = {node: i for i, node in enumerate(nodes)}
        parents: list[list[int]] = [[] for _ in nodes]
        for cause, effect in edges:
            for end in (cause, effect):
                if end not in position:
                    msg = (
                        f"edge {cause!r} -> {effect!r}: unknown node {end!r}; "
                        f"the nodes are {', '.join(nodes) or 'none'}"
                    )
                    raise InputError(msg)
            parents[position[effect]].append(position[cause])
        return cls(tuple(nodes), tuple(tuple(sorted(p)) for p in parents))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Positions of the nodes, causes before their effects; ties in the order of the nodes."""
        sorter: TopologicalSorter[int] = TopologicalSorter(
            {child: sorted(parents) for child, parents in enumerate(self.parents)}
        )
        try:
            sorter.prepare()
        except CycleError as error:
            path = " -> ".join(self.nodes[node] for node in error.args[1])
            msg = (
                f"the edges form a cycle: {path}; nothing can be its own cause, "
                "so remove one of these edges"
            )
            raise InputError(msg) from None
        ordered: list[int] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            ordered += ready
            sorter.done(*ready)
        return tuple(ordered)

    @cached_property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Every edge as ``(cause, effect)``, by effect in the order of the nodes."""
        return tuple(
            (self.nodes[parent], self.nodes[child])
            for child, parents in enumerate(self.parents)
            for parent in parents
        )

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """Nodes that are streams, in order: the stream axis of values and residuals."""
        return tuple(node for node in self.nodes if node not in TIME_NODES)

    @cached_property
    def stream_positions(self) -> tuple[int, ...]:
        """Where the streams stand among the nodes."""
        return tuple(i for i, node in enumerate(self.nodes) if node not in TIME_NODES)

    def ancestors(self, node: int) -> frozenset[int]:
        """Return the positions of everything that drives a node, directly or through others."""
        found: set[int] = set()
        waiting = list(self.parents[node])
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting += self.parents[parent]
        return frozenset(found)

    def without(self, left_out: Collection[str]) -> Structure:
        """Return the same nodes with some of them cut out of the graph.

        The causes of a node that is left out become direct causes of its effects: what it passed on
        is still passed on. The node itself stays, with neither causes nor effects.
        """
        parents: list[tuple[int, ...]] = [()] * len(self.nodes)
        # Causes come first, so that a chain of several nodes left out is bridged as a whole.
        for child in self.order:
            direct: set[int] = set()
            for parent in self.parents[child]:
                direct |= set(parents[parent]) if self.nodes[parent] in left_out else {parent}
            parents[child] = tuple(sorted(direct))
        return Structure(
            self.nodes,
            tuple(
                () if node in left_out else found
                for node, found in zip(self.nodes, parents, strict=True)
            ),
        )
