"""What a step has done, summed up so that sums of parts can be added up again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from anomaly_assets.pipeline.whole import STEPS, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anomaly_assets.pipeline.advance import Commit
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import WindowRange


@dataclass
class Progress:
    """Sums over the commits of one step.

    Parameters
    ----------
    rows, windows, entities
        Rows written, windows committed, and of how many entities.
    seconds
        Time it took, of all of them together.
    snapshot_bytes
        Size of the largest state.
    refused
        Snapshots that failed verification, each with the reason.
    """

    rows: int = 0
    windows: int = 0
    entities: int = 0
    seconds: float = 0.0
    snapshot_bytes: int = 0
    refused: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, commits: Iterable[Commit]) -> Progress:
        """Drive `commits` to their end and sum them up."""
        progress = cls()
        entities = set()
        for commit in commits:
            entities.add(commit.entity_id)
            progress.windows += len(commit.windows)
            progress.rows += commit.rows
            progress.seconds += commit.seconds
            progress.snapshot_bytes = max(progress.snapshot_bytes, commit.snapshot_bytes)
            progress.refused += commit.refused
        progress.entities = len(entities)
        return progress

    def __add__(self, other: Progress) -> Progress:
        """Add what was done for other entities."""
        return Progress(
            self.rows + other.rows,
            self.windows + other.windows,
            self.entities + other.entities,
            self.seconds + other.seconds,
            max(self.snapshot_bytes, other.snapshot_bytes),
            self.refused + other.refused,
        )


@dataclass
class ShardProgress:
    """What the whole pipeline has done for some of the entities.

    Parameters
    ----------
    steps
        Progress of each of :data:`~anomaly_assets.pipeline.whole.STEPS`.
    failures
        Why entities failed, by step and identifier.
    """

    steps: dict[str, Progress] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, deployment: Deployment, entities: Sequence[Entity], windows: WindowRange
    ) -> ShardProgress:
        """Take the entities through all steps, and sum up what each of them did.

        Failures that the deployment knows of already, unusable catalogues, are the first step's.
        """
        told = cls({name: Progress() for name in STEPS}, {STEPS[0]: dict(deployment.failures)})
        for name, commits in steps(deployment, entities, windows):
            told.steps[name] += Progress.of(commits)
            known = {entity for failed in told.failures.values() for entity in failed}
            new = {e: why for e, why in deployment.failures.items() if e not in known}
            told.failures.setdefault(name, {}).update(new)
        return told

    def __add__(self, other: ShardProgress) -> ShardProgress:
        """Add another shard's."""
        return ShardProgress(
            {name: self._step(name) + other._step(name) for name in STEPS},
            {
                name: {**self.failures.get(name, {}), **other.failures.get(name, {})}
                for name in STEPS
            },
        )

    def failed_by(self, step: str) -> dict[str, str]:
        """Return who had failed by the end of a step, and why."""
        names = STEPS[: STEPS.index(step) + 1]
        return {e: why for name in names for e, why in self.failures.get(name, {}).items()}

    def document(self) -> dict[str, Any]:
        """Return it as a document of JSON."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ShardProgress:
        """Read what :meth:`document` returned."""
        return cls(
            {name: Progress(**step) for name, step in document["steps"].items()},
            {name: dict(failed) for name, failed in document["failures"].items()},
        )

    def _step(self, name: str) -> Progress:
        return self.steps.get(name, Progress())
