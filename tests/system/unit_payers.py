"""A client that pays for a task as it streams, and is killed on the way, again and again: a program of its own.

It takes the task up, reads all of its output and settles it. Before that it may die: at a frame that goes by, or once a
payment is signed and on disk, before anybody has heard of it.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

from agrenting.client import Agent, Job, SigningKey
from agrenting.client.errors import NotPaid, UnfinishedPayment
from agrenting.client.hired_task import HiredTask
from agrenting.client.payment_channel import PaymentChannel
from agrenting.client.payments import ChannelKeeper
from agrenting.client.socket import OnFrame
from tests.system.agent_payers import SOON, Dying

WORDS = tuple(f"word {number} " for number in range(5))
UNIT = 1_000
Death = tuple[str, str]
SIGNED: Death = ("", "signed")
"""A death between the disk and the network."""
DEATHS = (SIGNED, (">", "propose_transfer"), ("<", "transfer_complete"))


async def drip(job: Job) -> AsyncIterator[str]:
    """What Bob does."""
    async for _line in job.lines():
        pass
    for word in WORDS:
        yield word


async def take_all(task: HiredTask, channel: PaymentChannel) -> bytes:
    """The whole output; a payment of an earlier program that hangs is finished first."""
    while True:
        try:
            return await task.read()
        except UnfinishedPayment:
            with contextlib.suppress(NotPaid):
                await channel.resume()


async def work_off(agent: Agent, channel_id: str, task_id: str) -> None:
    """Take the task up, and go on to its end."""
    async with agent:
        channel = await agent.channel(channel_id)
        assert isinstance(channel, PaymentChannel)
        task = await agent.take_up(task_id, channel=channel)
        output = (await take_all(task, channel)).decode()
        verified = await task.settle()
        sys.stdout.write(f"{output} {verified.escrow_status} {task.paid}\n")


def die_once_signed() -> None:
    """End this process behind the second signature, of which nobody else has heard."""
    propose, made = ChannelKeeper.propose, list[dict[str, Any]]()

    def dying(
        keeper: ChannelKeeper, amount: int, task_id: str | None = None, memo: str | None = None
    ) -> dict[str, Any]:
        made.append(propose(keeper, amount, task_id, memo))
        if len(made) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return made[-1]

    ChannelKeeper.propose = dying  # type: ignore[assignment, method-assign] # A death at this very point.


def die_at(death: Death) -> OnFrame:
    """How this process is to end, whatever it does."""
    if death == SIGNED:
        die_once_signed()
    dying = Dying(death)
    dying.aim()
    return dying


def live(arguments: list[str], death: Death) -> int:
    """One life of the program, in a process of its own; its exit code."""
    process_id = os.fork()
    if process_id == 0:
        url, api_key, seed, folder, channel_id, task_id = arguments
        key, on_frame = SigningKey(bytes.fromhex(seed)), die_at(death)
        agent = Agent(url, api_key, key, folder=folder, on_frame=on_frame, backoff=SOON)
        asyncio.run(work_off(agent, channel_id, task_id))
        sys.stdout.flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def main() -> None:
    """`url api_key seed folder channel task`: live, and die, as often as there are deaths, and once more."""
    for death in DEATHS:
        assert live(sys.argv[1:], death) == -signal.SIGKILL, death
    assert live(sys.argv[1:], ("", "")) == 0


if __name__ == "__main__":
    main()
