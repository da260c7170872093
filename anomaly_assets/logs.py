"""Log lines that say of whom they speak, as text or as JSON, and never hold a secret.

Whoever processes an entity or a window says so with :func:`about`; every line that is written
meanwhile, by whatever module, carries it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

Form = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

#: What a line may be about, in the order in which it is told.
FIELDS: Final = ("run_id", "entity", "stream", "window")

_about: ContextVar[Mapping[str, str]] = ContextVar("about")
_NOTHING: Final[Mapping[str, str]] = {}
_PACKAGE: Final = "anomaly_assets"
_ACCESS: Final = "uvicorn.access"
_MASK: Final = "***"
_SECRETS: Final = (
    # postgresql://ann:secret@db
    (re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+(?=@)"), rf"\1:{_MASK}"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s\"',]+", re.IGNORECASE), rf"\1 {_MASK}"),
    (re.compile(r"\b(aa_|whsec_)[A-Za-z0-9_-]{16,}"), rf"\1{_MASK}"),
    (
        re.compile(
            r"\b([\w-]*(?:token|secret|password|passwd|api[_-]?key|signing_key|signature))"
            r"(\"?'?\s*[=:]\s*\"?'?)[^\s&\"',;]+",
            re.IGNORECASE,
        ),
        rf"\1\2{_MASK}",
    ),
)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Have every line that is written within the block say what it is about.

    Parameters
    ----------
    **fields
        Of :data:`FIELDS`; a ``datetime`` is told in UTC, None is left out.
    """
    before = _about.get(_NOTHING)
    bind(**fields)
    try:
        yield
    finally:
        # Not reset(): a generator may be closed in another context than it was begun in.
        _about.set(before)


def bind(**fields: object) -> None:
    """Have every further line of this task or thread say what it is about; see :func:`about`."""
    told = {name: _told(value) for name, value in fields.items() if value is not None}
    _about.set({**_about.get(_NOTHING), **told})


def unbind(*names: str) -> None:
    """Have further lines of this task or thread say no more of these fields."""
    _about.set({name: value for name, value in current().items() if name not in names})


def current() -> Mapping[str, str]:
    """Return what lines written now are about."""
    return _about.get(_NOTHING)


def mask(text: str) -> str:
    """Return a text without the passwords, tokens and keys in it.

    Examples
    --------
    >>> mask("cannot connect to postgresql://ann:hush@db:5432/watch")
    'cannot connect to postgresql://ann:***@db:5432/watch'
    >>> mask("GET /v1/events?token=hush&entity_id=ann")
    'GET /v1/events?token=***&entity_id=ann'
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def configure(form: Form = "text", level: Level = "info", stream: TextIO | None = None) -> None:
    """Write the lines of this process to one place; calling it again replaces what it did before.

    Parameters
    ----------
    form
        Text for people, or one JSON document a line.
    level
        From which on our own lines are written; those of libraries are from warnings on.
    stream
        Where to; standard error by default.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root.addHandler(handler)
    for name in (_PACKAGE, _ACCESS):
        logging.getLogger(name).setLevel(level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that it can be told from others'."""


class JsonFormatter(logging.Formatter):
    """One JSON document a line: time, level, logger, message, what it is about, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; it holds no line break and no secret."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
            **_fields(record),
            **_request(record),
        }
        if record.exc_info:
            kind = record.exc_info[0]
            line["exception"] = {
                "type": "" if kind is None else kind.__name__,
                "traceback": mask(self.formatException(record.exc_info)),
            }
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, logger and message, and in brackets what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the exception's traceback below it; neither holds a secret."""
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        text = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        if fields:
            text += f" [{fields}]"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return mask(text)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, str]:
    """Return what a line is about: what it says itself (``extra=...``) before its surroundings."""
    around = _about.get(_NOTHING)
    found = {}
    for name in FIELDS:
        value = getattr(record, name, None)
        if value is not None or name in around:
            found[name] = around[name] if value is None else _told(value)
    return found


def _request(record: logging.LogRecord) -> dict[str, Any]:
    """Return the parts of a line of uvicorn's access log."""
    if record.name != _ACCESS or not isinstance(record.args, tuple):
        return {}
    names = ("client", "method", "path", "http_version", "status")
    parts = dict(zip(names, record.args, strict=False))
    return {name: mask(part) if isinstance(part, str) else part for name, part in parts.items()}


def _told(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)
