"""The record that an explanation leaves: what is stored, sent, and shown to people."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from zoneinfo import ZoneInfo

from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.detection.explanation.wording import off_by
from anomaly_assets.errors import InputError

#: Namespace of anomaly identifiers; never change it, or stored identifiers no longer match.
ANOMALY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "anomaly-assets/anomaly")
#: Name under which causes that nobody thought of share the probability.
OTHER = "other"
#: Shares and roots that the text tells; the record holds all.
_TOLD = 6
_ROOTS_TOLD = 3
_Part = TypeVar("_Part", "ClockEvidence", "NetworkEvidence")
#: Fields that are moments: seconds since the epoch here, ISO 8601 where they are stored or sent.
_TIMES = ("window_start", "episode_start", "episode_end")


def anomaly_id(entity_id: str, window_start: int) -> str:
    """Return the identifier of the anomaly in one window of one entity.

    Parameters
    ----------
    entity_id
        Whose window it is.
    window_start
        Start of the window, seconds since the epoch.

    Returns
    -------
    str
        A version 5 UUID: the same window always has the same identifier, so that explaining it
        again replaces the record instead of adding one.

    Examples
    --------
    >>> anomaly_id("ada", 1_767_600_000) == anomaly_id("ada", 1_767_600_000)
    True
    """
    return str(uuid.uuid5(ANOMALY_NAMESPACE, f"{entity_id}/{window_start}"))


@dataclass(frozen=True, slots=True)
class StreamEvidence:
    """What one stream did in the window; None where unknown.

    Parameters
    ----------
    stream, name, unit
        Identifier, name for people, unit of the values.
    actual, expected
        Value of the window and tier 1's forecast of it.
    deviation
        Signed distance between them, in tier 1's scales.
    score
        Tier-1 score in [0, 1].
    """

    stream: str
    name: str
    unit: str
    actual: float | None
    expected: float | None
    deviation: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event of the minutes before the anomaly.

    Parameters
    ----------
    at
        Start of the minute, seconds since the epoch.
    local_time
        The same as ``HH:MM`` on the entity's clock.
    event
        Event name, as templates use it.
    stream
        Identifier of the stream.
    text
        What happened, such as ``accelerometer activity increased``.
    """

    at: int
    local_time: str
    event: str
    stream: str
    text: str

    @property
    def line(self) -> str:
        """The entry as one line of text."""
        return f"{self.local_time} - {self.text}"


