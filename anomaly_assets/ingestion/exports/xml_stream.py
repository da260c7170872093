"""XML of unknown origin, read as a stream: no tree, no entities, nothing fetched.

Memory does not grow with the file: expat hands over one tag after the other, and a single tag,
the nesting and the document type are bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol
from xml.parsers import expat

from anomaly_assets.errors import IngestionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_BLOCK: Final = 256 << 10
#: Some releases of iOS write a document type that is not well-formed, so it is left out; in the
#: largest ones known it takes 15 kB.
_LONGEST_HEAD: Final = 1 << 20
_LONGEST_TAG: Final = 4 << 20
_DEEPEST: Final = 64
_DOCUMENT_TYPE = re.compile(rb"<!DOCTYPE\s+[\w:.-]+\s*\[(.*?)\]\s*>", re.DOTALL)


class Handler(Protocol):
    """Who is told of the tags."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take a tag that opens."""

    def end(self, name: str) -> None:
        """Take a tag that closes."""

    def text(self, data: str) -> None:
        """Take a piece of text between tags."""


class _HostileError(Exception):
    """Something no export has any use for."""


def scan(
    file: BinaryIO, what: str, handler: Handler, progress: Callable[[int], None] | None = None
) -> None:
    """Read a document from its beginning to its end.

    Parameters
    ----------
    file
        The document.
    what
        Its name, for messages.
    handler
        Is told of every tag.
    progress
        Called with the number of bytes read so far.

    Raises
    ------
    IngestionError
        If it is not well-formed, breaks off, declares entities, refers to other documents, or has
        tags of unreasonable length or depth.
    """
    try:
        _feed(_guarded(handler), file, progress)
    except _HostileError as error:
        msg = f"{what} is refused: {error}; no health app exports that"
        raise IngestionError(msg) from error
    except (expat.ExpatError, UnicodeDecodeError, LookupError) as error:
        msg = f"cannot read {what} to its end: {error}; export it again"
        raise IngestionError(msg) from error


def _feed(
    parser: expat.XMLParserType, file: BinaryIO, progress: Callable[[int], None] | None
) -> None:
    head = _without_document_type(_head(file))
    done = fed = 0
    block = head
    while block:
        fed += len(block)
        parser.Parse(block, False)  # noqa: FBT003 - expat takes no names
        # What expat keeps is a tag that has not ended yet.
        if fed - parser.CurrentByteIndex > _LONGEST_TAG:
            msg = f"a tag is longer than {_LONGEST_TAG:,} bytes"
            raise _HostileError(msg)
        done += len(block)
        if progress is not None:
            progress(done)
        block = file.read(_BLOCK)
    parser.Parse(b"", True)  # noqa: FBT003 - as above


def _guarded(handler: Handler) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            msg = f"tags are nested more than {_DEEPEST} deep"
            raise _HostileError(msg)
        handler.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(name)

    def refuse_entity(*_: object) -> None:
        msg = "it declares entities"
        raise _HostileError(msg)

    def refuse_reference(*_: object) -> int:
        msg = "it refers to another document"
        raise _HostileError(msg)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = refuse_entity
    parser.UnparsedEntityDeclHandler = refuse_entity
    parser.ExternalEntityRefHandler = refuse_reference
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    return parser


def _head(file: BinaryIO) -> bytes:
    """Read so much that the document type, if there is one, is in it as a whole."""
    head = file.read(_BLOCK)
    while b"<!DOCTYPE" in head and not _DOCUMENT_TYPE.search(head) and len(head) < _LONGEST_HEAD:
        more = file.read(_BLOCK)
        if not more:
            break
        head += more
    return head


def _without_document_type(head: bytes) -> bytes:
    found = _DOCUMENT_TYPE.search(head)
    if found is None:
        return head
    if b"<!ENTITY" in found[1]:
        msg = "it declares entities"
        raise _HostileError(msg)
    if b"<" in head[: found.start()].replace(b"<?", b"").replace(b"<!--", b""):
        # Behind the first tag it is no document type but text that looks like one.
        return head
    return head[: found.start()] + head[found.end() :]
