"""scikit-learn, which only evaluation needs."""

from __future__ import annotations

import importlib
from typing import Any

from anomaly_assets.errors import EvaluationError


def sklearn(module: str) -> Any:  # noqa: ANN401 - the package ships no types
    """Import a module of scikit-learn, such as ``metrics``.

    Raises
    ------
    EvaluationError
        If scikit-learn is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        msg = 'evaluation needs scikit-learn: pip install "anomaly-assets[evaluate]"'
        raise EvaluationError(msg) from error
