"""What the tests of the dialects share: a client's body, and the chat that it is read into."""

import json
from typing import Any

from inference_gateway.domain.body import CHAT
from inference_gateway.domain.body import read as read_chat
from inference_gateway.domain.dialects import Dialect
from inference_gateway.domain.faults import Fault

USER = {"role": "user", "content": "hello"}


def understood(dialect: Dialect, body: dict[str, Any]) -> dict[str, Any]:
    """Return the chat body that this one is read into, which the door takes."""
    raw = dialect.read(json.dumps(body).encode())
    assert isinstance(raw, bytes), raw
    assert not isinstance(read_chat(raw, CHAT), Fault)
    said: dict[str, Any] = json.loads(raw)
    return said
