"""The kinds of panels, all alike in every dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

if TYPE_CHECKING:
    from collections.abc import Sequence

_POSTGRES: Final = "grafana-postgresql-datasource"
#: Identifiers as in provisioning/datasources.
OURS: Final = models.DataSourceRef(_POSTGRES, "anomaly_assets")
DAGSTER: Final = models.DataSourceRef(_POSTGRES, "anomaly_assets_dagster")
PROMETHEUS: Final = models.DataSourceRef("prometheus", "anomaly_assets_prometheus")

GREEN, YELLOW, RED, BLUE = "green", "#EAB839", "red", "blue"
Steps = list[tuple[float | None, str]]
#: Of a share that should be high, and of one that should be low.
HIGH_IS_GOOD: Final[Steps] = [(None, RED), (0.7, YELLOW), (0.9, GREEN)]
LOW_IS_GOOD: Final[Steps] = [(None, GREEN), (0.05, YELLOW), (0.1, RED)]
NONE_IS_GOOD: Final[Steps] = [(None, GREEN), (1, RED)]
ONE_IS_GOOD: Final[Steps] = [(None, RED), (1, GREEN)]


class _Sql(Dataquery):
    """A query for PostgreSQL, for which the kit has no type."""

    def __init__(self, source: models.DataSourceRef, text: str, form: str) -> None:
        self.source, self.text, self.form, self.ref_id = source, text, form, "A"

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana stores it."""
        return {
            "refId": self.ref_id,
            "datasource": self.source.to_json(),
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.text,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> _Sql:
        """Read it back."""
        return cls(
            models.DataSourceRef.from_json(data["datasource"]), data["rawSql"], data["format"]
        )


class Made(Builder[Any]):
    """A thing that is built already."""

    def __init__(self, made: Any) -> None:  # noqa: ANN401 - as the kit's own builders
        self._made = made

    def build(self) -> Any:  # noqa: ANN401 - as above
        """Return it."""
        return self._made


def rows(text: str, source: models.DataSourceRef = OURS) -> Made:
    """Ask for a table."""
    return Made(_Sql(source, _flat(text), "table"))


def series(text: str, source: models.DataSourceRef = OURS) -> Made:
    """Ask for lines over time: a column ``time``, perhaps ``metric``, and values."""
    return Made(_Sql(source, _flat(text), "time_series"))


def lines(*queries: tuple[str, str]) -> list[Builder[Dataquery]]:
    """Ask Prometheus, for pairs of expression and legend."""
    return [
        prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(65 + number))
        for number, (expression, legend) in enumerate(queries)
    ]


def one_value(  # noqa: PLR0913 - what a panel may have
    title: str,
    query: Builder[Dataquery],
    *,
    unit: str = "short",
    steps: Steps | None = None,
    width: int = 4,
    about: str = "",
) -> stat.Panel:
    """Show a single number, coloured by its thresholds."""
    source = _source(query)
    calculation = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)  # noqa: FBT003 - the kit's
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(source)
        .with_target(query)
        .unit(unit)
        .thresholds(_thresholds(steps or [(None, BLUE)]))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.AREA)
        .reduce_options(calculation)
        .no_value("-")
        .height(4)
        .span(width)
    )


def over_time(  # noqa: PLR0913 - what a panel may have
    title: str,
    queries: Sequence[Builder[Dataquery]],
    *,
    unit: str = "short",
    steps: Steps | None = None,
    width: int = 12,
    about: str = "",
    stacked: bool = False,
    share: bool = False,
    points: bool = False,
) -> timeseries.Panel:
    """Show lines over time, or bars on top of each other."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(_source(queries[0]))
        .unit(unit)
        .line_width(1)
        .fill_opacity(60 if stacked else 8)
        .show_points(kinds.VisibilityMode.ALWAYS if points else kinds.VisibilityMode.AUTO)
        .span_nulls(False)  # noqa: FBT003 - the kit's
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)  # noqa: FBT003 - the kit's
        )
        .height(8)
        .span(width)
    )
    for query in queries:
        panel = panel.with_target(query)
    panel = panel.min(0).max(1) if share else panel.min(0)
    if stacked:
        panel = panel.draw_style(kinds.GraphDrawStyle.BARS).stacking(
            common.StackingConfig().mode(kinds.StackingMode.NORMAL)
        )
    if steps:
        style = common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.LINE)
        panel = panel.thresholds(_thresholds(steps)).thresholds_style(style)
    return panel


def states(
    title: str, query: Builder[Dataquery], *, steps: Steps, height: int = 14, about: str = ""
) -> statetimeline.Panel:
    """Show a coloured bar for each series."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(_source(query))
        .with_target(query)
        .unit("percentunit")
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(_thresholds(steps))
        .merge_values(True)  # noqa: FBT003 - the kit's
        .show_value(kinds.VisibilityMode.NEVER)
        .row_height(0.8)
        .line_width(0)
        .height(height)
        .span(24)
    )


def listing(  # noqa: PLR0913 - what a panel may have
    title: str,
    query: Builder[Dataquery],
    *,
    width: int = 24,
    height: int = 9,
    about: str = "",
    units: dict[str, str] | None = None,
    coloured: dict[str, Steps] | None = None,
    links: dict[str, str] | None = None,
    widths: dict[str, int] | None = None,
) -> table.Panel:
    """Show a table; columns may have units, colours by threshold, links, and widths in pixels."""
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(_source(query))
        .with_target(query)
        .filterable(True)  # noqa: FBT003 - the kit's
        .no_value("")
        .height(height)
        .span(width)
    )
    found: dict[str, list[models.DynamicConfigValue]] = {}
    for column, unit in (units or {}).items():
        found.setdefault(column, []).append(models.DynamicConfigValue("unit", unit))
    for column, steps in (coloured or {}).items():
        found.setdefault(column, []).extend(
            [
                models.DynamicConfigValue("thresholds", _thresholds(steps).build().to_json()),
                models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ]
        )
    for column, url in (links or {}).items():
        link = {"title": "open", "url": url, "targetBlank": True}
        found.setdefault(column, []).append(models.DynamicConfigValue("links", [link]))
    for column, pixels in (widths or {}).items():
        found.setdefault(column, []).append(models.DynamicConfigValue("custom.width", pixels))
    for column, properties in found.items():
        panel = panel.override_by_name(column, properties)
    return panel


def bars(title: str, query: Builder[Dataquery], *, width: int = 12) -> barchart.Panel:
    """Show a bar for each row: its first column names it."""
    return (
        barchart.Panel()
        .title(title)
        .datasource(_source(query))
        .with_target(query)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .show_value(kinds.VisibilityMode.AUTO)
        .height(8)
        .span(width)
    )


def board(uid: str, title: str, about: str, *, refresh: str = "1m") -> dashboard.Dashboard:
    """Begin a dashboard; it links to the others."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["anomaly-assets"])
        .timezone("browser")
        .editable()
        .refresh(refresh)
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("anomaly-assets")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["anomaly-assets"])
            .keep_time(True)  # noqa: FBT003 - the kit's
        )
    )


def choice(
    name: str, label: str, query: str, *, source: models.DataSourceRef = OURS
) -> dashboard.QueryVariable:
    """Have the reader choose some of the rows of a query; all at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(source)
        .query(_flat(query))
        .multi(True)  # noqa: FBT003 - the kit's
        .include_all(True)  # noqa: FBT003 - the kit's
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [models.Threshold(value, colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _source(query: Builder[Dataquery]) -> models.DataSourceRef:
    made = query.build()
    return made.source if isinstance(made, _Sql) else PROMETHEUS


def _flat(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
