"""Adding to a catalogue file changes the entry and nothing else, whatever the file looks like."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.errors import CatalogueError
from anomaly_assets.streams.catalogue import CausalEdge, SequenceStep, SequenceTemplate
from anomaly_assets.streams.editing import read_text, replace_file, with_edge, with_template
from anomaly_assets.streams.loading import parse_catalogue, shipped_catalogues, shipped_text

STREAMS = """\
# Watched at home.
name: home
groups: [{id: body}]
streams:
  - {id: steps, type: discrete_events, group: body, increase_event: steps_increase}
  - {id: pulse, type: continuous_smooth, group: body, increase_event: pulse_spike}
  - {id: sweat, type: continuous_smooth, group: body}
"""
EDGE = CausalEdge(cause="pulse", effect="sweat", reason="Found in: the data, #1")
TEMPLATE = SequenceTemplate(
    name="stairs",
    title="Up the stairs",
    steps=(
        SequenceStep(event="steps_increase"),
        SequenceStep(event="pulse_spike", offset_minutes=2.5, weight=0.5),
    ),
    recommended_action="Nothing to do: stairs do this.",
)
#: Ways to write a section, each with what must follow the inserted entry.
LAYOUTS = {
    "absent": "",
    "absent, with comments at the end": "\n# The end.\n",
    "absent, document closed": "...\n# Behind the document.\n",
    "no newline at the end": "causal_edges:\n  - {cause: steps, effect: pulse}",
    "flow entries": "causal_edges:\n  - {cause: steps, effect: pulse}  # certain\n\n# next\n",
    "block entries": (
        "causal_edges:\n  - cause: steps\n    effect: pulse  # certain\n\n  # the end\n\n"
        "contexts: {sleep_hours: [22, 6]}\n"
    ),
    "no indentation": "causal_edges:\n- cause: steps\n  effect: pulse\ndescription: last\n",
    "deep indentation": "causal_edges:\n      - {cause: steps, effect: pulse}\n",
    "folded text": (
        "causal_edges:\n  - cause: steps\n    effect: pulse\n    reason: >\n      Moving makes\n"
        "      the heart beat.\n\ndescription: last\n"
    ),
    "quoted over lines": (
        'causal_edges:\n  - cause: steps\n    effect: pulse\n    reason: "Moving makes\n'
        '      the heart beat."  # yes\ndescription: last\n'
    ),
    "one line": "causal_edges: [{cause: steps, effect: pulse}]  # certain\n",
    "one line, trailing comma": "causal_edges: [\n  {cause: steps, effect: pulse},  # yes\n]\n",
    "empty list": "causal_edges: []  # none yet\ndescription: last\n",
    "null": "causal_edges:  # none yet\ndescription: last\n",
    "tilde": "causal_edges: ~\n",
}


def lines_of(text: str) -> list[str]:
    """Return the lines without what is between them."""
    return text.splitlines()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in {"null", "tilde"}])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_edge_is_added_and_nothing_else_changes(layout: str, end: str) -> None:
    """In every layout the new catalogue is the old one with the edge, and no comment is lost."""
    text = (STREAMS + LAYOUTS[layout]).replace("\n", end)
    before = parse_catalogue(text, "home.yaml")
    changed = with_edge(text, "home.yaml", EDGE)
    after = parse_catalogue(changed, "home.yaml")
    assert after.causal_edges == (*before.causal_edges, EDGE)
    assert after.model_copy(update={"causal_edges": ()}) == before.model_copy(
        update={"causal_edges": ()}
    )
    assert changed.count("#") == text.count("#") + 1
    assert (end == "\r\n") == ("\r\n" in changed)
    assert changed.replace("\r\n", "").count("\r") == 0
    if "one line" not in layout and "empty" not in layout:
        added = [line for line in lines_of(changed) if line and line not in lines_of(text)]
        kept = [line for line in lines_of(changed) if line in lines_of(text)]
        assert [line for line in kept if line] == [line for line in lines_of(text) if line]
        assert len(added) == (2 if layout.startswith("absent") else 1)


@pytest.mark.parametrize("layout", ["null", "tilde"])
def test_a_section_of_nothing_is_refused_as_ever(layout: str) -> None:
    """A file that cannot be loaded is not edited; the message is that of loading."""
    with pytest.raises(CatalogueError, match="causal_edges"):
        with_edge(STREAMS + LAYOUTS[layout], "home.yaml", EDGE)


@pytest.mark.parametrize("name", [name for name in shipped_catalogues() if name != "nab"])
def test_shipped_catalogues_can_be_added_to(name: str) -> None:
    """A copy of a shipped catalogue (but the one of a single stream) takes an edge as one line."""
    text = shipped_text(name)
    catalogue = parse_catalogue(text, name)
    drives = {(edge.cause, edge.effect) for edge in catalogue.causal_edges}
    first = catalogue.stream_ids[0]
    unmoved = next(
        one for one in reversed(catalogue.stream_ids) if one != first and (first, one) not in drives
    )
    changed = with_edge(text, name, CausalEdge(cause=first, effect=unmoved))
    added = set(lines_of(changed)) - set(lines_of(text))
    assert f"  - {{cause: {first}, effect: {unmoved}}}" in added
    assert len(added) <= 2


def test_a_template_is_added_readably() -> None:
    """A template is written as people write them, and loads as what was given."""
    text = STREAMS + LAYOUTS["flow entries"]
    changed = with_template(text, "home.yaml", TEMPLATE)
    assert parse_catalogue(changed, "home.yaml").templates == (TEMPLATE,)
    assert "      - {event: pulse_spike, offset_minutes: 2.5, weight: 0.5}\n" in changed
    assert changed.endswith("    recommended_action: 'Nothing to do: stairs do this.'\n")
    other = TEMPLATE.model_copy(update={"name": "again", "forbidden": ("pulse_spike",)})
    twice = with_template(changed, "home.yaml", other)
    assert parse_catalogue(twice, "home.yaml").templates == (TEMPLATE, other)
    assert twice.startswith(changed)


def test_adding_twice_is_adding_once() -> None:
    """What is there already leaves the text as it is, also under another reason."""
    once = with_edge(STREAMS, "home.yaml", EDGE)
    assert with_edge(once, "home.yaml", EDGE) == once
    assert with_edge(once, "home.yaml", EDGE.model_copy(update={"reason": "Other"})) == once
    once = with_template(STREAMS, "home.yaml", TEMPLATE)
    assert with_template(once, "home.yaml", TEMPLATE) == once


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        (CausalEdge(cause="pulse", effect="steps"), "closes a cycle"),
        (CausalEdge(cause="pulse", effect="breath"), "unknown stream 'breath'"),
        (CausalEdge(cause="pulse", effect="time_of_day"), "nothing drives the time of day"),
        (CausalEdge(cause="pulse", effect="pulse"), "closes a cycle"),
    ],
)
def test_impossible_edges_are_refused(edge: CausalEdge, said: str) -> None:
    """Cycles and unknown streams are named, with the file."""
    with pytest.raises(CatalogueError, match=said) as caught:
        with_edge(STREAMS + LAYOUTS["flow entries"], "home.yaml", edge)
    assert str(caught.value).startswith("home.yaml:")


def test_impossible_templates_are_refused() -> None:
    """Unknown events, and a name that means something else already, are named."""
    unknown = TEMPLATE.model_copy(update={"steps": (SequenceStep(event="nap"),)})
    with pytest.raises(CatalogueError, match="nap"):
        with_template(STREAMS, "home.yaml", unknown)
    once = with_template(STREAMS, "home.yaml", TEMPLATE)
    other = TEMPLATE.model_copy(update={"title": "Other stairs"})
    with pytest.raises(CatalogueError, match="another template has this name"):
        with_template(once, "home.yaml", other)


def test_a_catalogue_in_braces_is_left_to_its_owner() -> None:
    """Where there is no place for a line, that is said, and what to do."""
    text = (
        "{name: home, groups: [{id: body}], streams: [{id: a, type: sporadic, group: body}, "
        "{id: b, type: sporadic, group: body}]}"
    )
    with pytest.raises(CatalogueError, match="by hand"):
        with_edge(text, "home.yaml", CausalEdge(cause="a", effect="b"))


def test_a_byte_order_mark_stays(tmp_path: Path) -> None:
    """Files of editors that write a mark in front can be edited, and keep it."""
    path = tmp_path / "home.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + STREAMS.encode())
    replace_file(path, with_edge(read_text(path), str(path), EDGE))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf# Watched")


@given(reason=st.text(max_size=60))
def test_any_reason_survives(reason: str) -> None:
    """Whatever a reason says, it is read back as it was, or refused; never something else."""
    edge = CausalEdge(cause="pulse", effect="sweat", reason=reason)
    try:
        changed = with_edge(STREAMS, "home.yaml", edge)
    except CatalogueError:
        assert not reason.isprintable()
    else:
        assert parse_catalogue(changed, "home.yaml").causal_edges == (edge,)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new text is there with the old permissions, through a link too, and no other file."""
    folder = tmp_path / "catalogues"
    folder.mkdir()
    path = folder / "home.yaml"
    path.write_text("old")
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    replace_file(link, "ä\r\n")
    assert path.read_bytes() == "ä\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert list(folder.iterdir()) == [path]


def test_an_unwritable_place_is_said_so(tmp_path: Path) -> None:
    """A folder that does not exist is a clear error, and so is a file that cannot be read."""
    with pytest.raises(CatalogueError, match="cannot be written"):
        replace_file(tmp_path / "nowhere" / "home.yaml", STREAMS)
    with pytest.raises(CatalogueError, match="cannot be read"):
        read_text(tmp_path / "nothing.yaml")
