"""The meta-learner's forest in its sealed form, under a version of the feedback."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.feedback.forest import SeriesForest
from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.state.format import Provenance, Snapshot, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.feedback import FeedbackVersion

COMPONENT = "meta_learner"
_EMPTY = SeriesForest.empty()


def layout_of(streams: Sequence[str], groups: Sequence[str]) -> str:
    """Return what tells the series of these streams and groups from those of others.

    Whoever watches the same streams shares a meta-learner: scores mean the same for everybody.
    """
    text = "\x1f".join((*groups, "", *streams))
    return f"meta:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def sealed(
    forest: SeriesForest, layout: str, as_of: int, key: bytes
) -> tuple[bytes, dict[str, Any]]:
    """Return a forest's bytes, and the signed record of what it is."""
    made = seal(forest, _provenance(forest, layout, as_of), key)
    record = {
        "provenance": asdict(made.provenance),
        "sha256": made.sha256,
        "signature": made.signature,
    }
    return made.blob, record


def open_forest(version: FeedbackVersion, layout: str, key: bytes) -> SeriesForest | None:
    """Return the forest of a version; None where it has none, so that option A stands.

    Raises
    ------
    SnapshotRefusedError
        If it is damaged, not ours, or made under other versions or for other streams.
    """
    if version.model is None or version.seal is None:
        return None
    try:
        provenance = Provenance(**version.seal["provenance"])
        snapshot = Snapshot(
            provenance, version.seal["sha256"], version.seal["signature"], version.model
        )
    except (KeyError, TypeError) as error:
        msg = f"feedback version {version.feedback_id}: its seal is damaged ({error})"
        raise SnapshotRefusedError(msg) from error
    expected = _provenance(_EMPTY, layout, provenance.as_of)
    forest: SeriesForest = unseal(snapshot, expected, key)
    return forest


def _provenance(forest: SeriesForest, layout: str, as_of: int) -> Provenance:
    return Provenance.of(
        forest, entity_id="", component=COMPONENT, as_of=as_of, catalogue_digest=layout
    )
