"""``mesh check [--fast|--long]``: the whole gate, or its quick part, or the full-size proofs too.

A line a step with its time; the words of a step only where it failed, or has figures; how many tests passed last.
"""

import argparse
import asyncio
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

from mesh_tools import preflight
from mesh_tools.lock import ROOT, manifests

AT_ONCE = 2
SLOW_AT_ONCE = 3
"""Files of slow tests at once: they mostly wait, and each has processes of its own."""

QUICK_AT_ONCE = 3
"""Files of quick tests at once: most of their time they wait for a server, not for a core."""
SAID_AT_MOST = 60_000
STEP_WITHIN_S = 3_600.0
ALONE_MAX = 5
"""So many failed tests are run once more, alone: what waits on real servers may be late on a busy machine.
More than that is no accident. A test that passes only alone is named, with what it said, never hidden."""
TOLD = {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "", "NO_COLOR": "1", "COLUMNS": "120"}
"""What every step is told. Compiled modules are kept, whatever the shell says: hundreds of processes start."""
FAILED_TEST = re.compile(r"^FAILED (tests/\S+?::.+?)(?: - .*)?$", re.MULTILINE)
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|error)")
MODULES = (
    "mesh-contracts=mesh_contracts",
    "mesh-meshkit=meshkit",
    "mesh-gpuprobe=gpuprobe",
    "mesh-node-agent=node_agent",
    "mesh-placement=placement",
    "nats-py=nats",
    "nvidia-ml-py=pynvml",
    "cupy-cuda13x=cupy|cupy_backends",
    "opentelemetry-api=opentelemetry",
    "opentelemetry-sdk=opentelemetry",
    "opentelemetry-exporter-otlp-proto-http=opentelemetry",
)
"""What a distribution's modules are called where its metadata does not tell."""


class Step:
    """One program of the gate."""

    def __init__(self, name: str, *command: str) -> None:
        self.name = name
        self.command = command
        self.code = 0
        self.said = ""
        self.took_s = 0.0

    async def run(self, slots: asyncio.Semaphore) -> None:
        """Run it and print its line."""
        async with slots:
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                env={**os.environ, **TOLD},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(STEP_WITHIN_S):
                    out, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                out, _ = await process.communicate()
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
            self.took_s = time.monotonic() - began
        self.code, self.said = process.returncode or 0, out.decode(errors="replace").strip()
        print(
            f"{self.took_s:7.1f} s  {'ok' if self.code == 0 else 'FAILED':6}  {self.name}", flush=True
        )


def still_steps() -> list[Step]:
    """Return the steps that read the tree and start no server; the slowest first."""
    python = sys.executable
    programs = Path(python).parent
    ruff = str(programs / "ruff")
    steps = [
        # A cache of its own: two at once on one cache make it lie.
        Step("types (mypy strict)", str(programs / "mypy"), "--cache-dir", ".mypy_cache/gate"),
        Step("lint (ruff)", ruff, "check", "--quiet"),
        Step("format (ruff)", ruff, "format", "--check", "--quiet"),
        Step("who may know whom (import-linter)", str(programs / "lint-imports"), "--no-cache"),
        Step("the contracts are frozen", python, "-P", "-m", "mesh_tools", "freeze", "--check"),
        Step("the lock is in step", python, "-P", "-m", "mesh_tools", "lock", "--check"),
    ]
    for manifest in manifests(ROOT)[1:]:
        member = manifest.parent
        package = next(file.parent for file in sorted(member.glob("*/__init__.py")))
        steps.append(
            Step(
                f"dependencies of {member.relative_to(ROOT)} (deptry)",
                *(str(programs / "deptry"), str(package.relative_to(ROOT)), "--config", str(manifest)),
                *("--known-first-party", package.name),
                *("--package-module-name-map", ",".join(MODULES), "--no-ansi"),
            )
        )
    return steps


