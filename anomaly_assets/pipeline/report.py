"""The daily report: one day for each entity, as Markdown and as a page of its own."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.day import Day, read_course, read_days
from anomaly_assets.pipeline.day_figure import draw_day
from anomaly_assets.pipeline.figures import as_bytes

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment

#: Entities whose day is drawn, those with the highest scores; the others have their figures only.
MOST_DRAWN: Final = 20
_DPI: Final = 110
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 1rem; }
th, td { text-align: left; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #8885; }
td.figure, th + th { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
h2 { margin-top: 2.5rem; }
.note { opacity: 0.75; }
"""


@dataclass(frozen=True)
class DailyReport:
    """A day's report.

    Parameters
    ----------
    start
        Begin of the day.
    markdown, html
        For people: for Dagster's pages and mails, and a page that needs nothing else.
    days
        The figures of each entity.
    pictures
        PNG of each drawn entity's day, by identifier.
    """

    start: datetime
    markdown: str
    html: str
    days: tuple[Day, ...]
    pictures: dict[str, bytes]

    @property
    def entities(self) -> int:
        """Entities with a processed window."""
        return len(self.days)

    @property
    def windows(self) -> int:
        """Windows with a final score's row, of all entities."""
        return sum(day.scored for day in self.days)

    @property
    def anomalous(self) -> int:
        """Windows above the threshold, of all entities."""
        return sum(day.anomalous for day in self.days)


def report_of_day(deployment: Deployment, start: datetime, end: datetime) -> DailyReport:
    """Write the report of the windows in ``[start, end)``."""
    threshold = deployment.settings.explanation_threshold
    with deployment.database.connect() as connection:
        days = read_days(connection, start, end, threshold)
    pictures = _pictures(deployment, days, start, end)
    title = f"{start:%A, %d %B %Y} (UTC)"
    return DailyReport(
        start,
        _markdown(title, days, threshold),
        _html(title, days, threshold, pictures),
        tuple(days),
        pictures,
    )


def save_report(report: DailyReport, folder: Path) -> Path:
    """Write a report as ``<day>.html`` into `folder`, in one step, and return where it is.

    Raises
    ------
    AnomalyAssetsError
        If it cannot be written.
    """
    path = folder / f"{report.start:%Y-%m-%d}.html"
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.write_text(report.html, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        msg = (
            f"the daily report cannot be written to {path}: {error.strerror or error}; make the "
            "folder writable, or set ANOMALY_ASSETS_HOME to one that is"
        )
        raise AnomalyAssetsError(msg) from error
    return path


def _pictures(
    deployment: Deployment, days: list[Day], start: datetime, end: datetime
) -> dict[str, bytes]:
    known = {entity.entity_id: entity for entity in deployment.entities()}
    highest = sorted(days, key=lambda day: (-(day.peak or 0.0), day.entity_id))
    pictures = {}
    with deployment.database.connect() as connection:
        for day in highest[:MOST_DRAWN]:
            # Whose catalogue cannot be loaded has failed already, visibly.
            if (entity := known.get(day.entity_id)) is None:
                continue
            course = read_course(connection, entity, start, end)
            figure = draw_day(
                day, course, deployment.settings.explanation_threshold, entity.time_zone
            )
            pictures[day.entity_id] = as_bytes(figure, "png", dpi=_DPI)
    return pictures


def _markdown(title: str, days: list[Day], threshold: float) -> str:
    lines = [f"# {title}", ""]
    for day in days:
        lines += [f"## {day.entity_id}", "", *(f"- {line}" for line in _facts(day, threshold))]
        lines += [
            f"- {row.episode_start:%H:%M}: {row.summary} *{row.recommended_action}*"
            for row in day.anomalies
            if row.summary is not None
        ]
        lines += [*(f"- {line}" for line in _complaints(day)), ""]
    if not days:
        lines.append("No windows were processed on this day.")
    return "\n".join(lines)


def _facts(day: Day, threshold: float) -> list[str]:
    peak = "" if day.peak is None else f", highest score {day.peak:.2f}"
    return [
        f"{day.scored} windows, {day.coverage or 0:.0%} of the streams observed",
        f"{day.anomalous} windows above {threshold:g}{peak}",
    ]


def _complaints(day: Day) -> list[str]:
    lines = []
    if day.silent:
        lines.append(f"too little data to be scored at the day's end: {', '.join(day.silent)}")
    if day.retrain:
        lines.append(f"needs retraining: {', '.join(day.retrain)}")
    return lines


def _html(title: str, days: list[Day], threshold: float, pictures: dict[str, bytes]) -> str:
    body = [f"<h1>{escape(title)}</h1>"]
    if days:
        body += _overview(days)
    else:
        body.append("<p>No windows were processed on this day.</p>")
    for day in days:
        body += _section(day, threshold, pictures.get(day.entity_id))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _overview(days: list[Day]) -> list[str]:
    rows = [
        f"<tr><td>{escape(day.entity_id)}</td>"
        + "".join(
            f'<td class="figure">{text}</td>'
            for text in (
                str(day.scored),
                "unknown" if day.coverage is None else f"{day.coverage:.0%}",
                str(day.anomalous),
                "unknown" if day.peak is None else f"{day.peak:.2f}",
            )
        )
        + "</tr>"
        for day in days
    ]
    heads = ("entity", "windows", "streams observed", "anomalous windows", "highest score")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return [f"<table><thead><tr>{head}</tr></thead><tbody>", *rows, "</tbody></table>"]


def _section(day: Day, threshold: float, picture: bytes | None) -> list[str]:
    lines = [f"<h2>{escape(day.entity_id)}</h2>"]
    lines.append(f"<p>{escape('; '.join(_facts(day, threshold)))}.</p>")
    if picture is not None:
        image = base64.b64encode(picture).decode()
        alt = f"Final scores of {day.entity_id}, and which streams were observed"
        lines.append(f'<img alt="{escape(alt)}" src="data:image/png;base64,{image}">')
    if day.anomalies:
        lines.append("<table><tbody>")
        lines += [
            f'<tr><td>{row.episode_start:%H:%M}</td><td class="figure">{row.score:.2f}</td>'
            f"<td>{escape(row.summary or 'not explained')}</td>"
            f"<td><em>{escape(row.recommended_action or '')}</em></td></tr>"
            for row in day.anomalies
        ]
        lines.append("</tbody></table>")
    lines += [f'<p class="note">{escape(line)}</p>' for line in _complaints(day)]
    return lines
