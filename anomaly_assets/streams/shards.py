"""Which shard an entity belongs to: the same in every process and on every machine."""

from __future__ import annotations

import hashlib

from anomaly_assets.errors import InputError


def shard_of(entity_id: str, shards: int) -> int:
    """Return the number of an entity's shard.

    Parameters
    ----------
    entity_id
        Whose shard.
    shards
        How many there are, at least 1.

    Returns
    -------
    int
        In ``[0, shards)``: the first eight bytes of BLAKE2b of the identifier in UTF-8, big-endian,
        modulo `shards`.

    Raises
    ------
    InputError
        If there is no shard.

    Examples
    --------
    >>> [shard_of(name, 4) for name in ("ann", "bob", "cat")]
    [1, 2, 3]
    >>> shard_of("ann", 1)
    0
    """
    if shards < 1:
        msg = f"shards is {shards}; there is at least one"
        raise InputError(msg)
    digest = hashlib.blake2b(entity_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards
