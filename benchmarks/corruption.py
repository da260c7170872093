"""Damaged, forged and foreign snapshots: how many go unnoticed, and what recovery leaves behind.

First every kind of damage is done to sealed models of every component, many times over, and each is
opened as the pipeline would: one that opens is undetected. Then a database is damaged half way
through a recording, in each way in turn, and the rows that a damaged run ends with are compared
with those of an undisturbed one.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import pickle
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.models import COMPONENTS
from anomaly_assets.pipeline.tiers import tier_of
from anomaly_assets.settings import Settings
from anomaly_assets.state.format import Provenance, Snapshot, seal, unseal
from anomaly_assets.state.store import SnapshotStore
from anomaly_assets.storage.database import Connection, Database, ensure_database
from anomaly_assets.storage.embedded import EmbeddedServer
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.journal import append_readings
from anomaly_assets.storage.migrate import upgrade
from anomaly_assets.storage.model_versions import read_versions
from anomaly_assets.streams.aggregation import Readings, aggregate
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange
from benchmarks.identity import rows_of
from benchmarks.output import publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"the key of the benchmark's deployment"
HALF = 200
WINDOWS = WindowRange.between(DEFAULT_START, DEFAULT_START + timedelta(minutes=5 * 2 * HALF))
#: What is done to the stored snapshots of the first half, as SQL.
DAMAGES = {
    "bit flips": "blob = set_byte(blob, (%(at)s %% size)::int, "
    "get_byte(blob, (%(at)s %% size)::int) # 16)",
    "truncation": "blob = substring(blob FROM 1 FOR (%(at)s %% size)::int)",
    "emptied": "blob = ''",
    "wrong key": "signature = encode(sha256(%(at)s::text::bytea), 'hex')",
    "unsigned": "signature = ''",
    "edited provenance": "river_version = '0.0.' || %(at)s::text",
    "swapped entity": "blob = o.blob",
}
#: What the stored snapshots are sealed with anew, by the right key.
RESEALED: dict[str, dict[str, Any]] = {
    "another River": {"river_version": "0.25.0"},
    "newer code": {"code_version": "999.0.0"},
    "older detector": {"detector": "IndividualDetector/1"},
}


@dataclass(frozen=True)
class Opened:
    """A sealed model, and what the pipeline would expect it to be."""

    snapshot: Snapshot
    expected: Provenance


def main() -> None:
    """Mutate, count, damage, recover, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--recoveries", type=int, default=len(DAMAGES) + len(RESEALED), help="ways of damage"
    )
    options = parser.parse_args()
    started = time.perf_counter()
    undetected, tried = mutate(options.mutations, options.seed)
    for name, count in sorted(tried.items()):
        print(f"{count:6} {name}, {undetected.get(name, 0)} undetected")
    seconds = time.perf_counter() - started
    print(f"{sum(tried.values())} mutations in {seconds:.1f} s")
    different = recover([*DAMAGES, *RESEALED][: options.recoveries], options.seed)
    publish(
        "damaged, forged and foreign snapshots",
        {
            "mutations": sum(tried.values()),
            "undetected": sum(undetected.values()),
            "recoveries": len(different),
            "different_rows": sum(different.values()),
            "seconds": time.perf_counter() - started,
        },
    )