def chosen(name: str, marks: str, *, at_once: int = 1) -> Step:
    """Return the step that runs the tests that ``marks`` choose, a file's tests in one process."""
    several = ("-n", str(at_once), "--dist", "loadfile", "--no-loadscope-reorder")
    parallel = several if at_once > 1 else ()
    return Step(name, sys.executable, "-P", "-m", "pytest", "-m", marks, *parallel)


def proofs(*, fast: bool, long: bool) -> list[Step]:
    """Return the steps that run tests: the quick ones and the slow ones three files at a time."""
    quick = chosen("quick tests (pytest)", "not slow and not long", at_once=QUICK_AT_ONCE)
    if fast:
        return [quick]
    slow = chosen("slow tests (pytest)", "slow and not long", at_once=SLOW_AT_ONCE)
    return [quick, slow, chosen("full-size proofs (pytest)", "long")] if long else [quick, slow]


async def gate(still: list[Step], proving: list[Step], *, together: bool) -> None:
    """Run all steps; the tests beside the others, or after them and one after the other."""
    slots = asyncio.Semaphore(AT_ONCE)
    if together:
        await asyncio.gather(*(step.run(slots) for step in (*proving, *still)))
        return
    await asyncio.gather(*(step.run(slots) for step in still))
    for step in proving:
        await step.run(slots)


def alone(proof: Step) -> Step:
    """Run the few tests that failed once more, by themselves; return what the gate goes by."""
    names = sorted(set(FAILED_TEST.findall(proof.said)))
    counted = counts(proof)
    if counted["error"] or counted["failed"] != len(names) or not 0 < len(names) <= ALONE_MAX:
        return proof
    again = Step("tests that failed beside others, alone", sys.executable, "-P", "-m", "pytest", *names)
    asyncio.run(again.run(asyncio.Semaphore(1)))
    if again.code != 0:
        return proof
    print("          they were: " + ", ".join(names))
    print(f"\n--- {proof.name}: what failed beside others\n{proof.said[-SAID_AT_MOST:]}")
    return again


def counts(*proving: Step) -> Counter[str]:
    """Return how many tests passed, failed, were skipped or had an error, as pytest's last lines say."""
    total: Counter[str] = Counter()
    for step in proving:
        for number, what in COUNTED.findall(step.said.rpartition("\n")[2]):
            total[what] += int(number)
    return total


def main(argv: list[str]) -> int:
    """Run the gate; return 0 only if every step passed."""
    parser = argparse.ArgumentParser(prog="mesh check", description="The whole gate.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--fast", action="store_true", help="without what needs many seconds")
    size.add_argument("--long", action="store_true", help="with the full-size proofs")
    wanted = parser.parse_args(argv)
    lacking = preflight.missing()
    if lacking:
        print(f"mesh check: {lacking}", file=sys.stderr)
        return 1
    began, steps = time.monotonic(), still_steps()
    proving = proofs(fast=wanted.fast, long=wanted.long)
    try:
        asyncio.run(gate(steps, proving, together=wanted.fast))
    except KeyboardInterrupt:
        return 130
    judged = [alone(step) if step.code == 1 else step for step in proving]
    rescued = [first for first, last in zip(proving, judged, strict=True) if first is not last]
    failed = [step for step in (*steps, *judged) if step.code != 0]
    for step in failed:
        print(f"\n--- {step.name}: exit code {step.code}\n{step.said[-SAID_AT_MOST:]}")
    if wanted.long and judged[-1].code == 0:
        print(f"\n--- {judged[-1].name}: figures to keep\n{judged[-1].said[-SAID_AT_MOST:]}")
    took = time.monotonic() - began
    whole = len(steps) + len(proving)
    print(f"\n{len(failed)} of {whole} steps failed" if failed else "\nevery step passed", end="")
    print(f" in {took:.0f} s")
    total = counts(*judged, *rescued)
    total["failed"] -= counts(*rescued)["failed"]
    print(", ".join(f"{total[what]} {what}" for what in ("passed", "failed")), end="")
    print("".join(f", {total[what]} {what}" for what in ("skipped", "error") if total[what]))
    return 1 if failed else 0
