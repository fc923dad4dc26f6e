"""What XIDs mean: faults of programs leave a node in service, faults of hardware take it out."""

from typing import get_args

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_agent.domain.xid import (
    ACTIONS,
    OUT,
    RECOVERY,
    TABLE,
    Kind,
    Xid,
    judge,
    read_line,
    same,
    waits_for_text,
)

BUSES = ["00000000:10:00.0", "00000000:11:00.0", "00000018:01:00.0"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (8, "application"), (13, "application"), (31, "application"), (69, "application"),
        (94, "application"), (130, "application"), (38, "note"), (43, "note"), (45, "note"),
        (78, "note"), (63, "watch"), (92, "watch"), (48, "reset"), (62, "reset"), (95, "reset"),
        (109, "reset"), (119, "reset"), (136, "reset"), (140, "reset"), (155, "reset"), (79, "reboot"),
        (151, "reboot"), (74, "links"), (149, "links"), (54, "hands"), (64, "replace"), (154, "watch"),
    ],
)  # fmt: skip
def test_the_catalogues_classes(code: int, kind: str) -> None:
    judged = judge(Xid(0, code), [])
    assert judged.kind == kind
    assert judged.out == (kind in OUT)
    assert judged.action == ACTIONS[judged.kind]


def test_no_programs_fault_takes_a_node_out_and_every_hardware_fault_does() -> None:
    many = [Xid(0, 13)] * 100
    assert not judge(Xid(0, 13), many).out
    for code, policy in TABLE.items():
        assert judge(Xid(0, code), []).out == (policy.kind in OUT)
    assert set(ACTIONS) == set(get_args(Kind))


def test_what_repeats_on_one_gpu_has_it_tested() -> None:
    assert judge(Xid(0, 13), []).test is None
    assert judge(Xid(0, 13), [Xid(1, 13)]).test is None
    assert judge(Xid(0, 13), [Xid(0, 13)]).test == "deep"
    assert judge(Xid(0, 31), [Xid(0, 31)]).test == "standard"
    assert judge(Xid(0, 69), [Xid(0, 69)] * 3).test is None
    assert judge(Xid(0, 69), [Xid(0, 69)] * 4).test == "standard"
    assert "5 times within a day" in judge(Xid(0, 69), [Xid(0, 69)] * 4).detail


@pytest.mark.parametrize(("action", "kind"), [*RECOVERY.items(), (8, "reset"), (31, "reset")])
def test_what_the_gpu_itself_says_stands_above_the_table(action: int, kind: str) -> None:
    assert judge(Xid(0, 31, recovery=action), []).kind == (kind if action else "application")
    assert judge(Xid(0, 154, recovery=action), []).kind == kind
    assert judge(Xid(0, 79, recovery=0), []).kind == "reboot"


def test_every_recovery_action_of_the_drivers_header_is_known() -> None:
    names = [name for name in dir(pynvml) if name.startswith("NVML_GPU_RECOVERY_ACTION_")]
    assert names
    assert {getattr(pynvml, name) for name in names} == set(RECOVERY)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", "reset"),
        ("GPU recovery action changed from 0x0 (None) to 0x7 (System Reboot Required)", "reboot"),
        ("GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)", "note"),
        ("", "watch"),
    ],
)
def test_where_the_gpu_cannot_be_asked_the_kernels_line_says_what_would_mend_it(
    text: str, kind: str
) -> None:
    assert judge(Xid(0, 154, text), []).kind == kind


def test_of_a_link_unit_the_kernels_line_says_how_bad_it_is() -> None:
    assert waits_for_text(Xid(0, 149))
    assert not waits_for_text(Xid(0, 149, "NETIR_LINK_EVT Fatal"))
    assert judge(Xid(0, 149, "NETIR_LINK_EVT Fatal XC0 i0 Link 08"), []).kind == "links"
    assert judge(Xid(0, 149, "NETIR_LINK_EVT Nonfatal XC0 i0 Link 08"), []).kind == "note"
    assert judge(Xid(0, 149), []).kind == "links"


def test_an_error_that_nobody_knows_is_watched_and_tested() -> None:
    judged = judge(Xid(0, 999), [])
    assert (judged.kind, judged.out, judged.test) == ("watch", False, "standard")


@pytest.mark.parametrize(
    ("line", "xid"),
    [
        (
            "NVRM: Xid (PCI:0000:11:00): 79, pid=812, name=python3, GPU has fallen off the bus.",
            Xid(1, 79, "pid=812, name=python3, GPU has fallen off the bus."),
        ),
        (
            "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x1 0x2)",
            Xid(2, 149, "NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x1 0x2)"),
        ),
        ("NVRM: Xid (0000:10:00): 14,", Xid(0, 14)),
        (
            "NVRM: Xid (PCI:0000:77:00.0): 13, Graphics SM",
            Xid(None, 13, "Graphics SM", bus=(0, 0x77, 0)),
        ),
        (
            "nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 22013, Fatal, Link 42 minion link DLREQ",
            Xid(None, 22013, "Fatal, Link 42 minion link DLREQ", switch=True, bus=(0, 0xC3, 0)),
        ),
        ("usb 1-1: new high-speed USB device number 4", None),
    ],
)
def test_lines_of_the_kernels_log(line: str, xid: Xid | None) -> None:
    assert read_line(line, BUSES) == xid


def test_a_switchs_fatal_error_takes_the_node_out_and_another_does_not() -> None:
    assert judge(Xid(None, 22013, "Fatal, Link 42", switch=True), []).kind == "links"
    for text in ("Non-fatal, Link 42", "Nonfatal, Link 42", "Non fatal, Link 42"):
        assert judge(Xid(None, 22013, text, switch=True), []).kind == "note"
    posted = "Fatal, Link 32 egress non-posted PRIV error"
    assert judge(Xid(None, 19084, posted, switch=True), []).kind == "links"


@given(st.text(max_size=200))
def test_no_line_breaks_the_reader(line: str) -> None:
    read_line(line, BUSES)
    read_line(f"NVRM: Xid (PCI:{line}): 79", BUSES)


def test_the_driver_and_the_kernel_tell_of_one_error() -> None:
    assert same(Xid(0, 79), Xid(0, 79, "GPU has fallen off the bus."))
    assert not same(Xid(0, 79), Xid(1, 79))
    assert not same(Xid(0, 79), Xid(0, 79, switch=True))


def test_another_link_another_switch_and_a_worse_error_are_not_told_once_more() -> None:
    mild, worse = "NETIR_LINK_EVT Nonfatal XC0 i0 Link 08", "NETIR_LINK_EVT Fatal XC0 i0 Link 08"
    assert same(Xid(0, 149, mild), Xid(0, 149, mild))
    assert same(Xid(0, 149, mild), Xid(0, 149, worse))
    assert not same(Xid(0, 149, worse), Xid(0, 149, mild))
    assert not same(Xid(0, 149, mild.replace("08", "09")), Xid(0, 149, mild))
    switch = Xid(None, 22013, "Fatal, Link 42", switch=True, bus=(0, 0xC3, 0))
    assert same(switch, switch)
    assert not same(switch._replace(bus=(0, 0xC4, 0)), switch)
