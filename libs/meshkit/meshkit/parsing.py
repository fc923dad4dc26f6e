# ruff: noqa: SLF001 - it stands where nats-py's own parser stands, which calls the same.
"""What the server says, read without regular expressions: plain callbacks are called in place.

A third of the cost of nats-py's own parser, which is what a reader of facts spends most of its time in.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from meshkit.natspy import errors as nats_errors
from meshkit.telemetry import METRICS

SLOW_AFTER_S = 0.5
"""Callbacks of what was read at once, together; past it they are counted as slow."""

CONTROL_LINE_MAX = 64 * 1024
"""Longer than any line the server sends; an INFO with many servers is some kilobytes."""

_H, _M = 0x48, 0x4D

logger = logging.getLogger(__name__)

Plain = Callable[[bytes, bytes, bytes, bytes | None], None]


class LineParser:
    """Stands where nats-py's parser stands: ``parse`` is fed what was read, ``reset`` forgets."""

    def __init__(self, client: Any, plain: dict[int, Plain]) -> None:
        self._client = client
        self._plain = plain
        self._held = b""
        self._life = 0

    def reset(self) -> None:
        """Forget what was half read: another connection begins."""
        self._held = b""
        self._life += 1

    async def parse(self, data: bytes = b"") -> None:
        """Act on each whole message and line; keep the rest. Raises ``nats_errors.ProtocolError``."""
        began = time.monotonic()
        try:
            await self._parse(data)
        except (ValueError, IndexError) as fault:
            raise nats_errors.ProtocolError from fault
        took_s = time.monotonic() - began
        if took_s > SLOW_AFTER_S:
            # While a callback takes its time nothing is read; the server sees a slow consumer,
            # and in the end closes the connection without a word.
            METRICS.count("mesh_bus_slow_consumers_total")
            logger.warning("callbacks took %.1f s of the bus's reading: one is slow", took_s)

    async def _parse(self, data: bytes) -> None:
        buffer = self._held + data if self._held else data
        self._held = b""
        life, at, size = self._life, 0, len(buffer)
        while at < size:
            end = buffer.find(b"\r\n", at)
            if end < 0:
                if size - at > CONTROL_LINE_MAX:
                    raise nats_errors.ProtocolError
                break
            first = buffer[at]
            if first in {_H, _M}:
                words = buffer[at:end].split(b" ")
                begin = end + 2
                stop = begin + int(words[-1])
                if stop + 2 > size:
                    break
                at = stop + 2
                # MSG subject sid [reply] size; HMSG subject sid [reply] headers size
                extra = 1 if first == _H else 0
                reply = words[3] if len(words) == 5 + extra else b""
                block = None
                if extra:
                    middle = begin + int(words[-2])
                    block = buffer[begin:middle]
                    begin = middle
                heard = self._plain.get(int(words[2]))
                if heard is None:
                    await self._client._process_msg(
                        int(words[2]), words[1], reply, buffer[begin:stop], block
                    )
                    if life != self._life:
                        return
                else:
                    heard(words[1], reply, buffer[begin:stop], block)
                continue
            await self._control(buffer[at:end])
            if life != self._life:
                # It ended the connection; what follows belongs to the old one.
                return
            at = end + 2
        self._held = buffer[at:]

    async def _control(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        if verb == b"PING":
            await self._client._process_ping()
        elif verb == b"PONG":
            await self._client._process_pong()
        elif verb == b"-ERR":
            await self._client._process_err(rest.strip(b" '").decode("utf-8", "replace").lower())
        elif verb == b"INFO":
            await self._client._process_info(json.loads(rest))
        elif verb != b"+OK":
            raise nats_errors.ProtocolError
