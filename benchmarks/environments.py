"""Environments of tools that a benchmark needs and the project does not."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_INSTALL_SECONDS: Final = 600
_LAST_WORDS: Final = 40


@dataclass(frozen=True)
class Environment:
    """A folder below ``.tools`` with the packages of a list of pinned versions.

    Parameters
    ----------
    name
        Of the folder.
    requirements
        The list.
    """

    name: str
    requirements: Path

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ROOT / ".tools" / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def install(self) -> str:
        """Make it unless it is there as listed; return what went wrong, or nothing."""
        wanted = self.requirements.read_text(encoding="utf-8")
        stamp = self.folder / ".installed"
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return ""
        print(f"Installing {self.name} into {self.folder.relative_to(ROOT)}", flush=True)
        for arguments in (
            ["venv", "--quiet", "--clear", str(self.folder)],
            ["pip", "sync", "--quiet", "--python", str(self.python), str(self.requirements)],
        ):
            problem = run(["sh", "scripts/uv.sh", *arguments], _INSTALL_SECONDS)
            if problem:
                return f"{self.name} cannot be installed: {problem}"
        stamp.write_text(wanted, encoding="utf-8")
        return ""


def run(command: list[str], seconds: float) -> str:
    """Run a command in the root of the project; return its last words if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - our own scripts and uv, no input from outside
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    words = " ".join(done.stderr.split()[-_LAST_WORDS:])
    return words or f"exit code {done.returncode}"
