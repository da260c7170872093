"""What else there is to talk to: Redis, the MQTT broker, the live API, Dagster's pages."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.doctor.finding import Check, Finding, Installation, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS: Final = 4.0


def redis(installation: Installation) -> Finding:
    """Ask Redis whether it is there."""
    address = installation.settings.redis_url
    if address is None:
        return ok("redis", "not set")
    from redis import Redis  # noqa: PLC0415 - of the extra `live`
    from redis.exceptions import RedisError  # noqa: PLC0415

    client = Redis.from_url(
        address.get_secret_value(), socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS
    )
    try:
        client.ping()
        version = client.info("server")["redis_version"]
    except RedisError as error:
        advice = "Is it up, and ANOMALY_ASSETS_REDIS_URL right? Scoring goes on without it."
        return problem("redis", f"does not answer: {error}", advice)
    finally:
        client.close()
    return ok("redis", f"answers, version {version}")


def broker(installation: Installation) -> Finding:
    """Log in at the MQTT broker, under a name of our own."""
    settings = installation.settings
    if settings.mqtt_url is None:
        return ok("mqtt", "not set")
    import asyncio  # noqa: PLC0415 - of the extra `live`, with the two below

    import aiomqtt  # noqa: PLC0415

    from anomaly_assets.live.sources.mqtt import MqttOptions  # noqa: PLC0415

    options = MqttOptions.of(settings)
    if options is None:
        return ok("mqtt", "not set")

    async def log_in() -> None:
        async with aiomqtt.Client(
            options.host,
            options.port,
            username=options.username,
            password=options.password,
            tls_context=options.tls,
            # That of the source would end its session.
            identifier=f"{options.client_id}-doctor",
            timeout=_SECONDS,
        ):
            pass

    try:
        asyncio.run(log_in())
    except (aiomqtt.MqttError, OSError) as error:
        advice = "Is it up, and ANOMALY_ASSETS_MQTT_URL right, name and password too?"
        return problem("mqtt", f"cannot log in at {options.host}: {error}", advice)
    return ok("mqtt", f"logged in at {options.host}")


def live_api(installation: Installation) -> Iterator[Finding]:
    """Ask the live API how it is."""
    settings = installation.settings
    host = "127.0.0.1" if settings.live_host in {"0.0.0.0", "::"} else settings.live_host  # noqa: S104 - compared, not bound
    status, document = _get(host, settings.live_port, "/v1/health")
    if status is None:
        advice = "anomaly-assets up or serve starts it; without, nothing is scored as it comes."
        yield warning("live API", f"nobody answers at {host} port {settings.live_port}", advice)
        return
    if "status" not in document:
        advice = "Something else uses the port: choose another with ANOMALY_ASSETS_LIVE_PORT."
        yield problem("live API", f"at {host} port {settings.live_port} is another", advice)
        return
    told = ", ".join(
        f"{name} {document[name]}"
        for name in ("database", "writer", "pipeline")
        if name in document
    )
    if status != 200:
        yield problem("live API", f"cannot take readings: {told}", "Its log says why.")
    else:
        yield ok("live API", f"takes readings: {told}")
    for name, state in (document.get("sources") or {}).items():
        if state != "connected":
            advice = "Is it up, and its address right?"
            yield warning("live API", f"the source {name} is {state}", advice)


def pages(installation: Installation) -> Finding:
    """Ask Dagster's web server."""
    settings = installation.settings
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    status, document = _get(host, settings.port, "/server_info")
    if status is None:
        advice = "anomaly-assets up starts it; the work goes on without."
        return warning("dagster pages", f"nobody answers at {host} port {settings.port}", advice)
    if "dagster_version" not in document:
        advice = "Something else uses the port: choose another with ANOMALY_ASSETS_PORT."
        return problem("dagster pages", f"at {host} port {settings.port} is another", advice)
    return ok("dagster pages", f"answer, Dagster {document['dagster_version']}")


def _get(host: str, port: int, path: str) -> tuple[int | None, dict[str, Any]]:
    """Return status and document; no status where nobody answers."""
    address = f"[{host}]" if ":" in host else host
    # Directly: a proxy of the environment is for elsewhere.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{port}{path}", timeout=_SECONDS) as answer:
            status, body = answer.status, answer.read(100_000)
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read(100_000)
    except (OSError, ValueError):
        return None, {}
    try:
        document = json.loads(body)
    except ValueError:
        return status, {}
    return status, document if isinstance(document, dict) else {}


CHECKS: Final = (
    Check("redis", redis),
    Check("mqtt", broker),
    Check("live API", live_api),
    Check("dagster pages", pages),
)
