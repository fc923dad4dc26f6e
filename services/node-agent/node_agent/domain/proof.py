"""What shows that a leased server is clean and as it should be: judged from what was seen, and nothing else."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from mesh_contracts.node import Check, Device, Verdict

from node_agent.domain.verdicts import DETAIL_CHARS_MAX, of_device, worst

WITH_A_GPU = "cupy"
LOOK = "return the node (mesh node return): the erase image then looks at it, and erases its disks"


class Drive(msgspec.Struct, frozen=True, kw_only=True):
    """One drive as the BMC lists it; ``erase`` is where it takes a secure erase, if it does."""

    name: str
    serial: str
    model: str = ""
    erase: str | None = None
    ways: tuple[str, ...] = ()


class Wiped(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one drive; ``log_id`` names the record of it (a task of the BMC, a log of the image)."""

    serial: str
    method: str
    log_id: str
    verdict: Verdict


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One check as ``gpuprobe --json`` tells of it; ``backend`` is ``cupy`` where a GPU was used."""

    name: str
    verdict: Verdict
    backend: Any
    took_ms: int
    detail: str
    action: str | None
    evidence: dict[str, int | float | str | list[int]]


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """One accelerator that an erase image found, by its UUID, and what gpuprobe found of it there."""

    device_id: str
    checks: list[Judged] = []


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an erase image leaves: which run it was, of which system, what became of each drive it saw, and its accelerators."""

    report_id: str
    system: str
    drives: list[Wiped] = []
    scrubbed: list[str] = []
    accelerators: list[Accelerator] = []


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server is to be like: a version for each component, and who may have an account of its BMC.

    What is null is noted, and either way will do: ``secure_boot``, ``accounts``.
    """

    components: dict[str, str]
    secure_boot: bool | None = None
    accounts: list[str] | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What its BMC says of a server: versions, whether its last start was secure, who has an account."""

    firmware: dict[str, str]
    secure_boot: bool | None
    accounts: list[str]


