"""Commands are imported when they are called, and listed as they are."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from anomaly_assets import cli
from anomaly_assets.cli.loading import COMMANDS, load

FOLDER = Path(cli.__file__).parent


def test_every_command_is_listed() -> None:
    """What the modules of the folder register is what is listed, in whichever module it is."""
    found: dict[str, str] = {}
    for path in FOLDER.glob("*.py"):
        module = import_module(f"anomaly_assets.cli.{path.stem}")
        if hasattr(module, "register"):
            app = typer.Typer()
            module.register(app)
            found |= dict.fromkeys(typer.main.get_group(app).commands, path.stem)
    assert found == {name: place.module for name, place in COMMANDS.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_as_it_describes_itself(name: str) -> None:
    """The line in the list is the first one of the command's own help."""
    assert str(load(name).help).partition("\n")[0] == COMMANDS[name].about


def test_the_list_imports_no_command() -> None:
    """Help and completion of names need neither Dagster nor the models."""
    code = (
        "import sys\n"
        "from anomaly_assets.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'dagster', 'river', 'scipy', 'numpy', 'pandas', 'sqlalchemy', 'psycopg'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
