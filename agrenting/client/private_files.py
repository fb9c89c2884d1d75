"""Files that nobody but their owner may read: keys, credentials, and what an agent remembers."""

import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import MalformedKey, MissingKey, UnsafeKeyFile

PRIVATE_MODE: Final = 0o600
PRIVATE_FOLDER_MODE: Final = 0o700
CHARS_MAX: Final = 65_536
"""More than any key or credentials take: whatever is longer is another file."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FORBIDS_NOBODY: Final = os.name == "nt"  # Windows keeps such rights elsewhere; its mode bits say nothing.


def read_private(path: str | os.PathLike[str]) -> str:
    """The text of a file of keys that only its owner may read.

    Raises:
        UnsafeKeyFile: Others may read or write it.
        MissingKey: It is not there.
        MalformedKey: It is no text, or far too long. The sentence repeats nothing of it.
        OSError: It cannot be read.
    """
    where = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _OTHERS and not _FORBIDS_NOBODY:
                raise UnsafeKeyFile(where)
            read = file.read(CHARS_MAX + 1)
    except FileNotFoundError:
        raise MissingKey(f"there is no file {where}") from None
    try:
        text = read.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or len(read) > CHARS_MAX:  # Raised out here: the error from above would hold what was read.
        raise MalformedKey(f"{where} is no file of a key or of credentials")
    return text


def create_private(path: str | os.PathLike[str], text: str) -> None:
    """Write a new file, mode 0600, whole or not at all; it survives a loss of power.

    Raises:
        FileExistsError: There is one already; it stays as it is.
        OSError: It cannot be written.
    """
    with new_private_file(path) as write:
        write(text)


@contextmanager
def new_private_file(path: str | os.PathLike[str]) -> Generator[Callable[[str], None], None, None]:
    """Make sure that a file can be made before what it shall hold is there, such as a key that is shown but once.

    The block gets the function that writes it, to be called at most once. The file has its name only then, with all
    that it holds.

    Raises:
        FileExistsError: There is one already; it stays as it is.
        OSError: It cannot be written.
    """
    target = Path(path)
    if target.exists() or target.is_symlink():
        raise _exists(target)
    target.parent.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:

            def write(text: str) -> None:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                _give_name(draft, target, text)

            yield write
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the new names in a folder durable, where folders can be synchronised."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_name(draft: Path, target: Path, text: str) -> None:
    """Unlike a rename, a second name for a file never takes the place of another file."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:  # A file system without second names.
        with os.fdopen(
            os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE), "w", encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(f"{path} exists already and is not overwritten; name another file, or move it away")
