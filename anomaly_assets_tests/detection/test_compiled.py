"""Compiling loops, with or without a place to keep the machine code."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import numba
import numpy as np
import pytest

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets_tests.detection.test_contract import block_of, catalogue_of

if TYPE_CHECKING:
    from collections.abc import Callable


def ratio(x: float, y: float) -> float:
    """Divide."""
    return x / y


def without_a_file(function: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """Return the function as if its module were nowhere that numba could keep code beside."""
    code = function.__code__.replace(co_filename="/nowhere/module.py")
    copy = types.FunctionType(code, {"__name__": "nowhere"}, function.__name__)
    copy.__qualname__ = function.__qualname__
    return copy


def test_division_by_zero_is_numpy_s() -> None:
    """It gives infinity, and raises nothing."""
    assert compiled(ratio)(1.0, 0.0) == np.inf


def test_what_cannot_be_kept_on_disk_is_compiled_all_the_same() -> None:
    """A read-only installation for a user without a home works, only its start is slower."""
    function = without_a_file(ratio)
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(function)
    assert compiled(function)(1.0, 4.0) == 0.25


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writeable", [True, False])
def test_the_memory_layout_of_a_block_changes_nothing(order: str, *, writeable: bool) -> None:
    """Values in any order of memory, read-only or not, give the same bits."""
    plain = np.random.default_rng(0).standard_normal((60, 5))
    given = plain.copy(order="F") if order == "F" else plain.copy()
    given.flags.writeable = writeable
    results = [
        detect(DetectionState.fresh(catalogue_of(5)), block_of(values)).ensemble.score
        for values in (plain, given)
    ]
    assert results[0].tobytes() == results[1].tobytes()
