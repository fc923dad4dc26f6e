"""However the server's bytes are cut on their way, the same is heard."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meshkit.parsing import CONTROL_LINE_MAX, LineParser
from nats.errors import ProtocolError

Heard = tuple[Any, ...]


class Client:
    """Notes what a parser would have nats-py do."""

    def __init__(self) -> None:
        self.noted: list[Heard] = []
        self.parser: LineParser | None = None

    async def _process_ping(self) -> None:
        self.noted.append(("ping",))

    async def _process_pong(self) -> None:
        self.noted.append(("pong",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.noted.append(("info", info["port"]))

    async def _process_err(self, text: str) -> None:
        self.noted.append(("err", text))
        if "stale" in text and self.parser is not None:
            self.parser.reset()

    async def _process_msg(self, *parts: Any) -> None:
        self.noted.append(("other", *parts))


def feed(*chunks: bytes) -> list[Heard]:
    client = Client()
    parser = client.parser = LineParser(
        client, {1: lambda *parts: client.noted.append(("plain", *parts))}
    )

    async def all_of_it() -> None:
        for chunk in chunks:
            await parser.parse(chunk)

    asyncio.run(all_of_it())
    return client.noted


SAID = (
    b'INFO {"port":4222}\r\n'
    b"PING\r\nPONG\r\n+OK\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"MSG a.b 2 _INBOX.x 0\r\n\r\n"
    b"HMSG a.b 1 $JS.ACK.S.C.1.2.3.4.5 21 26\r\nNATS/1.0\r\nA: \xc3\xa9 b\r\n\r\n\r\nMSG\r\n"
    b"HMSG a.b 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"-ERR 'Permissions Violation for Publish to \"X.Y\"'\r\n"
    b"PING\r\n"
)


def test_each_kind_of_line_is_understood() -> None:
    heard = feed(SAID)
    assert [each[0] for each in heard] == [
        *("info", "ping", "pong", "plain", "other", "plain", "plain", "err", "ping")
    ]
    assert heard[3] == ("plain", b"a.b", b"", b"hello", None)
    assert heard[4] == ("other", 2, b"a.b", b"_INBOX.x", b"", None)
    assert heard[5][2] == b"$JS.ACK.S.C.1.2.3.4.5"
    assert heard[5][3:] == (b"\r\nMSG", b"NATS/1.0\r\nA: \xc3\xa9 b\r\n\r\n")
    assert heard[6] == ("plain", b"a.b", b"", b"", b"NATS/1.0 503\r\n\r\n")
    assert heard[7] == ("err", 'permissions violation for publish to "x.y"')


@given(st.lists(st.integers(0, len(SAID)), max_size=12))
def test_wherever_it_is_cut_the_same_is_heard(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(SAID)]
    chunks = [SAID[begin:end] for begin, end in pairwise(places)]
    assert feed(*chunks) == feed(SAID)


def test_what_follows_the_end_of_a_connection_is_not_heard() -> None:
    assert feed(b"-ERR 'Stale Connection'\r\nPING\r\n", b"PONG\r\n") == [
        ("err", "stale connection"),
        ("pong",),
    ]


@pytest.mark.parametrize(
    "said", [b"HELLO\r\n", b"MSG a\r\n", b"INFO {\r\n", b"what\r\n", b"x" * (CONTROL_LINE_MAX + 1)]
)
def test_what_is_not_the_protocol_is_an_error(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(said)
