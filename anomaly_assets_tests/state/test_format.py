"""Sealed snapshots are opened only when everything about them is right."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.state.format import Provenance, Snapshot, seal, unseal
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"a key of sixteen or more characters"
CATALOGUE = load_catalogue("default")
DETECTOR = GapDetector(CATALOGUE)
PROVENANCE = Provenance.of(
    DETECTOR, entity_id="ann", component="gap_patterns", as_of=300, catalogue_digest="d" * 64
)
SNAPSHOT = seal(DETECTOR, PROVENANCE, KEY)


def test_what_was_sealed_comes_back() -> None:
    """A snapshot opens as a detector that goes on exactly as the sealed one."""
    values = np.random.default_rng(0).normal(size=(50, len(CATALOGUE.streams)))
    values[values < -1.0] = np.nan
    block = WindowBlock("ann", "UTC", WindowRange(300, 300 + 50 * WINDOW_SECONDS), values)
    opened = unseal(SNAPSHOT, PROVENANCE, KEY)
    assert isinstance(opened, GapDetector)
    assert (
        opened.process(block).score.tobytes()
        == GapDetector(CATALOGUE).process(block).score.tobytes()
    )


def test_another_deployments_key_is_refused() -> None:
    """A snapshot signed with another key is refused before it is unpickled."""
    with pytest.raises(SnapshotRefusedError, match="signature"):
        unseal(SNAPSHOT, PROVENANCE, KEY + b"!")


@given(position=st.integers(0, len(SNAPSHOT.blob) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(position: int, bit: int) -> None:
    """No single flipped bit of the contents goes unnoticed."""
    blob = bytearray(SNAPSHOT.blob)
    blob[position] ^= 1 << bit
    with pytest.raises(SnapshotRefusedError, match="digest"):
        unseal(replace(SNAPSHOT, blob=bytes(blob)), PROVENANCE, KEY)


@given(length=st.integers(0, len(SNAPSHOT.blob) - 1))
def test_truncation_is_found(length: int) -> None:
    """A snapshot that lost its end is refused."""
    with pytest.raises(SnapshotRefusedError, match="digest"):
        unseal(replace(SNAPSHOT, blob=SNAPSHOT.blob[:length]), PROVENANCE, KEY)


@pytest.mark.parametrize(
    "field",
    ["entity_id", "component", "detector", "catalogue_digest", "river_version", "numpy_version"],
)
def test_another_version_is_refused_by_name(field: str) -> None:
    """A snapshot made for something else, or by another version, is refused and says which."""
    expected = Provenance(**{**asdict(PROVENANCE), field: "another"})
    with pytest.raises(SnapshotRefusedError, match=field):
        unseal(SNAPSHOT, expected, KEY)


def test_another_format_is_refused() -> None:
    """A snapshot of a later sealed form is refused."""
    with pytest.raises(SnapshotRefusedError, match="format_version"):
        unseal(SNAPSHOT, replace(PROVENANCE, format_version=99), KEY)


@pytest.mark.parametrize("change", [{"as_of": 600}, {"entity_id": "bob"}, {"code_version": "9"}])
def test_provenance_is_signed(change: dict[str, str | int]) -> None:
    """Whoever edits where a snapshot comes from breaks its signature."""
    forged = replace(SNAPSHOT, provenance=Provenance(**{**asdict(PROVENANCE), **change}))
    with pytest.raises(SnapshotRefusedError, match="signature"):
        unseal(forged, forged.provenance, KEY)


class _Harmful:
    version = 1

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_that_runs_code_is_refused() -> None:
    """Even rightly signed, a pickle that would call anything else than our classes is refused."""
    harmful = _Harmful()
    provenance = Provenance.of(
        harmful, entity_id="ann", component="x", as_of=0, catalogue_digest=""
    )
    snapshot: Snapshot = seal(harmful, provenance, KEY)
    with pytest.raises(SnapshotRefusedError, match="system"):
        unseal(snapshot, provenance, KEY)
