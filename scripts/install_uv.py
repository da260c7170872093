"""Put uv into a folder, with whatever this Python has: pip, ensurepip, or nothing but itself.

Usage: ``python install_uv.py FOLDER VERSION``. Standard library only: it runs before anything is
installed. Debian's Python has neither pip nor ensurepip; pip's wheel then runs from the zip
file that PyPI serves.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

PIP_INDEX = "https://pypi.org/simple/pip/"
PIP_WHEEL = "pip-25.3-py3-none-any.whl"


def main(folder: Path, version: str) -> None:
    """Install uv `version` into `folder`, completely or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".uv-") as temporary:
        staged = Path(temporary, "uv")
        command = [*_pip(Path(temporary)), "install", "--quiet", "--disable-pip-version-check"]
        command += ["--root-user-action=ignore", "--target", str(staged), f"uv=={version}"]
        # A user-wide `pip config set install.user true` contradicts --target.
        subprocess.run(command, check=True, env={**os.environ, "PIP_USER": "0"})
        shutil.rmtree(folder, ignore_errors=True)
        staged.replace(folder)


def _pip(temporary: Path) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        environment = temporary / "environment"
        made = subprocess.run([sys.executable, "-m", "venv", str(environment)], check=False)
        if made.returncode == 0:
            return [str(environment / "bin" / "python"), "-m", "pip"]
    return [sys.executable, str(_download_pip(temporary))]


def _download_pip(temporary: Path) -> Path:
    """Fetch pip's wheel; ``python pip.whl/pip`` runs it without installing it."""
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    request = urllib.request.Request(PIP_INDEX, headers=accept)
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheel = next(file for file in files if file["filename"] == PIP_WHEEL)
    with urllib.request.urlopen(urljoin(PIP_INDEX, wheel["url"]), timeout=60) as answer:
        content: bytes = answer.read()
    if hashlib.sha256(content).hexdigest() != wheel["hashes"]["sha256"]:
        sys.exit(f"{PIP_WHEEL} arrived damaged; run the same command again.")
    path = temporary / PIP_WHEEL
    path.write_bytes(content)
    return path / "pip"


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"Cannot install uv {sys.argv[2]} from PyPI ({error}); is the network there?")
