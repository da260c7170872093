"""How many false alarms are left after people have judged 20, 50 or 200 alarms, and what is lost.

Each simulated person's first alarms are judged by an oracle; the four weeks after the last of them
are decided with and without what was learnt. Nothing here is timed.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from anomaly_assets.detection.feedback.labelled import Labelled
from anomaly_assets.detection.feedback.training import Validation, train
from anomaly_assets.evaluation.feedback import HeldOut, Watched, held_out, judged, learn, watch

#: Other people than those that the rules were made up with (seeds 2000 to 2005).
FIRST_SEED = 3000
PEOPLE = 4
DAYS = 215
WRONG = 0.2
#: Name of a figure -> labels and share of wrong ones.
CASES = {"20": (20, 0.0), "50": (50, 0.0), "200": (200, 0.0), "50_wrong": (50, WRONG)}
MAIN = "50"


def main() -> None:
    """Simulate the people, let the oracle judge, and print what it did as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help="simulated people")
    people = parser.parse_args().people
    if people < 1:
        parser.error(f"--people is {people}; give at least 1")
    watched = [watch(FIRST_SEED + number, "person-1", DAYS) for number in range(people)]
    found: dict[str, list[HeldOut]] = {}
    for name, (labels, wrong) in CASES.items():
        found[name] = []
        for number, one in enumerate(watched):
            known = judged(one, labels, wrong=wrong, seed=FIRST_SEED + number)
            found[name].append(held_out(one, known, learn(known)))
    option_b = meta_learner(watched)
    _show(found)
    _show_causes(found[MAIN])
    better = option_b.is_better(0.05)
    print(
        f"Option B, trained on {option_b.n_earlier} alarms, judged by {option_b.n_later} later "
        f"ones: average precision {option_b.average_precision_b:.2f} against option A's "
        f"{option_b.average_precision_a:.2f}; it {'takes over' if better else 'does not take over'}"
    )
    at = {name: _figures(cases) for name, cases in found.items()}
    main_case: dict[str, Any] = at[MAIN]
    print(
        json.dumps(
            {
                "false_alarms_before": main_case["before"],
                "false_alarms_after": main_case["after"],
                "confirmed_lost": main_case["lost"],
                "at": at,
                "option_b_takes_over": better,
            }
        )
    )


def meta_learner(watched: list[Watched]) -> Validation:
    """Train option B on the first 50 judged alarms of everybody together."""
    labels = [judged(one, CASES[MAIN][0]) for one in watched]
    joined = Labelled.together(labels)
    scores = joined.peaks(joined.evidence.final)
    return train(joined, scores, seed=42)[1]


def _figures(cases: list[HeldOut]) -> dict[str, int]:
    return {
        "before": sum(one.effect.false_before for one in cases),
        "after": sum(one.effect.false_after for one in cases),
        "confirmed": sum(one.effect.confirmed_before for one in cases),
        "lost": sum(one.effect.confirmed_lost for one in cases),
    }


def _show(found: dict[str, list[HeldOut]]) -> None:
    table = Table(title="four weeks after the labels, all people together")
    table.add_column("labels a person")
    for column in ("false before", "after", "fewer", "confirmed", "lost", "rules", "weights"):
        table.add_column(column, justify="right")
    for name, cases in found.items():
        figures = _figures(cases)
        table.add_row(
            name.replace("_wrong", f", {WRONG:.0%} wrong"),
            str(figures["before"]),
            str(figures["after"]),
            f"{1 - figures['after'] / max(figures['before'], 1):.0%}",
            str(figures["confirmed"]),
            str(figures["lost"]),
            f"{np.mean([one.rules for one in cases]):.1f}",
            f"{np.mean([one.weights for one in cases]):.1f}",
        )
    Console().print(table)


def _show_causes(cases: list[HeldOut]) -> None:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in cases:
        for cause, (before, after) in one.by_cause.items():
            totals[cause][0] += before
            totals[cause][1] += after
    table = Table(title=f"false alarms by what they are due to, {MAIN} labels")
    table.add_column("cause")
    for column in ("before", "after"):
        table.add_column(column, justify="right")
    for cause, (before, after) in sorted(totals.items()):
        table.add_row(cause, str(before), str(after))
    Console().print(table)


if __name__ == "__main__":
    main()
