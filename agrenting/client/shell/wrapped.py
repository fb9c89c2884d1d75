"""Any program of the command line as a provider: input on its standard input, standard output as the output."""

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..job import Job, TaskFailed

READ_BYTES: Final = 65_536
TERMINATE_S: Final = 5.0
"""How long a command that is asked to end is waited for, before it is killed."""

KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)

VARIABLE_PREFIX: Final = "AGRENTING_"
VARIABLE_BYTES_MAX: Final = 65_536
"""Of JSON that is told in a variable."""

_LOG = logging.getLogger(__name__)


class WrappedCommand:
    """Its `work` is a handler for `Agent.capability` that runs one process per task.

    The process is told in its environment what it is hired for: `AGRENTING_TASK_ID`, `AGRENTING_CAPABILITY`, and
    `AGRENTING_INPUT_FILE`, a file with the task's input as JSON, which is taken away behind it; up to 64 KiB of it are
    in `AGRENTING_INPUT` too, because an operating system takes no more than 128 KiB in a variable. No other variable of
    that prefix reaches it, so no key does. What it writes to standard error stays here. Any exit code but 0 fails the
    task with `command_failed`.

    Args:
        command: The program and its arguments.
        timeout_s: A task that takes longer fails with `timed_out`, also one whose input never ends.
        on_start: Told of a task whose process runs.
        on_exit: Told of a task whose process is gone, and of its exit code; None: it could not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        on_start: Callable[[Job], None],
        on_exit: Callable[[Job, int | None], None],
    ) -> None:
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._on_start = on_start
        self._on_exit = on_exit

    async def work(self, job: Job) -> AsyncGenerator[bytes, None]:
        """Work on one task.

        Raises:
            TaskFailed: `command_failed`, with its exit code; below 0 it is the signal that ended it.
                `command_not_started`, where the operating system did not; `timed_out`.
        """
        with contextlib.ExitStack() as files:
            process = await self._start(job, files)
            assert process.stdout is not None
            watchdog = asyncio.get_running_loop().call_later(self._timeout_s, _signal, process, KILL)
            feeding = asyncio.create_task(_feed(process, job), name=f"input of {job.task_id}")
            try:
                while block := await process.stdout.read(READ_BYTES):
                    yield block
                exit_code = await process.wait()
                if watchdog.when() <= asyncio.get_running_loop().time():
                    raise TaskFailed("timed_out", {"timeout_s": self._timeout_s})
                if feeding.done():
                    feeding.result()  # Of input that came in part the output is worth nothing.
            finally:
                watchdog.cancel()
                feeding.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await feeding
                await _end(process)
                self._on_exit(job, process.returncode)
            if exit_code:
                raise TaskFailed("command_failed", {"exit_code": exit_code})

    async def _start(self, job: Job, files: contextlib.ExitStack) -> asyncio.subprocess.Process:
        content = msgspec.json.encode(job.input)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE_PREFIX)}
        environment |= {"AGRENTING_TASK_ID": job.task_id, "AGRENTING_CAPABILITY": job.capability}
        if len(content) <= VARIABLE_BYTES_MAX:
            environment["AGRENTING_INPUT"] = content.decode()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**environment, "AGRENTING_INPUT_FILE": _file_of(content, files)},
                start_new_session=True,  # Its children end with it, and Ctrl-C at the terminal is not theirs.
            )
        except (OSError, ValueError) as error:
            _LOG.warning("task %s: %s could not be started: %s", job.task_id, self._command[0], error)
            self._on_exit(job, None)
            raise TaskFailed("command_not_started") from None
        self._on_start(job)
        return process


def _file_of(content: bytes, files: contextlib.ExitStack) -> str:
    """A new file for this program's user alone, which goes with `files`."""
    descriptor, path = tempfile.mkstemp(prefix="agrenting-", suffix=".json")
    files.callback(Path(path).unlink, missing_ok=True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


async def _feed(process: asyncio.subprocess.Process, job: Job) -> None:
    """Hand the input on as it comes, as fast as the command reads."""
    assert process.stdin is not None
    try:
        async for chunk in job:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # The command has read enough.
    finally:
        process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Make sure that nothing of the command is left running."""
    _signal(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), TERMINATE_S)
    except TimeoutError:
        pass
    finally:
        _signal(process, KILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    """To the process and its children, where there are groups of processes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        elif process.returncode is None:
            process.terminate()
