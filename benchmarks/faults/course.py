"""The rounds: something is killed while readings come, and all is well again before the next."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from anomaly_assets.streams.windows import WindowRange, window_of
from benchmarks.faults.outcome import compare, missing, process_all, undisturbed
from benchmarks.faults.senders import (
    ROUND_SECONDS,
    HttpSender,
    MqttSender,
    RedisSender,
    readings_of,
    simulated,
)
from benchmarks.faults.topology import NotInTimeError, Topology, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from benchmarks.faults.senders import Reading, Sender

#: ``pipeline`` is the process of the API too, killed the moment it closes a window.
KINDS = ("api", "pipeline", "database", "redis", "daemon")
#: The same process, which a double kill would meet only once.
_SAME = {"pipeline": "api"}
_KEY = "%Y-%m-%d-%H:%M"
_FIVE_MINUTES = timedelta(minutes=5)
#: The newest windows are left alone: the clock goes on while they would be processed.
_BEHIND = timedelta(minutes=15)
#: Shares of rounds with a second kill, and with a pause before anything is started again.
_DOUBLE = 0.2
_PAUSED = 0.5
#: Every so many rounds Dagster may finish a run, within a time.
_ROUNDS_UNDISTURBED_RUN = 4
_RUN_SECONDS = 75.0
_LONGEST_PAUSE = 3.0
_WINDOW_SECONDS = 5.0
_DRAIN_SECONDS = 240.0
_UNFINISHED = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
_STREAM = "anomaly_assets:readings"
#: What the live path counts of the windows that it holds against what is stored.
_COMPARED = ("differences", "outdated", "verified")


@dataclass(frozen=True)
class Plan:
    """What is done.

    Parameters
    ----------
    rounds
        Number of rounds, each with a kill or two.
    seed
        Of everything random here; what the machine makes of it differs from run to run.
    hours
        Span of the readings, which ends a little before now and is sent within the rounds.
    people
        Number of entities.
    kinds
        What is killed, in random order, each as often as the others. Without ``daemon`` Dagster
        does not run, and all windows are processed at the end.
    settle_seconds
        How long Dagster may take at the end.
    """

    rounds: int = 50
    seed: int = 1
    hours: float = 8.0
    people: int = 2
    kinds: Sequence[str] = KINDS
    settle_seconds: float = 900.0


class Differences(threading.Thread):
    """Watches the API's own count of windows said otherwise than stored; it forgets at a kill."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(daemon=True)
        self._topology = topology
        self._ending = threading.Event()
        self._most: Counter[tuple[int, str]] = Counter()

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Look twice a second."""
        while not self._ending.wait(0.5):
            self.look()

    def look(self) -> None:
        """Look once."""
        start = self._topology.api.starts
        found = self._topology.metrics()
        if start != self._topology.api.starts:
            return
        for name in _COMPARED:
            value = int(found.get(f"anomaly_assets_pipeline_{name}_total", 0))
            self._most[start, name] = max(self._most[start, name], value)

    def totals(self) -> dict[str, int]:
        """Return the sums over all the processes."""
        return {
            f"live_{name}": sum(count for (_, of), count in self._most.items() if of == name)
            for name in _COMPARED
        }


@dataclass
class Course:
    """One run of a plan over a topology."""

    plan: Plan
    topology: Topology
    start: datetime
    end: datetime
    senders: Sequence[Sender]
    kills: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    down: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.known_until = self.start
        self._random = random.Random(self.plan.seed)
        self._deck: list[str] = []

    @property
    def windows(self) -> WindowRange:
        """The windows that the readings are of."""
        return WindowRange.between(self.start, self.end)

    @property
    def _with_dagster(self) -> bool:
        return "daemon" in self.plan.kinds

    @property
    def acknowledged(self) -> list[Reading]:
        """What was acknowledged by now."""
        return [one for sender in self.senders for one in sender.acknowledged]

    def run(self) -> None:
        """Let all the rounds pass."""
        for sender in self.senders:
            sender.start()
        for number in range(self.plan.rounds):
            for sender in self.senders:
                sender.release(number + 1)
            victims = self._victims()
            print(f"round {number + 1} of {self.plan.rounds}: {' and '.join(victims)}", flush=True)
            for victim in victims:
                self._wait_for_the_moment(victim)
                self._kill(victim)
            if self._random.random() < _PAUSED:
                time.sleep(self._random.uniform(0, _LONGEST_PAUSE))
            self._start_again(number)
            self._wait("all that was killed answers again", self.topology.all_answer)
            self._wait_for_senders(number + 1)
            if (
                self._with_dagster
                and number % _ROUNDS_UNDISTURBED_RUN == _ROUNDS_UNDISTURBED_RUN - 1
            ):
                self._let_a_run_end()

    def _let_a_run_end(self) -> None:
        """Give Dagster the time to finish something, or there would be nothing to be replayed."""
        before = self.succeeded()
        with suppress(NotInTimeError):
            self._wait(
                "a run of Dagster's has ended well",
                lambda: self.succeeded() > before or self._done(),
                seconds=_RUN_SECONDS,
            )

    def _wait_for_senders(self, rounds: int) -> None:
        self._wait(
            f"the readings of round {rounds} are acknowledged",
            lambda: all(sender.done >= rounds for sender in self.senders),
            seconds=300,
        )

    def _victims(self) -> list[str]:
        victims = [self._draw()]
        if self._random.random() < _DOUBLE:
            second = self._draw()
            if _SAME.get(second, second) != _SAME.get(victims[0], victims[0]):
                victims.append(second)
        return victims

    def _draw(self) -> str:
        if not self._deck:
            self._deck = list(self.plan.kinds)
            if self.topology.redis is None:
                self._deck.remove("redis")
            self._random.shuffle(self._deck)
        return self._deck.pop()

    def _wait_for_the_moment(self, victim: str) -> None:
        if victim != "pipeline":
            time.sleep(self._random.uniform(0, ROUND_SECONDS))
            return
        name = "anomaly_assets_pipeline_windows_total"
        before = self.topology.metrics().get(name)
        with suppress(NotInTimeError):
            wait_until(
                lambda: self.topology.metrics().get(name) != before,
                "a window is closed",
                seconds=_WINDOW_SECONDS,
            )
        time.sleep(self._random.uniform(0, 0.2))

    def _kill(self, victim: str) -> None:
        self.kills[victim] += 1
        name = _SAME.get(victim, victim)
        self.down.add(name)
        if name == "database":
            self.topology.postgres.kill()
        elif name == "redis" and self.topology.redis is not None:
            self.topology.redis.kill()
        else:
            getattr(self.topology, name).kill()

    def _start_again(self, number: int) -> None:
        """Start what was killed; what others cannot start without comes first."""
        down, self.down = self.down, set()
        if "database" in down:
            self.topology.postgres.start()
        if "redis" in down and self.topology.redis is not None:
            self.topology.redis.start()
        if "api" in down:
            self.topology.start_api()
        if "daemon" in down:
            self._start_daemon((number + 1) / self.plan.rounds)

    def start_all(self) -> None:
        """Start API and daemon for the first time."""
        self.topology.start_api()
        self._wait("the API and its sources answer", self.topology.all_answer)
        if self._with_dagster:
            self._start_daemon(1 / self.plan.rounds)

    def _start_daemon(self, share: float) -> None:
        """Have Dagster know as many windows as readings of are under way by now.

        So they are processed in many ranges one after the other, as time goes by, and not all at
        once when the first reading has come.
        """
        until = window_of(self.start + share * (self.end - self.start))
        self.known_until = max(until, self.start + _FIVE_MINUTES)
        self.topology.start_daemon(self.known_until.isoformat())

    def _wait(self, what: str, condition: Callable[[], bool], *, seconds: float = 120.0) -> None:
        def holds() -> bool:
            self._look_after()
            return condition()

        try:
            wait_until(holds, what, seconds=seconds)
        except NotInTimeError as error:
            msg = f"{error}{self.topology.logs()}"
            raise NotInTimeError(msg) from error

    def _look_after(self) -> None:
        """Start again what ended by itself, as a service manager would, and count it."""
        for sender in self.senders:
            if sender.failure is not None:
                msg = f"a sender failed: {sender.failure}"
                raise RuntimeError(msg) from sender.failure
        for name in ("api", "daemon"):
            command = getattr(self.topology, name)
            if command.ended:
                self.ended[name] += 1
                print(f"{name} has ended by itself:\n{command.log()[-1500:]}", flush=True)
                command.kill()
                self.down.add(name)
                done = min(sender.done for sender in self.senders)
                self._start_again(min(done, self.plan.rounds - 1))

    def settle(self) -> bool:
        """Wait until everything is stored and processed; whether Dagster did that by itself.

        In a run without Dagster the windows are processed here, all at once.
        """
        with suppress(NotInTimeError):
            self._wait(
                "all acknowledged readings are in the journal",
                lambda: not missing(self.topology.database, self.acknowledged),
                seconds=_DRAIN_SECONDS,
            )
        if not self._with_dagster:
            process_all(self.topology.database, self.topology.folder / "home", self.windows)
            return False
        self.topology.daemon.kill()
        self._start_daemon(1.0)
        try:
            self._wait(
                "Dagster has processed all windows", self._done, seconds=self.plan.settle_seconds
            )
        except NotInTimeError as error:
            print(error)
            print(self._unfinished())
            self.topology.daemon.kill()
            process_all(self.topology.database, self.topology.folder / "home", self.windows)
            return False
        return True

    def _done(self) -> bool:
        """Whether Dagster has nothing left to do of what it knows."""
        late, unfinished, recorded = self._unfinished()
        last = (self.known_until - _FIVE_MINUTES).strftime(_KEY)
        return not late and not unfinished and recorded == last

    def _unfinished(self) -> tuple[int, list[tuple[Any, ...]], str | None]:
        """Return late windows, unfinished runs, and the last window Dagster has recorded."""
        with self.topology.database.connect() as connection:
            (late,) = connection.execute("SELECT count(*) FROM late_windows").fetchone() or (0,)
        with self._dagster() as connection:
            runs = connection.execute(
                "SELECT run_id, pipeline_name, status, update_timestamp FROM runs "
                "WHERE status = ANY(%s)",
                (list(_UNFINISHED),),
            ).fetchall()
            row = connection.execute(
                "SELECT partition FROM event_logs WHERE asset_key = '[\"explanations\"]' AND "
                "dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id DESC LIMIT 1"
            ).fetchone()
        return int(late), runs, None if row is None else row[0]

    def succeeded(self) -> int:
        """Return how many of Dagster's runs over windows have ended well."""
        return self._runs().get("SUCCESS", 0)

    def _runs(self) -> dict[str, int]:
        if not self._with_dagster:
            return {}
        with self._dagster() as connection:
            return dict(
                connection.execute(
                    "SELECT status, count(*) FROM runs WHERE pipeline_name = 'process_windows' "
                    "GROUP BY 1"
                ).fetchall()
            )

    def _dagster(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self.topology.environment["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")
        )

    def figures(self) -> dict[str, Any]:
        """Return what was done, and how Dagster's runs over windows ended."""
        return {
            "kills": dict(self.kills),
            "ended_by_themselves": dict(self.ended),
            "dagster_runs": self._runs(),
            "sent_again": sum(sender.repeated for sender in self.senders),
            "attempts_failed": sum(sender.attempts_failed for sender in self.senders),
            "redis": self.topology.redis is not None,
            "mqtt": self.topology.broker is not None,
        }


