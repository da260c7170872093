"""MQTT, the sensors' own protocol: a message under ``entity/stream`` holds readings of it.

Messages come with QoS 1 in a session that outlives the connection, and are acknowledged one by one
after they are durable, on the connection that they came on. Whatever was not acknowledged the
broker sends again after the next connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from anomaly_assets.errors import SettingsError
from anomaly_assets.live.sources.messages import spread, topic_rows
from anomaly_assets.live.sources.source import (
    Backoff,
    Batch,
    Settled,
    leave_if_cancelled,
    settled_through,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anomaly_assets.live.readings import Row
    from anomaly_assets.settings import Settings

logger = logging.getLogger(__name__)

_AT_LEAST_ONCE: Final = 1
_LARGEST_MESSAGE: Final = 1 << 20
_KEEPALIVE_SECONDS: Final = 30
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class MqttOptions:
    """Where the broker is, and how to talk to it.

    Parameters
    ----------
    host, port
        Of the broker.
    username, password
        For the broker, or None.
    prefix
        What every topic begins with, before ``entity/stream``; without slashes at its ends.
    client_id
        Names the session: each process that reads needs one of its own, and keeps it.
    share
        Name of the group that shares the messages out among its sessions, so that each message is
        stored by one of several instances; empty: all of them come here.
    tls
        How to check the broker's certificate; None speaks plainly.
    session_seconds
        How long the broker keeps what was not acknowledged while nobody is connected.
    most_unacknowledged
        Messages in flight at once, at most 65535; they are held in memory.
    stamp_arrivals
        Give a number alone the time of its arrival. Such a message may count twice if its
        acknowledgement is lost, for it comes again at another time.
    gather_seconds
        How long to wait for more messages after the first one of a batch.
    retry_unsettled_seconds
        After which messages that could not be settled are asked for again.
    first_wait, longest_wait
        Seconds between attempts to connect; each is twice the last.
    """

    host: str = "localhost"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = ""
    client_id: str = "anomaly-assets"
    share: str = ""
    tls: ssl.SSLContext | None = None
    session_seconds: int = 7 * 86_400
    most_unacknowledged: int = 1_000
    stamp_arrivals: bool = False
    gather_seconds: float = 0.01
    retry_unsettled_seconds: float = 60.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    @classmethod
    def from_url(cls, url: str, *, ca_file: Path | None = None) -> Self:
        """Read ``mqtt://user:password@host:port/prefix``, or ``mqtts://`` for TLS.

        Parameters
        ----------
        url
            The address; the path is the prefix of the topics.
        ca_file
            Certificates to trust instead of the system's, for TLS.

        Raises
        ------
        SettingsError
            If it is no such address, or the certificates cannot be read.

        Examples
        --------
        >>> options = MqttOptions.from_url("mqtt://ann:secret@broker.example/home")
        >>> options.host, options.port, options.username, options.prefix
        ('broker.example', 1883, 'ann', 'home')
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (KeyError, ValueError) as error:
            msg = "the broker's address is unusable; write mqtt://user:password@host:1883/prefix"
            raise SettingsError(msg) from error
        if not parts.hostname or "#" in url or "+" in parts.path:
            msg = "the broker's address needs a host, and a prefix without '+' and '#'"
            raise SettingsError(msg)
        return cls(
            host=parts.hostname,
            port=port,
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            prefix=unquote(parts.path).strip("/"),
            tls=_trusting(ca_file) if parts.scheme == "mqtts" else None,
        )

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return what the settings say; None for a deployment without a broker.

        Raises
        ------
        SettingsError
            If a certificate cannot be read, or one is set for a broker that is not spoken to by
            TLS.
        """
        if settings.mqtt_url is None:
            return None
        options = cls.from_url(settings.mqtt_url.get_secret_value(), ca_file=settings.mqtt_ca_file)
        certificate, key = settings.mqtt_certificate_file, settings.mqtt_key_file
        if options.tls is None and (certificate or settings.mqtt_ca_file):
            msg = (
                "ANOMALY_ASSETS_MQTT_URL: certificates are for a broker that is spoken to by TLS; "
                "write mqtts://, or leave the certificates out"
            )
            raise SettingsError(msg)
        if options.tls is not None and certificate is not None:
            try:
                options.tls.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                msg = f"cannot read the certificate {certificate} with its key {key}: {error}"
                raise SettingsError(msg) from error
        topic = settings.mqtt_topic.removesuffix("+/+").strip("/")
        prefix = "/".join(part for part in (options.prefix, topic) if part)
        return replace(options, prefix=prefix, client_id=settings.mqtt_client_id)

    def of_shard(self, shard: int, shards: int) -> Self:
        """Return what the instance that scores a shard uses; it has the shard's own session.

        Whoever takes the shard over goes on with what its session has not acknowledged.
        """
        if shards == 1:
            return self
        own = self.client_id if shard == 0 else f"{self.client_id}-{shard}"
        return replace(self, client_id=own, share=self.client_id)

    @property
    def filter(self) -> str:
        """The topics to subscribe to."""
        return f"$share/{self._group}/{self._topics}" if self.share else self._topics

    @property
    def other_filter(self) -> str:
        """What the same session was subscribed to while there was another count of instances."""
        return self._topics if self.share else f"$share/{self._group}/{self._topics}"

    @property
    def _group(self) -> str:
        # The name of a group is one level without wildcards.
        return re.sub(r"[/+#]", "-", self.share or self.client_id)

    @property
    def _topics(self) -> str:
        return f"{self.prefix}/+/+" if self.prefix else "+/+"


class MqttSource:
    """Readings from a broker.

    Parameters
    ----------
    options
        Where and how.
    name
        Tells one of several from the others.
    """

    def __init__(self, options: MqttOptions, *, name: str = "mqtt") -> None:
        self.options = options
        self.connections = 0
        self._name = name
        self._connected = False

    @property
    def name(self) -> str:
        """What the journal records as the readings' source."""
        return self._name

    @property
    def connected(self) -> bool:
        """Whether there is a connection and a subscription."""
        return self._connected

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, for ever; see :class:`~anomaly_assets.live.sources.source.Source`."""
        backoff = Backoff(self.options.first_wait, self.options.longest_wait)
        while True:
            leave_if_cancelled()
            try:
                async with self._connection() as connection:
                    backoff.reset()
                    while messages := await connection.gather():
                        yield connection.batch(messages)
                # Messages that were left unsettled come again on the next connection.
            except (aiomqtt.MqttError, OSError) as error:
                wait = backoff.next()
                where = f"{self.options.host}:{self.options.port}"
                logger.warning("MQTT broker %s: %s; again in %.1f s", where, error, wait)
                await asyncio.sleep(wait)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        options = self.options
        async with _AcknowledgingClient(
            options.host,
            options.port,
            username=options.username,
            password=options.password,
            identifier=options.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            keepalive=_KEEPALIVE_SECONDS,
            properties=_session(options),
            tls_context=options.tls,
        ) as client:
            # The session may be older than the number of instances that is now.
            await client.unsubscribe(options.other_filter)
            answer = await client.subscribe(
                options.filter,
                options=SubscribeOptions(
                    qos=_AT_LEAST_ONCE,
                    retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
                ),
            )
            for code in answer:
                if getattr(code, "is_failure", False):
                    msg = f"subscription to {options.filter!r} refused: {code}"
                    raise aiomqtt.MqttError(msg)
            self.connections += 1
            self._connected = True
            try:
                yield _Connection(client, options)
            finally:
                self._connected = False


class _AcknowledgingClient(aiomqtt.Client):
    """A client that acknowledges nothing by itself, which aiomqtt has no option for."""

    async def __aenter__(self) -> Self:
        # Messages may arrive as soon as there is a connection.
        self._client.manual_ack_set(on=True)
        return await super().__aenter__()

    def acknowledge(self, message: aiomqtt.Message) -> None:
        """Tell the broker to forget a message; does nothing once the connection is gone."""
        self._client.ack(message.mid, message.qos)


class _Connection:
    """One connection, with what came on it."""

    def __init__(self, client: _AcknowledgingClient, options: MqttOptions) -> None:
        self._client = client
        self._options = options
        self._unsettled = 0

    async def gather(self) -> list[aiomqtt.Message]:
        """Return what has arrived, at least one message; nothing when it is time to reconnect."""
        leave_if_cancelled()
        options = self._options
        if self._unsettled > options.most_unacknowledged // 2:
            return []
        try:
            # A message that is lost to the timeout was not acknowledged, and comes again.
            async with asyncio.timeout(
                options.retry_unsettled_seconds if self._unsettled else None
            ):
                messages = [await anext(self._client.messages)]
        except TimeoutError:
            return []
        await asyncio.sleep(options.gather_seconds)
        waiting = self._client.messages
        while len(waiting) and len(messages) < options.most_unacknowledged:
            messages.append(await anext(waiting))
        return messages

    def batch(self, messages: Sequence[aiomqtt.Message]) -> Batch:
        """Return the rows of messages with their acknowledgement."""
        groups = [self._rows(message) for message in messages]
        rows, starts = spread(groups)

        async def ack(results: Settled) -> None:
            for message, group, start in zip(messages, groups, starts, strict=True):
                if settled_through(results, start, len(group)):
                    self._client.acknowledge(message)
                else:
                    self._unsettled += 1

        return Batch(rows, ack)

    def _rows(self, message: aiomqtt.Message) -> list[Row]:
        # A retained message arrived long ago.
        stamp = self._options.stamp_arrivals and not message.retain
        arrived = datetime.now(tz=UTC).isoformat() if stamp else ""
        payload = bytes(message.payload)
        return topic_rows(str(message.topic), payload, self._options.prefix, arrived)


def _session(options: MqttOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = options.session_seconds
    properties.ReceiveMaximum = options.most_unacknowledged
    properties.MaximumPacketSize = _LARGEST_MESSAGE
    return properties


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        msg = f"cannot read the certificates in {ca_file}: {error}"
        raise SettingsError(msg) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
