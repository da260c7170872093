"""Small drawings as SVG paths: sparklines and the causal path; colours are for the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

#: Width of a node of a causal path for each character of its name, and its least width.
_PER_CHARACTER: Final = 7.2
_LEAST_WIDTH: Final = 90.0
_NODE_HEIGHT: Final = 44.0
_GAP: Final = 44.0
_ROW_GAP: Final = 34.0


def sparkline(values: Sequence[float | None], width: float, height: float) -> str:
    """Return the path of a line through values in [0, 1], broken where they are unknown.

    Parameters
    ----------
    values
        From left to right.
    width, height
        Of the drawing, in its units.

    Examples
    --------
    >>> sparkline([0.0, 1.0, None, 0.5], 30, 10)
    'M0 9.5L10 0.5M30 5h0.01'
    """
    step = width / max(len(values) - 1, 1)
    path, pen, alone = [], False, False
    for number, value in enumerate(values):
        if value is None:
            path.append("h0.01" if alone else "")
            pen = alone = False
            continue
        # Half a unit from the edges, or a line at 0 or 1 would be cut in half.
        y = 0.5 + (1.0 - min(max(value, 0.0), 1.0)) * (height - 1.0)
        path.append(f"{'L' if pen else 'M'}{number * step:.4g} {y:.4g}")
        alone = not pen
        pen = True
    # A point without neighbours would be no line at all.
    path.append("h0.01" if alone else "")
    return "".join(path)


@dataclass(frozen=True)
class PathNode:
    """A stream of a causal path, placed.

    Parameters
    ----------
    stream, name, note
        Identifier, name for people, and what is said below it.
    x, y, width, height
        Its box.
    kind
        ``root``, ``between`` or ``target``.
    """

    stream: str
    name: str
    note: str
    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class PathDrawing:
    """A causal path, drawn from left to right, in further rows where it is long.

    Parameters
    ----------
    nodes
        In causal order.
    arrows
        SVG paths between neighbours.
    width, height
        Of the drawing.
    """

    nodes: tuple[PathNode, ...]
    arrows: tuple[str, ...]
    width: float
    height: float


def causal_path(
    streams: Sequence[tuple[str, str, str]], *, most_width: float = 430.0
) -> PathDrawing:
    """Place the streams of a path.

    Parameters
    ----------
    streams
        Identifier, name and note of each, from the root to the stream explained.
    most_width
        From which on a new row begins.
    """
    nodes: list[PathNode] = []
    x = y = 1.0
    for number, (stream, name, note) in enumerate(streams):
        width = max(_LEAST_WIDTH, _PER_CHARACTER * max(len(name), len(note)) + 24.0)
        if nodes and x + width > most_width:
            x, y = 1.0, y + _NODE_HEIGHT + _ROW_GAP
        last = number == len(streams) - 1
        kind = "target" if last and number else "between" if number else "root"
        nodes.append(PathNode(stream, name, note, x, y, width, _NODE_HEIGHT, kind))
        x += width + _GAP
    arrows = tuple(_arrow(one, two) for one, two in pairwise(nodes))
    across = max((node.x + node.width for node in nodes), default=0.0) + 1.0
    return PathDrawing(tuple(nodes), arrows, across, y + _NODE_HEIGHT + 1.0)


def _arrow(one: PathNode, two: PathNode) -> str:
    if one.y == two.y:
        middle = one.y + one.height / 2.0
        return f"M{one.x + one.width + 4:.1f} {middle:.1f}L{two.x - 9:.1f} {middle:.1f}"
    below, top = one.y + one.height + 3.0, two.y - 9.0
    start, end = one.x + one.width / 2.0, two.x + two.width / 2.0
    between = (below + top) / 2.0
    return f"M{start:.1f} {below:.1f}V{between:.1f}H{end:.1f}V{top:.1f}"
