"""A causal network as a small drawing: causes to the left, effects to the right."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.network.model import CausalNetwork

_COLUMN, _ROW = 220, 22
_MARGIN, _CHARACTER = 12, 6.2
_MORE, _LESS = "#1f77b4", "#d62728"
#: An edge weaker than this, in standard deviations, is drawn as thin as can be seen.
_THINNEST, _THICKEST = 0.4, 4.0


def network_svg(network: CausalNetwork) -> str:
    """Draw the edges of a network as an SVG document.

    Blue edges raise their effect, red ones lower it, the thicker the more; beside each stream is
    the share of its variance that its causes explain. Streams without edges are not drawn.

    Parameters
    ----------
    network
        A fitted network.
    """
    places = _places([(cause, effect) for cause, effect, _ in network.edges])
    width = _MARGIN * 2 + _COLUMN * (1 + max((x for x, _ in places.values()), default=0))
    height = _MARGIN * 2 + _ROW * (1 + max((y for _, y in places.values()), default=0))
    explained = dict(zip(network.structure.nodes, network.r_squared.tolist(), strict=True))
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        ),
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for cause, effect, weight in network.edges:
        parts.append(_edge(places[cause], places[effect], cause, weight))
    for node, place in places.items():
        x, y = _point(place)
        share = explained[node]
        # Not a number: nothing drives this node.
        said = node if share != share else f"{node} ({share:.0%})"  # noqa: PLR0124
        parts.append(f'<text x="{x}" y="{y + 4}">{escape(said)}</text>')
    return "".join([*parts, "</svg>"])


def network_markdown(network: CausalNetwork) -> str:
    """Return the drawing as an image for Markdown, which needs no file beside it."""
    data = base64.b64encode(network_svg(network).encode()).decode()
    return f"![causal network](data:image/svg+xml;base64,{data})"


def _places(edges: list[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Return column and row of each node that has an edge: right of its causes, near them."""
    causes: dict[str, list[str]] = {}
    for cause, effect in edges:
        causes.setdefault(cause, [])
        causes.setdefault(effect, []).append(cause)
    columns: dict[str, int] = {}

    def column(node: str) -> int:
        if node not in columns:
            columns[node] = max((column(cause) + 1 for cause in causes[node]), default=0)
        return columns[node]

    for node in causes:
        column(node)
    rows: dict[str, int] = {}
    for number in range(max(columns.values(), default=-1) + 1):
        members = [node for node in causes if columns[node] == number]
        wanted = {
            node: sum(rows[cause] for cause in causes[node]) / max(len(causes[node]), 1)
            for node in members
        }
        members.sort(key=wanted.__getitem__)
        rows |= {node: row for row, node in enumerate(members)}
    return {node: (columns[node], rows[node]) for node in causes}


def _point(place: tuple[int, int]) -> tuple[int, int]:
    return _MARGIN + place[0] * _COLUMN, _MARGIN + place[1] * _ROW + _ROW // 2


def _edge(start: tuple[int, int], end: tuple[int, int], cause: str, weight: float) -> str:
    x0, y0 = _point(start)
    x1, y1 = _point(end)
    begin = x0 + min(len(cause) * _CHARACTER + 36, _COLUMN - 30)
    middle = (begin + x1) / 2
    thickness = min(max(_THICKEST * abs(weight), _THINNEST), _THICKEST)
    return (
        f'<path d="M{begin:.0f} {y0}C{middle:.0f} {y0} {middle:.0f} {y1} {x1 - 4} {y1}" '
        f'fill="none" stroke="{_MORE if weight >= 0.0 else _LESS}" stroke-opacity="0.6" '
        f'stroke-width="{thickness:.1f}"/>'
    )
