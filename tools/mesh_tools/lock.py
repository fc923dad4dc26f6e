"""``mesh lock``: resolve the workspace anew into ``requirements.lock``; ``--check`` compares only.

The lock holds pins and hashes and no address, so that any index or mirror serves it. The check
needs no network: every requirement of every member must be pinned, at a version it allows.
"""

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCK = "requirements.lock"
EXPORT = ("export", "--frozen", "--no-emit-workspace", "--no-annotate", "--no-header", "--all-packages")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;.*)?$")
CLAUSE = re.compile(r"^(>=|<=|==|!=|~=|<|>)\s*([0-9][A-Za-z0-9.]*)$")
ADDRESS = re.compile(r"https?://|file:|--index-url|--extra-index-url|--find-links")


def main(argv: list[str]) -> int:
    """Write the lock, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(prog="mesh lock", description="Resolve anew, or compare.")
    parser.add_argument("--check", action="store_true", help="only compare; needs no network")
    if parser.parse_args(argv).check:
        faults = differences(ROOT)
        for fault in faults:
            print(f"mesh lock: {fault}", file=sys.stderr)
        if faults:
            print("mesh lock: run `./mesh lock` and commit what it writes", file=sys.stderr)
        return 1 if faults else 0
    return write(ROOT)


def write(root: Path) -> int:
    """Resolve and export. Returns uv's exit code where it fails."""
    uv = shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv") or "uv"
    for command in ([uv, "lock"], [uv, *EXPORT, "--output-file", str(root / LOCK)]):
        done = subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            return done.returncode
    print(f"{LOCK}: {len(pins((root / LOCK).read_text()))} packages")
    return 0


def differences(root: Path) -> list[str]:
    """Return what stands between the lock and the members' requirements; nothing where they agree."""
    text = (root / LOCK).read_text()
    pinned = pins(text)
    faults = [
        f"{LOCK} holds an address: {line.strip()}" for line in text.splitlines() if ADDRESS.search(line)
    ]
    faults += [f"{LOCK} pins {name} without a hash" for name in unhashed(text)]
    members = set()
    wanted: list[tuple[str, str]] = []
    for file in manifests(root):
        manifest = tomllib.loads(file.read_text())
        members.add(normal(manifest["project"]["name"]))
        wanted += [(str(file.relative_to(root)), one) for one in requirements(manifest)]
    for file_name, requirement in wanted:
        name, clauses = parsed(requirement)
        if name in members:
            continue
        if name not in pinned:
            faults.append(f"{file_name} wants {requirement}, which {LOCK} does not pin")
        elif not any(allowed(version, clauses) for version in pinned[name]):
            faults.append(f"{file_name} wants {requirement}, but {LOCK} pins {', '.join(pinned[name])}")
    return faults


def manifests(root: Path) -> list[Path]:
    """Return every pyproject.toml of the workspace."""
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]["workspace"][
        "members"
    ]
    found = [root / "pyproject.toml"]
    for pattern in patterns:
        found += sorted(root.glob(f"{pattern}/pyproject.toml"))
    return found


def requirements(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield what is installed by default: requirements and the groups for developers, not the extras."""
    yield from manifest["project"].get("dependencies", [])
    for group in manifest.get("dependency-groups", {}).values():
        yield from (one for one in group if isinstance(one, str))


def pins(text: str) -> dict[str, list[str]]:
    """Return the pinned versions by name (several where markers choose)."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        pin = PIN.match(line)
        if pin:
            found.setdefault(normal(pin[1]), []).append(pin[2])
    return found


def unhashed(text: str) -> list[str]:
    """Return the packages that are pinned without a hash."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if PIN.match(line):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    return [
        block[0].partition("==")[0] for block in blocks if not any("--hash=" in line for line in block)
    ]


def parsed(requirement: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a requirement's name and clauses. Raises ``ValueError`` for a form we do not use."""
    found = REQUIREMENT.match(requirement)
    if not found:
        raise ValueError(f"not a plain requirement: {requirement}")
    clauses = []
    for part in filter(None, (one.strip() for one in found[2].split(","))):
        clause = CLAUSE.match(part)
        if not clause:
            raise ValueError(f"not a plain clause in {requirement}: {part}")
        clauses.append((clause[1], clause[2]))
    return normal(found[1]), clauses


def allowed(version: str, clauses: list[tuple[str, str]]) -> bool:
    """Tell whether a version satisfies every clause (release numbers only: all that we use)."""
    have = release(version)
    for sign, text in clauses:
        than = release(text)
        if sign == "~=":
            holds = have >= than and have[: len(than) - 1] == than[:-1]
        else:
            width = max(len(have), len(than))
            left, right = have + (0,) * (width - len(have)), than + (0,) * (width - len(than))
            holds = {
                ">=": left >= right,
                "<=": left <= right,
                "==": left == right,
                "!=": left != right,
                "<": left < right,
                ">": left > right,
            }[sign]
        if not holds:
            return False
    return True


def release(version: str) -> tuple[int, ...]:
    """Return a version's release numbers: ``2.15.1.post1`` gives (2, 15, 1)."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    assert numbers, version
    return tuple(int(part) for part in numbers[0].split("."))


def normal(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
