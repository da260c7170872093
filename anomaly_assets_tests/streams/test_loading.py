"""Loading catalogues: what is accepted, and how clearly the rest is refused."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_assets.errors import CatalogueError
from anomaly_assets.streams.catalogue import Aggregation, Catalogue, StreamType
from anomaly_assets.streams.loading import load_catalogue, parse_catalogue, shipped_catalogues

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
name: good
time_zone: Europe/Berlin
health:
  sporadic: {min_availability: 0.1, availability_window: 100}
groups:
  - {id: body}
streams:
  - id: heart
    type: continuous_smooth
    group: body
    increase_event: heart_rate_spike
  - id: gps
    type: sporadic
    group: body
  - id: speech
    type: sporadic
    group: body
    health: {min_availability: 0.3}
causal_edges:
  - {cause: gps, effect: heart}
  - {cause: speech, effect: gps}
templates:
  - name: stress
    title: Stress
    steps:
      - event: normal_state
      - event: heart_rate_spike
    recommended_action: Take a break.
"""


def _refusal(text: str) -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        parse_catalogue(text, "my.yaml")
    return str(refused.value).splitlines()


def _line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_good_catalogue_is_read() -> None:
    """The example that the refusals below are made from is itself fine."""
    catalogue = parse_catalogue(GOOD, "my.yaml")
    assert catalogue.stream_ids == ("heart", "gps", "speech")
    assert catalogue.streams[0].aggregation is Aggregation.MEAN


def test_health_limits_of_a_type_reach_its_streams_and_no_others() -> None:
    """A stream takes its type's limits, its own come first, and other types keep the standard."""
    heart, gps, speech = parse_catalogue(GOOD, "my.yaml").streams
    assert (heart.health.min_availability, heart.health.availability_window) == (0.8, 48)
    assert (gps.health.min_availability, gps.health.availability_window) == (0.1, 100)
    assert (speech.health.min_availability, speech.health.availability_window) == (0.3, 100)


