"""The benchmark of damaged snapshots, small: nothing goes unnoticed, nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_kind_of_damage_is_found_and_made_good() -> None:
    """Each mutation a few times, two kinds of damage in a database: no row differs."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.corruption", "--mutations", "120", "--recoveries", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["mutations"], figures["recoveries"]) == (120, 2)
    assert (figures["undetected"], figures["different_rows"]) == (0, 0)
