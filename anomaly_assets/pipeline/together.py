"""Many entities over a short range, some tens of them in one transaction.

Taken one by one, the cost of a single window is that of connecting, locking, asking and committing
for each entity and step, and hardly that of the models. So a short range is taken by groups of
entities: what they need is read together, what they have made is written together, results and
state in one transaction as ever. The models never know: every entity is still processed by itself,
by the same code and to the last bit.

Whatever is not plain goes alone: an entity that raises, whose state has to be rebuilt, or whose
windows have gaps. Should writing a group fail, all of it goes alone, so that the fault is found and
is its entity's own.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg

from anomaly_assets.logs import about
from anomaly_assets.storage.pending import Pending
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, WindowRange, day_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from anomaly_assets.pipeline.advance import Commit
    from anomaly_assets.pipeline.deployment import Deployment, Entity

    Connection = psycopg.Connection[Any]

logger = logging.getLogger(__name__)

#: A longer range is worth its own transactions, and is computed while the block before is written.
MOST_WINDOWS = WINDOWS_PER_DAY
#: Entities of one transaction. Each holds up to three advisory locks, of some 6,400 that a server
#: has as it is installed, and what a killed transaction loses is computed again.
MOST_ENTITIES = 50
#: Values (windows times streams) of one transaction, which are held in memory several times.
_MOST_VALUES = 100_000

Made_co = TypeVar("Made_co", covariant=True)
Made = TypeVar("Made")


class Many(Protocol[Made_co]):
    """A step for a group of entities, over windows of one day."""

    def __call__(
        self, connection: Connection, entities: Sequence[Entity], windows: WindowRange
    ) -> tuple[Sequence[Made_co], Sequence[Entity]]:
        """Carry the step out; return what was made, and who has to go alone."""


class Gathering:
    """What a step has made for a group of entities, until it is written.

    Parameters
    ----------
    left
        Who has to go alone from the start.
    """

    def __init__(self, left: Iterable[Entity] = ()) -> None:
        self.left = list(left)
        self.pending = Pending()
        self._made: list[Commit] = []
        self._started = time.perf_counter()

    @contextmanager
    def each(self, entity: Entity) -> Iterator[None]:
        """Work for one entity; if it raises, the entity goes alone and leaves no trace here."""
        try:
            yield
        except psycopg.Error:
            # The transaction is lost, and with it what the others have made.
            raise
        except Exception:  # noqa: BLE001 - alone, it raises again and is recorded
            self.left.append(entity)
            self.pending.forget(entity.entity_id)
            self._made = [made for made in self._made if made.entity_id != entity.entity_id]

    def made(self, commit: Commit) -> None:
        """Note what will have been committed."""
        self._made.append(commit)

    def outcome(self) -> tuple[list[Commit], list[Entity]]:
        """Return what was made, each with its share of the time, and who goes alone."""
        seconds = (time.perf_counter() - self._started) / max(1, len(self._made))
        return [replace(commit, seconds=seconds) for commit in self._made], self.left


def each_entity(
    deployment: Deployment,
    entities: Iterable[Entity],
    run: Callable[[Connection, Entity], Iterator[Made]],
) -> Iterator[Made]:
    """Run a step for each entity; one that fails is recorded, and the next one goes on."""
    for entity in entities:
        if entity.entity_id in deployment.failures:
            continue
        try:
            with deployment.database.connect() as connection, about(entity=entity.entity_id):
                yield from run(connection, entity)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop other entities
            deployment.fail(entity.entity_id, error)


def each_group(
    deployment: Deployment,
    entities: Iterable[Entity],
    windows: WindowRange,
    *,
    many: Many[Made],
    alone: Callable[[Connection, Entity], Iterator[Made]],
) -> Iterator[Made]:
    """Run a step over a range for all entities: in groups where it pays, else one by one."""
    due = [entity for entity in entities if entity.entity_id not in deployment.failures]
    for group in _groups(due, windows):
        left: Sequence[Entity] = group
        if len(group) > 1:
            left = yield from _together(deployment, list(group), windows, many)
        yield from each_entity(deployment, left, alone)


def groups_of(entities: Sequence[Entity], windows: WindowRange) -> list[Sequence[Entity]]:
    """Cut entities into groups that go through all steps one after the other.

    What a step hands to the next one then stays in memory, however many entities there are. Over a
    long range all are one group.
    """
    return [entities] if len(windows) > MOST_WINDOWS else list(_groups(entities, windows))


def _together(
    deployment: Deployment, group: list[Entity], windows: WindowRange, many: Many[Made]
) -> Generator[Made, None, list[Entity]]:
    """Yield what was made for a group, and return who has to go alone."""
    left: list[Entity] = []
    for part in day_blocks(windows):
        going = [entity for entity in group if entity not in left]
        try:
            with deployment.database.connect() as connection:
                made, out = many(connection, going, part)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - whose it is, is found by going one by one
            logger.warning(
                "%d entities go one by one over %s: %s: %s",
                len(going),
                part.start_time,
                type(error).__name__,
                error,
            )
            return [*left, *going]
        yield from made
        left += out
    return left


def _groups(entities: Sequence[Entity], windows: WindowRange) -> Iterator[Sequence[Entity]]:
    most = 1
    if 0 < len(windows) <= MOST_WINDOWS and entities:
        streams = max(len(entity.catalogue.streams) for entity in entities)
        most = max(1, min(MOST_ENTITIES, _MOST_VALUES // (len(windows) * streams)))
    for first in range(0, len(entities), most):
        yield entities[first : first + most]