@pytest.mark.parametrize(
    ("old", "new", "at", "expected"),
    [
        pytest.param(
            "    increase_event", "    increase_evnt", "evnt",
            "stream 'heart': unknown key 'increase_evnt' (did you mean 'increase_event'?)",
            id="unknown key",
        ),
        pytest.param(
            "    group: body\n    increase", "    increase", "id: heart",
            "stream 'heart': the key 'group' is missing", id="missing key",
        ),
        pytest.param(
            "time_zone:", "timezone:", "timezone",
            "catalogue: unknown key 'timezone' (did you mean 'time_zone'?)", id="unknown top key",
        ),
        pytest.param(
            "continuous_smooth", "continuous_smoth", "smoth",
            "stream 'heart': type 'continuous_smoth' is none of continuous_smooth, "
            "continuous_noisy, discrete_events, sporadic (did you mean 'continuous_smooth'?)",
            id="unknown type",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    expected_interval: often\n", "often",
            "stream 'gps': expected_interval must be a number, found 'often'", id="wrong type",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    unit: no\n", "unit",
            "stream 'gps': unit must be text, found False; put it in quotes if it is meant as text",
            id="a word that YAML takes for false",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    stuck_after: 1\n", "stuck_after",
            "stream 'gps': stuck_after must be at least 2, found 1", id="out of bounds",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    stuck_after: 0x" + "f" * 9999 + "\n", "stuck_after",
            "stream 'gps': stuck_after must be a whole number, found", id="number without end",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    valid_range: [5, 5]\n", "valid_range",
            "stream 'gps': valid_range [5.0, 5.0] is empty: its first bound must be below",
            id="empty valid range",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    valid_range: [1, 2, 3]\n", "valid_range",
            "stream 'gps': valid_range must be a list of at most 2 entries", id="three bounds",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    valid_range: [1]\n", "valid_range",
            "stream 'gps': an entry is missing", id="one bound",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    health: {min_availablity: 1}\n", "min_availablity",
            "stream 'gps': unknown key 'min_availablity' (did you mean 'min_availability'?)",
            id="unknown key of a part",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    health: bad\n", "health: bad",
            "stream 'gps': health must be a mapping of keys, found 'bad'", id="part of wrong kind",
        ),
        pytest.param(
            "id: gps\n", "id: gps\n    witnesses: [gps]\n", "witnesses",
            "stream 'gps': witness 'gps' is not another stream", id="own witness",
        ),
        pytest.param(
            "id: speech\n", "id: speech\n    increase_event: Loud Noise\n", "Loud",
            "stream 'speech': increase_event 'Loud Noise' does not match", id="bad event name",
        ),
        pytest.param(
            "id: gps\n    type: sporadic\n    group: body",
            "id: gps\n    type: sporadic\n    group: bdy", "group: bdy",
            "stream 'gps': unknown group 'bdy'; the groups are body", id="unknown group",
        ),
        pytest.param(
            "  - id: speech\n", "  - {id: gps, type: sporadic, group: body}\n  - id: speech\n",
            "id: gps,", "stream 'gps' is defined twice", id="duplicate stream",
        ),
        pytest.param(
            "  - {id: body}\n", "  - {id: body}\n  - {id: body}\n", "id: body",
            "group 'body' is defined twice", id="duplicate group",
        ),
        pytest.param(
            "Europe/Berlin", "Europe/Berln", "Berln",
            "catalogue: unknown time zone 'Europe/Berln'; give an IANA name", id="bad time zone",
        ),
        pytest.param(
            "cause: speech, effect: gps", "cause: spech, effect: gps", "spech",
            "causal edge 'spech' -> 'gps': unknown stream 'spech'", id="edge to nowhere",
        ),
        pytest.param(
            "cause: speech, effect: gps", "cause: gps, effect: time_of_day", "time_of_day",
            "causal edge 'gps' -> 'time_of_day': nothing drives the time of day", id="drives time",
        ),
        pytest.param(
            "cause: speech, effect: gps", "cause: gps, effect: heart", "causes:",
            "causal edge 'gps' -> 'heart' is stated twice", id="edge twice",
        ),
        pytest.param(
            "cause: speech, effect: gps", "cause: heart, effect: gps", "cause: heart",
            "causal edge 'heart' -> 'gps' closes a cycle: ", id="cycle",
        ),
        pytest.param(
            "cause: speech, effect: gps", "cause: gps, effect: gps", "effect: gps",
            "causal edge 'gps' -> 'gps' closes a cycle: gps -> gps", id="own cause",
        ),
        pytest.param(
            "cause: speech, effect: gps", "effect: gps", "{effect: gps",
            "causal edge '?' -> 'gps': the key 'cause' is missing", id="edge without cause",
        ),
        pytest.param(
            "event: heart_rate_spike\n    recommended", "event: heart_rate_drop\n    recommended",
            "heart_rate_drop",
            "template 'stress': no stream has 'heart_rate_drop' as its increase_event or "
            "decrease_event, and it is none of multiple_streams_affected, ",
            id="event that nothing produces",
        ),
        pytest.param(
            "    title: Stress\n", "    title: Stress\n    forbidden: [calm]\n", "forbidden",
            "template 'stress': no stream has 'calm'", id="forbidden event that nothing produces",
        ),
        pytest.param(
            "Take a break.", "Rest", "Rest",
            "template 'stress': recommended_action must be text of at least 8 characters",
            id="too short",
        ),
        pytest.param(
            "sporadic: {", "sporadik: {", "sporadik",
            "health: unknown stream type 'sporadik' (did you mean 'sporadic'?); the types are",
            id="health of an unknown type",
        ),
        pytest.param(
            "min_availability: 0.1", "min_availability: 10", "min_availability: 10",
            "health of sporadic: min_availability must be at most 1, found 10", id="health limit",
        ),
        pytest.param(
            "time_zone:", "contexts: {work_days: [7]}\ntime_zone:", "contexts",
            "contexts: weekdays run from 0 (Monday) to 6 (Sunday), got [7]", id="weekday",
        ),
        pytest.param(
            "time_zone:", "on: 1\ntime_zone:", "on: 1",
            "catalogue: 'on' is no text and cannot be a key; put it in quotes", id="key no text",
        ),
        pytest.param(
            "  - {id: body}", "  - body", "  - body",
            "group number 1: groups must be a mapping of keys, found 'body'", id="entry no mapping",
        ),
        pytest.param(
            "name: good\n", "", "time_zone",
            "catalogue: the key 'name' is missing", id="no name",
        ),
    ],
)  # fmt: skip
def test_a_bad_catalogue_is_refused_with_line_subject_and_reason(
    old: str, new: str, at: str, expected: str
) -> None:
    """One mistake gives one line: file, line number, what it concerns, and why, in plain words."""
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    (message,) = _refusal(text)
    file, line, reason = message.split(":", 2)
    assert file == "my.yaml"
    assert reason.startswith(f" {expected}")
    last_with_it = [n for n, row in enumerate(text.splitlines(), 1) if at in row]
    assert int(line) in (last_with_it or [_line_of(text, "cause: gps, effect: heart}") + 1])


