"""Parts of the shell on their own: a program as a handler, both ends of a task, and how commands end."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from agrenting.client.errors import Disconnected, LyingServer, RefusedByServer, TaskNotDone
from agrenting.client.job import Job, TaskFailed
from agrenting.client.shell import Parser, running, wrapped
from agrenting.client.shell.arguments import add_hire, add_provide
from agrenting.client.shell.ends import Source, Target
from agrenting.client.shell.running import Failure, in_thread, perform
from agrenting.client.shell.wrapped import WrappedCommand


class Work:
    """A task of Alice's in the place of a `Job`, and what a command was told of it."""

    task_id = "t1"
    capability = "upper"
    client_handle = "alice/reader"

    def __init__(self, *chunks: bytes, open_end: bool = False, error: Exception | None = None) -> None:
        self.input: Any = {"a": [1]}
        self.exit_codes: list[int | None] = []
        self._chunks, self._open_end, self._error = chunks, open_end, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._error is not None:
            raise self._error
        if self._open_end:
            await asyncio.Event().wait()

    def start(self, *command: str, timeout_s: float = 60.0) -> AsyncGenerator[bytes, None]:
        wrapped_command = WrappedCommand(
            command,
            timeout_s=timeout_s,
            on_start=lambda _job: None,
            on_exit=lambda _job, code: self.exit_codes.append(code),
        )
        return wrapped_command.work(cast("Job", self))

    async def run(self, *command: str) -> bytes:
        return b"".join([chunk async for chunk in self.start(*command)])


# A program as a handler.


async def test_input_is_streamed_in_and_output_out() -> None:
    work = Work(b"hello ", b"\0\xff", b"world" * 100_000)

    assert await work.run("tr", "a-z", "A-Z") == b"HELLO \0\xff" + b"WORLD" * 100_000
    assert work.exit_codes == [0]


async def test_output_comes_while_input_is_still_open() -> None:
    work = Work(b"first\n", open_end=True)
    output = work.start("sh", "-c", "head -n 1; cat")

    assert await anext(output) == b"first\n"

    await output.aclose()
    assert len(work.exit_codes) == 1


async def test_input_that_never_ends_holds_nobody_up_for_ever() -> None:
    work = Work(b"first", open_end=True)

    with pytest.raises(TaskFailed, match="timed_out") as failed:
        async for _block in work.start("sh", "-c", "trap '' TERM; cat", timeout_s=0.2):
            pass

    assert failed.value.details == {"timeout_s": 0.2}
    assert len(work.exit_codes) == 1


async def test_a_program_need_not_read_its_input() -> None:
    work = Work(*[b"x" * 65_536] * 64, open_end=True)

    assert await work.run("echo", "done") == b"done\n"
    assert work.exit_codes == [0]


@pytest.mark.parametrize(("command", "exit_code"), [("exit 3", 3), ("kill -KILL $$", -signal.SIGKILL)])
async def test_any_exit_code_but_zero_fails_the_task(command: str, exit_code: int) -> None:
    with pytest.raises(TaskFailed) as failure:
        await Work(b"x").run("sh", "-c", command)

    assert (failure.value.type, failure.value.details) == ("command_failed", {"exit_code": exit_code})


async def test_a_program_that_cannot_be_started_fails_the_task_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()

    with pytest.raises(TaskFailed, match="command_not_started"):
        await work.run("no-such-program")

    assert work.exit_codes == [None]
    assert "task t1: no-such-program could not be started: " in caplog.text


async def test_of_input_that_breaks_off_no_output_is_made_whole() -> None:
    work = Work(b"part", error=LyingServer("another digest"))

    with pytest.raises(LyingServer):
        await work.run("cat")


async def test_a_cancelled_task_ends_the_program_that_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapped, "TERMINATE_S", 0.01)
    work = Work(open_end=True)
    output = work.start(sys.executable, "-c", STUBBORN)
    assert await anext(output) == b"here"
    reading = asyncio.ensure_future(anext(output))
    await asyncio.sleep(0)

    reading.cancel()
    await asyncio.wait((reading,))

    assert reading.cancelled()
    assert work.exit_codes == [-signal.SIGKILL]


STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', end='', flush=True); time.sleep(1000)"


async def test_a_program_is_told_its_task_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGRENTING_API_KEY", "agk_secret-of-bob")

    told = dict(line.split("=", 1) for line in (await Work().run("env")).decode().splitlines())

    path = told.pop("AGRENTING_INPUT_FILE")
    assert {name: value for name, value in told.items() if name.startswith("AGRENTING_")} == {
        "AGRENTING_TASK_ID": "t1",
        "AGRENTING_CAPABILITY": "upper",
        "AGRENTING_INPUT": '{"a":[1]}',
    }
    assert told["PATH"] == os.environ["PATH"]
    assert path.endswith(".json")  # What becomes of it is tested below.


async def test_input_of_any_size_is_in_a_file_for_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = Work()
    work.input = {"a": "ü" * 200_000}

    shown = await work.run(
        "sh", "-c", 'stat -c %a "$AGRENTING_INPUT_FILE"; echo "${AGRENTING_INPUT-not set}"; cat "$AGRENTING_INPUT_FILE"'
    )

    mode, variable, content = shown.decode().split("\n", 2)
    assert (mode, variable) == ("600", "not set")
    assert json.loads(content) == work.input
    assert held_by(tmp_path) == {}


@pytest.mark.parametrize("command", [("false",), ("no-such-program",), ("sh", "-c", "kill -9 $$")])
async def test_that_file_goes_however_the_program_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(TaskFailed):
        await Work().run(*command)

    assert held_by(tmp_path) == {}


