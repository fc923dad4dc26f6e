"""What holds of every permission list, whoever it is for."""

import pytest
from mesh_contracts.rights import (
    ADMIN,
    STATIC_USERS,
    Rights,
    joining_rights,
    nats_conf,
    node_rights,
    rights_of,
)
from mesh_contracts.streams import TRIMMED, USERS, consumers
from mesh_contracts.units import DEFAULT_SITE, new_id

PUBLIC_KEY = "U" + "A" * 55
LISTS: dict[str, Rights] = {user: rights_of(user) for user in STATIC_USERS}
LISTS["a node"] = node_rights(DEFAULT_SITE, new_id("node"), PUBLIC_KEY)
LISTS["a joining node"] = joining_rights(DEFAULT_SITE, PUBLIC_KEY)


@pytest.mark.parametrize("who", LISTS)
def test_nobody_may_hear_below_a_star(who: str) -> None:
    # nats-server takes `a.*` in an allow list for leave to subscribe to `a.>`.
    assert [subject for subject in LISTS[who].subscribe if "*" in subject] == []


@pytest.mark.parametrize("who", LISTS)
def test_nobody_may_publish_or_hear_everything(who: str) -> None:
    first = {subject.split(".")[0] for subject in (*LISTS[who].publish, *LISTS[who].subscribe)}
    assert not first & {">", "*"}


@pytest.mark.parametrize("who", [who for who in LISTS if who != ADMIN])
def test_only_the_deploy_step_declares_or_deletes(who: str) -> None:
    granted = {subject for subject in LISTS[who].publish if subject.startswith("$JS.API.")}
    own = {spec.name for spec in TRIMMED if USERS[spec.owner] == who}
    # An owner makes room in its own stream, and looks who still needs what stands there.
    granted -= {f"$JS.API.STREAM.{verb}.{name}" for name in own for verb in ("INFO", "PURGE")}
    granted -= {f"$JS.API.CONSUMER.INFO.{c.stream}.{c.name}" for c in consumers() if c.stream in own}
    for subject in granted:
        assert subject.startswith(
            (
                "$JS.API.CONSUMER.MSG.NEXT.",
                "$JS.API.CONSUMER.CREATE.KV_",
                "$JS.API.DIRECT.GET.",
                "$JS.API.STREAM.INFO.EVENTS",
            )
        ), subject


def test_the_configuration_answers_nobody_freely_and_names_every_user() -> None:
    users = {user: f"U{number:055d}" for number, user in enumerate(STATIC_USERS)}
    said = nats_conf(users, port=4222, store_dir='/data/with "quotes"', callout_issuer="A" * 56)
    assert "allow_responses" not in said
    assert 'store_dir: "/data/with \\"quotes\\""' in said
    for key in users.values():
        assert said.count(key) == 2, "once as a user, once past the callout"


def test_a_missing_key_is_an_error_and_not_a_user_left_out() -> None:
    with pytest.raises(KeyError, match="metering"):
        nats_conf(
            {user: PUBLIC_KEY for user in STATIC_USERS if user != USERS["metering"]},
            port=-1,
            store_dir="/data",
            callout_issuer="A" * 56,
        )