def test_the_line_of_a_repeated_name_is_that_of_the_repetition() -> None:
    """Of two groups with one id the second is blamed, in its own line."""
    text = GOOD.replace("  - {id: body}\n", "  - {id: body}\n  - {id: body}\n")
    assert _refusal(text) == ["my.yaml:7: group 'body' is defined twice"]


def test_a_repeated_key_is_refused_with_both_lines() -> None:
    """YAML would silently take the last one."""
    text = GOOD.replace("id: gps\n", "id: gps\n    type: sporadic\n")
    assert _refusal(text) == [
        "my.yaml:14: stream 'gps': the key 'type' is given twice, first in line 13"
    ]


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    """A person corrects a file once, not once for each mistake."""
    text = (
        GOOD.replace("Europe/Berlin", "Mars/Base")
        .replace("type: continuous_smooth", "type: smooth")
        .replace("id: gps", "id: _gps")
        .replace("Take a break.", "Rest")
    )
    messages = _refusal(text)
    assert [int(message.split(":")[1]) for message in messages] == [2, 9, 12, 28]
    assert all(one != other for one, other in itertools.pairwise(messages))


def test_all_dangling_references_are_reported_at_once() -> None:
    """What only shows when the parts are put together is also complete."""
    text = (
        GOOD.replace("group: body\n    health", "group: soul\n    health")
        .replace("{cause: gps", "{cause: gsp")
        .replace("event: normal_state", "event: odd_state")
    )
    lines = [int(message.split(":")[1]) for message in _refusal(text)]
    assert lines == [17, 20, 26]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "my.yaml:1: catalogue: the file is empty"),
        ("# only a comment\n", "my.yaml:1: catalogue: the file is empty"),
        ("~\n", "my.yaml:1: catalogue: the file is empty"),
        ("name: [1, 2\nx: 3\n", "my.yaml:2: catalogue: not valid YAML: while parsing a flow"),
        ("name: a\n\tx: 3\n", "my.yaml:2: catalogue: not valid YAML: while scanning"),
        ("name: a\nx: \x07\n", "my.yaml:2: catalogue: not valid YAML: a control character"),
        ("name: \ud800\n", "my.yaml:1: catalogue: a character that is none"),
        ("- a\n- b\n", "my.yaml:1: catalogue: expected a mapping of keys, found a list"),
        ("just words\n", "my.yaml:1: catalogue: expected a mapping of keys, found a str"),
        ("name: a\n---\nname: b\n", "my.yaml:2: catalogue: more than one YAML document"),
        ("name: !!python/object:os.system x\n", "my.yaml:1: catalogue: tags (!) are not allowed"),
        ("a: &a [x]\nb: *a\n", "my.yaml:1: catalogue: anchors (&) and aliases (*) are not allowed"),
        ("[" * 30 + "]" * 30, "my.yaml:1: catalogue: nested more than 20 levels deep"),
        ("[" * 100_000, "my.yaml:1: catalogue: nested more than 20 levels deep"),
        ("x" * 1_000_001, "my.yaml:1: catalogue: longer than 1,000,000 characters"),
    ],
    ids=lambda value: value[:20].encode("ascii", "replace").decode() if value else "empty",
)
def test_a_text_that_is_no_catalogue_is_refused(text: str, expected: str) -> None:
    """Not YAML, empty, dangerous or endless text: one line, with the place where it begins."""
    (message,) = _refusal(text)
    assert message.startswith(expected)


def test_a_billion_laughs_are_refused_at_the_first() -> None:
    """References that unfold to a billion entries cost nothing, because none are followed."""
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10))
    (message,) = _refusal("l0: &l0 [ha]\n" + levels)
    assert "anchors" in message


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}#&*!|>'\"%@? \n\t,0.~", max_size=60))
def test_any_text_is_a_catalogue_or_refused(text: str) -> None:
    """Nothing but a catalogue error comes out, whatever goes in."""
    with pytest.raises(CatalogueError, match=r"my\.yaml:[0-9]+: "):
        parse_catalogue(text, "my.yaml")


