"""A part of the site draws no more than it may, also while some are to end and others have their place already."""

from typing import Any

import pytest
from meshkit.testing import NOW
from placement.domain.fleet import Card, Server
from placement.domain.watts import drawn_late


def server(node_id: str, taken: int, pdu: str = "u0") -> Server:
    """Return a server of four GPUs, the first so many taken: 100 W idle, 10 W more a GPU."""
    cards = tuple(
        Card(
            device_id=f"{node_id}-{card}",
            index=card,
            card=card,
            model="m",
            memory_mib=1,
            rehearsal=True,
            free_milli=0 if card < taken else 1_000,
        )
        for card in range(4)
    )
    fields: dict[str, Any] = {"memory_mib": 1, "memory_free_mib": 1, "since": NOW, "generation": 1}
    return Server(
        node_id=node_id,
        name=node_id,
        site="s",
        state="ready",
        jurisdiction="FR",
        cards=cards,
        place={"pdu": pdu},
        idle_w=100,
        gpu_w=10,
        **fields,
    )


@pytest.mark.parametrize(
    ("leaving", "near", "drawn"),
    [
        ({}, {"a"}, {}),
        ({"b": {"b-2", "b-3"}}, {"a"}, {("pdu", "u0"): 20, ("site", "s"): 20}),
        # Another has that device already: it draws no more than once.
        ({"b": {"b-0"}}, {"a"}, {}),
        ({"c": {"c-3"}}, {"a"}, {("site", "s"): 10}),
        ({"b": {"b-3"}}, {"c"}, {("site", "s"): 10}),
    ],
)
def test_who_is_to_end_counts_until_it_has_ended_in_all_parts_that_it_shares(
    leaving: dict[str, set[str]], near: set[str], drawn: dict[tuple[str, str], int]
) -> None:
    fleet = [server("a", 2), server("b", 1), server("c", 3, pdu="u1")]
    assert drawn_late(fleet, leaving, near) == drawn
