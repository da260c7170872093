"""The page on monitoring lists what there is: every metric, rule, dashboard and check."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from anomaly_assets.monitoring.families import FAMILIES
from anomaly_assets_tests.doctor.patient import CHECKS
from anomaly_assets_tests.monitoring.grafana import DEPLOY, boards

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
UNITS = {"_bytes": "bytes", "_seconds": "seconds", "_ratio": "share, 0 to 1"}


def test_every_metric_is_listed_as_it_is() -> None:
    """Name, type, labels and meaning of the list are those of the code, and no row is invented."""
    rows = re.findall(
        r"^\| `(anomaly_assets_\w+)` \| (\w+) \| (.*?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE
    )
    listed = {name: (kind, labels, meaning) for name, kind, labels, _, meaning in rows}
    known = {
        family.full_name: (
            family.kind,
            ", ".join(f"`{label}`" for label in family.labels),
            family.meaning.removesuffix("."),
        )
        for family in FAMILIES.values()
    }
    assert listed == known
    assert len(rows) == len(known)


def test_units_are_those_of_the_names() -> None:
    """What is measured in a unit says so in its name."""
    rows = re.findall(
        r"^\| `(anomaly_assets_\w+)` \| \w+ \| .*? \| (.+?) \| .+? \|$", PAGE, re.MULTILINE
    )
    for name, unit in rows:
        bare = name.removesuffix("_total")
        expected = next((u for end, u in UNITS.items() if bare.endswith(end)), None)
        assert unit == expected or (expected is None and unit in {"count", "1", "0 or 1"}), name


def test_dashboards_and_checks_are_named() -> None:
    """Each dashboard, and each thing that the doctor looks at."""
    for board in boards().values():
        assert f"| {board['title']} |" in PAGE
    looked_at = PAGE[PAGE.index("## When something") : PAGE.index("## Metrics")].lower()
    for name in CHECKS:
        assert name.removeprefix("dagster ").lower() in looked_at, name


def test_the_variables_of_grafana_are_explained() -> None:
    """What the provisioning asks the environment for stands on the page."""
    text = (DEPLOY / "grafana/provisioning/datasources/anomaly_assets.yml").read_text()
    wanted = set(re.findall(r"\$(GRAFANA_\w+)", text))
    assert wanted
    assert {name for name in wanted if f"`{name}`" not in PAGE} == set()
    for source in yaml.safe_load(text)["datasources"]:
        database = source["jsonData"].get("database")
        assert database is None or f"`{database}`" in PAGE
