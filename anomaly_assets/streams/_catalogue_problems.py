"""Checking the plain data of a catalogue, and wording what is wrong with it."""

from __future__ import annotations

import difflib
import textwrap
import typing
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from anomaly_assets.streams._located_yaml import LineProblem, LocatedData, Location
from anomaly_assets.streams.catalogue import (
    Catalogue,
    HealthLimits,
    StreamType,
    UnresolvedReferencesError,
)

_HEALTH = "health"


def check(document: LocatedData) -> Catalogue | list[LineProblem]:
    """Return the catalogue that the document describes, or everything wrong with it, by line."""
    data = document.data
    if not isinstance(data, dict):
        kind = type(data).__name__
        return [(document.line(()), f"catalogue: expected a mapping of keys, found a {kind}")]
    problems = [
        (line, f"{_subject(place, data)}: {reason}") for place, line, reason in document.problems
    ]
    defaults, health_problems = _health_defaults(data.pop(_HEALTH, None))
    resolved = {**data, "streams": _with_health(data.get("streams"), defaults)}
    if "streams" not in data:
        del resolved["streams"]
    problems += [(document.line(place), reason) for place, reason in health_problems]
    try:
        catalogue = Catalogue.model_validate(resolved)
    except ValidationError as error:
        for details in error.errors():
            problems += [
                (document.line(place), reason) for place, reason in _worded(details, resolved)
            ]
    else:
        if not problems:
            return catalogue
    # One mistake can be met more than once, such as a limit that every stream of a type inherits.
    return sorted(set(problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the likeliest of the known words, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _health_defaults(
    section: object,
) -> tuple[dict[str, dict[str, object]], list[tuple[Location, str]]]:
    """Return the health limits by stream type, and what is wrong with them."""
    if section is None:
        return {}, []
    if not isinstance(section, dict):
        return {}, [((_HEALTH,), "health: expected a mapping of stream types to limits")]
    defaults: dict[str, dict[str, object]] = {}
    problems: list[tuple[Location, str]] = []
    types_known = [str(member) for member in StreamType]
    for name, limits in section.items():
        if name not in types_known:
            reason = (
                f"health: unknown stream type {name!r}{did_you_mean(name, types_known)}; "
                f"the types are {', '.join(types_known)}"
            )
            problems.append(((_HEALTH, name), reason))
            continue
        try:
            HealthLimits.model_validate(limits)
        except ValidationError as error:
            for details in error.errors():
                place = (_HEALTH, name, *details["loc"])
                problems.append((place, f"health of {name}: {_reason(details, HealthLimits)}"))
        else:
            defaults[name] = limits
    return defaults, problems


def _with_health(streams: object, defaults: Mapping[str, Mapping[str, object]]) -> object:
    """Give every stream the limits of its type, under its own ones."""
    if not isinstance(streams, list):
        return streams
    return [_one_with_health(stream, defaults) for stream in streams]


def _one_with_health(stream: object, defaults: Mapping[str, Mapping[str, object]]) -> object:
    if not isinstance(stream, dict):
        return stream
    stream_type, own = stream.get("type"), stream.get(_HEALTH, {})
    if not isinstance(stream_type, str) or stream_type not in defaults or not isinstance(own, dict):
        return stream
    return {**stream, _HEALTH: {**defaults[stream_type], **own}}


def _worded(details: ErrorDetails, data: object) -> list[tuple[Location, str]]:
    """Word one finding of pydantic, which may stand for several of ours."""
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, UnresolvedReferencesError):
        return [(problem.location, problem.reason) for problem in cause.problems]
    place = details["loc"]
    if details["type"] == "too_short" and details["input"]:
        # All entries of the list are broken, which pydantic counts as an empty list as well.
        return []
    return [(place, f"{_subject(place, data)}: {_reason(details, _model_at(place[:-1]))}")]


_ENTRIES = {
    "streams": ("stream", "id"),
    "groups": ("group", "id"),
    "templates": ("template", "name"),
}


def _subject(place: Location, data: object) -> str:
    """Say what a location concerns, by the name its owner knows it under."""
    section = place[0] if place else None
    entry = _at(data, place[:2]) if len(place) > 1 else None
    if section == "causal_edges" and isinstance(entry, dict):
        return f"causal edge {entry.get('cause', '?')!r} -> {entry.get('effect', '?')!r}"
    if section in _ENTRIES and len(place) > 1:
        what, key = _ENTRIES[str(section)]
        name = entry.get(key) if isinstance(entry, dict) else None
        return f"{what} {name!r}" if isinstance(name, str) else f"{what} number {int(place[1]) + 1}"
    return "contexts" if section == "contexts" else "catalogue"


def _at(data: object, place: Location) -> object:
    for step in place:
        if isinstance(data, dict) and isinstance(step, str):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def _model_at(place: Location) -> type[BaseModel] | None:
    """Return the model whose fields the keys at `place` are."""
    model: type[BaseModel] | None = Catalogue
    for step in place:
        if isinstance(step, int):
            continue
        if model is None or step not in model.model_fields:
            return None
        model = _model_within(model.model_fields[step].annotation)
    return model


def _model_within(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    found = (_model_within(part) for part in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)


#: What a value has to be, for the kinds of finding that need no more than that.
_WANTED = {
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length} entries",
    "too_long": "a list of at most {max_length} entries",
    "string_too_short": "text of at least {min_length} characters",
}


def _reason(details: ErrorDetails, model: type[BaseModel] | None) -> str:
    """Word why a value is refused, with its key."""
    kind, shown = details["type"], _shown(details["input"])
    names = [str(step) for step in details["loc"] if not isinstance(step, int)]
    key = names[-1] if names else "catalogue"
    context = details.get("ctx", {})
    match kind:
        case "extra_forbidden":
            fields = {} if model is None else model.model_fields
            reason = f"unknown key {key!r}{did_you_mean(key, fields)}"
        case "missing":
            entry = isinstance(details["loc"][-1], int)
            reason = "an entry is missing" if entry else f"the key {key!r} is missing"
        case "enum":
            known = _members(str(context.get("expected", "")))
            reason = f"{key} {shown} is none of {', '.join(known)}"
            reason += did_you_mean(str(details["input"]), known)
        case "string_pattern_mismatch":
            pattern = context.get("pattern")
            reason = f"{key} {shown} does not match {pattern}: begin with a letter, use no spaces"
        case "string_type":
            reason = f"{key} must be text, found {shown}; put it in quotes if it is meant as text"
        case "value_error":
            reason = str(context.get("error", details["msg"]))
        case _ if kind in _WANTED:
            reason = f"{key} must be {_WANTED[kind].format(**context)}, found {shown}"
        case _:
            reason = f"{key}: {details['msg']}, found {shown}"
    return reason


def _members(expected: str) -> list[str]:
    """Split pydantic's ``'a', 'b' or 'c'``."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]


_SHOWN_LENGTH = 60


def _shown(value: object) -> str:
    return textwrap.shorten(repr(value), _SHOWN_LENGTH, placeholder="...")
