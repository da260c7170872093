"""YAML as plain data, with the line of every key and value."""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

#: Longer texts are refused; a catalogue of 1,000 streams takes about a quarter.
MAX_CHARACTERS = 1_000_000
#: Deeper nesting is refused; a catalogue needs six levels.
MAX_DEPTH = 20

#: A longer whole number is left as text: Python refuses to print the longest ones.
_MAX_BITS = 64

Location = tuple[str | int, ...]
#: Line (from 1) and reason.
LineProblem = tuple[int, str]

# The parser in C is ten times faster, but not every build of PyYAML has it.
_Loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnreadableYamlError(Exception):
    """A text is no YAML document that can be made sense of.

    Parameters
    ----------
    problems
        Line and reason of each problem, by line.
    """

    def __init__(self, problems: list[LineProblem]) -> None:
        super().__init__("\n".join(f"line {line}: {reason}" for line, reason in problems))
        self.problems = problems


@dataclass
class LocatedData:
    """The plain data of a YAML document and where each part stands.

    Parameters
    ----------
    data
        Builtins only: dictionaries with text keys, lists and scalars.
    lines
        Line (from 1) of each key or list element, by its path from the top.
    problems
        What had to be left out, and in what: repeated keys and keys that are no text.
    """

    data: object = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[tuple[Location, int, str]] = field(default_factory=list)

    def line(self, location: Location) -> int:
        """Return the line of the innermost part of `location` that the document has."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return 1


def read_located(text: str) -> LocatedData:
    """Read a YAML document.

    Raises
    ------
    UnreadableYamlError
        If the text is too long, empty, no YAML, more than one document, nested too deeply, or uses
        anchors, aliases or custom tags.
    """
    if len(text) > MAX_CHARACTERS:
        reason = f"catalogue: longer than {MAX_CHARACTERS:,} characters; is this a catalogue?"
        raise UnreadableYamlError([(1, reason)])
    try:
        _refuse_tricks(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None or _is_null(node):
                raise UnreadableYamlError([(1, "catalogue: the file is empty")])
            located = LocatedData()
            located.lines[()] = node.start_mark.line + 1
            located.data = _convert(loader, node, (), located)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UnreadableYamlError([_yaml_problem(error, text)]) from error
    except UnicodeEncodeError as error:
        line = text[: error.start].count("\n") + 1
        raise UnreadableYamlError([(line, "catalogue: a character that is none")]) from error
    return located


def _refuse_tricks(text: str) -> None:
    """Go through the events one by one, before anything recursive or multiplying touches them."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        reason = None
        if documents > 1:
            reason = "more than one YAML document ('---'); give one catalogue a file"
        elif depth > MAX_DEPTH:
            reason = f"nested more than {MAX_DEPTH} levels deep"
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            reason = "anchors (&) and aliases (*) are not allowed; write the values out"
        elif getattr(event, "tag", None) is not None:
            reason = "tags (!) are not allowed; remove them"
        if reason:
            raise UnreadableYamlError([(line, f"catalogue: {reason}")])


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _yaml_problem(error: yaml.YAMLError, text: str) -> LineProblem:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        return (1 if mark is None else mark.line + 1, f"catalogue: not valid YAML: {reason}")
    position = getattr(error, "position", 0)
    line = text.encode()[:position].count(b"\n") + 1
    return (line, "catalogue: not valid YAML: a control character; remove it")


def _convert(
    loader: yaml.SafeLoader | yaml.CSafeLoader,
    node: yaml.Node,
    location: Location,
    located: LocatedData,
) -> object:
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(loader, node, location, located)
    if isinstance(node, yaml.SequenceNode):
        items: list[object] = []
        for position, item in enumerate(node.value):
            located.lines[*location, position] = item.start_mark.line + 1
            items.append(_convert(loader, item, (*location, position), located))
        return items
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError):
        # Such as 2026-13-45, which looks like a date: as text it fails where no text is wanted.
        return node.value
    return node.value if isinstance(value, int) and value.bit_length() > _MAX_BITS else value


def _convert_mapping(
    loader: yaml.SafeLoader | yaml.CSafeLoader,
    node: yaml.MappingNode,
    location: Location,
    located: LocatedData,
) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node) if _is_text(key_node) else None
        if key is None:
            shown = getattr(key_node, "value", "")
            what = f"{shown!r} is" if isinstance(shown, str) else "a list or mapping is"
            reason = f"{what} no text and cannot be a key; put it in quotes"
            located.problems.append((location, line, reason))
        elif key in mapping:
            first = located.lines[*location, key]
            reason = f"the key {key!r} is given twice, first in line {first}"
            located.problems.append((location, line, reason))
        else:
            located.lines[*location, key] = line
            mapping[key] = _convert(loader, value_node, (*location, key), located)
    return mapping


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str"
