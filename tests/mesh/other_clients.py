"""Other people's clients at our door: ``other_clients.py CLIENT`` says what it saw.

Its last line is one JSON object. It runs in an environment of its own (``clients.lock``), so it imports
nothing of ours. The door and the key come in ``MESH_URL`` and ``MESH_API_KEY``.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL = os.environ["MESH_URL"]
KEY = os.environ["MESH_API_KEY"]
HELLO = [{"role": "user", "content": "hello"}]
TOKENS = 8


def of_anthropic() -> dict[str, Any]:
    """Return what Anthropic's own client saw: plain, streamed, counted, refused."""
    import anthropic  # noqa: PLC0415 - each client is loaded for itself

    asked = {"model": "tiny", "max_tokens": TOKENS, "messages": HELLO}
    refused = stranger_told = None
    with anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=20) as caller:
        plain = caller.messages.create(system="be brief", **asked)
        with caller.messages.stream(**asked) as stream:
            texts = list(stream.text_stream)
            final = stream.get_final_message()
        counted = caller.messages.count_tokens(model="tiny", messages=HELLO)
        try:
            caller.messages.create(**asked, container="c")
        except anthropic.APIStatusError as fault:
            refused = {"status": fault.status_code, "body": fault.body, "request_id": fault.request_id}
    with anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0, timeout=20) as stranger:
        try:
            stranger.messages.create(**asked)
        except anthropic.AuthenticationError as fault:
            stranger_told = fault.body
    return {
        "plain": _message(plain),
        "streamed": _message(final),
        "deltas": len(texts),
        "delta_text": "".join(texts),
        "counted": counted.input_tokens,
        "refused": refused,
        "stranger_told": stranger_told,
        "request_id": plain._request_id,
    }


def of_anthropic_types() -> dict[str, Any]:
    """Hold what stands on standard input, one JSON a line, against Anthropic's own types."""
    from anthropic.types import Message, RawMessageStreamEvent  # noqa: PLC0415
    from pydantic import TypeAdapter  # noqa: PLC0415

    kinds = {
        one.model_fields["type"].annotation.__args__[0]: one
        for one in RawMessageStreamEvent.__origin__.__args__
    }
    checked = dict.fromkeys([*kinds, "message"], 0)
    for line in sys.stdin:
        kind = json.loads(line)["type"]
        TypeAdapter(kinds.get(kind, Message)).validate_json(line, strict=True)
        checked[kind] += 1
    return checked


def _message(message: Any) -> dict[str, Any]:
    usage = message.usage
    return {
        "text": message.content[0].text,
        "stop_reason": message.stop_reason,
        "input": usage.input_tokens + (usage.cache_read_input_tokens or 0),
        "output": usage.output_tokens,
    }


def of_langchain() -> dict[str, Any]:
    """Return what LangChain saw, over chat completions and over Responses."""
    from langchain_openai import ChatOpenAI  # noqa: PLC0415

    seen = {}
    for name, by_responses in (("chat", False), ("responses", True)):
        model = ChatOpenAI(
            model="tiny",
            base_url=f"{URL}/v1",
            api_key=KEY,
            max_tokens=TOKENS,
            max_retries=0,
            stream_usage=True,
            use_responses_api=by_responses,
        )
        plain = model.invoke("hello")
        whole = None
        parts = 0
        for part in model.stream("hello"):
            parts += 1
            whole = part if whole is None else whole + part
        seen[name] = {
            "text": plain.text,
            "usage": plain.usage_metadata,
            "streamed": whole.text,
            "parts": parts,
            "streamed_usage": whole.usage_metadata,
        }
    return seen


def of_litellm() -> dict[str, Any]:
    """Return what LiteLLM saw, over chat completions and over Responses."""
    import litellm  # noqa: PLC0415

    where = {"api_base": f"{URL}/v1", "api_key": KEY, "num_retries": 0, "timeout": 20}
    asked = {"model": "openai/tiny", "messages": HELLO, "max_tokens": TOKENS, **where}
    plain = litellm.completion(**asked)
    chunks = list(litellm.completion(stream=True, stream_options={"include_usage": True}, **asked))
    whole = litellm.stream_chunk_builder(chunks)
    response = litellm.responses(model="openai/tiny", input="hello", max_output_tokens=TOKENS, **where)
    events = list(
        litellm.responses(
            model="openai/tiny", input="hello", max_output_tokens=TOKENS, stream=True, **where
        )
    )
    return {
        "text": plain.choices[0].message.content,
        "output": plain.usage.completion_tokens,
        "streamed": whole.choices[0].message.content,
        "streamed_output": whole.usage.completion_tokens,
        "response": response.output[0].content[0].text,
        "last_event": str(getattr(events[-1].type, "value", events[-1].type)),
        "events": len(events),
    }


CLIENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "anthropic": of_anthropic,
    "anthropic-types": of_anthropic_types,
    "langchain": of_langchain,
    "litellm": of_litellm,
}

if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(CLIENTS[sys.argv[1]]())}\n")
