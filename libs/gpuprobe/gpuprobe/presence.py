"""Whether there is anything of NVIDIA's on this machine, by its kernel alone: no library of theirs is asked."""

from pathlib import Path

VENDOR = "0x10de"
DISPLAY = "0x03"
"""The class of what computes or shows pictures: NVIDIA's network cards and bridges are others."""


def nvidia(root: Path = Path("/")) -> str | None:
    """Return what of NVIDIA's the kernel knows: its driver, or a device on the bus; ``None`` where there is nothing."""
    if (root / "proc/driver/nvidia").exists():
        return "NVIDIA's driver is loaded"
    if (root / "dev/nvidiactl").exists() or any((root / "dev").glob("nvidia[0-9]*")):
        return "an NVIDIA device is in /dev"
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _says(device / "vendor") == VENDOR and _says(device / "class").startswith(DISPLAY):
            return f"an NVIDIA device is on the bus ({device.name})"
    return None


def _says(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
