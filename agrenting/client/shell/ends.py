"""Both ends of a hired task at the shell: the file or standard input that goes in, and where the output goes."""

import os
import secrets
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .running import Failure, in_thread

READ_BYTES: Final = 65_536
STANDARD: Final = "-"
STANDARD_INPUT: Final = 0
STANDARD_OUTPUT: Final = 1
"""File descriptors."""


class Source:
    """What is sent: a file, or standard input, in chunks as they come. Use it as a context.

    Args:
        name: The file; `-` is standard input.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, name: str) -> None:
        self.size = 0
        """Bytes that were read so far."""
        self._is_file = name != STANDARD
        self._descriptor = os.open(name, os.O_RDONLY) if self._is_file else STANDARD_INPUT
        if self._is_file and stat.S_ISDIR(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise Failure(f"{name} is a folder: name a file, or - for standard input")

    @property
    def known_size(self) -> int | None:
        """Bytes that a file holds; None of what is no plain file."""
        about = os.fstat(self._descriptor)
        return about.st_size if stat.S_ISREG(about.st_mode) else None

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._is_file:
            os.close(self._descriptor)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What it holds, chunk by chunk."""
        while block := await in_thread(lambda: os.read(self._descriptor, READ_BYTES)):
            self.size += len(block)
            yield block


class Target:
    """Where bytes go: a file, which has its name only once it is whole, or standard output. Use it as a context.

    Args:
        name: The file; None is standard output.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, name: str | None) -> None:
        self.size = 0
        """Bytes that were written so far."""
        self._path = None if name is None else Path(name)
        self._draft: Path | None = None
        if self._path is None:
            self._descriptor = STANDARD_OUTPUT
        elif self._path.exists() and not self._path.is_file():
            self._descriptor = os.open(self._path, os.O_WRONLY)  # A device: it is whole as it is.
        else:
            self._draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
            self._descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file; one that was not kept is taken away."""
        if self._path is not None:
            os.close(self._descriptor)
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)

    async def write(self, content: bytes) -> None:
        """Write all of it, however slowly it is read."""
        await in_thread(lambda: _write_all(self._descriptor, content))
        self.size += len(content)

    def rewind(self, size: int) -> None:
        """Forget what was written behind the first `size` bytes.

        Raises:
            Failure: Somebody has read it already.
        """
        if self._draft is None:
            raise Failure("the provider's output was rewritten after a crash, and some of it is printed already")
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        self.size = size

    def keep(self) -> None:
        """It is whole: give it its name, in the place of what had it."""
        if self._draft is not None and self._path is not None:
            self._draft.replace(self._path)
            self._draft = None


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
