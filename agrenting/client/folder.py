"""The folder in which an agent remembers: what it signed, receipts, and which market it is in. No key lies there."""

import os
import re
import sys
from pathlib import Path
from typing import Final, Self

from .errors import FolderInUse, MalformedAnswer, WrongMarket
from .private_files import PRIVATE_FOLDER_MODE, PRIVATE_MODE, create_private, read_private

if sys.platform == "win32":  # pragma: no cover - Its own way of locking; elsewhere the module is not there.
    import msvcrt
else:
    import fcntl

STATE_VARIABLE: Final = "AGRENTING_STATE_DIR"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class StateFolder:
    """One agent's folder. It is made, mode 0700, where it is not there.

    Two agents must not share one. Of two programs of one agent only one may keep up payment channels with it, which
    `lock` sees to: neither would know what the other has signed. Receipts and pins may be written by both.

    Args:
        path: Where it is.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        _make(self.path)
        self._lock: int | None = None

    @classmethod
    def of(cls, agent_id: str, base: str | os.PathLike[str] | None = None) -> Self:
        """The folder of an agent among others.

        Args:
            agent_id: Whose it is.
            base: The folder of them all. None: what `AGRENTING_STATE_DIR` names, or `~/.local/state/agrenting`.

        Raises:
            MalformedAnswer: The id is none that a file could be called by.
            OSError: It cannot be made.
        """
        chosen = base or os.environ.get(STATE_VARIABLE) or Path.home() / ".local" / "state" / "agrenting"
        return cls(Path(chosen) / _require_name(agent_id))

    def lock(self) -> None:
        """Keep every other program from paying with this folder, until `unlock` or the end of this one.

        However a program ends, the operating system takes its lock back: none is ever left behind. To lock what is
        locked here already does nothing.

        Raises:
            FolderInUse: Another program, or another agent object of this one, has it.
            OSError: The file `lock` cannot be made, or the file system knows no locks.
        """
        if self._lock is not None:
            return
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
        try:
            is_mine = _try_to_lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if not is_mine:
            os.close(descriptor)
            raise FolderInUse(str(self.path))
        self._lock = descriptor

    def unlock(self) -> None:
        """Let others pay with this folder. Its file stays: whoever took it away could take another's lock with it."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def channel(self, channel_id: str) -> Path:
        """The file of what was signed in a payment channel; its folder is there.

        Raises:
            MalformedAnswer: The id is none that a file could be called by.
        """
        return self._folder("channels") / f"{_require_name(channel_id)}.json"

    def receipt(self, kind: str, document_id: str) -> Path:
        """The file of a receipt; its folder is there.

        Args:
            kind: Of what: `task`, `agreement`, `payment_channel`.
            document_id: Of which.

        Raises:
            MalformedAnswer: The id is none that a file could be called by.
        """
        return self._folder("receipts") / f"{_require_name(kind)}-{_require_name(document_id)}.json"

    def pin(self, name: str, value: str) -> None:
        """Trust on first use: note a value, and from then on take no other. It survives a loss of power.

        Args:
            name: Of what, such as `signing_domain`.
            value: What is told of it now.

        Raises:
            WrongMarket: Another value was noted before.
            OSError: It can be neither read nor written.
        """
        path = self._folder("pins") / _require_name(name)
        try:
            create_private(path, value)
        except FileExistsError:
            noted = read_private(path)
            if noted != value:
                raise WrongMarket(
                    f"the market's {name} was {noted!r}, and is {value!r} now: this is another one, or a lie. "
                    f"Where it is right, take {path} away",
                    expected=noted,
                    told=value,
                ) from None

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        _make(folder)
        return folder


def _try_to_lock(descriptor: int) -> bool:
    """Whether an open file is this one's alone now. Nothing is waited for."""
    try:
        if sys.platform == "win32":  # pragma: no cover - As at the import.
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # The second is how Windows says it.
        return False
    return True


def _make(folder: Path) -> None:
    folder.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)


def _require_name(text: str) -> str:
    """Ids come from the server: one such as `../keys` must lead nowhere."""
    if not _NAME.fullmatch(text):
        raise MalformedAnswer(f"{text[:40]!r} is no id: it has letters, digits, - and _ alone, at most 128")
    return text
