"""Adding an edge or a template to a catalogue file, and leaving every other character as it is.

Only the place of the new entry is taken from the parsed document; the text around it is never
written anew, so comments, order and layout stay. What comes out is loaded before anybody uses it:
it must be the old catalogue with the new entry, or nothing is changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anomaly_assets.errors import CatalogueError
from anomaly_assets.streams.loading import parse_catalogue

if TYPE_CHECKING:
    from pydantic import BaseModel

    from anomaly_assets.streams.catalogue import Catalogue, CausalEdge, SequenceTemplate

_EDGES, _TEMPLATES = "causal_edges", "templates"
_STEP = "  "
#: What some editors put in front of a file; no part of the document, but it stays.
_MARK = "\ufeff"


def with_edge(text: str, source: str, edge: CausalEdge) -> str:
    """Return a catalogue's text with one more causal edge; as it is if it has the edge already.

    Parameters
    ----------
    text
        The catalogue as YAML.
    source
        What to call it in messages, usually the file's path.
    edge
        What to add.

    Raises
    ------
    CatalogueError
        If the text is no catalogue, the edge names an unknown stream or closes a cycle, or the
        text is written in a way that an entry cannot be added to.
    """
    known = _parsed(text, source).causal_edges
    if any((one.cause, one.effect) == (edge.cause, edge.effect) for one in known):
        return text
    inline = _inline(edge.model_dump(exclude_defaults=True))
    subject = f"causal edge {edge.cause!r} -> {edge.effect!r}"
    return _with_entry(text, source, _Entry(_EDGES, subject, edge, (f"- {inline}",), inline))


def with_template(text: str, source: str, template: SequenceTemplate) -> str:
    """Return a catalogue's text with one more sequence template; see :func:`with_edge`.

    Raises
    ------
    CatalogueError
        As :func:`with_edge`, and if a different template has the name.
    """
    subject = f"template {template.name!r}"
    for one in _parsed(text, source).templates:
        if one == template:
            return text
        if one.name == template.name:
            msg = f"{source}: {subject}: another template has this name; give it another one"
            raise CatalogueError(msg)
    plain = template.model_dump(exclude_defaults=True, mode="json")
    lines: list[str] = []
    for key, value in plain.items():
        mark = _STEP if lines else "- "
        if key == "steps":
            lines += [f"{mark}{key}:", *(f"{_STEP * 2}- {_inline(step)}" for step in value)]
        else:
            lines.append(f"{mark}{key}: {_inline(value)}")
    entry = _Entry(_TEMPLATES, subject, template, tuple(lines), _inline(plain))
    return _with_entry(text, source, entry)


def replace_file(path: Path, text: str) -> None:
    """Replace a file's content at once: whoever reads it sees the old text or the new one.

    Raises
    ------
    CatalogueError
        If the folder cannot be written.
    """
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            else:
                temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        msg = f"catalogue file {str(path)!r} cannot be written: {error}; give another one"
        raise CatalogueError(msg) from error


def read_text(path: Path) -> str:
    """Return a catalogue file's text with its line ends as they are.

    Raises
    ------
    CatalogueError
        If it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"catalogue file {str(path)!r} cannot be read: {error}"
        raise CatalogueError(msg) from error


@dataclass(frozen=True)
class _Entry:
    """Something to add: where, what it is called, and how it is written in a block or in a line."""

    section: str
    subject: str
    model: BaseModel
    lines: tuple[str, ...]
    inline: str


def _with_entry(text: str, source: str, entry: _Entry) -> str:
    """Insert an entry and make sure that it is all that has changed."""
    body = text.removeprefix(_MARK)
    changed = _inserted(body, entry)
    if changed is None:
        msg = f"{source}: {entry.subject}: the file's layout leaves no place for it; add it by hand"
        raise CatalogueError(msg)
    before = _parsed(text, source).model_dump()
    expected = {**before, entry.section: (*before[entry.section], entry.model.model_dump())}
    if _parsed(changed, source).model_dump() != expected:
        msg = f"{source}: {entry.subject}: it cannot be added safely; add it by hand"
        raise CatalogueError(msg)
    return text[: len(text) - len(body)] + changed


def _parsed(text: str, source: str) -> Catalogue:
    return parse_catalogue(text.removeprefix(_MARK), source)


def _inserted(body: str, entry: _Entry) -> str | None:
    """Return the text with an entry at the end of its section; None where there is no place."""
    end = "\r\n" if "\r\n" in body else "\n"
    document = yaml.compose(body, Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode) or document.flow_style:
        return None
    found = [(key, value) for key, value in document.value if key.value == entry.section]
    if not found:
        return _with_section(body, entry, end)
    key, value = found[0]
    if isinstance(value, yaml.SequenceNode) and value.value:
        last = _end_of(value.value[-1])
        if value.flow_style:
            return f"{body[:last]}, {entry.inline}{body[last:]}"
        return _with_lines(body, last, entry, " " * value.start_mark.column, end)
    # Nothing in it yet: the empty list or null goes, a comment behind it stays.
    start, stop = value.start_mark.index, value.end_mark.index
    emptied = body[:start].rstrip(" ") + body[stop:] if stop > start else body
    return _with_lines(emptied, key.end_mark.index, entry, _STEP, end)


def _with_section(body: str, entry: _Entry, end: str) -> str:
    """Append a section; what follows the end of the document stays behind it."""
    document, closing, rest = body, "", ""
    at = f"{end}{body}".rfind(f"{end}...")
    if at >= 0:
        document, closing, rest = body[:at], body[at : at + 3], body[at + 3 :]
    added = [f"{entry.section}:", *(f"{_STEP}{line}" for line in entry.lines)]
    stripped = document.rstrip()
    return f"{stripped}{end}{end}{end.join(added)}{end}{closing}{rest}"


def _with_lines(body: str, after: int, entry: _Entry, indent: str, end: str) -> str:
    """Insert lines behind the one that the character before `after` stands in."""
    at = body.find("\n", max(after - 1, 0))
    added = end.join(f"{indent}{line}" for line in entry.lines)
    if at < 0:
        return f"{body}{end}{added}{end}"
    return f"{body[: at + 1]}{added}{end}{body[at + 1 :]}"


def _end_of(node: yaml.Node) -> int:
    """Return where a node ends; PyYAML counts comments and blank lines to a block before them."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _inline(value: Any) -> str:  # noqa: ANN401 - whatever a field of a catalogue holds
    """Return a value as YAML on one line, quoted where it has to be."""
    dumped = yaml.safe_dump(
        value,
        default_flow_style=True,
        width=float("inf"),
        allow_unicode=True,
        sort_keys=False,
    )
    return dumped.removesuffix("\n").removesuffix("\n...")
