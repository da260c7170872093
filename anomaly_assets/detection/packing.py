"""Learnt state as bytes in memory: to copy it, and to keep how it was at a small price.

A window moves few of the numbers that an entity's detectors consist of, so that the way back from
one state to the one before takes a small part of the room of a state. Nothing of this is ever
stored: pickles are for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from anomaly_assets.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.detection.system import DetectionState

_Words = npt.NDArray[np.uint64]
_WORD = 8
_PLAIN: frozenset[type] = frozenset({int, float, bool, str, bytes, slice, type(None)})


class _Kind(Enum):
    """How a value is taken apart."""

    CONSTANT = "constant"
    ARRAY = "array"
    PLACE = "place"
    DICT = "dict"
    SEQUENCE = "sequence"
    OBJECT = "object"


class _Array(NamedTuple):
    """Where an array was among the packed ones, and what it looks like there."""

    start: int
    nbytes: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    #: Whether it is the transpose of what is packed: sums along either axis need not be equal to
    #: the bit if rows lie together that did not.
    by_column: bool


#: Equal places and layouts are held once, whichever entity they are of: there are many of them.
_place = lru_cache(maxsize=10_000)(_Array)


@lru_cache(maxsize=100)
def _same(layout: tuple[_Array, ...]) -> tuple[_Array, ...]:
    return layout


@dataclass(frozen=True)
class PackedState:
    """A state taken apart.

    Parameters
    ----------
    skeleton
        Its objects, with places instead of the arrays that may change.
    layout
        These places, in order.
    words
        The bytes of these arrays, one after the other, padded to whole words.
    """

    skeleton: Any
    layout: tuple[_Array, ...]
    words: _Words

    @classmethod
    def of(cls, state: DetectionState) -> PackedState:
        """Take a state apart; it is left as it is, and shares nothing that changes."""
        layout: list[_Array] = []
        parts: list[Any] = []
        at = 0

        def pack(array: npt.NDArray[Any]) -> _Array:
            nonlocal at
            flags = array.flags
            by_column = not flags.c_contiguous and flags.f_contiguous
            if not flags.c_contiguous:
                array = np.ascontiguousarray(array.T if by_column else array)
            place = _place(at, array.nbytes, array.dtype, array.shape, by_column)
            parts.append(array)
            at += array.nbytes
            layout.append(place)
            return place

        skeleton = _rebuilt(state, pack, {})
        parts.append(bytes(-at % _WORD))
        return cls(skeleton, _same(tuple(layout)), np.frombuffer(b"".join(parts), dtype=np.uint64))

    def state(self) -> DetectionState:
        """Put the state together again, another one each time."""
        data = self.words.view(np.uint8)

        def unpack(place: _Array) -> npt.NDArray[Any]:
            flat = data[place.start : place.start + place.nbytes].copy().view(place.dtype)
            array = flat.reshape(place.shape)
            return array.T if place.by_column else array

        state: DetectionState = _rebuilt(self.skeleton, unpack, {})
        return state


@dataclass(frozen=True)
class WayBack:
    """What leads from a packed state to an earlier one.

    Parameters
    ----------
    skeleton, layout
        Of the earlier state.
    changed, words
        Which words are others there, and these; `changed` is None where they are all of them.
    """

    skeleton: Any
    layout: tuple[_Array, ...]
    changed: npt.NDArray[np.int32] | None
    words: _Words

    @classmethod
    def between(cls, earlier: PackedState, later: PackedState) -> WayBack:
        """Find the way from `later` to `earlier`."""
        if earlier.layout != later.layout:
            return cls(earlier.skeleton, earlier.layout, None, earlier.words)
        changed = np.flatnonzero(earlier.words != later.words).astype(np.int32)
        return cls(earlier.skeleton, earlier.layout, changed, earlier.words[changed])

    def go(self, later: PackedState) -> PackedState:
        """Return the earlier state; `later` must be what the way was found from."""
        words = self.words
        if self.changed is not None:
            words = later.words.copy()
            words[self.changed] = self.words
        return PackedState(self.skeleton, self.layout, words)


def _rebuilt(
    value: Any,  # noqa: ANN401 - whatever a state consists of
    change: Callable[[Any], Any],
    known: dict[int, Any],
) -> Any:  # noqa: ANN401
    """Rebuild objects with their arrays, or the places of such, changed.

    Read-only arrays, frozen dataclasses and catalogue models are shared. What occurs twice occurs
    twice in the outcome.
    """
    kind = _KINDS.get(type(value)) or _kind(type(value))
    if kind is _Kind.CONSTANT:
        return value
    if id(value) in known:
        return known[id(value)]
    made: Any
    if kind is _Kind.ARRAY:
        made = change(value) if value.flags.writeable else value
    elif kind is _Kind.PLACE:
        made = change(value)
    elif kind is _Kind.OBJECT:
        made = known[id(value)] = object.__new__(type(value))
        made.__dict__.update(_rebuilt_dict(vars(value), change, known))
    elif kind is _Kind.DICT:
        made = _rebuilt_dict(value, change, known)
    else:
        made = type(value)([_rebuilt(held, change, known) for held in value])
    known[id(value)] = made
    return made


def _rebuilt_dict(
    value: dict[Any, Any], change: Callable[[Any], Any], known: dict[int, Any]
) -> dict[Any, Any]:
    return {
        name: held if type(held) in _PLAIN else _rebuilt(held, change, known)
        for name, held in value.items()
    }


#: How values of the types met so far are taken apart.
_KINDS: dict[type, _Kind] = {
    np.ndarray: _Kind.ARRAY,
    _Array: _Kind.PLACE,
    dict: _Kind.DICT,
    list: _Kind.SEQUENCE,
    tuple: _Kind.SEQUENCE,
    **dict.fromkeys(_PLAIN, _Kind.CONSTANT),
}


def _kind(of: type) -> _Kind:
    parameters = getattr(of, "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen
    if frozen or issubclass(of, BaseModel | np.generic):
        kind = _Kind.CONSTANT
    elif of.__module__.split(".")[0] == __name__.split(".", maxsplit=1)[0]:
        kind = _Kind.OBJECT
    else:
        msg = f"{of.__qualname__} of {of.__module__} cannot be part of a state that is packed"
        raise StateError(msg)
    _KINDS[of] = kind
    return kind
