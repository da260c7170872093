"""The files of others that the pages and the documentation load are those of the manifest."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from anomaly_assets.dashboard.rendering import STATIC
from anomaly_assets.live.api import documentation

FOLDERS = {"pages": STATIC / "vendor", "documentation": documentation.STATIC}
LICENCES = {"0BSD", "MIT", "Apache-2.0"}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=list(FOLDERS))
def test_every_file_of_others_is_as_it_was_released(folder: Path) -> None:
    """Name, version, licence and SHA-256 of each are on record, and no other file is there."""
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {"manifest.json", "swagger-start.js"}
    for package in manifest:
        assert package["licence"] in LICENCES
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert any("LICENSE" in name for name in package["files"])
        for name, digest in package["files"].items():
            assert sha256((folder / name).read_bytes()).hexdigest() == digest, name
            listed.add(name)
    assert {path.name for path in folder.iterdir()} <= listed


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Templates, scripts and styles of ours name no other host, apart from XML's namespace."""
    ours = [*STATIC.glob("*.*"), *(STATIC.parent / "templates").iterdir()]
    for path in ours:
        found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", path.read_text())
        assert [one for one in found if one != "http://www.w3.org"] == [], path.name


def test_no_template_switches_escaping_off() -> None:
    """Whatever is put into a page is escaped."""
    for path in (STATIC.parent / "templates").iterdir():
        text = path.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text
