"""How right explanations are, and what one costs beside DoWhy's attribution of anomalies.

DoWhy is installed into an environment of its own on the first run; where that is impossible its
figure is null and the reason is printed. Without the PetShop recordings theirs are null.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from anomaly_assets.detection.explanation.explain import Mode
from anomaly_assets.evaluation.explanations.lead_lag import measure_lead_lag
from anomaly_assets.evaluation.explanations.people import measure_people
from anomaly_assets.evaluation.explanations.petshop import measure_petshop
from anomaly_assets.evaluation.explanations.roots import measure_roots
from anomaly_assets.evaluation.explanations.sequences import measure_sequences
from anomaly_assets.evaluation.recordings import DATA_SETTING, data_folder
from benchmarks._thorough import Costs, measure_thorough
from benchmarks.dowhy.comparison import SYSTEMS, Side, compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Far from the seeds of the tests.
FIRST_SEED = 1000
ROOT_SEEDS = 30
SEQUENCE_SEEDS = 6
LEAD_LAG_SEEDS = 6
PEOPLE_SEEDS = 3
LEAST_SPEEDUP = 100.0


@dataclass(frozen=True)
class Line:
    """One figure of the table: its name, its value and the goal, if it has one."""

    name: str
    value: float | None
    goal: float | None = None
    more_is_better: bool = True

    @property
    def verdict(self) -> str:
        """Whether the goal is reached, nothing without a goal or a value."""
        if self.goal is None or self.value is None:
            return ""
        reached = self.value >= self.goal if self.more_is_better else self.value <= self.goal
        return "reached" if reached else "MISSED"


#: Percent of values missing -> goal.
LINEAR_GOALS = {"0": 0.99, "20": 0.95, "50": 0.75}
NONLINEAR_GOALS = {"0": 0.95, "20": 0.80, "50": 0.55}
TEMPLATE_GOALS = {"0": 0.88, "25": 0.78, "50": 0.66}
PEOPLE_GOALS = {"primary": 0.80, "first_three": 0.95, "actionable": 0.95}
MS_GOALS = {36: 5.0, 100: 20.0}


def main() -> None:
    """Measure everything, print figures with goals and references, then the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--systems", type=int, default=SYSTEMS, help="random systems of each kind for DoWhy"
    )
    systems = parser.parse_args().systems
    if systems < 1:
        parser.error(f"--systems is {systems}; give at least 1")
    costs = {streams: measure_thorough(streams) for streams in MS_GOALS}
    roots = measure_roots(_seeds(ROOT_SEEDS))
    template = measure_sequences(_seeds(SEQUENCE_SEEDS))
    lead_lag = measure_lead_lag(_seeds(LEAD_LAG_SEEDS))
    people = measure_people(_seeds(PEOPLE_SEEDS), mode=Mode.THOROUGH)
    petshop = _petshop()
    ours, theirs = compare(systems)
    lines = [
        *_root_lines(roots),
        *_many("template", template, TEMPLATE_GOALS),
        Line("lead_lag_fpr", lead_lag["fpr"], 0.07, more_is_better=False),
        Line("lead_lag_power", lead_lag["power"], 0.95),
        *_petshop_lines(petshop),
        *(Line(f"people_{name}", people[name], goal) for name, goal in PEOPLE_GOALS.items()),
        *_cost_lines(costs),
        *_dowhy_lines(ours, theirs, costs[min(costs)].total),
    ]
    _show(lines)
    figures: dict[str, Any] = {
        "root_first": roots["root_first"],
        "ece": roots["ece"],
        "unexplained_self": roots["unexplained_self"],
        "unexplained_upstream": roots["unexplained_upstream"],
        "template": template,
        "lead_lag_fpr": lead_lag["fpr"],
        "lead_lag_power": lead_lag["power"],
        "petshop_top1": petshop.get("top1"),
        "petshop_top3": petshop.get("top3"),
        **{f"ms_{streams}": cost.total for streams, cost in costs.items()},
        "dowhy_ms": theirs.ms if isinstance(theirs, Side) else None,
        **{f"people_{name}": people[name] for name in PEOPLE_GOALS},
    }
    print(json.dumps(figures))


def _seeds(count: int) -> range:
    return range(FIRST_SEED, FIRST_SEED + count)


def _petshop() -> dict[str, float]:
    """Return the figures of the recordings, none without them."""
    folder = data_folder()
    if not (folder / "petshop").is_dir():
        print(f"No recordings of petshop under {folder}: set {DATA_SETTING} to their folder")
        return {}
    return measure_petshop(folder)


def _many(name: str, values: Mapping[str, float | None], goals: Mapping[str, float]) -> list[Line]:
    """Return a line for each share of values missing."""
    return [Line(f"{name}, {key} % missing", values[key], goal) for key, goal in goals.items()]


def _root_lines(roots: Mapping[str, Any]) -> list[Line]:
    return [
        *_many("root_first, linear", roots["root_first"]["linear"], LINEAR_GOALS),
        *_many("root_first, nonlinear", roots["root_first"]["nonlinear"], NONLINEAR_GOALS),
        Line("ece", roots["ece"], 0.05, more_is_better=False),
        Line("unexplained_self", roots["unexplained_self"], 0.8),
        Line("unexplained_upstream", roots["unexplained_upstream"], 0.15, more_is_better=False),
    ]


def _petshop_lines(petshop: Mapping[str, float]) -> list[Line]:
    """Return what was reached, then what is reached more simply, and without a fault."""
    goals = {"top1": 0.40, "top3": 0.65}
    return [
        *(Line(f"petshop_{name}", petshop.get(name), goal) for name, goal in goals.items()),
        *(Line(f"petshop_{name}", value) for name, value in petshop.items() if name not in goals),
    ]


def _cost_lines(costs: Mapping[int, Costs]) -> list[Line]:
    lines = []
    for streams, cost in costs.items():
        lines += [
            Line(f"ms_{streams}", cost.total, MS_GOALS[streams], more_is_better=False),
            Line(f"  network, {streams} streams", cost.network),
            Line(f"  lead-lag, {streams} streams", cost.lead_lag),
        ]
    return lines


def _dowhy_lines(ours: Side, theirs: Side | str, ms: float) -> list[Line]:
    """Return both methods on the same faults, and how much longer DoWhy takes."""
    sides = {"network": ours}
    if isinstance(theirs, str):
        print(f"No comparison with DoWhy: {theirs}")
    else:
        sides["DoWhy"] = theirs
    lines = []
    for name, side in sides.items():
        lines += [
            Line(f"same faults, linear, {name}", side.linear),
            Line(f"same faults, nonlinear, {name}", side.nonlinear),
            Line(f"same faults, ms, {name}", side.ms),
        ]
    if not isinstance(theirs, str):
        lines += [
            Line("DoWhy / one thorough explanation, times", theirs.ms / ms, LEAST_SPEEDUP),
            Line("DoWhy / attribution alone, times", theirs.ms / ours.ms, LEAST_SPEEDUP),
        ]
    return lines


def _show(lines: Sequence[Line]) -> None:
    table = Table(title="explanations: shares of cases, milliseconds of CPU (medians)")
    table.add_column("figure")
    for column in ("value", "goal", ""):
        table.add_column(column, justify="right")
    for line in lines:
        sign = ">=" if line.more_is_better else "<="
        table.add_row(
            line.name,
            "unknown" if line.value is None else f"{line.value:,.3f}",
            "" if line.goal is None else f"{sign} {line.goal:g}",
            line.verdict,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
