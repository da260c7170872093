"""``watch``: what happens now, in the terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from anomaly_assets.cli.common import JsonOption, console, open_deployment, print_json
from anomaly_assets.storage.queries import Anomaly, recent_scores, top_anomalies
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment

_BARS: Final = "▁▂▃▄▅▆▇█"
#: Where nothing is known of a window; a bar of height zero would say that all was well.
_UNKNOWN: Final = "·"
_SHOWN: Final = timedelta(hours=3)
_EPISODES_OF: Final = timedelta(days=1)
_MOST_EPISODES: Final = 8
#: Lines around the tables: titles, heads and the last line.
_FRAME_LINES: Final = 12


@dataclass(frozen=True)
class View:
    """What one look shows.

    Parameters
    ----------
    at
        When it was taken.
    courses
        Of each entity the final scores of the last windows, oldest first, None where unknown.
    until
        End of the last window shown.
    episodes
        The latest ones, newest first.
    """

    at: datetime
    courses: dict[str, list[float | None]]
    until: datetime | None
    episodes: list[Anomaly]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 5.0,
    *,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show final scores and episodes as they come; Ctrl-C ends it."""
    deployment = open_deployment()
    if entity is not None:
        deployment.entity(entity)
    threshold = deployment.settings.explanation_threshold
    if as_json:
        print_json(_document(look(deployment, entity)))
        return
    if once or not console.is_terminal:
        console.print(_drawn(look(deployment, entity), threshold, rows=None))
        return
    rows = max(3, console.height - _FRAME_LINES - _MOST_EPISODES)
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        try:
            while True:
                screen.update(_drawn(look(deployment, entity), threshold, rows=rows), refresh=True)
                time.sleep(every)
        except KeyboardInterrupt:
            return


def look(deployment: Deployment, entity: str | None) -> View:
    """Read what is shown, of one entity or of all."""
    with deployment.database.connect() as connection:
        until, courses = recent_scores(connection, _SHOWN, entity_id=entity)
        episodes = (
            []
            if until is None
            else top_anomalies(
                connection,
                entity_id=entity,
                since=until - _EPISODES_OF,
                min_score=deployment.settings.explanation_threshold,
                limit=100,
            )
        )
    newest = sorted(episodes, key=lambda one: (one.episode_start, one.entity_id), reverse=True)
    return View(datetime.now(tz=UTC), courses, until, newest[:_MOST_EPISODES])


def bars(scores: list[float | None]) -> str:
    """Return scores as a line of bars, a dot where a score is unknown.

    Examples
    --------
    >>> bars([0.0, 0.5, None, 1.0])
    '▁▅·█'
    """
    return "".join(
        _UNKNOWN if score is None else _BARS[min(int(score * len(_BARS)), len(_BARS) - 1)]
        for score in scores
    )


def _drawn(view: View, threshold: float, rows: int | None) -> Group:
    if view.until is None:
        return Group(Text("no window has a final score yet; see anomaly-assets status"))
    highest = sorted(
        view.courses.items(),
        key=lambda item: (-max((s for s in item[1] if s is not None), default=-1.0), item[0]),
    )
    table = Table(title=f"final scores until {view.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    table.add_column("entity")
    table.add_column("three hours", no_wrap=True)
    table.add_column("now", justify="right")
    table.add_column("windows known", justify="right")
    for entity_id, scores in highest[:rows]:
        known = sum(score is not None for score in scores)
        table.add_row(
            escape(entity_id),
            Text(bars(scores)),
            _score(scores[-1], threshold),
            f"{known}/{len(scores)}",
        )
    parts: list[Any] = [table]
    if rows is not None and len(highest) > rows:
        parts.append(Text(f"and {len(highest) - rows} more with lower scores"))
    parts.append(_episodes(view))
    parts.append(Text(f"looked at {view.at:%H:%M:%S} UTC", style="dim"))
    return Group(*parts)


def _episodes(view: View) -> Table | Text:
    if not view.episodes:
        return Text("no episode in the last day")
    table = Table(title="episodes of the last day, newest first")
    for column in ("entity", "since (UTC)", "highest", "why"):
        table.add_column(column)
    for episode in view.episodes:
        table.add_row(
            escape(episode.entity_id),
            f"{episode.episode_start.astimezone(UTC):%H:%M}{' …' if episode.ongoing else ''}",
            f"{episode.score:.2f}",
            escape(episode.summary or "not explained"),
        )
    return table


def _score(score: float | None, threshold: float) -> Text:
    if score is None:
        return Text("unknown", style="dim")
    # Not by colour alone.
    return Text(f"! {score:.2f}", style="bold red") if score > threshold else Text(f"{score:.2f}")


def _document(view: View) -> dict[str, Any]:
    return {
        "until": view.until,
        "window_seconds": WINDOW_SECONDS,
        "entities": view.courses,
        "episodes": [
            {
                "entity_id": one.entity_id,
                "start": one.episode_start,
                "end": one.episode_end,
                "ongoing": one.ongoing,
                "score": one.score,
                "anomaly_id": one.anomaly_id,
                "summary": one.summary,
            }
            for one in view.episodes
        ],
    }