_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), junk=_junk)
def test_junk_in_any_place_is_a_catalogue_error_or_fine(data: st.DataObject, junk: object) -> None:
    """Any part of a good catalogue may be replaced by anything, without another kind of error."""
    document = yaml.safe_load(GOOD)
    part = document
    while True:
        key = data.draw(
            st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part)))
        )
        if not isinstance(part[key], dict | list) or not part[key] or data.draw(st.booleans()):
            part[key] = junk
            break
        part = part[key]
    with contextlib.suppress(CatalogueError):
        parse_catalogue(yaml.safe_dump(document), "my.yaml")


def test_a_catalogue_is_loaded_from_a_path(tmp_path: Path) -> None:
    """A path object and a text that looks like a path both do, also with a byte-order mark."""
    file = tmp_path / "mine.yaml"
    file.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert load_catalogue(file) == load_catalogue(str(file)) == parse_catalogue(GOOD, "x")


def test_extra_directories_come_before_the_shipped_ones(tmp_path: Path) -> None:
    """An operator's own ``default`` replaces the shipped one; other names still resolve."""
    (tmp_path / "default.yaml").write_text(GOOD, encoding="utf-8")
    assert load_catalogue("default", extra_directories=[tmp_path]).name == "good"
    assert load_catalogue("asd", extra_directories=[tmp_path]).name == "asd"


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    """The message has a guess and every name, including those of the extra directories."""
    (tmp_path / "mine.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"did you mean 'default'\?.*default.*mine.*smd"):
        load_catalogue("defualt", extra_directories=[tmp_path])


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """Absent, a folder, an endless device, not UTF-8, enormous, or an impossible name."""
    with pytest.raises(CatalogueError, match="does not exist"):
        load_catalogue(tmp_path / "none.yaml")
    with pytest.raises(CatalogueError, match="is not a regular file"):
        load_catalogue(tmp_path)
    with pytest.raises(CatalogueError, match="is not a regular file"):
        load_catalogue(os.devnull)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: a\ndescription: caf\xe9\n")
    with pytest.raises(CatalogueError, match=r"latin\.yaml:2: catalogue: not UTF-8"):
        load_catalogue(latin)
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(10_000_000_000)
    with pytest.raises(CatalogueError, match="longer than"):
        load_catalogue(huge)
    with pytest.raises(CatalogueError):
        load_catalogue("a\0b.yaml")


@pytest.mark.parametrize("name", shipped_catalogues())
def test_shipped_catalogues_load_under_their_own_names(name: str) -> None:
    """Each is valid, and survives a round trip through its own data."""
    catalogue = load_catalogue(name)
    assert catalogue.name == name
    assert Catalogue.model_validate(catalogue.model_dump()) == catalogue
    assert load_catalogue(name).digest == catalogue.digest


def test_the_shipped_catalogues_are_the_documented_ones() -> None:
    """Names are part of the interface."""
    assert shipped_catalogues() == ("asd", "default", "extrasensory", "fitbit1", "nab", "smd")


def test_the_default_catalogue_covers_all_types_and_groups() -> None:
    """36 streams, four types, six groups, and the templates and edges of the requirements."""
    catalogue = load_catalogue("default")
    assert len(catalogue.streams) == 36
    assert {stream.type for stream in catalogue.streams} == set(StreamType)
    assert {stream.group for stream in catalogue.streams} == set(catalogue.group_ids)
    assert len(catalogue.group_ids) == 6
    assert {"exercise", "stress", "medical"} <= {t.name for t in catalogue.templates}
    edges = {(edge.cause, edge.effect) for edge in catalogue.causal_edges}
    assert {
        ("accel_magnitude", "heart_rate"),
        ("gps_speed", "heart_rate"),
        ("accel_magnitude", "gps_speed"),
        ("app_launches", "screen_on_events"),
        ("time_of_day", "activity_intensity"),
        ("ambient_light", "screen_brightness"),
    } <= edges


def test_streams_that_hide_gaps_do_not_witness() -> None:
    """Fitbit's calories come with the watch off, so only the heart rate vouches for no steps."""
    catalogue = load_catalogue("fitbit1")
    heart = catalogue.index("hr")
    for name in ("steps", "distance_cm"):
        assert catalogue.witnesses_of_stream[catalogue.index(name)].tolist() == [heart]
