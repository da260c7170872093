"""The latest score of each entity in Redis, for pages that are asked for it often.

Only a convenience: without Redis, or while it is away, nothing is found and nothing fails. What is
found is as trustworthy as Redis is; the tables are the truth.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anomaly_assets.live.results import LiveResult

logger = logging.getLogger(__name__)

_PREFIX: Final = "anomaly-assets:latest:"
_KEEP_SECONDS: Final = 86_400
#: A cache that is slower than the database is none.
_PATIENCE_SECONDS: Final = 0.25
_REST_SECONDS: Final = 5.0
#: An older window never replaces a newer one, whoever comes last.
_PUT: Final = """
local old = tonumber(redis.call('HGET', KEYS[1], 'window') or '-inf')
if old > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'window', ARGV[1], 'score', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


@dataclass(frozen=True)
class LatestScore:
    """What is known of the last window of an entity.

    Parameters
    ----------
    entity_id
        Whose.
    window_start
        Start of the window, aware.
    score
        Final score, 0 to 1; None where nothing could be scored.
    confidence
        0 to 1.
    is_anomaly
        Whether it counts as one.
    """

    entity_id: str
    window_start: datetime
    score: float | None
    confidence: float
    is_anomaly: bool

    @classmethod
    def of(cls, result: LiveResult) -> Self:
        """Return the score of a result."""
        return cls(
            result.entity_id,
            result.window_start,
            result.score,
            result.confidence,
            result.is_anomaly,
        )

    def encode(self) -> str:
        """Return it as text."""
        score = self.score
        known = score if score is not None and math.isfinite(score) else None
        window = self.window_start.timestamp()
        return json.dumps([self.entity_id, window, known, self.confidence, self.is_anomaly])

    @classmethod
    def decode(cls, text: str | bytes) -> Self | None:
        """Read it back; None if it is anything else."""
        try:
            entity_id, window, score, confidence, is_anomaly = json.loads(text)
            known = score is None or math.isfinite(score)
            if not (isinstance(entity_id, str) and isinstance(is_anomaly, bool) and known):
                return None
            start = datetime.fromtimestamp(window, tz=UTC)
            return cls(
                entity_id,
                start,
                None if score is None else float(score),
                float(confidence),
                is_anomaly,
            )
        except (ValueError, TypeError, OverflowError, OSError, RecursionError):
            return None


@dataclass
class CacheFigures:
    """What a cache has done.

    Parameters
    ----------
    hits, misses
        Scores asked for that were there, and that were not.
    failures
        Times that Redis did not answer.
    """

    hits: int = 0
    misses: int = 0
    failures: int = 0


class ScoreCache:
    """Latest scores by entity.

    Parameters
    ----------
    url
        ``redis://host:6379/0``, or ``rediss://``; None for a deployment without Redis.
    patience_seconds
        After which an answer is not waited for.
    rest_seconds
        For how long Redis is left alone after it did not answer, so that nobody waits for it each
        time.
    """

    def __init__(
        self,
        url: str | None,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        rest_seconds: float = _REST_SECONDS,
    ) -> None:
        self.figures = CacheFigures()
        self._rest = rest_seconds
        self._resting_until = 0.0
        self._client: Redis | None = None
        if url is not None:
            self._client = Redis.from_url(
                url,
                socket_connect_timeout=patience_seconds,
                socket_timeout=patience_seconds,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )

    async def put(self, latest: LatestScore) -> bool:
        """Remember a score; returns whether it is now the latest there is."""
        window = str(latest.window_start.timestamp())

        def ask(client: Redis) -> Awaitable[Any]:
            answer: Any = client.eval(
                _PUT, 1, _PREFIX + latest.entity_id, window, latest.encode(), str(_KEEP_SECONDS)
            )
            return answer

        return bool(await self._try(ask))

    async def get(self, entity_id: str) -> LatestScore | None:
        """Return the latest score of an entity, if it is known here."""
        return (await self.get_many([entity_id])).get(entity_id)

    async def get_many(self, entity_ids: Sequence[str]) -> dict[str, LatestScore]:
        """Return the latest scores of entities, as far as they are known here."""

        async def ask(client: Redis) -> Any:  # noqa: ANN401 - whatever is stored there
            pipeline: Any = client.pipeline(transaction=False)
            for entity_id in entity_ids:
                pipeline.hget(_PREFIX + entity_id, "score")
            return await pipeline.execute(raise_on_error=False)

        found = {}
        texts = await self._try(ask) if entity_ids else None
        for entity_id, text in zip(entity_ids, texts or [], strict=False):
            latest = LatestScore.decode(text) if isinstance(text, bytes | str) else None
            if latest is not None and latest.entity_id == entity_id:
                found[entity_id] = latest
        self.figures.hits += len(found)
        self.figures.misses += len(entity_ids) - len(found)
        return found

    async def forget(self, entity_id: str) -> bool:
        """Delete the latest score of an entity; returns whether there was one."""

        def ask(client: Redis) -> Awaitable[Any]:
            answer: Any = client.delete(_PREFIX + entity_id)
            return answer

        return bool(await self._try(ask))

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _try(self, ask: Callable[[Redis], Awaitable[Any]]) -> Any:  # noqa: ANN401 - as above
        if self._client is None or time.monotonic() < self._resting_until:
            return None
        try:
            return await ask(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            self.figures.failures += 1
            self._resting_until = time.monotonic() + self._rest
            logger.warning("Redis does not answer, so latest scores come from tables: %s", error)
            return None
