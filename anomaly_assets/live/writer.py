"""The one door into the journal: whatever is waiting is stored together, by a thread of its own.

While one transaction is being made durable the next readings gather, so that a commit costs the
same for one reading and for thousands, and nothing waits longer than for the commit before its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from anomaly_assets.live.committing import Committed, Committer, Span
from anomaly_assets.live.limits import NotStoredError, OverloadedError
from anomaly_assets.live.readings import Appended, LiveReading, Row, RowResult, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

MOST_PENDING_ROWS: Final = 50_000
_MOST_ROWS_A_COMMIT: Final = 20_000
_PATIENCE_SECONDS: Final = 30.0
_GATHER_SECONDS: Final = 0.003


@dataclass
class WriterFigures:
    """What a writer has done since it was made.

    Parameters
    ----------
    accepted, duplicate, rejected
        Rows, by what became of them.
    commits, failures
        Groups of rows stored, and groups that were not.
    seconds
        Time spent on both.
    handed_over
        Of the accepted rows: those that another instance scores.
    """

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    commits: int = 0
    failures: int = 0
    seconds: float = 0.0
    handed_over: int = 0

    @property
    def rows(self) -> int:
        """All rows that were answered."""
        return self.accepted + self.duplicate + self.rejected


@dataclass(eq=False)
class _Batch:
    rows: Sequence[Row]
    source: str
    first_row: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Appended] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self.loop.create_future()


class JournalWriter:
    """Appends readings to the journal; returns when they are durable.

    Parameters
    ----------
    deployment
        Where to.
    most_pending_rows
        Rows waiting at once, beyond which more are refused.
    patience
        Seconds after which an answer is given up.
    owns
        Whether this instance scores an entity; others are told of the readings of all the rest.
        None: nobody is told of anything.

    Notes
    -----
    Start it before use, and stop it at the end: what is waiting then is still stored.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        most_pending_rows: int = MOST_PENDING_ROWS,
        patience: float = _PATIENCE_SECONDS,
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        self.figures = WriterFigures()
        self._committer = Committer(deployment, owns)
        self._most_pending = most_pending_rows
        self._patience = patience
        self._waiting: deque[_Batch] = deque()
        self._pending_rows = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def pending_rows(self) -> int:
        """Rows that wait or are being stored."""
        return self._pending_rows

    @property
    def running(self) -> bool:
        """Whether it takes readings."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        """Begin to store; again after :meth:`stop`."""
        if self.running:
            return
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Take no more, store what is waiting, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def append(
        self, readings: Sequence[LiveReading], *, source: str = "live"
    ) -> list[RowResult]:
        """Store readings; they are durable when this returns.

        Parameters
        ----------
        readings
            Readings of any entities, in any order.
        source
            Where they come from, as recorded with them.

        Returns
        -------
        list of RowResult
            One for each reading, in order.

        Raises
        ------
        OverloadedError
            If too many wait already.
        NotStoredError
            If the database is away, full or too slow. Some may be stored nevertheless; sending
            them again does no harm.
        """
        return (await self.append_rows([raw(one) for one in readings], source=source)).results

    async def append_rows(
        self, rows: Sequence[Row], *, source: str = "live", first_row: int = 1
    ) -> Appended:
        """Store rows as they were sent; as :meth:`append`, and say which readings were new.

        Parameters
        ----------
        rows
            What was sent.
        source
            Where it comes from.
        first_row
            Number under which the sender knows the first row, as recorded of refused ones.
        """
        if not rows:
            return Appended([], [], [])
        batch = self._enter(rows, source, first_row)
        try:
            async with asyncio.timeout(self._patience):
                return await batch.answer
        except TimeoutError as error:
            self._require_progress()
            msg = f"not confirmed as stored within {self._patience:g} s"
            raise NotStoredError(msg, 5.0) from error

    def _require_progress(self) -> None:
        """Break off a commit that hangs, so that the next one gets a new connection."""
        since = self._busy_since
        if since is not None and time.monotonic() - since >= self._patience / 2:
            logger.warning("storing has taken %.1f s; breaking off", time.monotonic() - since)
            self._committer.abort()

    def _enter(self, rows: Sequence[Row], source: str, first_row: int) -> _Batch:
        self._committer.require_reachable()
        batch = _Batch(rows, source, first_row, asyncio.get_running_loop())
        with self._changed:
            if not self.running:
                msg = "the writer is stopped"
                raise NotStoredError(msg, 5.0)
            # A batch that is larger than the queue passes when the queue is empty.
            if self._pending_rows and self._pending_rows + len(rows) > self._most_pending:
                msg = f"{self._pending_rows} readings are waiting to be stored"
                raise OverloadedError(msg, self._pending_rows / self._speed())
            self._pending_rows += len(rows)
            self._waiting.append(batch)
            self._changed.notify()
        return batch

    def _speed(self) -> float:
        """Return rows a second, as far as is known."""
        figures = self.figures
        return max(1000.0, figures.rows / figures.seconds) if figures.seconds else 10_000.0

    def _run(self) -> None:
        while group := self._next_group():
            crowded = len(group) > 1
            started = self._busy_since = time.monotonic()
            try:
                answers = self._store(group)
                self.figures.commits += 1
            except NotStoredError as error:
                answers = [error] * len(group)
                self.figures.failures += 1
            except Exception:
                logger.exception("%d batches could not be stored", len(group))
                failed = NotStoredError("the readings could not be stored", 5.0)
                answers = [failed] * len(group)
                self.figures.failures += 1
            self._busy_since = None
            self.figures.seconds += time.monotonic() - started
            with self._changed:
                self._pending_rows -= sum(len(batch.rows) for batch in group)
            _answer(group, answers)
            if crowded:
                # Where many send, more of them share a commit than began to wait during the last.
                time.sleep(_GATHER_SECONDS)
        self._committer.close()

    def _next_group(self) -> list[_Batch]:
        """Return what waits, from one source; nothing at the end."""
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            group: list[_Batch] = []
            size = 0
            while self._waiting:
                batch = self._waiting[0]
                size += len(batch.rows)
                if group and (size > _MOST_ROWS_A_COMMIT or batch.source != group[0].source):
                    break
                group.append(self._waiting.popleft())
            return group

    def _store(self, group: list[_Batch]) -> list[Appended | NotStoredError]:
        bounds = [0, *accumulate(len(batch.rows) for batch in group)]
        spans = [
            Span(start, end, batch.first_row)
            for (start, end), batch in zip(pairwise(bounds), group, strict=True)
        ]
        rows = [row for batch in group for row in batch.rows]
        done = self._committer.store(rows, spans, group[0].source)
        self._count(done)
        return [_of_batch(done, range(span.start, span.end)) for span in spans]

    def _count(self, done: Committed) -> None:
        figures = self.figures
        duplicate = sum(result.duplicate for result in done.results.values())
        rejected = sum(not result.accepted for result in done.results.values())
        figures.duplicate += duplicate
        figures.rejected += rejected
        figures.handed_over += done.handed_over
        figures.accepted += len(done.results) - duplicate - rejected


def _of_batch(done: Committed, positions: range) -> Appended | NotStoredError:
    for position in positions if done.failed else ():
        if position in done.failed:
            return done.failed[position]
    return Appended(
        [done.results[position] for position in positions],
        [done.fresh[position] for position in positions if position in done.fresh],
        [done.refused[position] for position in positions if position in done.refused],
    )


def _answer(group: Sequence[_Batch], answers: Sequence[Appended | NotStoredError]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Batch, Appended | NotStoredError]]] = {}
    for batch, answer in zip(group, answers, strict=True):
        by_loop.setdefault(batch.loop, []).append((batch, answer))
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, pairs)
        except RuntimeError:  # the loop has ended; nobody waits any more
            logger.info("%d batches were stored after their senders had gone", len(pairs))


def _settle(pairs: Sequence[tuple[_Batch, Appended | NotStoredError]]) -> None:
    for batch, answer in pairs:
        if batch.answer.done():
            continue
        if isinstance(answer, NotStoredError):
            batch.answer.set_exception(answer)
        else:
            batch.answer.set_result(answer)
