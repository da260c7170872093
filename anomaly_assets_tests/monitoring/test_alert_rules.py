"""Prometheus's rules: of metrics that exist, and each seen silent and firing."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from anomaly_assets_tests.monitoring.grafana import DEPLOY
from anomaly_assets_tests.monitoring.promtool import needs_promtool, promtool
from anomaly_assets_tests.monitoring.test_dashboards import check_expression

FOLDER = DEPLOY / "prometheus"


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


RULES = {rule["alert"]: rule for group in read("alerts.yml")["groups"] for rule in group["rules"]}


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_says_what_and_what_to_do(name: str) -> None:
    """Severity, summary and action; and it rests on metrics that there are."""
    rule = RULES[name]
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert {"summary", "action"} == set(rule["annotations"])
    if name != "LiveApiDown":
        check_expression(rule["expr"])


def test_each_rule_is_tested_silent_and_firing() -> None:
    """The file of promtool's tests has both for every rule."""
    for test in read("alerts_test.yml")["tests"]:
        silent, firing = test["alert_rule_test"]
        assert silent["exp_alerts"] == []
        assert firing["exp_alerts"]
    tested = [test["name"] for test in read("alerts_test.yml")["tests"]]
    assert sorted(tested) == sorted(RULES)


def test_rules_are_those_prometheus_loads() -> None:
    """prometheus.yml names the file, and scrapes no faster than metrics change."""
    config = read("prometheus.yml")
    assert config["rule_files"] == ["alerts.yml"]
    (job,) = [one for one in config["scrape_configs"] if one["job_name"] == "anomaly_assets"]
    assert job["static_configs"][0]["targets"] == ["live:8000"]
    named = re.findall(r'job="(\w+)"', RULES["LiveApiDown"]["expr"])
    assert named == [job["job_name"]]


@needs_promtool
def test_prometheus_takes_its_configuration() -> None:
    """Promtool finds nothing to complain about."""
    assert "SUCCESS" in promtool("check", "config", str(FOLDER / "prometheus.yml"))


@needs_promtool
def test_rules_fire_when_they_should() -> None:
    """Promtool runs each rule over made-up series."""
    assert "SUCCESS" in promtool("test", "rules", str(FOLDER / "alerts_test.yml"))
