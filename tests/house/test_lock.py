"""The lock is complete, hashed, without addresses, and in step with every member."""

import shutil
from pathlib import Path

import pytest
from mesh_tools import lock

from tests.house.tree import ROOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the lock and of every member's requirements."""
    for file in [*lock.manifests(ROOT), ROOT / lock.LOCK]:
        there = tmp_path / file.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_lock_pins_what_every_member_wants() -> None:
    assert lock.differences(ROOT) == []


def test_a_requirement_that_is_not_pinned_is_named(copy: Path) -> None:
    edit(copy / "contracts" / "pyproject.toml", '"msgspec>=', '"no-such-thing>=1", "msgspec>=')
    assert lock.differences(copy) == [
        "contracts/pyproject.toml wants no-such-thing>=1, which requirements.lock does not pin"
    ]


def test_a_pin_below_what_a_member_wants_is_named(copy: Path) -> None:
    edit(copy / "contracts" / "pyproject.toml", '"msgspec>=0.22"', '"msgspec>=99"')
    (fault,) = lock.differences(copy)
    assert fault.startswith("contracts/pyproject.toml wants msgspec>=99, but requirements.lock pins ")


def test_an_address_in_the_lock_is_refused(copy: Path) -> None:
    address = "--index-url " + "https" + "://packages.example/simple"
    (copy / lock.LOCK).write_text(f"{address}\n" + (copy / lock.LOCK).read_text())
    assert lock.differences(copy) == [f"requirements.lock holds an address: {address}"]


def test_a_pin_without_a_hash_is_refused(copy: Path) -> None:
    (copy / lock.LOCK).write_text((copy / lock.LOCK).read_text() + "bare==1.0\n")
    assert lock.differences(copy) == ["requirements.lock pins bare without a hash"]


@pytest.mark.parametrize(
    ("version", "requirement", "holds"),
    [
        ("2.15.1", "a>=2.15", True),
        ("2.15.1", "a>=2.16", False),
        ("0.1.0", "a==0.1.0", True),
        ("0.1.1", "a==0.1.0", False),
        ("1.9", "a>=1.2,<2", True),
        ("2.0", "a>=1.2,<2", False),
        ("1.4.5", "a~=1.4", True),
        ("2.0", "a~=1.4", False),
        ("3.1.post2", "a[extra]>=3.1 ; python_version >= '3.11'", True),
    ],
)
def test_a_version_is_held_against_each_clause(version: str, requirement: str, holds: bool) -> None:
    name, clauses = lock.parsed(requirement)
    assert name == "a"
    assert lock.allowed(version, clauses) is holds


def test_cupy_is_no_part_of_the_default_install() -> None:
    assert not any(name.startswith("cupy") for name in lock.pins((ROOT / lock.LOCK).read_text()))
