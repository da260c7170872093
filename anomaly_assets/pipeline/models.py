"""Model management: what versions there are, what is in them, whether they are sound, and pins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.errors import InputError, SnapshotRefusedError, StateError
from anomaly_assets.pipeline.rollback import RollbackReport, begin_rollback, complete, rollback
from anomaly_assets.pipeline.tiers import tier_of
from anomaly_assets.state.format import ADVICE, Refusal
from anomaly_assets.state.store import SnapshotStore
from anomaly_assets.storage import model_versions
from anomaly_assets.storage.model_actions import (
    ActionKind,
    ModelAction,
    read_actions,
    record_action,
    standing_bases,
)
from anomaly_assets.storage.model_versions import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.streams.windows import FloatArray

__all__ = [
    "COMPONENTS",
    "Difference",
    "ModelAction",
    "ModelVersion",
    "RollbackReport",
    "Verdict",
    "actions",
    "begin_rollback",
    "complete",
    "diff",
    "list_versions",
    "pin",
    "rollback",
    "show",
    "unpin",
    "verify",
]

#: The model assets that keep state, in the order they run.
COMPONENTS = ("tier1_models", "gap_patterns", "cross_stream_models")

_WITHOUT_ENTITY = "mend the entity's catalogue, or delete what is left of the entity"


def list_versions(
    deployment: Deployment, entity_id: str | None = None, component: str | None = None
) -> list[ModelVersion]:
    """Return the versions of models, by entity, component and window, newest first.

    Raises
    ------
    StateError
        If no model asset has the name of `component`.
    """
    _require_component(component)
    with deployment.database.connect() as connection:
        return model_versions.read_versions(connection, entity_id=entity_id, component=component)


def actions(deployment: Deployment, entity_id: str | None = None) -> list[ModelAction]:
    """Return what was done to models, newest first."""
    with deployment.database.connect() as connection:
        return read_actions(connection, entity_id=entity_id)


def pin(deployment: Deployment, version: int, *, who: str, why: str) -> ModelVersion:
    """Keep a version, whatever retention and replays do; pinning again changes nothing.

    Raises
    ------
    InputError
        If there is no such version.
    """
    with deployment.database.connect() as connection, connection.transaction():
        found = _version(deployment, version)
        if found.pinned_at is None:
            model_versions.pin(connection, found.entity_id, version, who=who, reason=why)
            _record(connection, found, ActionKind.PIN, who=who, why=why)
    return _version(deployment, version)


def unpin(deployment: Deployment, version: int, *, who: str, why: str) -> ModelVersion:
    """Leave a version to retention again; unpinning what is not pinned changes nothing.

    Raises
    ------
    InputError
        If there is no such version.
    StateError
        If the present states go back to it: a restored version cannot be made again by replay.
    """
    with deployment.database.connect() as connection, connection.transaction():
        found = _version(deployment, version)
        for base in standing_bases(connection, found.entity_id, found.component):
            if base.kind == ActionKind.RESTORE and base.version_after == version:
                msg = (
                    f"version {version} was restored by action {base.action_id}, and the present "
                    "states go back to it; roll back to before it first"
                )
                raise StateError(msg)
        if model_versions.unpin(connection, version):
            _record(connection, found, ActionKind.UNPIN, who=who, why=why)
    return _version(deployment, version)


@dataclass(frozen=True)
class Difference:
    """One figure of one stream in two states.

    Parameters
    ----------
    stream_id, figure
        What is compared; see ``figures`` of the detectors.
    before, after
        The figure, None where it is unknown.
    """

    stream_id: str
    figure: str
    before: float | None
    after: float | None


def diff(deployment: Deployment, before: int, after: int) -> list[Difference]:
    """Return in which figures two versions of one component of one entity differ, by stream.

    Raises
    ------
    InputError
        If there is no such version, or they are not of one component of one entity.
    SnapshotRefusedError
        If either fails verification.
    """
    one, other = _version(deployment, before), _version(deployment, after)
    if (one.entity_id, one.component) != (other.entity_id, other.component):
        msg = (
            f"version {before} is {one.component} of {one.entity_id!r}, {after} {other.component} "
            f"of {other.entity_id!r}; compare two of the same component and entity"
        )
        raise InputError(msg)
    streams = deployment.entity(one.entity_id).catalogue.stream_ids
    earlier, later = (_figures(deployment, version) for version in (one, other))
    found = []
    for name, values in earlier.items():
        changed = ~((values == later[name]) | (np.isnan(values) & np.isnan(later[name])))
        found += [
            Difference(streams[i], name, _known(values[i]), _known(later[name][i]))
            for i in np.flatnonzero(changed).tolist()
        ]
    return sorted(found, key=lambda one: (streams.index(one.stream_id), one.figure))


def show(deployment: Deployment, version: int) -> tuple[ModelVersion, dict[str, dict[str, Any]]]:
    """Return a version, and its figures by stream and name (None: unknown).

    Raises
    ------
    InputError
        If there is no such version.
    SnapshotRefusedError
        If it fails verification.
    """
    found = _version(deployment, version)
    streams = deployment.entity(found.entity_id).catalogue.stream_ids
    figures = _figures(deployment, found)
    return found, {
        stream: {name: _known(values[i]) for name, values in figures.items()}
        for i, stream in enumerate(streams)
    }


@dataclass(frozen=True)
class Verdict:
    """What verification found of one version.

    Parameters
    ----------
    version, entity_id, component, as_of
        Which one.
    reason
        Kind of refusal, see :class:`~anomaly_assets.state.format.Refusal`; empty if it is sound.
    refusal, advice
        What is wrong, and what to do about it.
    """

    version: int
    entity_id: str
    component: str
    as_of: Any
    reason: str = ""
    refusal: str = ""
    advice: str = ""


def verify(
    deployment: Deployment, entity_id: str | None = None, component: str | None = None
) -> list[Verdict]:
    """Open every version, archived ones too, and return what was found of each.

    Nothing is changed: a run that needs a refused one passes it over.
    """
    catalogues = {entity.entity_id: entity.catalogue for entity in deployment.entities()}
    found = []
    with deployment.database.connect() as connection:
        for one in list_versions(deployment, entity_id, component):
            which = (one.version, one.entity_id, one.component, one.as_of)
            catalogue = catalogues.get(one.entity_id)
            if catalogue is None:
                why = deployment.failures.get(one.entity_id, "there is no such entity any more")
                found.append(Verdict(*which, "entity", why, _WITHOUT_ENTITY))
                continue
            try:
                _store(deployment, one.component).open(connection, catalogue, one.version)
            except SnapshotRefusedError as error:
                advice = ADVICE.get(Refusal(error.reason), "")
                found.append(Verdict(*which, error.reason, str(error), advice))
            else:
                found.append(Verdict(*which))
    return found


def _require_component(component: str | None) -> None:
    if component is not None and component not in COMPONENTS:
        msg = f"no model asset is called {component!r}; there are {', '.join(COMPONENTS)}"
        raise StateError(msg)


def _version(deployment: Deployment, number: int) -> ModelVersion:
    with deployment.database.connect() as connection:
        found = model_versions.read_versions(connection, version=number)
    if not found:
        msg = f"there is no version {number}; anomaly-assets models list shows those there are"
        raise InputError(msg)
    return found[0]


def _store(deployment: Deployment, component: str) -> SnapshotStore:
    tier = tier_of(component, deployment.settings)
    return SnapshotStore(component, tier.build, deployment.key)


def _figures(deployment: Deployment, version: ModelVersion) -> Mapping[str, FloatArray]:
    catalogue = deployment.entity(version.entity_id).catalogue
    with deployment.database.connect() as connection:
        restored = _store(deployment, version.component).open(
            connection, catalogue, version.version
        )
    figures: Mapping[str, FloatArray] = restored.detector.figures()
    return figures


def _record(
    connection: Any,  # noqa: ANN401 - a connection of any row type
    version: ModelVersion,
    kind: ActionKind,
    *,
    who: str,
    why: str,
) -> None:
    record_action(
        connection,
        version.entity_id,
        kind,
        component=version.component,
        as_of=version.as_of,
        who=who,
        why=why,
        versions=(None, version.version),
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
