"""The README's example runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The Python example of the README runs, finds the anomaly and explains it."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)

    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - our own README

    first, sentence = capsys.readouterr().out.strip().split("\n", 1)
    assert "True" in first
    assert "heart rate" in sentence.lower()
