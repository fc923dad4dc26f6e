"""What an erase image leaves at a URL of the operator's: the record of one run of it.

The image writes ``<system's UUID>.json``, or whatever the URL says with ``{system}`` in it, once it is done.
A report counts only where another one (or none) stood there before the image was booted, the power being off:
what a tenant wrote earlier is never taken for it. Who else may write there is for the operator to see to.

``{"report_id": "…", "system": "<UUID>", "drives": [{"serial", "method", "log_id", "verdict"}], "scrubbed": ["memory", "gpu"],
"accelerators": [{"device_id": "GPU-…", "checks": […]}]}``: the checks are those of ``python -m gpuprobe --json`` on that GPU.
"""

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from node_agent.domain.proof import Report
from node_agent.servers import ServerFault

REPORT_BYTES_MAX = 1_048_576
SYSTEM = "{system}"


def read_report(url: str, system: str, ca_file: Path | None, within_s: float) -> Report | None:
    """Return the report of this system; nothing where there is none, or none that is whole.

    It blocks. Raises ``ServerFault`` where the place itself does not answer, or it is another system's.
    """
    place = url.replace(SYSTEM, system)
    try:
        with _opener(ca_file).open(place, timeout=within_s) as answer:
            found = answer.read(REPORT_BYTES_MAX)
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code in {404, 410}:
            return None
        raise ServerFault(
            f"the erase report at {place}: status {fault.code}; look at what keeps it"
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as fault:
        if isinstance(getattr(fault, "reason", fault), FileNotFoundError):
            return None
        raise ServerFault(f"the erase report at {place}: {fault}; look at what keeps it") from None
    try:
        report = msgspec.json.decode(found, type=Report)
    except (ValueError, RecursionError):  # no JSON of ours, or no text at all
        return None
    if report.system.lower() != system:
        raise ServerFault(
            f"the erase report at {place} is of system {report.system}: the erase image names the wrong one"
        )
    return report


def _opener(ca_file: Path | None) -> urllib.request.OpenerDirector:
    """Return what opens the place of a report: no proxy of the agent's user comes in between."""
    trusted = ssl.create_default_context(cafile=ca_file)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )
