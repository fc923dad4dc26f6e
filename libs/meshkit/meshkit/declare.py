"""The admin step: streams, buckets and consumers as the contracts' table says. Safe to repeat."""

import json
from collections.abc import Iterable
from typing import Any, Protocol

from mesh_contracts.streams import (
    BUCKETS,
    EVENTS,
    STREAMS,
    BucketSpec,
    ConsumerSpec,
    StreamSpec,
    consumers,
    event_filters,
)

from meshkit.bus import Bus
from meshkit.errors import MeshError

ANSWER_WITHIN_S = 10.0
MAX_MSG_BYTES = 1024**2
STREAM_IN_USE = 10058
"""The server's code for: this name exists with another configuration."""

JsonObject = dict[str, Any]


class Answered(Protocol):
    """A message in answer."""

    data: bytes


class Requester(Protocol):
    """Whatever can send a request: nats-py's client."""

    async def request(self, subject: str, payload: bytes = ..., timeout: float = ...) -> Any:  # noqa: ASYNC109
        """Return the answer."""


class Undeclared(MeshError):
    """The server refused a declaration; the message says which and why."""


async def declare(admin: Requester | Bus) -> None:
    """Make streams, ``EVENTS``, buckets and consumers be as declared. Raises ``Undeclared``.

    ``admin`` is connected as the bus user ``admin``. Nothing is ever deleted here.
    """
    client: Requester = admin.connection if isinstance(admin, Bus) else admin
    for config in stream_configs():
        await _stream(client, config)
    for spec in consumers():
        await _call(client, f"CONSUMER.CREATE.{spec.stream}.{spec.name}", consumer_request(spec))


def stream_configs() -> Iterable[JsonObject]:
    """Yield each stream's configuration, sources before what sources them."""
    for spec in STREAMS:
        yield stream_config(spec)
    yield events_config()
    for bucket in BUCKETS:
        yield bucket_config(bucket)


def stream_config(spec: StreamSpec) -> JsonObject:
    """Return an owner's stream: discards new when full, so that nothing is lost unseen."""
    return {
        "name": spec.name,
        "subjects": [f"{spec.owner}.>"],
        "retention": spec.retention,
        "storage": "file",
        "discard": "new",
        "max_age": spec.max_age_s * 10**9,
        "max_bytes": spec.max_bytes,
        "max_msg_size": MAX_MSG_BYTES,
        "max_consumers": spec.max_consumers,
        "num_replicas": spec.replicas,
        "duplicate_window": spec.duplicate_window_s * 10**9,
        "deny_delete": True,
        "allow_direct": True,
    }


def events_config() -> JsonObject:
    """Return ``EVENTS``: every single-tenant fact in one order, sourced, and told on as ``event.>``."""
    sources: dict[str, list[str]] = {}
    for stream, subject in event_filters():
        sources.setdefault(stream, []).append(subject)
    return {
        "name": EVENTS.name,
        "sources": [
            {"name": stream, "subject_transforms": [{"src": each, "dest": each} for each in subjects]}
            for stream, subjects in sorted(sources.items())
        ],
        "republish": {"src": ">", "dest": "event.>"},
        "retention": "limits",
        "storage": "file",
        # A window for those who follow, not a ledger: the oldest leave.
        "discard": "old",
        "max_age": EVENTS.max_age_s * 10**9,
        "max_bytes": EVENTS.max_bytes,
        "max_consumers": EVENTS.max_consumers,
        "num_replicas": EVENTS.replicas,
        "deny_delete": True,
        "allow_direct": True,
    }


def bucket_config(spec: BucketSpec) -> JsonObject:
    """Return a bucket as the stream it stands on: the last value of each key."""
    config: JsonObject = {
        "name": f"KV_{spec.name}",
        "subjects": [f"$KV.{spec.name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": spec.max_bytes,
        "max_msg_size": MAX_MSG_BYTES,
        "max_consumers": spec.max_consumers,
        "num_replicas": 1,
        "duplicate_window": 120 * 10**9,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
    }
    if spec.republish_to is not None:
        config["republish"] = {
            "src": f"$KV.{spec.name}.*",
            "dest": f"{spec.republish_to}.{{{{wildcard(1)}}}}",
        }
    return config


def consumer_request(spec: ConsumerSpec) -> JsonObject:
    """Return a reader's consumer: each message acknowledged by itself, delivered until it is."""
    filters: JsonObject = (
        {"filter_subject": spec.filters[0]}
        if len(spec.filters) == 1
        else {"filter_subjects": list(spec.filters)}
    )
    return {
        "stream_name": spec.stream,
        "action": "",
        "config": {
            "name": spec.name,
            "durable_name": spec.name,
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": int(spec.ack_wait_s * 10**9),
            "max_ack_pending": spec.max_ack_pending,
            "max_deliver": -1,
            "max_waiting": 64,
            **filters,
        },
    }


async def _stream(client: Requester, config: JsonObject) -> None:
    name = config["name"]
    fault = await _try(client, f"STREAM.CREATE.{name}", config)
    if fault is not None and fault.get("err_code") == STREAM_IN_USE:
        await _call(client, f"STREAM.UPDATE.{name}", config)
    elif fault is not None:
        raise Undeclared(f"{name}: {fault.get('description', fault)}")


async def _call(client: Requester, what: str, body: JsonObject) -> None:
    fault = await _try(client, what, body)
    if fault is not None:
        raise Undeclared(f"{what}: {fault.get('description', fault)}")


async def _try(client: Requester, what: str, body: JsonObject) -> JsonObject | None:
    answer = await client.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=ANSWER_WITHIN_S)
    fault: JsonObject | None = json.loads(answer.data).get("error")
    return fault
