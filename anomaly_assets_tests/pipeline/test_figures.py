"""Explanations as figures: the same bytes again, gaps as gaps, and clear refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from anomaly_assets.detection.explanation.explain import Explainer
from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.figures import Timeline, as_bytes, check_path, draw, top_picture
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.detection.explanation.cases import CATALOGUE, WINDOW, exercise
from anomaly_assets_tests.pipeline.people import START, WINDOWS, execute, load_people, run
from anomaly_assets_tests.pipeline.support import deployment_of

MINUTES = 60


def line(values: np.ndarray, **changes: object) -> Timeline:
    """Return an hour of a stream that ends five minutes after the window."""
    timeline = Timeline(
        stream="heart_rate",
        label="heart rate",
        times=WINDOW - 3000 + 60 * np.arange(MINUTES, dtype=np.int64),
        values=values,
        hold=5,
        happening=False,
        window_times=np.array([WINDOW - 300, WINDOW]),
        low=np.array([60.0, 61.0]),
        high=np.array([80.0, 81.0]),
        onsets=((WINDOW, True),),
    )
    return replace(timeline, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    """Explain somebody who starts to run."""
    return Explainer(CATALOGUE).explain(exercise())


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_explanation_gives_the_same_bytes(explanation: Explanation, form: str) -> None:
    """No time, no random identifiers: a figure can be compared and cached."""
    lines = [line(np.linspace(70.0, 150.0, MINUTES))]
    first = as_bytes(draw(explanation, lines), form)
    assert first == as_bytes(draw(explanation, lines), form)
    changed = replace(explanation, summary="Something else $happened_here$.")
    assert as_bytes(draw(changed, lines), form) != first


def test_a_gap_is_drawn_as_a_gap(explanation: Explanation) -> None:
    """A line ends where more minutes are missing than lie between readings anyway."""
    values = np.full(MINUTES, 70.0)
    values[[5, 6, 20, 21, 22, 23, 24, 25, 26]] = np.nan
    (panel,) = draw(explanation, [line(values, onsets=())]).axes
    drawn = [x for x in panel.lines if x.get_linewidth() == 1.0]
    assert [len(np.asarray(x.get_xdata())) for x in drawn] == [18, 33]


def test_a_stream_without_any_reading_says_so(explanation: Explanation) -> None:
    """Nothing to draw is drawn as words."""
    (panel,) = draw(explanation, [line(np.full(MINUTES, np.nan))]).axes
    assert "no readings" in [text.get_text() for text in panel.texts]


def test_the_axis_is_the_clock_of_the_entity(explanation: Explanation) -> None:
    """10:35 in Berlin is 09:35 UTC."""
    figure = draw(explanation, [line(np.full(MINUTES, 70.0))])
    svg = as_bytes(figure, "svg").decode()
    assert "time in Europe/Berlin" in svg
    assert ">10:30<" in svg
    assert ">09:30<" not in svg


def test_other_suffixes_are_refused() -> None:
    """The message names those that are written."""
    assert check_path(Path("a/b.PNG")) == "png"
    for name in ("a.gif", "a", "png"):
        with pytest.raises(InputError, match=r"\.pdf, \.png, \.svg"):
            check_path(Path(name))


def test_matplotlib_is_not_loaded_before_something_is_drawn() -> None:
    """Neither the module nor the definitions of the code location import it."""
    code = (
        "import sys, anomaly_assets.pipeline.figures, anomaly_assets.cli; "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_shows_its_highest_episode(database: Database, tmp_path: Path) -> None:
    """The picture is small enough to be kept with every run; a calm run has none."""
    load_people(database, ["ann"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    execute(database, "UPDATE anomaly_scores SET anomaly_score = 0.1")
    assert list(explain_windows(_fresh(database, tmp_path), deployment.entities(), WINDOWS))
    assert top_picture(deployment, WINDOWS) is None
    for minutes, score in ((40, 0.8), (90, 0.95)):
        execute(
            database,
            "UPDATE anomaly_scores SET anomaly_score = %s WHERE method = 'ensemble' "
            "AND timestamp = %s",
            score,
            START + timedelta(minutes=minutes),
        )
    fresh = _fresh(database, tmp_path)
    assert list(explain_windows(fresh, fresh.entities(), WINDOWS))
    found = top_picture(fresh, WINDOWS)
    assert found is not None
    explanation, png = found
    assert explanation.peak_score == 0.95
    assert png.startswith(b"\x89PNG")
    assert len(png) < 150_000
    assert found == top_picture(_fresh(database, tmp_path), WINDOWS)


def _fresh(database: Database, home: Path) -> Deployment:
    """Return a deployment that remembers no results."""
    return deployment_of(database, home)
