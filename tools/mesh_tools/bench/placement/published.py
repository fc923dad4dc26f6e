"""What the artifact of "Beware of Fragmentation" (USENIX ATC 2023) reports for the same lists."""

import csv
from pathlib import Path

FILE = "published_allocation.csv"
FGD = "FGD"


def allocation(data: Path, name: str, arrived: int = 130) -> float | None:
    """Return the mean GPU allocation of published FGD in percent; nothing where it is not there."""
    path = data / FILE
    if not path.exists():
        return None
    with path.open(newline="") as opened:
        found = [
            float(line[str(arrived)])
            for line in csv.DictReader(opened)
            if line["workload"] == f"openb_pod_list_{name}" and line["sc_policy"].endswith(FGD)
        ]
    return round(sum(found) / len(found), 3) if found else None
