"""What one step has just written, handed to the next one without the way through the database."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_assets.streams.windows import WindowRange

#: Values (windows times streams) held at most, of all kinds together: some 100 MB.
MOST_VALUES = 1_000_000


class Handover:
    """The newest blocks of results, dropped oldest first.

    It holds nothing that is not in the database too, and lives no longer than its deployment, that
    is one run: what it hands over is what this run wrote.
    """

    def __init__(self, most_values: int = MOST_VALUES) -> None:
        self._most_values = most_values
        self._held: OrderedDict[tuple[str, str, WindowRange], tuple[Any, int]] = OrderedDict()
        self._values = 0

    def put(self, kind: str, entity_id: str, windows: WindowRange, what: Any, streams: int) -> None:  # noqa: ANN401 - each kind has its own type
        """Hold a block of results of some kind."""
        key = (kind, entity_id, windows)
        self._values -= self._held.pop(key, (None, 0))[1]
        size = len(windows) * streams
        self._held[key] = (what, size)
        self._values += size
        while self._values > self._most_values:
            _, (_, dropped) = self._held.popitem(last=False)
            self._values -= dropped

    def get(self, kind: str, entity_id: str, windows: WindowRange) -> Any | None:  # noqa: ANN401 - as above
        """Return the block of exactly these windows, or None if it is not held."""
        held = self._held.get((kind, entity_id, windows))
        return None if held is None else held[0]
