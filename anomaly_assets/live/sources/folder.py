"""A watched folder: files of readings that are put there go into the journal.

Files are ingested as by ``anomaly-assets ingest``: resumably, and each content once. They stay
where they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import AnomalyAssetsError, IngestionError, StorageError
from anomaly_assets.ingestion.ingest import IngestOptions, IngestReport, ingest_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

ENDINGS: Final = (".csv", ".csv.gz", ".parquet", ".pq")
_SETTLE_SECONDS: Final = 2.0
_SCAN_SECONDS: Final = 5.0

_Stamp = tuple[int, int]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file.

    Parameters
    ----------
    path
        The file.
    report
        What was taken in, or None.
    error
        Why it was not, or None.
    again
        Whether it is tried again as it is; otherwise only once it has changed.
    """

    path: Path
    report: IngestReport | None = None
    error: str | None = None
    again: bool = False


class WatchedFolder:
    """Takes in the files of a folder, and those that are added or changed later.

    Parameters
    ----------
    deployment
        Where to.
    folder
        The folder; folders in it are not looked into.
    entity_id
        Whose readings they are; None where the files say.
    catalogue
        Catalogue of the entities; None for the deployment's.
    options
        How the files are read.
    settle_seconds
        For how long a file has to be left alone before it is read.

    Raises
    ------
    IngestionError
        If there is no such folder.
    """

    def __init__(  # noqa: PLR0913 - hands the options of ingestion on
        self,
        deployment: Deployment,
        folder: Path,
        *,
        entity_id: str | None = None,
        catalogue: str | None = None,
        options: IngestOptions | None = None,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        if not folder.is_dir():
            msg = f"{folder} is no folder; make it, or give another one"
            raise IngestionError(msg)
        self.folder = folder
        self._deployment = deployment
        self._entity_id = entity_id
        self._catalogue = catalogue
        self._options = options
        self._settle = settle_seconds
        self._done: dict[str, _Stamp] = {}
        self._seen: dict[str, tuple[_Stamp, float]] = {}

    def scan(
        self,
        *,
        wait: bool = True,
        progress: Callable[[Path, IngestReport], None] | None = None,
    ) -> list[FileOutcome]:
        """Take in what is new, file by file; one bad file does not keep the others out.

        Parameters
        ----------
        wait
            Leave out files that were written to a moment ago.
        progress
            Called after every chunk.
        """
        outcomes = []
        for path, stamp in self._candidates():
            if self._done.get(path.name) == stamp or (wait and not self._settled(path, stamp)):
                continue
            outcome = self._take(path, progress)
            if not outcome.again:
                self._done[path.name] = stamp
            if outcome.error is not None:
                logger.warning("%s: %s", path, outcome.error)
            outcomes.append(outcome)
        return outcomes

    async def run(
        self,
        *,
        every_seconds: float = _SCAN_SECONDS,
        tell: Callable[[FileOutcome], None] | None = None,
    ) -> None:
        """Scan again and again until cancelled; a file in hand is resumed the next time."""
        while True:
            for outcome in await asyncio.to_thread(self.scan):
                if tell is not None:
                    tell(outcome)
            await asyncio.sleep(every_seconds)

    def _candidates(self) -> list[tuple[Path, _Stamp]]:
        found = []
        for path in sorted(self.folder.iterdir()):
            if not path.name.lower().endswith(ENDINGS) or path.name.startswith("."):
                continue
            try:
                status = path.lstat()
            except OSError:
                continue  # it has gone meanwhile
            # A link could lead anywhere.
            if path.is_file() and not path.is_symlink():
                found.append((path, (status.st_size, status.st_mtime_ns)))
        return found

    def _settled(self, path: Path, stamp: _Stamp) -> bool:
        now = time.monotonic()
        seen, since = self._seen.get(path.name, (None, now))
        if seen != stamp:
            self._seen[path.name] = (stamp, now)
            since = now
        # The second is for files whose clock runs ahead of ours.
        return time.time() - stamp[1] / 1e9 >= self._settle or now - since >= self._settle

    def _take(
        self, path: Path, progress: Callable[[Path, IngestReport], None] | None
    ) -> FileOutcome:
        def tell(report: IngestReport) -> None:
            if progress is not None:
                progress(path, report)

        try:
            report = ingest_files(
                self._deployment.database,
                [path],
                catalogue=self._deployment.catalogue(self._catalogue),
                catalogue_name=self._catalogue,
                entity_id=self._entity_id,
                options=self._options,
                progress=tell,
            )
        except (StorageError, psycopg.Error, OSError) as error:
            return FileOutcome(path, error=str(error), again=True)
        except AnomalyAssetsError as error:
            return FileOutcome(path, error=str(error))
        return FileOutcome(path, report)
