"""``mesh endpoint`` against a small double of the public door: what is said is sent, what is not stays."""

from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from tests.adapters.test_tools_cli import Door, mesh

BEFORE = {
    "id": "endpoint_1",
    "name": "tiny",
    "project": "demo",
    "generation": 7,
    "state": "serving",
    "ready": 1,
    "wanted": 2,
    "model": {"id": "tiny"},
    "engine": {},
    "since": "2026-01-01T00:00:00Z",
    "reasons": [],
    "replicas": {"max": 3, "target": 9},
    "routing": {"by": "prefix", "queue_max": 5},
}


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def sent(door: Door, *arguments: str) -> Any:
    """Return the body that a command sends to an endpoint that stands as ``BEFORE``."""
    door.answers = [(200, BEFORE), (200, BEFORE)]
    done = mesh(door, "endpoint", *arguments)
    assert done.returncode == 0, done.stderr
    _, _, body, headers = door.asked[-1]
    assert headers.get("if-match", "7") == "7"
    return body


def test_a_change_sends_what_was_said_over_what_stands(door: Door) -> None:
    changed = sent(door, "change", "tiny", "--max", "4", "--sleep-after", "1.5", "--by", "round_robin")
    assert changed == {
        "replicas": {"max": 4, "target": 9, "sleep_after_ms": 1_500},
        "routing": {"by": "round_robin", "queue_max": 5},
    }
    led = sent(door, "change", "tiny", "--alias", "gpt=20", "--alias", "chat", "--fallback", "small")
    aliases = [{"name": "gpt", "weight": 20}, {"name": "chat"}]
    assert led == {
        "routing": {"by": "prefix", "queue_max": 5, "aliases": aliases, "fallbacks": ["small"]}
    }
    assert sent(door, "scale", "tiny", "--min", "2") == {"replicas": {"min": 2, "max": 2, "target": 9}}


def test_an_endpoint_is_made_with_what_was_said_alone(door: Door) -> None:
    body = sent(door, "create", "tiny", "--min", "0", "--target", "2", "--parallel-max", "8")
    assert body["replicas"] == {"min": 0, "max": 1, "target": 2}
    assert body["routing"] == {"parallel_max": 8}
    assert "routing" not in sent(door, "create", "tiny")


def test_a_change_of_nothing_is_refused_with_what_there_is_to_say(door: Door) -> None:
    door.answers = [(200, BEFORE)]
    done = mesh(door, "endpoint", "change", "tiny")
    assert (done.returncode, done.stdout) == (1, "")
    assert "say what is to change" in done.stderr
    wrong = mesh(door, "endpoint", "change", "tiny", "--alias", "gpt=many")
    assert (wrong.returncode, len(door.asked)) == (2, 1)


def test_a_list_shows_how_many_answer_how_many_are_wanted_and_the_bounds(door: Door) -> None:
    external = {**BEFORE, "name": "far", "replicas": {}}
    del external["wanted"]
    door.answers = [(200, {"items": [BEFORE, external]})]
    head, one, other = mesh(door, "endpoint", "list").stdout.splitlines()
    assert head.split()[3:6] == ["READY", "WANTED", "BOUNDS"]
    assert one.split()[3:6] == ["1", "2", "1..3"]
    assert other.split()[3:6] == ["1", "-", "1..1"]
