"""Who stands behind a gateway's ``/api/v1``: doubles of the services, and an operator who asks."""

import json
from collections.abc import Mapping
from typing import Any

from mesh_contracts.ask import Ask, Principal
from mesh_contracts.units import DEFAULT_SITE
from meshkit.answering import serve

from tests.adapters.gateways import Town, drawn_key


class Owners:
    """Doubles of the services behind the door: they note who asked what, and answer as told."""

    def __init__(self, here: Town) -> None:
        self._here = here
        self._served: list[Any] = []
        self.asked: list[Any] = []
        self.principals: list[Principal] = []

    async def answer(self, owner: str, answers: Mapping[type[Ask], Any]) -> None:
        def handler(reply: Any) -> Any:
            async def answered(ask: Any, principal: Principal) -> Any:
                self.asked.append(ask)
                self.principals.append(principal)
                return await reply() if callable(reply) else reply

            return answered

        doors = {kind: handler(reply) for kind, reply in answers.items()}
        self._served.append(await serve(self._here.bus, owner, DEFAULT_SITE, doors))

    async def stop(self) -> None:
        for served in self._served:
            await served.stop()


async def admin_of(here: Town) -> str:
    key = drawn_key("admin")
    await here.put_key(key, role="admin", organization=None, project=None, project_name=None)
    await here.knows(key)
    return key


async def said(asked: Any, status: int) -> Any:
    async with asked as answer:
        raw = await answer.read()
        assert answer.status == status, raw
        assert answer.headers["x-request-id"].startswith("request_")
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            found = json.loads(raw)
            assert found["status"] == status
            assert found["code"]
            assert found["detail"]
            return found
        return json.loads(raw)
