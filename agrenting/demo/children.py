"""The processes that the demo starts: what they say comes together in one queue, and none of them outlives it."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from queue import SimpleQueue
from typing import Final, TypeAlias

import msgspec

STOP_TIMEOUT_S: Final = 30.0
LOG_LINES: Final = 30
DYING_S: Final = 0.5
"""How long a child may take to end after others have noticed: its connections close before it can be waited for."""


class Line(msgspec.Struct, frozen=True):
    """One line that a child said; None: it has said its last one."""

    child: "Child"
    text: str | None


Inbox: TypeAlias = "SimpleQueue[Line | None]"
"""What the children say, in the order in which it came. None: somebody asks the demo to stop.

It is a SimpleQueue, because a signal's handler may put something in while its main thread takes something out.
"""


class Child:
    """A child process. The terminal's signals do not reach it: to end it is its parent's business.

    Args:
        name: For people.
        arguments: Of `python -m`.
        inbox: Where its lines on standard output go.
        first_words: What it gets on standard input.
    """

    def __init__(self, name: str, arguments: list[str], inbox: Inbox, first_words: str = "") -> None:
        self.name = name
        self.is_asked_to_end = False
        self.has_ended = False
        """Its last line has been heard; whoever reads the inbox says so."""
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._inbox = inbox
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_lines, self._read_log)]
        for thread in self._threads:
            thread.start()
        assert self._process.stdin is not None, "it was started with one"
        try:
            self._process.stdin.write(first_words)
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # It has ended already: its last line tells.

    def terminate(self) -> None:
        """Ask it to end; its last line tells when it has."""
        self.is_asked_to_end = True
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to end, and insist where it does not."""
        self.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._reap()

    def fate(self) -> str:
        """Wait until it has ended, and say how; empty where it ended well: with 0, or because it was asked to."""
        code = self._process.wait(STOP_TIMEOUT_S)
        if code == 0 or (self.is_asked_to_end and code == -signal.SIGTERM):
            return ""
        return f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"

    def obituary(self) -> str:
        """The end of what it said on standard error, for people, and how it ended where it has."""
        try:
            self._process.wait(DYING_S)
            ended = f" It has ended: {self.fate() or 'exit code 0'}."
        except subprocess.TimeoutExpired:
            ended = ""
        words = "\n".join(self._log) or "(none)"
        return f"The {self.name}'s last lines:{ended}\n{words}"

    def testament(self) -> str:
        """What it said on standard error at last, a line each, to stand below the sentence that tells its end."""
        self._reap()
        return "".join(f"\n{line}" for line in self._log)

    def _reap(self) -> None:
        self._process.wait()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S)

    def _read_lines(self) -> None:
        assert self._process.stdout is not None, "it was started with one"
        with self._process.stdout as lines:
            for line in lines:
                self._inbox.put(Line(self, line.rstrip("\n")))
        self._inbox.put(Line(self, None))

    def _read_log(self) -> None:
        assert self._process.stderr is not None, "it was started with one"
        with self._process.stderr as lines:
            for line in lines:
                self._log.append(line.rstrip("\n"))


def environment() -> dict[str, str]:
    """The children's: this process's, in UTF-8, and without proxies, because they speak with each other alone."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8", "NO_PROXY": "*", "no_proxy": "*"}
