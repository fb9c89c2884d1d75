"""Ctrl-C and SIGTERM, while an agent serves: the first asks all who serve in this program to stop, the second to hurry.

A third one does what it would have done without us. Signals belong to the process: what stood there before is put back
when the last of them has ended.
"""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

Ask = tuple[asyncio.AbstractEventLoop, Callable[[], None]]


class Signals:
    """Whom to ask when a signal comes. There is one for the process."""

    def __init__(self) -> None:
        self._asked: list[Ask] = []
        self._before: dict[int, Any] = {}
        self._count = 0

    @contextmanager
    def asking(self, ask: Callable[[], None]) -> Generator[None]:
        """Ask so at a signal, from within the running loop. Outside the main thread no signal comes."""
        one = asyncio.get_running_loop(), ask
        self._asked.append(one)
        if len(self._asked) == 1:
            self._install()
        try:
            yield
        finally:
            self._asked.remove(one)
            if not self._asked:
                self._restore()

    def _install(self) -> None:
        self._count = 0
        for number in SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._hear)
            except ValueError:  # This is not the main thread.
                return

    def _restore(self) -> None:
        for number, before in self._before.items():
            if before is not None:  # It was not set by Python, and cannot be put back.
                signal.signal(number, before)
        self._before.clear()

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        """A signal has come: between any two steps of the program, so it is only passed on."""
        self._count += 1
        if self._count > 1:
            self._restore()
        for loop, ask in self._asked:
            loop.call_soon_threadsafe(ask)


PROCESS: Final = Signals()
"""The one of this process."""
