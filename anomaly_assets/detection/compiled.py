"""Compiling the loops that go from window to window and from stream to stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function of arrays and numbers to machine code at its first call.

    The code is kept on disk beside the module (``__pycache__``), or where the environment variable
    ``NUMBA_CACHE_DIR`` says, so that only the very first process has to compile. Where nothing can
    be written, as in a read-only installation for a user without a home, every process compiles
    anew, which takes some seconds: set ``NUMBA_CACHE_DIR`` there.

    Arithmetic is that of IEEE 754 in the order written, without reassociation or fused operations,
    so that a result does not depend on how many windows are processed at once. Division by zero
    gives infinity or NaN, as it does in numpy.

    Parameters
    ----------
    function
        Takes C-contiguous arrays of always the same types, since each combination of types is
        compiled. It may use compiled functions and constants of its own module only: what is kept
        on disk is thrown away when that module changes, but not when another one does.

    Returns
    -------
    Callable
        The function, compiled; it lets other threads run meanwhile.
    """
    try:
        fast = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    except RuntimeError:  # numba cannot cache: no folder that may be written to
        fast = numba.njit(cache=False, error_model="numpy", nogil=True)(function)
    return cast("_Function", fast)
