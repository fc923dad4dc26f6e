"""The errors of a day, kept on disk: what repeats is counted over restarts of the agent too."""

import logging
import time
from collections import deque
from pathlib import Path

import msgspec

from node_agent.domain.xid import DAY_S, KEPT_MAX, Xid, heard_last
from node_agent.runtimes.kept import keep

FILE = "xids.json"
TEXT_KEPT_CHARS = 200

logger = logging.getLogger(__name__)


class ErrorHistory:
    """The errors that were heard within a day, the last ``KEPT_MAX`` of them; without a folder only in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / FILE
        self._errors: deque[Xid] = deque(self._recall(), maxlen=KEPT_MAX)

    def add(self, xid: Xid) -> None:
        """Keep one more error; its ``at`` is in monotonic seconds."""
        self._errors.append(xid)
        if self._file is not None:
            behind = time.time() - time.monotonic()
            kept = [
                one._replace(
                    at=one.at + behind,
                    until=one.until and one.until + behind,
                    text=one.text[:TEXT_KEPT_CHARS],
                )
                for one in self.errors(xid.at)
            ]
            keep(self._file, msgspec.json.encode(kept))

    def lengthen(self, error: Xid, until: float) -> None:
        """Note that an error was heard once more."""
        for place in reversed(range(len(self._errors))):
            if self._errors[place] is error:
                self._errors[place] = error._replace(until=until)
                return

    def errors(self, now: float, within_s: float = DAY_S) -> list[Xid]:
        """Return those of the last seconds, in order."""
        return [one for one in self._errors if now - heard_last(one) <= within_s]

    def _recall(self) -> list[Xid]:
        if self._file is None:
            return []
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=list[Xid])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as fault:
            logger.warning("%s says nothing of the errors before: %s", self._file, fault)
            return []
        now = time.monotonic()
        behind = time.time() - now
        # What a clock that was set since has come later than now is of an unknown time: left out.
        return [
            one._replace(at=one.at - behind, until=one.until and one.until - behind)
            for one in kept
            if one.at - behind <= now
        ]
