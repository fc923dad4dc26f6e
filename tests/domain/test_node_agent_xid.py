"""What XIDs mean: faults of programs leave a node in service, faults of hardware take it out."""

from typing import get_args

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_agent.domain.xid import Xid, judge, same, waits_for_text
from node_agent.domain.xid_lines import read_line
from node_agent.domain.xid_table import ACTIONS, OUT, RECOVERY, TABLE, Kind

BUSES = ["00000000:10:00.0", "00000000:11:00.0", "00000018:01:00.0"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (8, "application"), (13, "application"), (31, "application"), (69, "application"),
        (94, "application"), (130, "application"), (38, "note"), (43, "note"), (45, "fabric"),
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
    assert judge(Xid(0, 69), [Xid(0, 69)] * 3).test is None
    assert judge(Xid(0, 69), [Xid(0, 69)] * 4).test == "standard"
    assert "5 times within a day" in judge(Xid(0, 69), [Xid(0, 69)] * 4).detail


def test_what_programs_of_several_owners_suffer_on_one_gpu_has_it_tested() -> None:
    mine, other = Xid(0, 69, owner="project_a"), Xid(0, 69, owner="project_b")
    assert judge(mine, [mine]).test is None
    assert judge(other, [mine]).test == "standard"
    assert judge(other._replace(device=1), [mine]).test is None
    assert judge(Xid(0, 38, owner="project_a"), [Xid(0, 38, owner="project_b")]).test is None


def raised(at: float, *units: tuple[int, int]) -> list[Xid]:
    """Return the exceptions of one program's end: its event, then a line for each unit."""
    said = "Graphics SM Warp Exception on (GPC {}, TPC {}, SM 0): Illegal Instruction"
    lines = [Xid(0, 13, said.format(*unit), at=at + 0.1) for unit in units]
    return [Xid(0, 13, at=at), *lines]


@pytest.mark.parametrize(
    ("bursts", "test"),
    [
        ([[(1, 2)]], None),
        ([[(1, 2)], [(1, 2)]], "deep"),
        ([[(1, 2)], [(1, 3)]], None),
        ([[(1, 2)], [(1, 3)], [(1, 2)]], "deep"),
        ([[(1, 2), (3, 4)], [(1, 2), (3, 4)], [(1, 2), (3, 4)]], None),
        ([[(1, 2), (3, 4)], [(1, 2)]], None),
        ([[], [], [], []], None),
        ([[], [], [], [], []], "standard"),
    ],
)
def test_exceptions_that_come_again_on_one_unit_of_a_gpu_have_it_tested_and_those_that_spread_do_not(
    bursts: list[list[tuple[int, int]]], test: str | None
) -> None:
    *before, last = (
        one for number, units in enumerate(bursts) for one in raised(100.0 * number, *units)
    )
    assert judge(last, before).test == test


def test_page_faults_that_come_again_on_one_gpu_have_it_tested_and_those_of_several_do_not() -> None:
    first, soon, later = (Xid(0, 31, at=at) for at in (0.0, 100.0, 1_000.0))
    assert judge(soon, [first]).test is None
    assert judge(later, [first, soon]).test == "standard"
    # Those of a program that runs on several GPUs have them all at once.
    assert judge(later, [first, Xid(1, 31, at=999.0)]).test is None
    assert judge(later, [first, Xid(1, 31, at=500.0)]).test == "standard"
    assert judge(later, [first, Xid(1, 31, at=10.0)]).test is None


def test_what_goes_on_without_a_pause_is_one_error_and_after_long_another() -> None:
    first = Xid(0, 31, at=0.0, until=500.0)
    assert judge(Xid(0, 31, at=600.0), [first]).test is None
    assert judge(Xid(0, 31, at=700.0), [first]).test == "standard"
    assert judge(Xid(0, 31, at=1_900.0), [first._replace(until=1_890.0)]).test == "standard"
    assert judge(Xid(0, 45, at=600.0), [first]).kind == "note"


def test_a_program_that_is_torn_down_for_no_error_that_came_before_is_told_of() -> None:
    torn = Xid(0, 45, at=500.0)
    for before, kind in (
        ([Xid(0, 31, at=499.0)], "note"),
        ([Xid(1, 31, at=499.0)], "fabric"),
        ([Xid(0, 31, at=100.0)], "fabric"),
        ([Xid(0, 45, at=499.0)], "fabric"),
    ):
        judged = judge(torn, before)
        assert (judged.kind, judged.out, judged.test) == (kind, False, None)


HOPPER = "NVIDIA H200"


def link(*registers: int, number: int = 14) -> str:
    said = ", ".join(hex(one) for one in (*registers, *(0,) * (7 - len(registers))))
    return f"pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link {number}({said})"


@pytest.mark.parametrize(
    ("registers", "kind", "said"),
    [
        ((0, 0, 1 << 16), "links", "an error that matters where it repeats"),
        ((1 << 4,), "links", "parity or ECC errors"),
        ((1 << 9 | 1 << 1,), "links", "reseat it"),
        ((1 << 22 | 1 << 20,), "links", "a marginal signal"),
        ((1 << 20, 0, 0, 1 << 17), "links", "follows from another error"),
        ((0, 0, 1 << 13 | 1), "links", "no part in service should show"),
        ((1 << 31,), "links", "does not name"),
        ((0, 0, 0, 0, 1 << 20), "watch", "many errors were corrected"),
        ((1 << 23 | 1,), "note", "nothing that matters"),
        ((), "links", "an NVLink failed"),
    ],
)
def test_the_registers_of_an_nvlink_error_tell_what_it_is(
    registers: tuple[int, ...], kind: str, said: str
) -> None:
    assert waits_for_text(Xid(0, 74))
    judged = judge(Xid(0, 74, link(*registers), model=HOPPER), [])
    assert judged.kind == kind
    assert said in judged.detail
    # Of another GPU nothing says what they mean.
    assert judge(Xid(0, 74, link(*registers), model="NVIDIA B200"), []).kind == "links"


def test_a_worse_error_of_a_link_is_not_taken_for_the_milder_one_before() -> None:
    nothing, corrected, seat = (
        Xid(0, 74, link(*one), model=HOPPER) for one in ((1,), (0, 0, 0, 0, 1 << 20), (1 << 9,))
    )
    assert same(nothing, seat)
    assert same(seat, seat)
    assert not same(seat, corrected)
    assert not same(corrected, nothing)
    # The driver's event says nothing of its own.
    assert same(Xid(0, 74, model=HOPPER), nothing)


def test_parity_errors_of_one_link_that_come_a_third_time_have_what_it_is_of_replaced() -> None:
    here, other = (Xid(0, 74, link(1 << 5, number=one), model=HOPPER) for one in (3, 4))
    assert judge(here, [here, other]).action == ACTIONS["links"]
    judged = judge(here, [here, other, here])
    assert (judged.kind, judged.out) == ("links", True)
    assert "replace the GPU, or the baseboard" in judged.action


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
