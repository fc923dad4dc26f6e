"""The mock upstream and the callers of ``mesh bench gateway`` count right, and its object has every key."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from mesh_tools.bench import gateway
from mesh_tools.bench.gateway import asked, command, figures, load, mock, phases, rate, table, words
from mesh_tools.bench.gateway.asked import Seen, Wish
from mesh_tools.bench.gateway.cores import Cores, choose
from mesh_tools.bench.gateway.wire import Message, NotHttp

SLOW_S = 0.1
LOST = 3
"""Chunks of a stream that one server below keeps for itself."""


def wish(port: int, **more: object) -> Wish:
    asking = Wish(
        host="127.0.0.1", port=port, path="/v1/chat/completions", model="m", warm_s=0, window_s=0.1
    )
    return msgspec.structs.replace(asking, **more)


@asynccontextmanager
async def served(answer: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """Serve on loopback; give the port."""
    server = await asyncio.get_running_loop().create_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def upstream(gap_s: float = 0.0) -> AsyncIterator[int]:
    beat = mock.Beat()
    beat.gap_s = gap_s
    async with served(lambda: mock.Upstream(beat)) as port:
        yield port


class Says(asyncio.Protocol):
    """Answers every read with the same pieces, some time apart, then leaves where it is told to."""

    def __init__(self, *pieces: bytes, after_s: float = 0.0, leaves: bool = False) -> None:
        self._pieces = pieces
        self._after_s = after_s
        self._leaves = leaves

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(self._pieces, 1):
            loop.call_later(self._after_s * number, self._transport.write, piece)
        if self._leaves:
            loop.call_later(self._after_s * (len(self._pieces) + 1), self._transport.close)


def whole_stream() -> bytes:
    return words.STREAM_HEAD + b"".join(words.stream())


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_a_chunked_message_is_the_same_however_its_bytes_are_split(size: int) -> None:
    sent, message, body = whole_stream(), Message(), b""
    for at in range(0, len(sent), size):
        assert not message.whole
        body += message.feed(sent[at : at + size])
    assert message.whole
    assert message.status == 200
    lines = [line for line in body.split(b"\n\n") if line]
    assert len(lines) == words.EVENTS
    assert all(line.startswith(b"data: ") for line in lines)
    assert body.count(words.MARK.encode()) == words.TOKENS
    assert json.loads(lines[-2][6:])["usage"] == words.USAGE


def test_what_follows_a_message_at_once_is_refused() -> None:
    for sent in (words.completion(), whole_stream()):
        with pytest.raises(NotHttp):
            Message().feed(sent + b"H")


def test_a_request_has_exactly_the_size_it_is_wished_to_have() -> None:
    for size in (words.SMALL_BYTES, words.LARGE_BYTES):
        for stream in (False, True):
            body = words.body("any-model", size, stream=stream)
            assert len(body) == size
            assert json.loads(body).get("stream", False) is stream
    assert len(words.completion().partition(b"\r\n\r\n")[2]) == 467


async def test_every_answer_of_the_mock_is_counted_and_nothing_else() -> None:
    async with upstream() as port:
        seen = await load.Load(wish(port, clients=4)).run()
    assert seen.answers >= 4 * load.WAVES
    assert 0 < seen.p50_us <= seen.p99_us
    assert (seen.events, seen.errors, seen.cut) == (0, 0, 0)


@pytest.mark.parametrize("gap_s", [0.0, 0.001])
async def test_every_chunk_of_every_stream_is_seen_also_of_those_outside_the_window(
    gap_s: float,
) -> None:
    async with upstream(gap_s) as port:
        callers = load.Load(wish(port, clients=3, stream=True, answers=9))
        seen = await callers.run()
    streams = seen.tokens_expected // words.TOKENS
    assert streams >= seen.answers >= 9
    assert seen.tokens_seen == seen.tokens_expected
    assert callers.count.events == streams * words.EVENTS
    assert 0 < seen.first_us <= seen.p50_us
    assert (seen.errors, seen.cut) == (0, 0)


async def test_events_that_are_split_anywhere_are_counted_once() -> None:
    body = b"".join(words.stream())
    cuts = [body[at : at + 1] for at in range(300)]
    sent = [words.STREAM_HEAD, *cuts, body[300:]]
    async with served(lambda: Says(*sent, after_s=0.0005)) as port:
        callers = load.Load(wish(port, stream=True, answers=1))
        seen = await callers.run()
    streams = seen.tokens_expected // words.TOKENS
    assert streams >= 1
    assert seen.tokens_seen == seen.tokens_expected
    assert callers.count.events == streams * words.EVENTS


async def test_a_stream_that_lacks_chunks_or_breaks_off_has_lost_them() -> None:
    chunks = words.stream()
    short = words.STREAM_HEAD + b"".join(chunks[LOST:])
    async with served(lambda: Says(short)) as port:
        seen = await load.Load(wish(port, stream=True, answers=2)).run()
    streams = seen.tokens_expected // words.TOKENS
    assert seen.tokens_expected - seen.tokens_seen == streams * LOST
    assert seen.errors == 0
    broken = words.STREAM_HEAD + b"".join(chunks[:-LOST])
    async with served(lambda: Says(broken, leaves=True)) as port:
        seen = await load.Load(wish(port, stream=True, answers=2)).run()
    assert seen.errors * LOST == seen.tokens_expected - seen.tokens_seen > 0
    assert "the connection was lost" in seen.error


async def test_a_refusal_is_an_error_with_its_words_and_no_answer() -> None:
    refusal = words.answer({"error": "too many"}, "429 Too Many Requests")
    async with served(lambda: Says(refusal)) as port:
        seen = await load.Load(wish(port)).run()
    assert seen.answers == 0
    assert seen.errors > 0
    assert seen.error == '429 {"error":"too many"}'


async def test_at_a_fixed_rate_time_runs_from_when_a_request_was_meant_to_leave() -> None:
    # More at once than there are connections: those that wait for one have waited, and it shows.
    once = rate.CONNECTIONS
    async with served(lambda: Says(words.completion(), after_s=SLOW_S)) as port:
        asking = wish(port, per_s=2 * once / SLOW_S, window_s=2 * SLOW_S)
        seen = await asyncio.to_thread(rate.run, asking)
    assert seen.answers == 4 * once
    assert (seen.errors, seen.cut) == (0, 0)
    assert seen.p50_us >= SLOW_S * 1e6
    # The last quarter left three turns of the connections after the first did, half as late as due.
    assert seen.p99_us >= 2.5 * SLOW_S * 1e6


def test_on_two_cores_the_gateway_has_one_alone_and_on_four_each_part_its_own() -> None:
    assert choose({0, 1}) == Cores(gateway=0, mock=1, load=1, services=(1,))
    assert choose({2, 3, 4, 5}) == Cores(gateway=2, mock=3, load=4, services=(5,))


@pytest.mark.slow
def test_the_object_has_every_figure_of_every_target_and_a_reason_for_what_is_absent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        message = "litellm could not be installed: no registry"
        raise SystemExit(message)

    monkeypatch.setattr(phases, "QUICK", 0.1)
    monkeypatch.setitem(command.PEERS, "litellm", cannot)
    assert command.main(["--only", "direct,litellm", "--quick"], as_json=True) == 0
    shown = capsys.readouterr().out
    found = json.loads(shown.splitlines()[-1])
    assert set(found) == {
        *("date", "machine", "rounds", "quick", "took_s", "targets", "ratios", "flat"),
    }
    assert found["machine"]["socket_pass_us"] > 0
    assert found["machine"]["json_us"] > 0
    direct = found["targets"]["direct"]
    assert set(figures.NAMES) < set(direct)
    assert direct["rps_c1"] > 0
    assert direct["chunks_seen"] == direct["chunks_expected"] > 0
    assert (direct["errors"], direct["cut"], direct["added_p50_ms"]) == ({}, 0, 0)
    assert found["targets"]["litellm"] == {"reason": "litellm could not be installed: no registry"}
    assert "litellm" in shown
    assert "not measured: litellm could not be installed" in shown


def test_ratios_are_of_rates_in_the_same_round_and_medians_over_the_rounds() -> None:
    def seen(target: str, number: int, answers: int) -> figures.Measured:
        one = Seen(window_s=1.0, answers=answers, cpu_s=0.5, p50_us=1.0)
        return figures.Measured(target=target, phase="c32", round=number, seen=one, rss_mb=number)

    measured = [seen("ours", number, answers) for number, answers in enumerate((100, 10, 100))]
    measured += [seen("litellm", number, answers) for number, answers in enumerate((10, 10, 20))]
    shown = figures.figures(measured)
    assert shown["ours"]["rps_c32"] == 100
    assert shown["ours"]["cpu_us_per_request"] == 5_000
    assert shown["ours"]["rss_mb"] == 1
    assert shown["ours"]["us_per_event"] is None
    assert figures.ratios(shown) == {"litellm": {"rps_c32": 5}}


@pytest.mark.parametrize(
    ("value", "said"), [(59, "FALLS SHORT"), (60, "holds"), (100, "stretch holds")]
)
def test_a_promise_is_held_against_its_bounds(value: float, said: str) -> None:
    assert table.PROMISES[0].said(value) == said
    assert table.PROMISES[2].said(0.5) == "short of the stretch"
    assert table.PROMISES[-1].said(1) == "FALLS SHORT"


def test_the_tail_of_few_values_is_the_largest_of_them() -> None:
    assert asked.tail([1.0, 2.0, 3.0]) == 3.0
    assert asked.tail([float(number) for number in range(1, 201)]) == 198.0
    assert asked.middle([]) == asked.tail([]) == 0.0
    assert gateway.__doc__
