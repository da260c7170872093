"""What people say of episodes and windows: told, listed, and taken back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, Field

from anomaly_assets.errors import AnomalyAssetsError, CatalogueError, InputError
from anomaly_assets.live.api.context import Context, ContextOf
from anomaly_assets.live.api.lookups import explanation_of
from anomaly_assets.live.api.models import REFUSALS, Problem
from anomaly_assets.live.api.security import JudgeOf, ReaderOf, visible_entity
from anomaly_assets.live.tokens import Principal
from anomaly_assets.pipeline.deployment import Entity
from anomaly_assets.pipeline.labels import judge
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import (
    JudgedAlreadyError,
    Label,
    Opinion,
    find_label,
    list_labels,
    undo_label,
)

router = APIRouter(tags=["labels"], responses=REFUSALS)

_MOST: Final = 500
_LARGEST_NUMBER: Final = 2**63 - 1
_NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "there is none, or not for this token"}
}
_JUDGED: Final[dict[int | str, dict[str, Any]]] = {
    **_NOT_FOUND,
    400: {"model": Problem, "description": "the body is no JSON"},
    409: {"model": Problem, "description": "these windows carry a standing label already"},
}

EntityName = Annotated[str, Path(max_length=200, description="the entity's identifier")]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class JudgementModel(BaseModel):
    """What somebody says of windows."""

    verdict: Verdict
    cause: str | None = Field(
        None,
        max_length=100,
        description="name of a template, or one of your own: a confirmed one is recognised again",
    )
    title: str | None = Field(None, max_length=200, description="of a cause of your own")
    recommended_action: Text | None = Field(None, description="what to do about it")
    reason: Text | None = Field(None, description="why you think so")
    stream_ids: list[Annotated[str, Field(max_length=200)]] | None = Field(
        None, max_length=2000, description="which streams it is about; default: the entity"
    )
    start: datetime | None = Field(None, description="without an offset it is UTC")
    end: datetime | None = Field(None, description="exclusive")


class RangeJudgementModel(JudgementModel):
    """What somebody says of a range of windows."""

    start: datetime = Field(description="any time in the first window; without an offset UTC")
    end: datetime | None = Field(
        None, description="exclusive; default: the episode that `start` lies in, or its window"
    )


class LabelModel(BaseModel):
    """A label, with who gave it and who took it back."""

    label_id: int
    entity_id: str
    start_time: datetime
    end_time: datetime
    stream_ids: list[str] | None
    anomaly_id: UUID | None
    verdict: Verdict
    cause: str | None
    title: str | None
    recommended_action: str | None
    reason: str | None
    author: str | None
    created_at: datetime
    undone_at: datetime | None
    undone_by: str | None

    @classmethod
    def of(cls, label: Label) -> Self:
        """Return a stored label."""
        return cls(**{name: value for name, value in asdict(label).items() if name != "events"})


class LabelsModel(BaseModel):
    """Labels by number."""

    labels: list[LabelModel]
    next: int | None = Field(description="give it as `after` to go on; null at the end")


@router.post(
    "/v1/entities/{entity_id:path}/episodes/{anomaly_id}/labels",
    status_code=201,
    responses=_JUDGED,
)
def judge_episode(
    context: ContextOf,
    principal: JudgeOf,
    entity_id: EntityName,
    anomaly_id: UUID,
    judgement: JudgementModel,
) -> LabelModel:
    """Judge an explained episode: all of it, or the range that is given."""
    entity = _entity(context, principal, entity_id)
    with context.deployment.database.connect() as connection:
        found = explanation_of(connection, anomaly_id)
    if found is None or found[0] != entity.entity_id:
        raise HTTPException(404, "this entity has no episode of that identifier")
    start = judgement.start or datetime.fromisoformat(found[1]["episode_start"])
    return _judged(context, principal, entity, judgement, start)


@router.post("/v1/entities/{entity_id:path}/labels", status_code=201, responses=_JUDGED)
def judge_range(
    context: ContextOf, principal: JudgeOf, entity_id: EntityName, judgement: RangeJudgementModel
) -> LabelModel:
    """Judge windows, whether or not they were explained."""
    entity = _entity(context, principal, entity_id)
    return _judged(context, principal, entity, judgement, judgement.start)


@router.get("/v1/entities/{entity_id:path}/labels", responses=_NOT_FOUND)
def labels(  # noqa: PLR0913, PLR0917 - the filters a person may set
    context: ContextOf,
    principal: ReaderOf,
    entity_id: EntityName,
    verdict: Annotated[Verdict | None, Query(description="only these")] = None,
    undone: Annotated[bool, Query(description="those taken back too")] = False,  # noqa: FBT002 - a switch in the address
    after: Annotated[int, Query(ge=0, le=_LARGEST_NUMBER, description="behind this number")] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 100,
) -> LabelsModel:
    """Return what people said of an entity's windows."""
    name = visible_entity(principal, entity_id)
    with context.deployment.database.connect() as connection:
        if find_entity(connection, str(name)) is None:
            raise HTTPException(404, "no such entity")
        found = list_labels(connection, entity_id=name, verdict=verdict, undone=undone)
    rest = sorted((one for one in found if one.label_id > after), key=lambda one: one.label_id)
    shown = rest[:limit]
    more = shown[-1].label_id if len(rest) > limit else None
    return LabelsModel(labels=[LabelModel.of(one) for one in shown], next=more)