def mutate(mutations: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Damage sealed models in every way in turn; return the undetected and all, by kind."""
    chance = random.Random(seed)
    sealed = list(sealed_models())
    ways = list(_ways())
    undetected: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for number in range(mutations):
        name, way = ways[number % len(ways)]
        model = sealed[number // len(ways) % len(sealed)]
        damaged = way(model, sealed, chance)
        tried[name] += 1
        try:
            unseal(damaged, model.expected, KEY)
        except SnapshotRefusedError:
            continue
        undetected[name] += 1
    return undetected, tried


def sealed_models() -> Iterator[Opened]:
    """Yield the three components of two people after a day."""
    catalogue = load_catalogue("default")
    day = WindowRange.between(DEFAULT_START, DEFAULT_START + timedelta(days=1))
    frame = simulate(2, ["ann", "bob"], start=DEFAULT_START, days=1).readings
    for name, own in frame.groupby("entity_id", observed=True):
        state = DetectionState.fresh(catalogue)
        values = aggregate(_readings(own, catalogue), day, catalogue).values
        detect(state, WindowBlock(str(name), "UTC", day, values))
        for component, detector in (
            ("tier1_models", state.individual),
            ("gap_patterns", state.gaps),
            ("cross_stream_models", state.cross_stream),
        ):
            made_of = Provenance.of(
                detector,
                entity_id=str(name),
                component=component,
                as_of=day.end,
                catalogue_digest=catalogue.digest,
            )
            yield Opened(seal(detector, made_of, KEY), made_of)


def _readings(own: Any, catalogue: Any) -> Readings:  # noqa: ANN401 - a frame, a catalogue
    return Readings(
        own["stream_id"].astype(str).map(catalogue.index).to_numpy("int64"),
        own["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
        own["value"].to_numpy(),
    )


def _ways() -> Iterator[tuple[str, Callable[[Opened, list[Opened], random.Random], Snapshot]]]:
    """Yield every kind of damage."""
    yield "one flipped bit", lambda one, _, chance: _flipped(one, chance, 1)
    yield "several flipped bits", lambda one, _, chance: _flipped(one, chance, 7)
    yield "truncated", lambda one, _, chance: _cut(one, chance)
    yield "empty", lambda one, *_: replace(one.snapshot, blob=b"")
    yield (
        "bytes appended",
        lambda one, _, chance: replace(
            one.snapshot, blob=one.snapshot.blob + chance.randbytes(1 + chance.randrange(64))
        ),
    )
    yield "another key", lambda one, _, chance: _resealed(one, chance.randbytes(32), {})
    yield "unsigned", lambda one, *_: replace(one.snapshot, signature="")
    yield "flipped signature", lambda one, _, chance: _bad_text(one, chance, "signature")
    yield "flipped digest", lambda one, _, chance: _bad_text(one, chance, "sha256")
    yield "forged digest", _forged
    yield "edited provenance", lambda one, _, chance: _edited(one, chance)
    yield "another entity's", lambda one, every, _: _another(one, every, "entity_id")
    yield "another component's", lambda one, every, _: _another(one, every, "component")
    for name, value in (
        ("river_version", "0.25.0"),
        ("numpy_version", "1.26.4"),
        ("format_version", 2),
        ("code_version", "999.0.0"),
        ("detector", "IndividualDetector/1"),
        ("catalogue_digest", "0" * 64),
    ):
        yield f"another {name}, rightly signed", _with_field(name, value)
    yield "foreign pickle, rightly signed", lambda one, _, chance: _foreign(one, chance)


def _flipped(one: Opened, chance: random.Random, bits: int) -> Snapshot:
    blob = bytearray(one.snapshot.blob)
    for place in chance.sample(range(len(blob) * 8), bits):
        blob[place // 8] ^= 1 << place % 8
    return replace(one.snapshot, blob=bytes(blob))


def _cut(one: Opened, chance: random.Random) -> Snapshot:
    blob = one.snapshot.blob
    return replace(one.snapshot, blob=blob[: chance.randrange(len(blob))])


def _bad_text(one: Opened, chance: random.Random, field: str) -> Snapshot:
    fields = vars(one.snapshot)
    text = bytearray(fields[field].encode())
    text[chance.randrange(len(text))] ^= 1 << chance.randrange(7)
    return Snapshot(**{**fields, field: text.decode()})


def _forged(one: Opened, _: list[Opened], chance: random.Random) -> Snapshot:
    """Return a changed model with the right digest, under the old signature."""
    changed = _flipped(one, chance, 1)
    return replace(changed, sha256=hashlib.sha256(changed.blob).hexdigest())


def _edited(one: Opened, chance: random.Random) -> Snapshot:
    fields = asdict(one.snapshot.provenance)
    name = chance.choice(sorted(fields))
    fields[name] = fields[name] + 1 if isinstance(fields[name], int) else f"{fields[name]}!"
    return replace(one.snapshot, provenance=Provenance(**fields))


def _another(one: Opened, every: list[Opened], field: str) -> Snapshot:
    mine = getattr(one.expected, field)
    return next(o.snapshot for o in every if getattr(o.expected, field) != mine)


def _resealed(one: Opened, key: bytes, fields: dict[str, Any]) -> Snapshot:
    detector = unseal(one.snapshot, one.expected, KEY)
    made_of = Provenance(**{**asdict(one.snapshot.provenance), **fields})
    return seal(detector, made_of, key)


def _with_field(
    name: str, value: str | int
) -> Callable[[Opened, list[Opened], random.Random], Snapshot]:
    return lambda one, *_: _resealed(one, KEY, {name: value})


class _Foreign:
    version = 1

    def __init__(self, call: Any, *arguments: Any) -> None:  # noqa: ANN401 - whatever can be called
        self._call = call, arguments

    def __reduce__(self) -> Any:  # noqa: ANN401 - as pickle has it
        return self._call


def _foreign(one: Opened, chance: random.Random) -> Snapshot:
    harmful = [
        _Foreign(os.system, "true"),
        _Foreign(eval, "1"),
        _Foreign(getattr, "text", "upper"),
        _Foreign(pickle.loads, b"N."),
        _Foreign(open, os.devnull),
    ]
    return seal(chance.choice(harmful), one.snapshot.provenance, KEY)


def recover(damages: list[str], seed: int) -> dict[str, int]:
    """Damage a database half way in each way; return how many rows end up different."""
    chance = random.Random(seed)
    # Every refusal is a warning, and there are hundreds of them.
    logging.getLogger("anomaly_assets").setLevel(logging.ERROR)
    first = WindowRange(WINDOWS.start, WINDOWS.start + HALF * WINDOW_SECONDS)
    second = WindowRange(first.end, WINDOWS.end)
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            url = server.start()
            frame = simulate(1, ["ann", "bob"], start=DEFAULT_START, days=3).readings
            frame = frame[frame["timestamp"] < WINDOWS.end_time]
            expected = rows_of(deployed(url, folder, "undisturbed", frame), [WINDOWS])
            half = deployed(url, folder, "half", frame)
            rows_of(half, [first])
            different = {}
            for number, name in enumerate(damages):
                copy = _copied(url, half, f"corruption_{number}")
                damage(copy, name, chance.randrange(1, 100_000))
                different[name] = len(expected ^ rows_of(copy, [second]))
                print(f"{name}: {different[name]} rows differ after recovery")
        finally:
            server.stop()
    return different


def _copied(url: str, deployment: Deployment, name: str) -> Deployment:
    """Return a deployment with a copy of another one's database, and its key."""
    with Database(url).connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(deployment.database.name)
            )
        )
    return Deployment(deployment.settings, Database(ensure_database(url, name)))


