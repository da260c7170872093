"""The drawing of a network: well-formed, complete, small, and safe whatever streams are called."""

from __future__ import annotations

import base64
from xml.etree import ElementTree as ET

import numpy as np

from anomaly_assets.assets.network_graph import network_markdown, network_svg
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets_tests.storage.networks import small_network

SVG = "{http://www.w3.org/2000/svg}"


def drawn(network: CausalNetwork) -> tuple[dict[str, tuple[float, float]], int]:
    """Return the place of each text, and the number of edges."""
    root = ET.fromstring(network_svg(network))  # noqa: S314 - our own
    texts = {
        str(text.text): (float(text.attrib["x"]), float(text.attrib["y"]))
        for text in root.iter(f"{SVG}text")
    }
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x < width and 0 <= y < height for x, y in texts.values())
    return texts, len(list(root.iter(f"{SVG}path")))


def full_network() -> CausalNetwork:
    """Return a network of the default catalogue."""
    structure = Structure.of(load_catalogue("default"))
    n = len(structure.nodes)
    coefficients = np.zeros((n, n))
    for effect, causes in enumerate(structure.parents):
        coefficients[effect, list(causes)] = -0.5
    return CausalNetwork(
        structure=structure,
        mean=np.zeros(n),
        scale=np.ones(n),
        coefficients=coefficients,
        noise=np.ones(n),
        r_squared=np.array([0.5 if causes else np.nan for causes in structure.parents]),
        n_observed=np.full(n, 288),
        fitted_at=0,
        n_windows=288,
        left_out={},
    )


def test_causes_stand_left_of_their_effects() -> None:
    """Every edge in use is drawn; an effect says how much of it is explained."""
    texts, edges = drawn(small_network())
    assert edges == 1
    assert set(texts) == {"steps", "pulse (64%)"}
    assert texts["steps"][0] < texts["pulse (64%)"][0]


def test_every_edge_of_a_catalogue_is_drawn_in_a_few_kilobytes() -> None:
    """Dagster keeps the drawing of every hour: it is small, and no two texts lie on each other."""
    network = full_network()
    texts, edges = drawn(network)
    assert edges == len(network.edges)
    assert len(set(texts.values())) == len(texts)
    place = {text.split(" ")[0]: at for text, at in texts.items()}
    assert all(place[cause][0] < place[effect][0] for cause, effect, _ in network.edges)
    assert len(network_markdown(network)) < 12_000


def test_names_cannot_break_out_of_the_drawing() -> None:
    """Whatever a stream is called, the document stays well-formed and holds no other element."""
    names = ("<script>alert(1)</script>", "a&b", 'c"d')
    structure = Structure.from_edges(names, [(names[0], names[1]), (names[1], names[2])])
    network = small_network(
        structure=structure,
        coefficients=np.array([[0.0, 0.0, 0.0], [0.8, 0.0, 0.0], [0.0, -0.3, 0.0]]),
        left_out={},
    )
    root = ET.fromstring(network_svg(network))  # noqa: S314 - our own
    assert {element.tag for element in root.iter()} == {
        f"{SVG}{name}" for name in ("svg", "rect", "path", "text")
    }
    assert names[0] in {text.text for text in root.iter(f"{SVG}text")}


def test_a_network_without_edges_is_an_empty_drawing() -> None:
    """Nothing to draw is no error."""
    structure = Structure.from_edges(("steps", "pulse", "sweat"), [])
    texts, edges = drawn(small_network(structure=structure, coefficients=np.zeros((3, 3))))
    assert (texts, edges) == ({}, 0)


def test_markdown_holds_the_drawing_itself() -> None:
    """The image needs no file and no server."""
    image = network_markdown(small_network())
    head, data = image.removesuffix(")").split(",")
    assert head == "![causal network](data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == network_svg(small_network())
