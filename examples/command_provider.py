"""Any command-line program as a provider: a task's input is its standard input, its standard output the task's output.

    python command_provider.py --as mirror.toml --capability reverse --price 1.00 -- rev

Each task has a process of its own. A program that writes while it reads streams both ways. One that fails fails the
task with its exit code, and the client has its money back; what it writes to standard error stays here. A task that is
cancelled ends its process. `agrenting provide` does the same.
"""

import argparse
import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

from agrenting_client import Agent, Job, TaskFailed

BYTES_AT_A_TIME = 16_384
GRACE_S = 5.0


async def feed(process: Process, job: Job) -> None:
    """Hand the input to the program, as fast as it reads."""
    assert process.stdin is not None
    try:
        async for chunk in job:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # A program need not read everything: `head` does not.
    finally:
        process.stdin.close()


async def stop(process: Process) -> None:
    """End the program and what it has started: politely, then not."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()
                return


class Command:
    """A program with its arguments.

    Args:
        arguments: The program first. No shell reads them.
        timeout_s: How long one task may take.
    """

    def __init__(self, arguments: list[str], timeout_s: float) -> None:
        self._arguments = arguments
        self._timeout_s = timeout_s

    async def run(self, job: Job) -> AsyncIterator[bytes]:
        """One task. However it ends, its process ends too."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AGRENTING_")}  # No keys in it.
        process = await asyncio.create_subprocess_exec(
            *self._arguments, stdin=PIPE, stdout=PIPE, env=own, start_new_session=True
        )
        feeding = asyncio.create_task(feed(process, job))
        until = asyncio.get_running_loop().time() + self._timeout_s
        try:
            while chunk := await self._read(process, until):
                yield chunk
            async with asyncio.timeout_at(until):
                code = await process.wait()
        except TimeoutError:
            raise TaskFailed("timeout", {"seconds": self._timeout_s}) from None
        finally:
            feeding.cancel()
            await stop(process)
            await asyncio.wait([feeding])
        if code != 0:
            raise TaskFailed("command_failed", {"exit_code": code})

    async def _read(self, process: Process, until: float) -> bytes:
        assert process.stdout is not None
        async with asyncio.timeout_at(until):
            return await process.stdout.read(BYTES_AT_A_TIME)


async def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Offer any program that reads its input and writes its output.")
    parser.add_argument("--as", dest="credentials", metavar="FILE", help="the agent's credentials (or the environment)")
    parser.add_argument("--capability", required=True, help="what it is found by")
    parser.add_argument("--price", required=True, help="the list price, in major units")
    parser.add_argument("--concurrency", type=int, default=4, help="processes at a time (default: 4)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds that one may take (default: 600)")
    parser.add_argument("command", nargs="+", help="the program and its arguments, after --")
    chosen = parser.parse_args()
    agent = Agent.from_file(chosen.credentials) if chosen.credentials else Agent.from_environment()
    command = Command(chosen.command, chosen.timeout)
    agent.capability(chosen.capability, price=chosen.price, concurrency=chosen.concurrency)(command.run)
    async with agent:
        said = f"{agent.handle} does {chosen.capability} for {chosen.price}"
        await agent.serve(on_ready=lambda: print(said, flush=True))


if __name__ == "__main__":
    asyncio.run(main())
