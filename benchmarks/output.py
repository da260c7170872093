"""How benchmarks print what they measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping


def publish(title: str, figures: Mapping[str, float | int | str]) -> None:
    """Print a table of the figures, then the figures as the last line, in JSON."""
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
    print(json.dumps(dict(figures)))