@dataclass(frozen=True, slots=True)
class MatchedSequence:
    """The known course of events that agrees best with what was observed.

    Parameters
    ----------
    template, title
        Its name and its title in the catalogue.
    similarity
        Agreement with what could be observed of it, in [0, 1].
    coverage
        Share of it that could be observed, in [0, 1].
    matched_events, unobserved_events, forbidden_events
        Event names that were found, could not be seen, or speak against it.
    """

    template: str
    title: str
    similarity: float
    coverage: float
    matched_events: tuple[str, ...]
    unobserved_events: tuple[str, ...]
    forbidden_events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which streams the anomaly is made of.

    Parameters
    ----------
    contributions
        Share of each contributing stream, > 0, largest first.
    unexplained
        Share that belongs to none of them, at least 0.
    offsetting
        What pushed the other way, as a positive share: contributions plus `unexplained` minus
        `offsetting` make 1.
    target
        The stream whose deviation is shared out; None where it is the anomaly as a whole.
    method
        ``causal network``, or ``scores`` where there is none to go by.
    """

    contributions: dict[str, float]
    unexplained: float
    offsetting: float = 0.0
    target: str | None = None
    method: str = "scores"


@dataclass(frozen=True, slots=True)
class NetworkEvidence:
    """What the causal network says.

    Parameters
    ----------
    fitted_at
        End of the span it was fitted on, seconds since the epoch.
    age_minutes
        From there to the window explained.
    fit_quality
        Mean share of variance that causes explain, in [0, 1]; None where no stream has causes.
    roots
        Streams in which the anomaly may have begun, with their probabilities, the largest first.
    other
        Probability that it began elsewhere; with the roots it sums to 1.
    path
        From the most probable root to the stream explained.
    """

    fitted_at: int
    age_minutes: float
    fit_quality: float | None
    roots: dict[str, float]
    other: float
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RelatedStreams:
    """A stream that leads another, or moves with it (``kind`` is ``leads`` or ``concurrent``).

    The correlation, in [-1, 1], is that of what neither stream's own past foretold, at that lag.
    """

    leader: str
    follower: str
    lag_minutes: int
    correlation: float
    kind: str

    @property
    def line(self) -> str:
        """The finding as one line of text."""
        if self.kind == "concurrent":
            return f"{self.leader} and {self.follower} move together ({self.correlation:+.2f})"
        when = f"by {self.lag_minutes} minutes ({self.correlation:+.2f})"
        return f"{self.leader} leads {self.follower} {when}"


@dataclass(frozen=True, slots=True)
class ClockEvidence:
    """A clock that is wrong.

    Parameters
    ----------
    groups
        Identifiers of the stream groups whose readings bear its times.
    seconds_ahead
        How far it is ahead; below 0: behind.
    since
        When the first such reading came, seconds since the epoch; None: before what was looked at.
    refused
        Readings refused for their time since then.
    """

    groups: tuple[str, ...]
    seconds_ahead: float
    since: int | None
    refused: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the explanation rests on."""

    matched_sequence: MatchedSequence | None
    streams: tuple[StreamEvidence, ...]
    context: str
    network: NetworkEvidence | None = None
    related: tuple[RelatedStreams, ...] = ()
    clock: ClockEvidence | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another possible cause, its probability in [0, 1], and the streams it is about."""

    cause: str
    title: str
    probability: float
    streams: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Why an episode is anomalous, seen at its most telling window.

    Parameters
    ----------
    anomaly_id
        See :func:`anomaly_id`; that of the episode's first window, so that it stays the same while
        the episode develops.
    entity_id, time_zone
        Whose window it is, and on which clock times are shown.
    window_start
        Start of the window explained, seconds since the epoch.
    episode_start, episode_end
        Start of the episode's first and end of its last anomalous window, seconds since the epoch.
    windows, peak_score
        Its anomalous windows, and the highest final score among them; None where none is known.
    ongoing
        Whether the next window can still belong to it.
    mode
        ``fast`` or ``thorough``.
    trigger
        Why the window was explained.
    score, score_confidence
        Final score and its confidence; None where unknown.
    summary
        One sentence.
    primary_cause
        The most probable cause, in words.
    cause_kind
        Its kind (a ``CauseKind``).
    cause_streams
        Identifiers of the streams it is about.
    confidence
        How far the primary cause is to be believed, in [0, 1].
    causal_attribution
        Contributions of the streams.
    temporal_sequence
        What happened when, by minute.
    evidence
        What it rests on.
    primary_probability
        Probability of the primary cause; with those of the alternatives it sums to 1.
    alternative_explanations
        The other causes, most probable first, :data:`OTHER` last.
    recommended_action
        What to do now; never empty.
    missing_streams
        Identifiers of the streams without a value in this window, in catalogue order.
    methods_used, degraded
        What was consulted, and what was not there to be consulted.
    """

    anomaly_id: str
    entity_id: str
    time_zone: str
    window_start: int
    episode_start: int
    episode_end: int
    windows: int
    peak_score: float | None
    ongoing: bool
    mode: str
    trigger: Trigger
    score: float | None
    score_confidence: float | None
    summary: str
    primary_cause: str
    cause_kind: str
    cause_streams: tuple[str, ...]
    confidence: float
    causal_attribution: Attribution
    temporal_sequence: tuple[TimelineEntry, ...]
    evidence: Evidence
    primary_probability: float
    alternative_explanations: tuple[Alternative, ...]
    recommended_action: str
    missing_streams: tuple[str, ...]
    methods_used: tuple[str, ...]
    degraded: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-safe builtins: no NaN, no tuples, no enumerations.

        ``window_start``, ``episode_start`` and ``episode_end`` are ISO 8601 times in UTC,
        ``temporal_sequence`` carries the ready line of every entry.
        """
        plain: dict[str, Any] = _builtins(asdict(self))
        for name in _TIMES:
            plain[name] = datetime.fromtimestamp(plain[name], tz=UTC).isoformat()
        for entry, line in zip(plain["temporal_sequence"], self.temporal_sequence, strict=True):
            entry["line"] = line.line
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            If a field is absent or has an unusable value.
        """
        try:
            fields = dict(plain)
            for name in _TIMES:
                fields[name] = int(datetime.fromisoformat(plain[name]).timestamp())
            fields["trigger"] = Trigger(plain["trigger"])
            fields["causal_attribution"] = Attribution(**plain["causal_attribution"])
            fields["temporal_sequence"] = tuple(
                TimelineEntry(**{key: value for key, value in entry.items() if key != "line"})
                for entry in plain["temporal_sequence"]
            )
            evidence = plain["evidence"]
            matched = evidence["matched_sequence"]
            fields["evidence"] = Evidence(
                matched_sequence=None
                if matched is None
                else MatchedSequence(**{key: _tupled(value) for key, value in matched.items()}),
                streams=tuple(StreamEvidence(**stream) for stream in evidence["streams"]),
                context=evidence["context"],
                network=_part(NetworkEvidence, evidence.get("network")),
                related=tuple(RelatedStreams(**one) for one in evidence.get("related", ())),
                clock=_part(ClockEvidence, evidence.get("clock")),
            )
            fields["alternative_explanations"] = tuple(
                Alternative(**{key: _tupled(value) for key, value in alternative.items()})
                for alternative in plain["alternative_explanations"]
            )
            for name in ("cause_streams", "missing_streams", "methods_used", "degraded"):
                fields[name] = tuple(plain[name])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"not an explanation record: {error!r}; give what Explanation.to_dict returned"
            raise InputError(msg) from error

    def as_text(self) -> str:
        """Return the explanation as a few lines for a terminal."""
        start = datetime.fromtimestamp(self.window_start, tz=ZoneInfo(self.time_zone))
        score = "unknown" if self.score is None else f"{self.score:.2f}"
        why = f"explained because of {self.trigger.value.replace('_', ' ')}"
        lines = [
            f"{self.entity_id}, {start:%Y-%m-%d %H:%M} ({self.time_zone}): score {score}, {why}",
            *self._episode_line(),
            self.summary,
            "",
            f"Cause:       {self.primary_cause} (confidence {_percent(self.confidence)})",
            f"Do:          {self.recommended_action}",
        ]
        others = ", ".join(
            f"{other.title} {_percent(other.probability)}"
            for other in self.alternative_explanations
        )
        lines.append(f"Otherwise:   {others}")
        contributions = list(self.causal_attribution.contributions.items())
        shares = [f"{stream} {_percent(share)}" for stream, share in contributions[:_TOLD]]
        if rest := contributions[_TOLD:]:
            shares.append(f"{len(rest)} more {_percent(sum(share for _, share in rest))}")
        shares.append(f"unexplained {_percent(self.causal_attribution.unexplained)}")
        if self.causal_attribution.offsetting > 0.0:
            shares.append(f"offset by {_percent(self.causal_attribution.offsetting)}")
        whose = self.causal_attribution.target
        lines.append(f"Shares:      {', '.join(shares)}{f' (of {whose})' if whose else ''}")
        lines += self._clock_lines()
        lines += self._network_lines()
        if self.temporal_sequence:
            lines += ["", "What happened:", *(f"  {e.line}" for e in self.temporal_sequence)]
        if self.evidence.streams:
            lines += ["", "Streams:", *(f"  {_stream_line(s)}" for s in self.evidence.streams)]
        if self.missing_streams:
            lines += ["", f"Missing: {', '.join(self.missing_streams)}"]
        if self.degraded:
            lines += ["", f"Not available: {'; '.join(self.degraded)}"]
        return "\n".join(lines)

    def _clock_lines(self) -> list[str]:
        """Tell which clock is wrong, where one is."""
        clock = self.evidence.clock
        if clock is None:
            return []
        line = f"Clock:       {', '.join(clock.groups)} {off_by(clock.seconds_ahead)}"
        if clock.since is not None:
            since = datetime.fromtimestamp(clock.since, tz=ZoneInfo(self.time_zone))
            line += f" since {since:%H:%M}"
        return [f"{line}, {clock.refused} readings refused" if clock.refused else line]

    def _network_lines(self) -> list[str]:
        """Tell where the network sees it begin and what leads what, where that is known."""
        network, lines = self.evidence.network, []
        if network is not None:
            told = list(network.roots.items())[:_ROOTS_TOLD]
            roots = [f"{stream} {_percent(p)}" for stream, p in told]
            roots.append(f"elsewhere {_percent(1.0 - sum(p for _, p in told))}")
            age = f"network {network.age_minutes:.0f} minutes old"
            lines.append(f"Began in:    {', '.join(roots)} ({age})")
            if len(network.path) > 1:
                lines.append(f"Path:        {' -> '.join(network.path)}")
        if self.evidence.related:
            lines.append(f"Related:     {'; '.join(one.line for one in self.evidence.related)}")
        return lines

    def _episode_line(self) -> list[str]:
        """Tell the extent of the episode, where it is more than the window explained."""
        if self.windows == 1 and not self.ongoing:
            return []
        zone = ZoneInfo(self.time_zone)
        start = datetime.fromtimestamp(self.episode_start, tz=zone)
        end = datetime.fromtimestamp(self.episode_end, tz=zone)
        until = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%Y-%m-%d %H:%M}"
        peak = "unknown" if self.peak_score is None else f"{self.peak_score:.2f}"
        count = f"{self.windows} anomalous window{'' if self.windows == 1 else 's'}"
        going = ", still going on" if self.ongoing else ""
        return [f"Episode {start:%Y-%m-%d %H:%M} to {until}{going}: {count}, highest score {peak}"]


def _part(kind: type[_Part], plain: Mapping[str, Any] | None) -> _Part | None:
    if plain is None:
        return None
    return kind(**{key: _tupled(value) for key, value in plain.items()})


def _builtins(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _builtins(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_builtins(item) for item in value]
    if isinstance(value, Trigger):
        return value.value
    return value


def _tupled(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return tuple(value) if isinstance(value, list) else value


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _stream_line(stream: StreamEvidence) -> str:
    unit = f" {stream.unit}" if stream.unit else ""
    actual = "missing" if stream.actual is None else f"{stream.actual:.4g}{unit}"
    expected = "" if stream.expected is None else f", expected {stream.expected:.4g}{unit}"
    deviation = "" if stream.deviation is None else f" ({stream.deviation:+.1f} scales)"
    return f"{stream.name}: {actual}{expected}{deviation}"
