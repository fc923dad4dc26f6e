"""What is no request, is too much of one, or never ends, over real sockets: an error in words, or a closed door."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.adapters.gateways import Town

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
ENDPOINTS = "/api/v1/endpoints"
MORE_THAN_HELD = 64 * 1024**2


@asynccontextmanager
async def connection(here: Town) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.door.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(here: Town, path: str, *lines: str) -> bytes:
    own = [f"POST {path} HTTP/1.1", "host: door", f"authorization: Bearer {here.key}", *lines]
    return ("\r\n".join(own) + "\r\n\r\n").encode("latin-1")


async def said(here: Town, sent: bytes, within_s: float = 8.0) -> bytes:
    """Return all that the door says to these bytes before it closes the connection."""
    async with connection(here) as (reader, writer):
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), within_s)


async def test_headers_without_end_are_refused_and_the_next_caller_is_not(here: Town) -> None:
    for sent in (
        b"GET /v1/models HTTP/1.1\r\nx-long: " + b"a" * 200_000,
        b"GET /v1/models HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 400_000,
    ):
        answer = await said(here, sent)
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:80]
        assert b'"code":"head_too_large"' in answer
    async with here.get("/v1/models") as answer:
        assert answer.status == 200


async def test_a_head_that_goes_on_and_on_is_cut_off_and_not_kept(here: Town) -> None:
    async with connection(here) as (_, writer):
        writer.write(b"GET /v1/models HTTP/1.1\r\nx-long: ")
        sent = 0
        with suppress(ConnectionError):
            while sent < MORE_THAN_HELD:
                writer.write(b"a" * 100_000)
                sent += 100_000
                await writer.drain()
    assert sent < MORE_THAN_HELD


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"BREW /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nx: a\0b\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_without_a_word_in_the_log(
    here: Town, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    answer = await said(here, sent)
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:80]
    assert b'"code":"invalid_http"' in answer
    assert not [record for record in caplog.records if "uvicorn" in record.name]


async def test_half_a_head_and_silence_is_told_and_closed(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_gateway.heads.HEAD_WAIT_S", 0.2)
    answer = await said(here, b"GET /v1/models HTTP/1.1\r\nhost: do")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"head_timeout"' in answer
    assert await said(here, b"") == b""
    whole = f"GET /v1/models HTTP/1.1\r\nauthorization: Bearer {here.key}\r\n\r\n".encode()
    async with connection(here) as (reader, writer):
        writer.write(whole)
        assert (await reader.readuntil(b'"data":[]}')).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET /v1/mod")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("path", [CHAT, ENDPOINTS])
async def test_half_a_body_and_silence_is_a_408(
    here: Town, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("inference_gateway.http.wire.BODY_WAIT_S", 0.2)
    half = head(here, path, "content-type: application/json", "content-length: 100") + b'{"model":'
    answer = await said(here, half)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"body_timeout"' in answer


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent_where_the_client_asks(
    here: Town,
) -> None:
    answer = await said(here, head(here, CHAT, "expect: 100-continue", "content-length: 9000000"))
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b'"code":"body_too_large"' in answer


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"name":"\xff\xfe"}', "no UTF-8"),
        (b"[" * 100_000, "nested without end"),
        (b'{"a":' * 40_000, "nested without end"),
        (b'{"name":"ti\0ny"}', "a bare NUL"),
        (b'{"name":"\\ud800"}', "half a character"),
        (b"", "nothing"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, ENDPOINTS])
async def test_a_body_that_cannot_be_read_is_the_clients_mistake(
    here: Town, caplog: pytest.LogCaptureFixture, path: str, body: bytes, why: str
) -> None:
    lines = ("content-type: application/json", f"content-length: {len(body)}", "connection: close")
    answer = await said(here, head(here, path, *lines) + body)
    assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 422"}, (why, answer)
    assert not [record for record in caplog.records if record.levelname == "ERROR"], why


async def test_a_client_that_leaves_within_its_body_is_no_fault_of_ours(
    here: Town, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (CHAT, ENDPOINTS):
        async with connection(here) as (_, writer):
            writer.write(
                head(here, path, "content-type: application/json", "content-length: 99") + b'{"a'
            )
            await writer.drain()
            await asyncio.sleep(0.05)
    async with here.get("/v1/models") as answer:
        assert answer.status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
