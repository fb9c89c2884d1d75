"""How a command runs and ends: one clear line where it fails, and an exit code that scripts can rely on."""

import argparse
import asyncio
import contextlib
import os
import shlex
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, cast

import msgspec

from ..credentials import Credentials
from ..errors import ClientError, Disconnected, FolderInUse, LyingServer, RefusedByServer, TaskNotDone

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130

T = TypeVar("T")

ADVICE: Final = {
    "agent_banned": "Ask who runs the market; another agent of the same owner is not banned with it.",
    "agent_required": "This is a user's key: take an agent's, as `agrenting-client register --save FILE` makes it.",
    "contact_required": "The two are no contacts yet: --ask MESSAGE asks for contact and waits for the answer.",
    "insufficient_balance": "The market's operator puts money in: agrenting deposit HANDLE AMOUNT.",
    "escrow_locked": "It is disputed already; an operator decides.",
    "invalid_credential": "The market does not know this key: look at the file of credentials, or rotate the key.",
    "missing_scope": "Its owner gives it a key with that scope: `key rotate` gives one with all of them.",
    "not_held": "There is nothing to release or to dispute.",
    "output_delivered": "To dispute it: `task dispute TASK --reason TEXT`, behind `agrenting` or `agrenting-client`.",
}
"""What to do about refusals whose sentence cannot know the command line."""


class Failure(Exception):
    """A command that cannot be carried out; the sentence says why and what to do."""


def perform(run: Callable[[argparse.Namespace], Coroutine[Any, Any, int]], chosen: argparse.Namespace) -> int:
    """Run a command; the exit code: 0, 1 where it failed, 130 where it was interrupted."""
    check = getattr(chosen, "check", None)
    if check is not None:
        check(chosen)
    try:
        return asyncio.run(run(chosen))
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return fail(chosen, "output_closed", "whoever read the output has closed it")
    except BaseExceptionGroup as group:
        expected = [error for error in _leaves(group) if isinstance(error, (ClientError, Failure, OSError))]
        if len(expected) != len(_leaves(group)):
            raise
        return fail(chosen, *sentence(expected[0]))
    except (ClientError, Failure, OSError, ValueError) as error:
        return fail(chosen, *sentence(error))


def sentence(error: Exception) -> tuple[str, str]:
    """A stable code for an error, and the sentence for people, with what to do next where that is known."""
    if isinstance(error, RefusedByServer):
        advice = ADVICE.get(error.reason, "")
        return error.reason, f"{error.message} ({error.reason}) {advice}"
    if isinstance(error, FolderInUse):
        return "folder_in_use", f"another program of this agent is at work, and one at a time is: end it ({error.path})"
    if isinstance(error, Disconnected):
        return "disconnected", f"{error}. Is the market running, and its address right?"
    if isinstance(error, TaskNotDone):
        details = "" if error.error is None else as_json({"details": error.error.get("details")})
        return "task_not_done", f"{error} {details}"
    if isinstance(error, LyingServer):
        return "lying_server", f"{error}. Nothing more was signed or released."
    return "failed", _of_file(error) if isinstance(error, OSError) else str(error)


def _of_file(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.strerror and error.filename else str(error)


def fail(chosen: argparse.Namespace, code: str, message: str) -> int:
    """Say why a command failed."""
    line = " ".join(message.split())
    if getattr(chosen, "json", False):
        print(as_json({"error": {"code": code, "message": line}}), file=summary_stream(chosen))
    say(f"{chosen.program}: {line}")
    return FAILED


def summary_stream(chosen: argparse.Namespace) -> Any:
    """Where JSON goes: standard output, unless that carries a task's output."""
    carries_output = getattr(chosen, "output", "") is None
    return sys.stderr if carries_output else sys.stdout


def as_json(fields: dict[str, Any]) -> str:
    """One JSON object on one line."""
    return msgspec.json.encode(fields).decode()


def credentials_of(chosen: argparse.Namespace) -> Credentials:
    """Whom the command acts as: `--as FILE`, or else what the environment says.

    Raises:
        ClientError: There are none, or not such as could be used.
    """
    return Credentials.from_environment() if chosen.as_file is None else Credentials.from_file(chosen.as_file)


def next_step(chosen: argparse.Namespace, words: str) -> str:
    """Another command of the same program and agent, which runs as it is shown."""
    whose = "" if chosen.as_file is None else f" --as {shlex.quote(str(chosen.as_file))}"
    return f"{chosen.program} {words}{whose}"


def say(line: str) -> None:
    """Tell people something, beside the output."""
    print(line, file=sys.stderr, flush=True)


async def in_thread(call: Callable[[], T]) -> T:
    """Wait for something that blocks, in a thread that nobody waits for at the end: a terminal may never answer."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(give: Callable[[], None]) -> None:
        if not answer.done():
            give()

    def run() -> None:
        try:
            give = partial(answer.set_result, call())
        except Exception as error:  # noqa: BLE001 - whoever waits gets it.
            give = partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, give)

    threading.Thread(target=run, daemon=True).start()
    return await answer


def _forget_output() -> None:
    """Nothing more is to be flushed at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _leaves(error: BaseException) -> list[BaseException]:
    """What went wrong, one by one."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for part in group.exceptions for leaf in _leaves(part)]
