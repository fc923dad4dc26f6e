"""How a refusal says when to come back, in the headers that OpenAI's clients read."""

from typing import Any

import pytest
from inference_gateway.domain.faults import Fault
from inference_gateway.http.wire import send_fault


async def sent(**fields: Any) -> dict[str, str]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await send_fault(send, Fault(status=429, code="c", message="m", **fields), [])
    headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return {name: headers[name] for name in headers if "retry" in name}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, {}),
        ({"retry_after_s": 2}, {"retry-after": "2"}),
        ({"retry_after_ms": 1}, {"retry-after": "1", "retry-after-ms": "1"}),
        ({"retry_after_ms": 1_001}, {"retry-after": "2", "retry-after-ms": "1001"}),
        ({"retry_after_ms": 999_999}, {"retry-after": "120", "retry-after-ms": "120000"}),
        ({"retry_after_s": 999}, {"retry-after": "120"}),
        ({"should_retry": False}, {"x-should-retry": "false"}),
        ({"should_retry": True, "retry_after_s": 1}, {"x-should-retry": "true", "retry-after": "1"}),
    ],
)
async def test_a_client_reads_when_to_come_back_and_whether_at_all(
    fields: dict[str, Any], told: dict[str, str]
) -> None:
    assert await sent(**fields) == told
