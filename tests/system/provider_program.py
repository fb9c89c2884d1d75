"""A provider in a process of its own, which may be killed: it numbers lines, and notes after each third how far it is.

    python -m tests.system.provider_program < configuration

It says `ready` once it serves, and `from N` when it begins a task behind line N.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from agrenting.client.job import Job
from agrenting.client.providing import Providing
from tests.system.harness import AgentAccount
from tests.system.provider_stage import opened

CHECKPOINT_LINES = 3


class Configuration(msgspec.Struct):
    """Who it is. `folder`: where the agent remembers; `drain_s`: how long it has once it is asked to stop."""

    url: str
    id: str
    handle: str
    api_key: str
    seed: bytes
    folder: str
    drain_s: float


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def number(job: Job) -> AsyncIterator[str]:
    """Number the lines."""
    lines: int = job.resumed or 0
    say(f"from {lines}")
    async for line in job.lines():
        lines += 1
        yield f"{lines} {line};"
        if lines % CHECKPOINT_LINES == 0:
            await job.checkpoint(lines)
    job.result = lines


async def main(configuration: Configuration) -> None:
    """Serve until asked to stop."""
    fields = {"id": configuration.id, "handle": configuration.handle, "api_key": configuration.api_key}
    account = AgentAccount(fields, configuration.seed)
    async with opened(configuration.url, account, Path(configuration.folder)) as context:
        providing = Providing(context, drain_s=configuration.drain_s)
        providing.capability("translate", price=1_000)(number)
        serving = asyncio.create_task(providing.serve())
        await asyncio.sleep(0)
        say("ready")
        await serving


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.stdin.readline(), type=Configuration)))
