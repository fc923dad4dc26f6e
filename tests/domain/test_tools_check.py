"""What the gate makes of what pytest says."""

import sys
from pathlib import Path

import pytest
from mesh_tools.check import ALONE_MAX, Step, alone, counts, proofs

TEST = "tests/domain/test_places.py"


def ended(said: str, code: int = 1) -> Step:
    step = Step("quick tests (pytest)", sys.executable, "-V")
    step.code, step.said = code, said
    return step


def test_every_test_belongs_to_exactly_one_step() -> None:
    chosen = [step.command[step.command.index("-m", 3) + 1] for step in proofs(fast=False, long=True)]
    assert chosen == ["not slow and not long", "slow and not long", "long"]
    assert [step.name for step in proofs(fast=True, long=False)] == ["quick tests (pytest)"]
    assert len(proofs(fast=False, long=False)) == 2


def test_the_last_lines_of_all_steps_are_summed() -> None:
    quick = ended("...\n2 failed, 1150 passed, 3 skipped in 80.11s (0:01:20)")
    slow = ended("...\n146 passed, 1 error in 500.20s (0:08:20)")
    assert counts(quick, slow) == {"passed": 1296, "failed": 2, "skipped": 3, "error": 1}


@pytest.mark.parametrize(
    "said",
    [
        "1 failed, 3 passed in 1.00s",
        f"FAILED {TEST}::test_one\n1 failed, 3 passed, 1 error in 1.00s",
        f"FAILED {TEST}::test_one\n2 failed, 3 passed in 1.00s",
        "\n".join(f"FAILED {TEST}::test_{number} - no" for number in range(ALONE_MAX + 1))
        + f"\n{ALONE_MAX + 1} failed in 1.00s",
    ],
    ids=["none is named", "an error", "not all are named", "too many"],
)
def test_what_is_no_accident_is_not_tried_again(said: str) -> None:
    proof = ended(said)
    assert alone(proof) is proof


@pytest.mark.slow
def test_a_test_that_passes_only_alone_is_named_with_what_it_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = next(
        line.partition("def ")[2].partition("(")[0]
        for line in Path(TEST).read_text().splitlines()
        if line.startswith("def test_")
    )
    proof = ended(f"why it failed\nFAILED {TEST}::{name} - assert 1 == 2\n1 failed, 3 passed in 1.00s")
    again = alone(proof)
    assert again.code == 0
    said = capsys.readouterr().out
    assert f"{TEST}::{name}" in said
    assert "why it failed" in said


@pytest.mark.slow
def test_a_test_that_fails_alone_too_has_failed() -> None:
    proof = ended(f"FAILED {TEST}::test_that_is_not_there - no\n1 failed, 3 passed in 1.00s")
    assert alone(proof) is proof
