"""What holds of every dialect that is read into a chat."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.dialects import DIALECTS, MESSAGES, Dialect
from inference_gateway.domain.faults import Fault

from tests.domain.dialect_bodies import USER, understood


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
@given(
    name=st.sampled_from(["chat_template_kwargs", "guided_regex", "min_p", "cache_salt"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)
def test_a_field_that_only_the_engine_understands_passes_through_untouched(
    dialect: Dialect, name: str, value: Any
) -> None:
    body = (
        {"model": "chat", "messages": [USER]}
        if dialect is MESSAGES
        else {"model": "chat", "input": "x"}
    )
    assert understood(dialect, {**body, name: value}).get(name) == value


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("raw", [b"", b"nope", b'{"x":' + b"[" * 100_000, b'{"x":"\xff"}'])
def test_a_body_that_is_no_json_is_refused_as_such(dialect: Dialect, raw: bytes) -> None:
    refused = dialect.read(raw)
    assert isinstance(refused, Fault)
    assert (refused.status, refused.code) == (400, "invalid_json")
