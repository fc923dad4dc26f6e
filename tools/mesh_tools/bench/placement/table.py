"""What ``mesh bench placement`` prints for people."""

from collections.abc import Callable
from typing import Any

LARGE_GPUS = 45_000
"""From so many GPUs on other figures are due."""


def show_run(found: dict[str, Any]) -> None:
    """Print one run of one list."""
    print(
        f"{found['nodes']:,} nodes, {found['gpus']:,} GPUs, seed {found['seed']}, {found['arrived']:.0%} asked for"
    )
    print(
        f"  {found['allocation_pct']:.3f} % of all GPUs used: {found['placed']:,} placed, {found['rejected']:,} refused"
    )
    print(
        f"  {found['decisions_per_s']:,.0f} decisions/s, p50 {found['p50_ms']:.3f} ms, p99 {found['p99_ms']:.3f} ms,"
        f" longest {found['max_ms']:.1f} ms"
    )


def show(found: dict[str, Any]) -> None:
    """Print everything that was measured."""
    if "lists" in found:
        _show_lists(found)
    if "power" in found:
        _show_power(found["power"])
    for gpus, one in found.get("speed", {}).items():
        _show_speed(int(gpus), one)
    for name, show_part in PARTS.items():
        if name in found:
            show_part(found[name])


def _show_lists(found: dict[str, Any]) -> None:
    print(
        f"openb, 130 % asked for, seeds {found['seeds'][0]} to {found['seeds'][-1]}: GPUs in use"
        f" (must be 95.3 % of default, and 0.3 less than published or more)"
    )
    print(f"  {'list':<12} {'ours':>8} {'FGD, published':>15} {'difference':>11}")
    for name, one in found["lists"].items():
        theirs = one["published_fgd_pct"]
        against = (
            "" if theirs is None else f"{theirs:>13.2f} % {one['allocation_pct'] - theirs:>+11.2f}"
        )
        print(f"  {name:<12} {one['allocation_pct']:>6.2f} % {against}")
    print(f"  default, nodes renamed and reordered: {found['reordered_pct']:.2f} %")


def _show_power(one: dict[str, Any]) -> None:
    seeds = len(one["saved_pcts"])
    print(
        f"\npower of GPUs by plan at {one['load']:.0%} load, default list, {seeds} seed{'s' * (seeds > 1)}"
    )
    print(
        f"  published FGD {one['fgd_kw']:,.0f} kW, ours {one['ours_kw']:,.0f} kW, with thrift {one['thrifty_kw']:,.0f} kW:"
        f" {one['saved_pct']:.1f} % less than FGD, {min(one['saved_pcts']):.1f} to {max(one['saved_pcts']):.1f} (must be 10)"
    )
    print(
        f"  at saturation {one['full_pct']:.2f} % in use, with thrift {one['full_thrifty_pct']:.2f} %"
        f": {one['full_pct'] - one['full_thrifty_pct']:.2f} less (must be no more than 0.3)"
    )


def _show_speed(gpus: int, one: dict[str, Any]) -> None:
    a_second, p99_ms = (3_000, 3) if gpus < LARGE_GPUS else (2_500, 4)
    print(f"\n{gpus:,} GPUs, all constraints on, to saturation")
    print(
        f"  {one['decisions_per_s']:,.0f} decisions/s with their explanation (must be {a_second:,}),"
        f" p50 {one['p50_ms']:.3f} ms, p99 {one['p99_ms']:.3f} ms (must be {p99_ms}),"
        f" longest {one['max_ms']:.1f} ms; {one['allocation_pct']:.2f} % in use"
    )
    print(
        f"  FGD that scores every node anew: {one['yardstick_per_s']:,.0f}/s; ours {one['ratio']:.1f} times"
    )


def _show_gangs(one: dict[str, Any]) -> None:
    print("\ngangs of 8 to 1,024 GPUs on 250 NVL72 racks, kept full, with their explanation")
    print(
        f"  {_times(one)} (p99 must be 5 ms); {one['placed']:,} placed, {one['rejected']:,} refused,"
        f" {one['partial']} in part (must be 0)"
    )
    print(
        f"  {one['used_permille'] / 10:.1f} % in use on average; of the same stream with no gang near to itself"
        f" {one['blind_permille'] / 10:.1f} % (must be within 1)"
    )


def _show_preemption(one: dict[str, Any]) -> None:
    print("\nwho makes way for such gangs in a full hall")
    print(
        f"  {_times(one)} (p99 must be 20 ms); {one['placed']} plans with {one['victims']} victims"
        f" of {one['holdings']} workloads, {one['rejected']} without a way"
    )


def _show_rack(one: dict[str, Any]) -> None:
    print("\nall who were in a rack that failed, a tenth of the hall free")
    print(
        f"  {_times(one)} (must be 1,000 ms); {one['replaced']} of {one['workloads']} workloads"
        f" have their seats again, in {one['placed']} racks"
    )


def _show_e2e(one: dict[str, Any]) -> None:
    print(f"\nfrom an ask to a durable reservation, {one['gpus']:,} GPUs, {one['cores']} cores for all")
    for run in one["runs"]:
        sent = run["rate_per_s"]
        how, must = (
            (f"{sent:,.0f} a second sent", "")
            if sent
            else (f"{run['at_once']} at once", " (must be 800)")
        )
        print(
            f"  {how}: {run['answered_per_s']:,.0f} a second answered{must},"
            f" p50 {run['p50_ms']:.1f} ms, p99 {run['p99_ms']:.1f} ms (must be 50)"
        )


def _show_restart(one: dict[str, Any]) -> None:
    print(f"\na start with {one['gpus']:,} GPUs and {one['events']:,} events behind it")
    print(
        f"  {one['took_s']:.2f} s (must be 30), {one['cpu_s']:.2f} s of CPU;"
        f" {one['decided_again']:,} decided again, {one['workloads']:,} workloads"
    )


def _times(one: dict[str, Any]) -> str:
    return f"p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms, longest {one['max_ms']:.2f} ms"


PARTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "gangs": _show_gangs,
    "preemption": _show_preemption,
    "rack": _show_rack,
    "e2e": _show_e2e,
    "restart": _show_restart,
}
