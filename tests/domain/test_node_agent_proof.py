"""What counts as proof that a server is clean, and what never does."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.node import Check, Device, Verdict
from node_agent.domain.proof import (
    Accelerator,
    Drive,
    Expected,
    Found,
    Judged,
    Wiped,
    attested,
    erased,
    examined,
    mismatches,
    worst,
)

VERDICTS: list[Verdict] = ["pass", "warn", "inconclusive", "fail"]
EXPECTED = Expected(components={"BIOS": "1.2", "NIC": "22"}, secure_boot=True)
FOUND = {"BIOS": "1.2", "NIC": "22", "PSU": "3"}

drives = st.lists(st.sampled_from("ABCDE"), unique=True).map(
    lambda names: [Drive(name=f"disk {one}", serial=f" {one.lower()} ") for one in names]
)
wipes = st.lists(
    st.builds(
        Wiped,
        serial=st.sampled_from(["A", "B", "C", "D", "E", ""]),
        method=st.sampled_from(["BlockErase", ""]),
        log_id=st.sampled_from(["7", ""]),
        verdict=st.sampled_from(VERDICTS),
    )
)


def wiped(serial: str, verdict: Verdict = "pass", log_id: str = "7") -> Wiped:
    return Wiped(serial=serial, method="BlockErase", log_id=log_id, verdict=verdict)


def found(**told: Any) -> Found:
    return Found(**{"firmware": FOUND, "secure_boot": True, "accounts": ["mesh"], **told})


def check(verdict: Verdict) -> Check:
    return Check(
        name="gemm",
        device_id="gpu-0",
        verdict=verdict,
        backend="numpy",
        rehearsal=False,
        took_ms=1,
        detail="",
    )


def device(device_id: str) -> Device:
    return Device(
        device_id=device_id, index=0, model="NVIDIA H200", memory_mib=143_771, rehearsal=False
    )


def accelerator(device_id: str, *verdicts: Verdict, backend: str = "cupy") -> Accelerator:
    checks = [
        Judged(
            name="gemm", verdict=one, backend=backend, took_ms=9, detail="", action=None, evidence={}
        )
        for one in verdicts
    ]
    return Accelerator(device_id=device_id, checks=checks)


@given(drives, wipes, st.sampled_from([None, "it was away"]))
def test_nothing_passes_without_a_record_of_each_drive_and_of_the_reset_of_the_bmc(
    listed: list[Drive], records: list[Wiped], reset: str | None
) -> None:
    verdict, why = erased(listed, records, reset)
    assert why
    if verdict == "pass":
        assert reset is not None
        shown = {r.serial for r in records if r.verdict == "pass" and r.log_id and r.method}
        assert shown
        assert {one.serial.strip().upper() for one in listed} <= shown
        assert all(r.verdict != "fail" for r in records)
    assert (verdict == "fail") == any(r.verdict == "fail" for r in records)


@pytest.mark.parametrize(
    ("listed", "records", "reset", "said"),
    [
        (["A"], [], "r", "nothing shows that drive A was erased"),
        ([], [], "r", "nothing shows that any drive was erased"),
        (["A", "B"], [wiped("A")], "r", "nothing shows that drive B was erased"),
        (["A"], [wiped("A", log_id="")], "r", "nothing shows that drive A was erased"),
        (["A"], [wiped("A"), wiped("B", "warn")], "r", "nothing shows that drive B was erased"),
        (["A", "A"], [wiped("A")], "r", "no serial numbers that tell them apart"),
        ([""], [wiped("A")], "r", "no serial numbers that tell them apart"),
        (["A"], [wiped("A")], None, "nothing shows that the BMC was reset"),
    ],
)
def test_what_is_not_shown_is_inconclusive_and_named(
    listed: list[str], records: list[Wiped], reset: str | None, said: str
) -> None:
    found = [Drive(name=f"disk {number}", serial=serial) for number, serial in enumerate(listed)]
    verdict, why = erased(found, records, reset)
    assert verdict == "inconclusive"
    assert said in why


def test_a_drive_that_was_not_erased_fails_whatever_else_is_shown() -> None:
    found = [Drive(name="disk", serial="A")]
    assert erased(found, [wiped("A"), wiped("A", "fail")], "r") == ("fail", "not erased: drive A")


def test_serial_numbers_are_compared_as_firmware_and_images_write_them() -> None:
    found = [Drive(name="disk", serial="s3cure  ")]
    verdict, why = erased(found, [wiped("S3CURE")], "started at 12:00")
    assert (verdict, why) == ("pass", "1 drives by BlockErase; power off; BMC reset")


def test_firmware_that_differs_is_named_with_what_was_found_and_expected() -> None:
    assert mismatches(EXPECTED.components, FOUND) == []
    assert mismatches(EXPECTED.components, {"BIOS": "1.1"}) == [
        "BIOS: found 1.1, expected 1.2",
        "NIC: found none, expected 22",
    ]


def test_a_server_as_expected_with_checks_that_passed_is_attested() -> None:
    assert attested(EXPECTED, found(), [check("pass")])[0] == "pass"
    either = msgspec.structs.replace(EXPECTED, secure_boot=None)
    assert attested(either, found(secure_boot=None), [check("pass")])[0] == "pass"


def test_an_account_of_the_bmc_that_is_not_expected_is_not_attested() -> None:
    expected = msgspec.structs.replace(EXPECTED, accounts=["mesh", "site"])
    assert attested(expected, found(), [check("pass")])[0] == "pass"
    backdoor = found(accounts=["mesh", "ghost"])
    assert attested(expected, backdoor, [check("pass")]) == (
        "fail",
        "the BMC has an account ghost: remove it",
    )
    assert attested(EXPECTED, backdoor, [check("pass")])[0] == "pass"


@pytest.mark.parametrize(
    ("expected", "firmware", "secure", "checks", "verdict", "said"),
    [
        (None, FOUND, True, ["pass"], "inconclusive", "nothing says which firmware is expected"),
        (Expected(components={}), FOUND, True, ["pass"], "inconclusive", "nothing says"),
        (EXPECTED, {"NIC": "22"}, True, ["pass"], "fail", "BIOS: found none, expected 1.2"),
        (EXPECTED, FOUND, False, ["pass"], "fail", "secure boot is off"),
        (EXPECTED, FOUND, None, ["pass"], "inconclusive", "does not say whether secure boot"),
        (EXPECTED, FOUND, True, [], "inconclusive", "no accelerator was checked"),
        (EXPECTED, FOUND, True, ["pass", "fail"], "fail", "gemm of gpu-0"),
        (EXPECTED, FOUND, True, ["warn"], "warn", "gemm of gpu-0"),
    ],
)
def test_what_is_not_as_expected_is_never_attested(
    expected: Expected | None,
    firmware: dict[str, str],
    secure: bool | None,
    checks: list[Verdict],
    verdict: Verdict,
    said: str,
) -> None:
    given_verdict, why = attested(
        expected, found(firmware=firmware, secure_boot=secure), [check(one) for one in checks]
    )
    assert given_verdict == verdict
    assert said in why


def test_the_worst_of_no_verdicts_is_a_pass_and_a_fault_outweighs_a_doubt() -> None:
    assert worst([]) == "pass"
    assert worst(["warn", "pass"]) == "warn"
    assert worst(["fail", "inconclusive"]) == "fail"


@pytest.mark.parametrize(
    ("seen", "verdicts", "said"),
    [
        (None, ["inconclusive", "inconclusive"], "nobody has looked at it since"),
        ([], ["fail", "fail"], "the server does not have it"),
        ([accelerator("A", "pass", "warn"), accelerator("B", "fail")], ["pass", "warn", "fail"], ""),
        ([accelerator("A"), accelerator("B", "pass")], ["inconclusive", "pass"], "did not check it"),
        (
            [accelerator("A", "pass", backend="numpy"), accelerator("B", "pass")],
            ["inconclusive", "pass"],
            "gemm ran without the GPU",
        ),
        (
            [accelerator("A", "pass"), accelerator("B", "pass"), accelerator("C", "pass")],
            ["pass", "pass", "inconclusive"],
            "the server has C, which AGENT_DEVICES_FILE does not name",
        ),
    ],
)  # fmt: skip
def test_an_accelerator_passes_by_what_was_found_of_it_on_the_server_and_by_nothing_else(
    seen: list[Accelerator] | None, verdicts: list[Verdict], said: str
) -> None:
    checks = examined([device("A"), device("B")], seen)
    assert [one.verdict for one in checks] == verdicts
    assert any(said in one.detail for one in checks)
    assert {one.device_id for one in checks} == {"A", "B"}
    assert all(one.action for one in checks if one.verdict == "inconclusive" or one.name != "gemm")


def test_an_accelerator_that_stands_twice_in_a_report_passes_only_where_both_do() -> None:
    twice = [accelerator("A", "fail"), accelerator("A", "pass")]
    assert [one.verdict for one in examined([device("A")], twice)] == ["fail", "pass"]
    # What failed has failed, whatever else ran without a GPU.
    mixed = [accelerator("A", "fail"), accelerator("A", "pass", backend="numpy")]
    assert [one.verdict for one in examined([device("A")], mixed)] == ["fail"]


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_what_no_fact_can_hold_is_cut_or_told_as_such_and_a_failure_stays_one(verdict: Verdict) -> None:
    [seen] = accelerator("A", verdict).checks
    long = msgspec.structs.replace(seen, detail="x" * 9_000, action="y" * 9_000, took_ms=-1)
    broken = msgspec.structs.replace(seen, evidence={"a": [{}]})  # type: ignore[dict-item]
    for one, expected in (
        (long, verdict),
        (broken, "fail" if verdict == "fail" else "inconclusive"),
    ):
        [check] = examined([device("A")], [Accelerator(device_id="A", checks=[one])])
        assert check.verdict == expected
        assert msgspec.json.decode(msgspec.json.encode(check), type=Check) == check
