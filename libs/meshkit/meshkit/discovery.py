"""How a service is found: the NATS services framework's ``$SRV`` verbs, answered by hand.

nats-py's own registration returns normally where the server has refused it; this one raises.
"""

import json
import secrets
from datetime import UTC, datetime
from typing import Any

from meshkit.bus import Bus, Message, Subscription

PREFIX = "io.nats.micro.v1"
VERSION = "0.1.0"
QUEUE = "q"


class Endpoint:
    """One kind of ask, and how it fares."""

    def __init__(self, name: str, subject: str) -> None:
        self.name = name
        self.subject = subject
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.busy_ns = 0

    def count(self, took_ns: int, error: str | None) -> None:
        """Count one request."""
        self.requests += 1
        self.busy_ns += took_ns
        if error is not None:
            self.errors += 1
            self.last_error = error


class Discovery:
    """Answers ``PING``, ``INFO`` and ``STATS`` for one process of a service."""

    def __init__(self, bus: Bus, name: str, endpoints: list[Endpoint]) -> None:
        self._bus = bus
        self._who = {"name": name, "id": secrets.token_hex(11), "version": VERSION, "metadata": {}}
        self._endpoints = endpoints
        self._started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Begin to answer. Raises ``PermissionsViolation`` where the name is not ours."""
        name, own = self._who["name"], self._who["id"]
        for tail in ("", f".{name}", f".{name}.{own}"):
            for verb in ("PING", "INFO", "STATS"):
                self._subscriptions.append(await self._bus.subscribe(f"$SRV.{verb}{tail}", self._heard))

    async def stop(self) -> None:
        """Be found no more."""
        for subscription in self._subscriptions:
            await subscription.stop()
        self._subscriptions.clear()

    def _heard(self, message: Message) -> None:
        if not message.reply:
            return
        verb = message.subject.split(".")[1]
        told = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}[verb]()
        self._bus.send(message.reply, json.dumps(told).encode())

    def _ping(self) -> dict[str, Any]:
        return {**self._who, "type": f"{PREFIX}.ping_response"}

    def _info(self) -> dict[str, Any]:
        return {
            **self._who,
            "type": f"{PREFIX}.info_response",
            "description": "",
            "endpoints": [self._told(each) for each in self._endpoints],
        }

    def _stats(self) -> dict[str, Any]:
        return {
            **self._who,
            "type": f"{PREFIX}.stats_response",
            "started": self._started,
            "endpoints": [
                {
                    **self._told(each),
                    "num_requests": each.requests,
                    "num_errors": each.errors,
                    "last_error": each.last_error,
                    "processing_time": each.busy_ns,
                    "average_processing_time": each.busy_ns // max(1, each.requests),
                }
                for each in self._endpoints
            ],
        }

    @staticmethod
    def _told(endpoint: Endpoint) -> dict[str, Any]:
        return {
            "name": endpoint.name,
            "subject": endpoint.subject,
            "queue_group": QUEUE,
            "metadata": {},
        }