@router.delete("/v1/labels/{label_id}", responses=_NOT_FOUND)
def undo(
    context: ContextOf,
    principal: JudgeOf,
    label_id: Annotated[int, Path(ge=1, le=_LARGEST_NUMBER)],
) -> LabelModel:
    """Take a label back; it stays on record with who did so. Again changes nothing."""
    with context.deployment.database.connect() as connection:
        try:
            label = find_label(connection, label_id)
        except InputError:
            label = None
        # Of another entity's not even its existence is told.
        if label is None or not principal.allows(label.entity_id, write=True):
            raise HTTPException(404, "no label of that number")
        return LabelModel.of(undo_label(connection, label_id, principal.author))


def _entity(context: Context, principal: Principal, entity_id: str) -> Entity:
    name = str(visible_entity(principal, entity_id))
    deployment = context.deployment
    with deployment.database.connect() as connection:
        row = find_entity(connection, name)
    if row is None:
        raise HTTPException(404, "no such entity")
    try:
        catalogue = deployment.catalogue(row.catalogue)
    except CatalogueError as error:
        raise HTTPException(409, "the catalogue of this entity cannot be read") from error
    first = None if row.first_window is None else int(row.first_window.timestamp())
    zone = row.time_zone or catalogue.time_zone
    return Entity(name, catalogue, zone, first, deployment.handover)


def _judged(
    context: Context,
    principal: Principal,
    entity: Entity,
    judgement: JudgementModel,
    start: datetime,
) -> LabelModel:
    try:
        opinion = Opinion(
            judgement.verdict,
            principal.author,
            judgement.cause,
            judgement.title,
            judgement.recommended_action,
            judgement.reason,
            None if judgement.stream_ids is None else tuple(judgement.stream_ids),
        )
        begin, end = _utc(start), None if judgement.end is None else _utc(judgement.end)
        return LabelModel.of(judge(context.deployment, entity, opinion, begin, end))
    except JudgedAlreadyError as error:
        raise HTTPException(409, str(error)) from error
    except (InputError, OverflowError) as error:
        raise HTTPException(422, str(error)) from error
    except AnomalyAssetsError as error:
        raise HTTPException(409, str(error)) from error


def _utc(moment: datetime) -> datetime:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware, _EARLIEST), _LATEST).astimezone(UTC)


#: Beyond these a shift to UTC leaves the calendar.
_EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