def carry_out(plan: Plan) -> dict[str, Any]:
    """Run a plan from beginning to end, and return its figures."""
    started = time.monotonic()
    end = window_of(datetime.now(tz=UTC) - _BEHIND)
    start = window_of(end - timedelta(hours=plan.hours))
    settings = {
        "ANOMALY_ASSETS_WINDOW_START": start.isoformat(),
        # The readings are of the past, so that nothing is to be waited for.
        "ANOMALY_ASSETS_ALLOWED_LATENESS": "PT0S",
        "ANOMALY_ASSETS_REDIS_STREAM": _STREAM,
    }
    people = [f"person-{number + 1}" for number in range(plan.people)]
    frame = simulated(people, start, end, plan.seed)
    with Topology(settings) as topology:
        senders = _senders(plan, topology, readings_of(frame))
        course = Course(plan, topology, start, end, senders)
        try:
            with Differences(topology) as differences:
                course.start_all()
                course.run()
                by_itself = course.settle()
                differences.look()
        finally:
            for sender in senders:
                sender.stop()
        topology.api.kill()
        topology.daemon.kill()
        other = undisturbed(topology, frame, course.windows)
        outcome = compare(topology.database, other, course.acknowledged)
        return {
            "rounds": plan.rounds,
            "acknowledged": len(course.acknowledged),
            "lost": outcome.lost,
            "duplicated": outcome.duplicated,
            "different_rows": sum(outcome.different_rows.values()),
            "different_by_table": outcome.different_rows,
            "compared_rows": outcome.rows,
            "settled_by_itself": by_itself,
            **differences.totals(),
            **course.figures(),
            "seed": plan.seed,
            "seconds": round(time.monotonic() - started, 1),
        }


def _senders(plan: Plan, topology: Topology, readings: Sequence[Reading]) -> list[Sender]:
    """Spread streams over the ways in, and readings over the rounds by their time."""
    ways = ["http"]
    if topology.broker is not None:
        ways.append("mqtt")
    if topology.redis is not None:
        ways.append("redis")
    streams = sorted({(one.entity_id, one.stream_id) for one in readings})
    way_of = {key: ways[number % len(ways)] for number, key in enumerate(streams)}
    share = len(readings) / plan.rounds
    parts: dict[str, list[list[Reading]]] = {way: [[] for _ in range(plan.rounds)] for way in ways}
    for number, one in enumerate(readings):
        parts[way_of[one.entity_id, one.stream_id]][int(number / share)].append(one)
    senders: list[Sender] = [HttpSender(parts["http"], plan.seed, topology)]
    if topology.broker is not None:
        senders.append(MqttSender(parts["mqtt"], plan.seed + 1, topology.broker.port))
    if topology.redis is not None:
        port = topology.redis.port
        senders.append(RedisSender(parts["redis"], plan.seed + 2, port, _STREAM))
    return senders
