"""What a mesh comes with: two endpoints in project ``demo``, wished for through the public door."""

import asyncio
import json
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from mesh_tools.up.layout import UpFailed

TIMEOUT_S = 10.0
POLL_S = 0.05
ENDPOINTS: tuple[dict[str, Any], ...] = (
    {
        "name": "tiny",
        "project": "demo",
        "model": {"id": "tiny", "source": "builtin"},
        "engine": {"kind": "llama"},
    },
    {
        "name": "all-minilm-l6-v2",
        "project": "demo",
        "model": {"id": "all-minilm-l6-v2", "source": "builtin"},
        "engine": {"kind": "llama", "embedding": True},
    },
)
NAMES = tuple(str(endpoint["name"]) for endpoint in ENDPOINTS)
TAKEN = 409
PATIENT_S = 10.0
"""Past it, it is said what an endpoint waits for."""
NOT_YET = frozenset({0, 401, 404, 429, 500, 502, 503, 504})
"""What a mesh that is still starting may answer."""


def call(url: str, key: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Return the status and the body; status 0 where nobody answers."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        raw = response.read()
        return response.status, json.loads(raw) if raw else None
    except (OSError, HTTPException, ValueError) as fault:
        return 0, str(fault)
    finally:
        connection.close()


async def key_opens(url: str, key: str) -> None:
    """Return once the gateway knows the key."""
    while True:
        status, _ = await asyncio.to_thread(call, url, key, "GET", "/v1/models")
        if status == 200:
            return
        await asyncio.sleep(POLL_S)


async def deploy(url: str, key: str, say: Callable[[str], None]) -> list[str]:
    """Wish for the endpoints that are not there; return which answer, once all do or are asleep by wish.

    Says what each waits for, where that takes long. Raises ``UpFailed`` where one is refused.
    """
    await key_opens(url, key)
    began, said = time.monotonic(), ""
    while True:
        status, answer = await asyncio.to_thread(call, url, key, "GET", "/api/v1/endpoints")
        if status == 200:
            found = {item["name"]: item for item in answer["items"]}
            absent = [endpoint for endpoint in ENDPOINTS if endpoint["name"] not in found]
            await asyncio.gather(*(_wish(url, key, endpoint) for endpoint in absent))
            waiting = [found[name] for name in NAMES if name in found and not _settled(found[name])]
            if not absent and not waiting:
                break
            words = "; ".join(_words(item) for item in waiting)
            if words != said and time.monotonic() - began > PATIENT_S:
                say(f"waiting for {words}")
                said = words
        await asyncio.sleep(POLL_S)
    while True:
        _, answer = await asyncio.to_thread(call, url, key, "GET", "/v1/models")
        known = (
            {model["id"] for model in (answer or {}).get("data", [])}
            if isinstance(answer, dict)
            else set()
        )
        if known.issuperset(NAMES):
            return [name for name in NAMES if found[name]["ready"] > 0]
        await asyncio.sleep(POLL_S)


def _settled(item: dict[str, Any]) -> bool:
    return bool(item["ready"] > 0 or item["state"] == "asleep")


def _words(item: dict[str, Any]) -> str:
    reasons = [
        " → ".join(filter(None, (reason["detail"], reason.get("unblock"))))
        for reason in item.get("reasons", ())
    ]
    return f"{item['name']}, {item['state']}: {', '.join(reasons) or 'no reason given'}"


async def _wish(url: str, key: str, endpoint: dict[str, Any]) -> None:
    while True:
        status, answer = await asyncio.to_thread(call, url, key, "POST", "/api/v1/endpoints", endpoint)
        if status in {200, 201, 202, TAKEN}:
            return
        if status not in NOT_YET:
            raise UpFailed(f"the endpoint {endpoint['name']} was refused: {status} {answer}")
        await asyncio.sleep(POLL_S * 2)