def mismatches(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return each component whose version is not the expected one, with both."""
    return [
        f"{name}: found {found.get(name) or 'none'}, expected {version}"
        for name, version in sorted(expected.items())
        if found.get(name) != version
    ]


def erased(
    drives: Sequence[Drive], wiped: Sequence[Wiped], bmc_reset: str | None
) -> tuple[Verdict, str]:
    """Return whether nothing of a tenant is left, and why that is so.

    Each drive that the BMC lists needs a record of its own. ``bmc_reset`` is what shows that the BMC was
    reset, if anything does.
    """
    failed = sorted({one.serial for one in wiped if one.verdict == "fail"})
    if failed:
        return "fail", f"not erased: drive {', '.join(failed)}"
    listed = Counter(_same(one.serial) for one in drives)
    alike = [one.name for one in drives if not one.serial.strip() or listed[_same(one.serial)] > 1]
    if alike:
        return "inconclusive", f"drives {', '.join(alike)} have no serial numbers that tell them apart"
    shown = {_same(one.serial) for one in wiped if _shows(one)}
    unshown = [one.serial for one in drives if _same(one.serial) not in shown]
    unshown += [one.serial for one in wiped if not _shows(one) and _same(one.serial) not in shown]
    if unshown:
        return (
            "inconclusive",
            f"nothing shows that drive {', '.join(dict.fromkeys(unshown))} was erased",
        )
    if not shown:
        return "inconclusive", "nothing shows that any drive was erased"
    if bmc_reset is None:
        return "inconclusive", "nothing shows that the BMC was reset"
    methods = ", ".join(dict.fromkeys(one.method for one in wiped if _shows(one)))
    return "pass", f"{len(shown)} drives by {methods}; power off; BMC reset"


def examined(declared: Sequence[Device], found: Sequence[Accelerator] | None) -> list[Check]:
    """Return the checks of what a server is said to have, given what an image found there (``None``: nobody looked).

    What is said to be there and was not found has failed; what was found and nobody named, or was looked at without a
    GPU, is inconclusive.
    """
    if found is None:
        never = "nobody has looked at it since the server was last handed over, or ever"
        return [of_device("device", one, "inconclusive", never, LOOK) for one in declared]
    by_id: dict[str, list[Judged]] = {}
    for one in found:
        by_id.setdefault(one.device_id, []).extend(one.checks)
    checks = [one for device in declared for one in _of(device, by_id.get(device.device_id))]
    others = sorted(by_id.keys() - {one.device_id for one in declared})
    if others:
        detail = f"the server has {', '.join(others)}, which AGENT_DEVICES_FILE does not name"
        name_it = "name it there, or take it out"
        checks.append(of_device("device", declared[0], "inconclusive", detail, name_it))
    return checks


def _of(device: Device, found: Sequence[Judged] | None) -> list[Check]:
    if found is None:
        gone = "the server does not have it: the erase image did not find it"
        todo = "replace it, or leave it out of AGENT_DEVICES_FILE"
        return [of_device("device", device, "fail", gone, todo)]
    if not found:
        return [of_device("device", device, "inconclusive", "the erase image did not check it", LOOK)]
    failed = [one for one in found if one.verdict == "fail"]
    without = [one.name for one in found if one.backend != WITH_A_GPU]
    if without and not failed:
        detail = f"{', '.join(without)} ran without the GPU, in the erase image"
        return [of_device("device", device, "inconclusive", detail, "give the image CuPy and a driver")]
    return [_told(device, one) for one in (failed if without else found)]


def _told(device: Device, one: Judged) -> Check:
    """Return a check as a fact has it: what an image writes may be too long, or no such thing, and its verdict stands."""
    try:
        check = Check(
            name=one.name,
            device_id=device.device_id,
            verdict=one.verdict,
            backend="cupy" if one.backend == WITH_A_GPU else "numpy",
            rehearsal=False,
            took_ms=max(0, one.took_ms),
            detail=one.detail[:DETAIL_CHARS_MAX],
            action=one.action and one.action[:DETAIL_CHARS_MAX],
            evidence=one.evidence,
        )
        return msgspec.json.decode(msgspec.json.encode(check), type=Check)
    except msgspec.MsgspecError as fault:
        verdict: Verdict = "fail" if one.verdict == "fail" else "inconclusive"
        detail = f"what the erase image tells of {one.name[:64]} cannot be read: {fault}"
        return of_device("device", device, verdict, detail, LOOK)


def attested(expected: Expected | None, found: Found, checks: Sequence[Check]) -> tuple[Verdict, str]:
    """Return whether firmware, secure boot, accounts and accelerators are as they should be, and what is not."""
    said: list[tuple[Verdict, str]] = []
    if expected is None or not expected.components:
        said.append(("inconclusive", "nothing says which firmware is expected"))
    else:
        said += [("fail", one) for one in mismatches(expected.components, found.firmware)]
        if expected.secure_boot is not None and found.secure_boot is None:
            said.append(("inconclusive", "the BMC does not say whether secure boot is on"))
        elif expected.secure_boot is not None and found.secure_boot != expected.secure_boot:
            said.append(("fail", f"secure boot is {'on' if found.secure_boot else 'off'}"))
        if expected.accounts is not None:
            others = sorted(set(found.accounts) - set(expected.accounts))
            said += [("fail", f"the BMC has an account {one}: remove it") for one in others]
    if not checks:
        said.append(("inconclusive", "no accelerator was checked"))
    said += [(one.verdict, f"{one.name} of {one.device_id}") for one in checks if one.verdict != "pass"]
    verdict = worst(one for one, _ in said)
    if verdict == "pass":
        return verdict, "firmware and secure boot as the BMC tells them, health check"
    return verdict, "; ".join(text for _, text in said)


def _shows(one: Wiped) -> bool:
    return one.verdict == "pass" and bool(one.serial.strip() and one.method and one.log_id)


def _same(serial: str) -> str:
    """Return a serial number as it is compared: firmware pads it, and images write it in either case."""
    return serial.strip().upper()
