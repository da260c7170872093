"""What Grafana 11.6 makes of a query before the database gets it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "grafana" / "dashboards"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard."""

    board: str
    where: str
    source: str
    text: str
    form: str

    def __str__(self) -> str:
        """Name it in a test's report."""
        return f"{self.board}: {self.where}"


def boards() -> dict[str, dict[str, Any]]:
    """Return the dashboards by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every panel, those within rows too."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[Asked]:
    """Yield every query of every panel, variable and annotation."""
    for name, board in boards().items():
        for panel in panels(board):
            for target in panel.get("targets", ()):
                form = target.get("format", "")
                text = target.get("rawSql") or target.get("expr")
                yield Asked(name, panel["title"], target_source(panel, target), text, form)
        for variable in board["templating"].get("list", ()):
            if variable["type"] == "query":
                source = variable["datasource"]["uid"]
                yield Asked(name, f"${variable['name']}", source, variable["query"], "variable")
        for note in board["annotations"].get("list", ()):
            source = note["datasource"]["uid"]
            yield Asked(name, f"@{note['name']}", source, note["target"]["rawSql"], "annotation")


def target_source(panel: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """Return whom a target asks: its own source, or the panel's."""
    return str((target.get("datasource") or panel["datasource"])["uid"])


def expand_sql(
    text: str, start: datetime, end: datetime, variables: Mapping[str, list[str]], step: str = "5m"
) -> str:
    """Put in what Grafana puts in: first variables, then the macros of its PostgreSQL source."""
    for name, values in variables.items():
        listed = ",".join("'" + value.replace("'", "''") + "'" for value in values)
        text = text.replace(f"${{{name}:sqlstring}}", listed)
        text = text.replace(f"${{{name}:raw}}", ",".join(values))
    text = text.replace("$__interval", step)
    first, last = (f"'{at.strftime('%Y-%m-%dT%H:%M:%SZ')}'" for at in (start, end))
    text = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN {first} AND {last}", text)
    text = re.sub(
        r"\$__timeGroup\(([^,]+),\s*'?(\d+)([smhd])'?\)",
        lambda m: (
            f"floor(extract(epoch from {m[1]})/{int(m[2]) * _UNITS[m[3]]})"
            f"*{int(m[2]) * _UNITS[m[3]]}"
        ),
        text,
    )
    assert "$" not in text, f"Grafana knows nothing of this: {text[text.index('$') :][:60]}"
    return text


def expand_promql(text: str) -> str:
    """Put in the spans that Grafana puts in."""
    text = re.sub(r"\$__(rate_interval|range|interval)\b", "5m", text)
    assert "$" not in text, text
    return text
