"""A receipt is verified without us, and any digit that was changed is noticed."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
from carbon_accounting.domain.receipt import Settled, body_of
from carbon_accounting.grid.factors import FACTORS
from carbon_accounting.signing import Signer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh_contracts import wire
from mesh_contracts.carbon import Receipt
from mesh_contracts.inference import UsageRow
from mesh_contracts.metering import RatedRow
from mesh_contracts.units import MoneyMicroeur
from mesh_tools import receipt as verifier
from meshkit.errors import ConfigError
from meshkit.testing import NOW, test_id

ROW = RatedRow(
    usage=UsageRow(
        request_id=test_id("request", "r"),
        organization=test_id("organization", "o"),
        project=test_id("project", "p"),
        key_id=test_id("key", "k"),
        endpoint_id=test_id("endpoint", "e"),
        model="tiny",
        route="chat",
        streamed=True,
        started_at=NOW,
        ended_at=NOW + timedelta(milliseconds=1_234),
        state="completed",
        status=200,
        tokens_from="engine",
        prompt_tokens=12,
        completion_tokens=34,
        workload_id=test_id("workload", "w"),
        node_id=test_id("node", "n"),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    cost_microeur=MoneyMicroeur(2**60),
    price_id="p1",
)


def settled(energy: int = 7_654_321_000, carbon: int | None = None) -> Settled:
    factor = FACTORS[-1]
    return Settled(
        row=ROW,
        site="fr-idf-1",
        jurisdiction="FR",
        energy_uj=energy,
        carbon_ug=energy * factor.carbon_mg_per_kwh // 3_600_000_000 if carbon is None else carbon,
        factor=factor,
        quality="estimated",
        energy_source="rehearsal model",
        settled_at=NOW + timedelta(seconds=5),
    )


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.open(tmp_path / "keys" / "receipts.pem")


@pytest.fixture
def verify(
    signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def run(body: Any, key: str | None = "") -> tuple[int, str]:
        path = tmp_path / "receipt.json"
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        argv = ["verify", str(path)]
        if key is not None:
            argv += ["--key", key or signer.public.public_key]
        code = verifier.main(argv)
        return code, capsys.readouterr().out

    return run


def signed(signer: Signer, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(wire.encode(signer.sign(body_of(settled(**fields)))))
    return body


def test_a_receipt_says_what_it_proves_and_is_verified(
    signer: Signer, verify: Callable[..., tuple[int, str]]
) -> None:
    code, said = verify(signed(signer))
    assert code == 0, said
    for part in ("12 + 34", "7654321000 µJ, estimated", "fr-production-direct-2024", "FR", "VERIFIED"):
        assert part in said


def test_a_receipt_that_went_through_other_hands_is_the_same_receipt(
    signer: Signer, verify: Callable[..., tuple[int, str]]
) -> None:
    through = wire.encode(wire.decode(wire.encode(signed(signer)), Receipt))
    spaced = json.dumps(dict(reversed(json.loads(through).items())), indent=3, ensure_ascii=True)
    assert verify(spaced)[0] == 0


def _leaves(body: dict[str, Any], *above: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, value in body.items():
        found += _leaves(value, *above, name) if isinstance(value, dict) else [(*above, name)]
    return found


def test_every_single_field_that_is_changed_is_noticed(
    signer: Signer, verify: Callable[..., tuple[int, str]]
) -> None:
    true = signed(signer)
    for path in _leaves(true):
        forged = json.loads(json.dumps(true))
        holder = forged
        for name in path[:-1]:
            holder = holder[name]
        was = holder[path[-1]]
        if isinstance(was, int):
            holder[path[-1]] = was + 1
        elif isinstance(was, str):
            holder[path[-1]] = ("1" if was[0] != "1" else "2") + was[1:]
        else:
            holder[path[-1]] = "x"
        code, said = verify(forged)
        assert code == 1, path
        assert said.startswith("REFUSED"), path


def test_halved_energy_is_refused_by_its_signature(
    signer: Signer, verify: Callable[..., tuple[int, str]]
) -> None:
    true = signed(signer)
    code, said = verify({**true, "energy_uj": str(int(true["energy_uj"]) // 2)})
    assert (code, said.split()[:2]) == (1, ["REFUSED", "signature:"])


def test_an_operator_who_signs_wrong_carbon_is_caught(
    signer: Signer, verify: Callable[..., tuple[int, str]]
) -> None:
    for carbon in (0, 46_138 - 5, 46_138 + 50):
        code, said = verify(signed(signer, carbon=carbon))
        assert (code, said.split()[:2]) == (1, ["REFUSED", "carbon:"])


def test_without_the_key_nothing_is_proved(
    signer: Signer, verify: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    true = signed(signer)
    assert verify(true, None)[0] == 1
    other = Signer.open(tmp_path / "other.pem").public.public_key
    assert verify(true, other)[1].startswith("REFUSED  key:")
    assert verify(true, "/nowhere/at/all")[0] == 1
    stored = tmp_path / "key.json"
    stored.write_bytes(wire.encode(signer.public))
    assert verify(true, str(stored))[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"a":1,"a":2}',
        '{"energy_uj": 1.5}',
        "nonsense",
        '"x"',
        "9" * 70_000,
        "[" * 60_000,
    ],
)
def test_what_is_no_receipt_is_refused_without_a_traceback(
    verify: Callable[..., tuple[int, str]], text: str
) -> None:
    code, said = verify(text)
    assert code == 1
    assert said.startswith("REFUSED")


@pytest.mark.parametrize("by", ["file", "pipe"])
def test_a_receipt_is_the_same_wherever_the_terminal_has_no_accents(
    signer: Signer, tmp_path: Path, by: str
) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(wire.encode(signed(signer)))
    assert not path.read_bytes().isascii()
    name = str(path) if by == "file" else "-"
    told = subprocess.run(
        [sys.executable, verifier.__file__, "verify", name, "--key", signer.public.public_key],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        input=path.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert (told.returncode, told.stdout.split()[-1], told.stderr) == (0, b"VERIFIED", b"")


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(JSONISH)
def test_its_own_canonical_form_is_that_of_rfc_8785(value: Any) -> None:
    assert verifier.canonical(value) == rfc8785.dumps(value)


def test_the_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "receipts.pem"
    first, second = Signer.open(path), Signer.open(path)
    assert first.public == second.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["receipts.pem"]


def test_a_broken_key_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "receipts.pem"
    path.write_text("not a key")
    with pytest.raises(ConfigError, match="CARBON_SIGNING_KEY_FILE"):
        Signer.open(path)


def test_the_verifier_is_short_and_imports_nothing_of_ours() -> None:
    source = Path(verifier.__file__).read_text()
    assert len(source.splitlines()) < 150
    for ours in ("mesh_contracts", "meshkit", "carbon_accounting", "mesh_tools", "msgspec"):
        assert ours not in source


def test_signing_again_gives_the_same_bytes(signer: Signer) -> None:
    once, again = signer.sign(body_of(settled())), signer.sign(body_of(settled()))
    assert msgspec.structs.asdict(once) == msgspec.structs.asdict(again)