# Both ends.


async def test_a_file_is_read_in_chunks_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"x" * 150_000)

    with Source(str(path)) as source:
        chunks = [chunk async for chunk in source]

    assert [len(chunk) for chunk in chunks] == [65_536, 65_536, 18_928]
    assert source.size == 150_000


async def test_output_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"of yesterday")

    with Target(str(path)) as target:
        await target.write(b"one, two")
        target.rewind(4)
        await target.write(b" three")
        assert held_by(tmp_path)["out"] == b"of yesterday"
        target.keep()

    assert held_by(tmp_path) == {"out": b"one, three"}


async def test_output_that_is_not_whole_is_taken_away(tmp_path: Path) -> None:
    with Target(str(tmp_path / "out")) as target:
        await target.write(b"one")

    assert held_by(tmp_path) == {}


def held_by(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_a_device_takes_output_as_it_comes() -> None:
    with Target(os.devnull) as target:
        await target.write(b"one")
        target.keep()

    assert target.size == 3


async def test_what_was_printed_cannot_be_taken_back() -> None:
    with Target(None) as target, pytest.raises(Failure, match="rewritten after a crash"):
        target.rewind(0)


async def test_whoever_waits_for_a_thread_gets_its_error_and_may_go() -> None:
    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await in_thread(fail)
    waiting = asyncio.ensure_future(in_thread(lambda: os.read(pipe[0], 1)))
    pipe = os.pipe()
    await asyncio.sleep(0)
    waiting.cancel()
    os.write(pipe[1], b"x")
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    for descriptor in pipe:
        os.close(descriptor)


# How commands end.


def chosen_for(**fields: Any) -> argparse.Namespace:
    return argparse.Namespace(program="agrenting", json=False, **fields)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Failure("name a file"), "agrenting: name a file"),
        (RefusedByServer("too_many_open", "Two are open.", {}), "agrenting: Two are open. (too_many_open)"),
        (RefusedByServer("insufficient_balance", "You have 3.", {}), "agrenting deposit HANDLE AMOUNT."),
        (Disconnected("it is gone"), "agrenting: it is gone. Is the market running, and its address right?"),
        (LyingServer("the sum is 4"), "agrenting: the sum is 4. Nothing more was signed or released."),
        (TaskNotDone("t1", "cancelled", reason="rain"), "agrenting: the task was cancelled: rain"),
        (
            TaskNotDone("t1", "failed", error={"type": "ink", "details": {"left": 0}}),
            'agrenting: the task has failed: ink {"details":{"left":0}}',
        ),
        (FileNotFoundError(2, "No such file or directory", "in.txt"), "agrenting: in.txt: No such file or directory"),
        (ValueError("two\nlines"), "agrenting: two lines"),
        (ExceptionGroup("", [ExceptionGroup("", [Disconnected("it is gone")])]), "agrenting: it is gone."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_one_line_and_exit_code_one(
    capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    async def run(_chosen: argparse.Namespace) -> int:
        raise error

    code = perform(run, chosen_for())

    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (1, "", 1)
    assert line in said.err


def test_an_interrupted_command_has_the_exit_code_of_shells(capsys: pytest.CaptureFixture[str]) -> None:
    async def run(_chosen: argparse.Namespace) -> int:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        return 0

    assert perform(run, chosen_for()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_output_that_nobody_reads_any_more_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[bool] = []
    monkeypatch.setattr(running, "_forget_output", lambda: forgotten.append(True))

    async def run(_chosen: argparse.Namespace) -> int:
        raise BrokenPipeError

    assert perform(run, chosen_for()) == 1
    assert (forgotten, "closed it" in capsys.readouterr().err) == ([True], True)


def test_a_defect_is_not_made_a_sentence_of() -> None:
    async def run(_chosen: argparse.Namespace) -> int:
        raise ExceptionGroup("", [Disconnected("it is gone"), KeyError("price")])

    with pytest.raises(ExceptionGroup):
        perform(run, chosen_for())


# Arguments.


def parsed(add: Callable[[argparse.ArgumentParser], None], *arguments: str) -> argparse.Namespace:
    parser = Parser(prog="agrenting")
    add(parser.add_subparsers(required=True).add_parser("run"))
    chosen: argparse.Namespace = parser.parse_args(["run", *arguments])
    return chosen


@pytest.mark.parametrize(
    "arguments",
    [
        ("upper", "in.txt", "--max-price", "2"),
        ("upper", "--max-price", "2", "in.txt"),
        ("--max-price", "2", "upper", "in.txt"),
        ("--max-price", "2", "upper", "--ask", "Hello", "in.txt"),
    ],
)
def test_a_file_may_stand_anywhere(arguments: tuple[str, ...]) -> None:
    chosen = parsed(add_hire, *arguments)

    assert (chosen.capability, chosen.file, chosen.max_price) == ("upper", "in.txt", 2)


def test_standard_input_and_nothing_are_told_apart() -> None:
    assert parsed(add_hire, "upper", "--max-price", "2.00", "-").file == "-"
    assert parsed(add_hire, "upper", "--max-price", "2.00").file is None


def test_a_command_keeps_its_own_options() -> None:
    chosen = parsed(add_provide, "upper", "--price", "8.50", "--accept-contacts", "--", "tr", "-d", "--price", "x")

    assert (chosen.capability, chosen.command) == ("upper", ["tr", "-d", "--price", "x"])
    assert (chosen.price, chosen.accept_contacts) == ("8.50", True)
