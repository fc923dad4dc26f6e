"""The credentials of a BMC's account: read once from the operator, then changed for each lease and kept here."""

import os
import secrets
import string
from pathlib import Path
from typing import NamedTuple

import msgspec
from meshkit.config import Secret
from meshkit.errors import ConfigError

FILE = "bmc.json"
FILE_BYTES_MAX = 65_536
PASSWORD_CHARS = 20
"""What every BMC takes: IPMI knows no longer ones."""
PASSWORD_CHARS_MIN = 12
_MARKS = "-_"


class Login(NamedTuple):
    """An account of the BMC."""

    user: str
    password: Secret


class _Read(msgspec.Struct, frozen=True):
    user: str
    password: str


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """``pending``: the password that the BMC was asked to take, and may have taken."""

    user: str
    password: str
    pending: str | None = None


class Keys:
    """The account of one BMC. ``fixed``: somebody else changes its password; the file always counts."""

    def __init__(self, told: Path, folder: Path, *, fixed: bool = False) -> None:
        self.told = told
        self.fixed = fixed
        self.file = folder / FILE
        self._seen: set[str] = set()
        self.candidates()

    def candidates(self) -> list[Login]:
        """Return what may open the BMC, most likely first. Raises ``ConfigError``."""
        told = read_login(self.told)
        kept = None if self.fixed else self._recall()
        found = [told]
        if kept is not None:
            before = [Login(kept.user, Secret(kept.password)), told]
            pending = [] if kept.pending is None else [Login(kept.user, Secret(kept.pending))]
            found = [*pending, *before]
        self._seen.update(login.password.reveal() for login in found)
        return list(dict.fromkeys(found))

    def begin(self, held: Login, chars: int = PASSWORD_CHARS) -> Login:
        """Return the login that is to follow ``held``; kept before the BMC hears of it."""
        fresh = drawn(chars)
        self._seen.add(fresh)
        self._keep(_Kept(held.user, held.password.reveal(), fresh))
        return Login(held.user, Secret(fresh))

    def settle(self, login: Login) -> None:
        """Keep what opened the BMC, and forget what did not."""
        if not self.fixed:
            kept = _Kept(login.user, login.password.reveal())
            if kept != self._recall():
                self._keep(kept)

    def hide(self, text: str) -> str:
        """Return ``text`` without any password that was ever used here."""
        for password in self._seen:
            text = text.replace(password, "***")
        return text

    def _recall(self) -> _Kept | None:
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as fault:
            raise ConfigError(
                f"{self.file} is unusable: {type(fault).__name__}; delete it and write the BMC's login into {self.told}"
            ) from None

    def _keep(self, kept: _Kept) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.file)
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_login(path: Path) -> Login:
    """Return the login in a file: user and password in two lines, or as JSON.

    Raises ``ConfigError`` where it cannot be read, or where others than its owner may read it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigError(f"{path} may be read by others than its owner: chmod 600 {path}")
            text = file.read(FILE_BYTES_MAX).decode()
    except OSError as fault:
        raise ConfigError(f"{path}: {fault.strerror}; it should hold the BMC's login") from fault
    except UnicodeDecodeError:
        text = ""
    try:
        read = msgspec.json.decode(text, type=_Read)
    except msgspec.MsgspecError:
        user, _, password = text.strip().partition("\n")
        read = _Read(user.strip(), password.strip())
    if not read.user or not read.password or "\n" in read.password or read.user.startswith("{"):
        raise ConfigError(f"{path} should hold the BMC's user and password: two lines, or JSON")
    return Login(read.user, Secret(read.password))


def drawn(chars: int) -> str:
    """Return a fresh password that has what the rules of BMCs ask for: both cases, a digit, a mark."""
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits, _MARKS)
    while True:
        text = "".join(secrets.choice("".join(kinds)) for _ in range(chars))
        if text[0] not in _MARKS and all(any(one in kind for one in text) for kind in kinds):
            return text
