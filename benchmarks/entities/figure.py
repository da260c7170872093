"""The cost of a window as entities grow, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WINDOW_SECONDS = 300


def draw(plain: Mapping[int, float], through_dagster: Mapping[int, float], path: Path) -> None:
    """Draw seconds a window over the number of entities, both on logarithmic axes.

    Parameters
    ----------
    plain, through_dagster
        Seconds by number of entities: without Dagster, and on one Celery worker.
    path
        The picture's file.
    """
    # Matplotlib is slow to import, and few runs draw.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, seconds, marker in (
        ("Dagster, one Celery worker", through_dagster, "o"),
        ("without Dagster, one process", plain, "s"),
    ):
        counts = sorted(seconds)
        axes.plot(counts, [seconds[count] for count in counts], marker=marker, label=label)
    axes.axhline(_WINDOW_SECONDS, color="0.5", linestyle=":", label="a window's own length")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="entities with 30 streams",
        ylabel="seconds for one window",
    )
    axes.grid(visible=True, which="major", color="0.9")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
