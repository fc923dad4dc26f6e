"""``/v1/models``: what a project can ask for; and what is said of paths that are not there."""

from typing import Any

import msgspec
from mesh_contracts.placement import Route

from inference_gateway.domain.dialects import tokenize
from inference_gateway.domain.directory import Directory, no_such_model
from inference_gateway.domain.faults import Fault
from inference_gateway.http.deciding import DOORS, Deciding
from inference_gateway.http.wire import JSON, Headers, Scope, Send, send_fault, send_whole

PATH = "/v1/models"


class Models:
    """Lists names, aliases included, with the endpoint that each leads to."""

    def __init__(self, directory: Directory, deciding: Deciding) -> None:
        self._directory = directory
        self._deciding = deciding

    async def __call__(
        self, scope: Scope, given: dict[bytes, bytes], send: Send, headers: Headers
    ) -> None:
        """Answer one request."""
        path: str = scope["path"]
        entry = self._deciding.key_of(given, None)
        if isinstance(entry, Fault):
            await send_fault(send, entry, headers)
            return
        assert entry.project is not None
        if path != PATH and not path.startswith(PATH + "/"):
            await send_fault(send, _no_such_path(path), headers)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            fault = Fault(status=405, code="method_not_allowed", message=f"GET {PATH}.")
            await send_fault(send, fault, headers)
            return
        called = self._directory.called(entry.project)
        found: Any
        if path == PATH:
            found = {"object": "list", "data": [_model(name, route) for name, route in called]}
        else:
            wanted = path.removeprefix(PATH + "/")
            route = dict(called).get(wanted)
            if route is None:
                await send_fault(send, no_such_model(wanted), headers)
                return
            found = _model(wanted, route)
        body = b"" if scope["method"] == "HEAD" else msgspec.json.encode(found)
        await send_whole(send, 200, [*headers, JSON], body)


def _model(name: str, route: Route) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(route.created_at.timestamp()),
        "owned_by": route.organization,
        "state": route.state,
        "embedding": route.embedding,
        **({"root": route.name} if name != route.name else {}),
    }


def _no_such_path(path: str) -> Fault:
    known = ", ".join([*DOORS, tokenize.PATH, tokenize.COUNT_PATH, PATH])
    return Fault(
        status=404, code="unknown_path", message=f"There is no {path[:80]} here. There are {known}."
    )