def damage(deployment: Deployment, name: str, at: int) -> None:
    """Damage the newest snapshots of everybody."""
    newest = "(SELECT max(as_of) FROM model_snapshots)"
    with deployment.database.connect() as connection:
        if name in RESEALED:
            changed = _reseal(deployment, connection, RESEALED[name])
        elif "o." in (change := DAMAGES[name]):
            changed = connection.execute(
                f"UPDATE model_snapshots AS m SET {change} FROM model_snapshots AS o "  # noqa: S608 - ours
                "WHERE o.component = m.component AND o.as_of = m.as_of "
                f"AND o.entity_id <> m.entity_id AND m.as_of = {newest}",
                {"at": at},
            ).rowcount
        else:
            changed = connection.execute(
                f"UPDATE model_snapshots SET {change} WHERE as_of = {newest}",  # noqa: S608 - ours
                {"at": at},
            ).rowcount
    if changed < 2 * len(COMPONENTS):
        msg = f"{name}: only {changed} snapshots were damaged"
        raise SystemExit(msg)


def _reseal(deployment: Deployment, connection: Connection, fields: dict[str, Any]) -> int:
    """Seal all snapshots as if they had been made by something else."""
    catalogue = load_catalogue("default")
    changed = 0
    for one in read_versions(connection):
        tier = tier_of(one.component, deployment.settings)
        store = SnapshotStore(one.component, tier.build, deployment.key)
        detector = store.open(connection, catalogue, one.version).detector
        made_of = Provenance.of(
            detector,
            entity_id=one.entity_id,
            component=one.component,
            as_of=int(one.as_of.timestamp()),
            catalogue_digest=catalogue.digest,
        )
        made_of = Provenance(**{**asdict(made_of), **fields})
        sealed = seal(detector, made_of, deployment.key)
        changed += connection.execute(
            "UPDATE model_snapshots SET river_version = %s, code_version = %s, detector = %s, "
            "sha256 = %s, signature = %s, blob = %s WHERE version = %s",
            (
                made_of.river_version,
                made_of.code_version,
                made_of.detector,
                sealed.sha256,
                sealed.signature,
                sealed.blob,
                one.version,
            ),
        ).rowcount
    return changed


def deployed(url: str, folder: str, name: str, frame: Any) -> Deployment:  # noqa: ANN401 - a frame
    """Return a deployment with the readings of two people."""
    database = Database(ensure_database(url, f"corruption_{name}"))
    upgrade(database)
    catalogue = load_catalogue("default")
    with database.connect() as connection:
        for entity_id, own in frame.groupby("entity_id", observed=True):
            ensure_entity(connection, str(entity_id))
            append_readings(
                connection,
                str(entity_id),
                _readings(own, catalogue),
                catalogue,
                source="benchmark",
                late_horizon=timedelta(hours=24),
            )
    home = Path(folder) / name
    return Deployment(Settings(_env_file=None, home=home, database_url=database.url), database)


if __name__ == "__main__":
    main()
