"""Sealed snapshots are opened only when everything about them is right."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.state import format as format_module
from anomaly_assets.state.format import ADVICE, Provenance, Refusal, Snapshot, seal, unseal
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


def resealed(**fields: str | int) -> Snapshot:
    """Return the snapshot as another version would have sealed it, under the right key."""
    return seal(DETECTOR, Provenance(**{**asdict(PROVENANCE), **fields}), KEY)


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (replace(SNAPSHOT, signature=""), "unsigned"),
        (replace(SNAPSHOT, signature="no signature"), "signature"),
        (replace(SNAPSHOT, signature="ключ"), "signature"),
        (replace(SNAPSHOT, signature="\udc80"), "signature"),
        (seal(DETECTOR, PROVENANCE, KEY + b"!"), "signature"),
        (replace(SNAPSHOT, sha256="0" * 64), "signature"),
        (replace(SNAPSHOT, blob=b""), "digest"),
        (replace(SNAPSHOT, blob=SNAPSHOT.blob[:-1]), "digest"),
        (replace(SNAPSHOT, blob=SNAPSHOT.blob + b"."), "digest"),
        (resealed(format_version=2), "format_version"),
        (resealed(entity_id="bob"), "entity_id"),
        (resealed(component="tier1_models"), "component"),
        (resealed(detector="GapDetector/1"), "detector"),
        (resealed(catalogue_digest="e" * 64), "catalogue_digest"),
        (resealed(river_version="0.25.0"), "river_version"),
        (resealed(numpy_version="1.26.4"), "numpy_version"),
        (resealed(code_version="99.0"), "newer_code"),
        (resealed(code_version="unknown"), "newer_code"),
    ],
)
def test_each_refusal_has_its_reason_and_advice(
    snapshot: Snapshot, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong is named by kind, with what to do, before a byte is unpickled."""

    def unpickled(*_: object) -> None:
        pytest.fail("it was unpickled")

    monkeypatch.setattr(format_module, "_StateUnpickler", unpickled)
    with pytest.raises(SnapshotRefusedError) as caught:
        unseal(snapshot, PROVENANCE, KEY)
    assert caught.value.reason == reason
    assert len(ADVICE[Refusal(reason)]) > 20


def test_older_code_is_no_reason_to_refuse() -> None:
    """The detector's own version says when its state changed: releases between do not matter."""
    older = resealed(code_version="0.0.1")
    assert isinstance(unseal(older, PROVENANCE, KEY), GapDetector)


def test_every_refusal_has_its_advice() -> None:
    """There is no reason to refuse without something to do about it."""
    assert set(ADVICE) == set(Refusal)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("anomaly_assets.detection.scoring", "np"),
        ("anomaly_assets.detection.scoring", "np.load"),
        ("anomaly_assets.detection.scoring", "score_of_p"),
        ("anomaly_assets.streams.loading", "load_catalogue"),
        ("anomaly_assets.storage.database", "Database"),
        ("builtins", "eval"),
    ],
)
def test_only_classes_of_ours_are_found(module: str, name: str) -> None:
    """Neither functions of ours, nor what our modules import, can be called by a pickle."""
    with pytest.raises(SnapshotRefusedError, match="no model state holds it"):
        format_module._StateUnpickler(io.BytesIO()).find_class(module, name)


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
