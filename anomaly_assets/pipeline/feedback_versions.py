"""Versions of the feedback: all there are, how each stands, and what is in force now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.pipeline.meta_model import layout_of
from anomaly_assets.storage.feedback import FeedbackVersion, find_version, list_versions
from anomaly_assets.storage.tables_feedback import FeedbackAction

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment, Entity

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Standing:
    """A version and how it stands: ``active``, ``superseded`` or ``reverted``."""

    version: FeedbackVersion
    status: str


def versions(deployment: Deployment, entity_id: str | None = None) -> list[Standing]:
    """Return the versions and how they stand, the oldest first.

    With an entity only its own and those of the meta-learner for its streams.
    """
    scopes = None
    if entity_id is not None:
        entity = deployment.entity(entity_id)
        layout = layout_of(entity.catalogue.stream_ids, entity.catalogue.group_ids)
        scopes = {entity_id, layout}
    with deployment.database.connect() as connection:
        found = list_versions(connection)
    return standing([one for one in found if scopes is None or one.scope in scopes])


def standing(found: Sequence[FeedbackVersion]) -> list[Standing]:
    """Say of each version how it stands, given all of its scope, the oldest first."""
    newest = {one.scope: one for one in found}
    taken_back = {one.replaces for one in found if one.action is FeedbackAction.REVERT}
    made = []
    for one in found:
        last = newest[one.scope]
        if one is last or one.feedback_id == last.content_of:
            status = "active"
        elif one.feedback_id in taken_back:
            status = "reverted"
        else:
            status = "superseded"
        made.append(Standing(one, status))
    return made


def in_force_now(connection: Connection, scope: str) -> tuple[Adjustment, FeedbackVersion | None]:
    """Return what is in force of a scope from now on, and the version that it is the content of."""
    found = list_versions(connection, scope)
    if not found or found[-1].content_of is None:
        return Adjustment(), None
    active = find_version(connection, found[-1].content_of)
    return active.adjustment, active


def concerned(deployment: Deployment, version: FeedbackVersion) -> list[Entity]:
    """Return the entities that a version decides about."""
    if not version.is_meta:
        return [deployment.entity(version.scope)]
    return [
        one
        for one in deployment.entities()
        if layout_of(one.catalogue.stream_ids, one.catalogue.group_ids) == version.scope
    ]
