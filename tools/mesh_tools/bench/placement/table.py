"""What ``mesh bench placement`` prints for people."""

from typing import Any


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
    if found["lists"]:
        print(f"openb, 130 % asked for, seeds {found['seeds'][0]} to {found['seeds'][-1]}: GPUs in use")
        print(f"  {'list':<12} {'ours':>8} {'FGD, published':>15} {'difference':>11}")
        for name, one in found["lists"].items():
            theirs = one["published_fgd_pct"]
            against = (
                "" if theirs is None else f"{theirs:>13.2f} % {one['allocation_pct'] - theirs:>+11.2f}"
            )
            print(f"  {name:<12} {one['allocation_pct']:>6.2f} % {against}")
        print(f"  default, nodes renamed and reordered: {found['reordered_pct']:.2f} %")
        one = found["power"]
        print(f"\npower of GPUs by plan at {one['load']:.0%} load, default list")
        print(
            f"  published FGD {one['fgd_kw']:,.0f} kW, ours {one['ours_kw']:,.0f} kW, with thrift {one['thrifty_kw']:,.0f} kW:"
            f" {one['saved_pct']:.1f} % less than FGD"
        )
        print(
            f"  at saturation {one['full_pct']:.2f} % in use, with thrift {one['full_thrifty_pct']:.2f} %"
        )
    for gpus, one in found.get("speed", {}).items():
        print(f"\n{int(gpus):,} GPUs, all constraints on, to saturation")
        print(
            f"  {one['decisions_per_s']:,.0f} decisions/s with their explanation, p50 {one['p50_ms']:.3f} ms,"
            f" p99 {one['p99_ms']:.3f} ms, longest {one['max_ms']:.1f} ms; {one['allocation_pct']:.2f} % in use"
        )
        print(
            f"  FGD that scores every node anew: {one['yardstick_per_s']:,.0f}/s; ours {one['ratio']:.1f} times"
        )
