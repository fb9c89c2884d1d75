"""`hire CAPABILITY [FILE] --max-price A`: have a file worked on, and pay once what came back is verified."""

import argparse
import asyncio
import contextlib
import time
from contextlib import ExitStack
from typing import Any, Final

import msgspec

from ..agent import Agent
from ..credentials import Credentials
from ..errors import ClientError, Disconnected, NoAnswer, RefusedByServer, StreamRewritten
from ..hired_proof import Verified
from ..hired_task import HiredTask
from ..rest import RestClient
from .ends import Source, Target
from .outcomes import Standing, outcome_of, standing_of
from .running import DONE, Failure, as_json, credentials_of, next_step, say, sentence, summary_stream
from .strategies import strategy_of
from .telling import Losses, minor_units

GIVE_UP_S: Final = 5.0
"""How long a task that is given up may take to be cancelled."""


async def hire(chosen: argparse.Namespace) -> int:
    """Hire, stream in and out, verify, and release the money."""
    credentials = credentials_of(chosen)
    with ExitStack() as files:
        source = None if chosen.file is None else files.enter_context(Source(chosen.file))
        target = files.enter_context(Target(chosen.output))
        receipt = None if chosen.receipt is None else files.enter_context(Target(chosen.receipt))
        async with Agent.of(credentials, on_state=Losses("gives up").tell) as agent:
            doubt = minor_units(agent, "--max-price", chosen.max_price)
            if doubt is not None:
                say(doubt)
            summary = await Deal(agent, credentials, chosen).run(source, target, receipt)
    if chosen.json:
        print(as_json(summary), file=summary_stream(chosen))
    return DONE


class Deal:
    """One task, from hiring to its payment.

    Args:
        agent: Who hires; it is open.
        credentials: The same agent's.
        chosen: What was asked for.
    """

    def __init__(self, agent: Agent, credentials: Credentials, chosen: argparse.Namespace) -> None:
        self._agent = agent
        self._credentials = credentials
        self._chosen = chosen
        self._began_at = time.monotonic()

    async def run(self, source: Source | None, target: Target, receipt: Target | None) -> dict[str, Any]:
        """See it through; the summary.

        Raises:
            ClientError, Failure, OSError: It was given up; the task is cancelled where that is possible still.
        """
        _require_room(self._agent, source)
        task = await self._hire(source)
        telling = asyncio.create_task(_tell_progress(task), name="progress")
        try:
            provider = await self._provider(task)
            say(f"{provider} is hired for {self._agent.money(task.price)}: task {task.id}")
            await self._take(task, target)
            verified = await (task.verify() if self._chosen.keep_held else task.settle())
        except BaseException:
            await self.give_up(task)
            raise
        finally:
            telling.cancel()
            await asyncio.wait((telling,))
        target.keep()
        if receipt is not None and verified.receipt is not None:
            await receipt.write(verified.receipt.path.read_bytes())
            receipt.keep()
        return {**self._summed_up(verified, source), "provider": provider}

    async def _hire(self, source: Source | None) -> HiredTask:
        chosen = self._chosen
        strategy = None
        if chosen.strategy is not None:
            strategy = strategy_of(chosen.strategy, limit=chosen.max_price, first=chosen.first)
        return await self._agent.hire(
            chosen.capability,
            provider=chosen.provider,
            max_price=chosen.max_price if strategy is None else None,
            strategy=strategy,
            input=chosen.input,
            data=b"" if source is None else source,
            hold_s=chosen.hold,
            asks_contact=chosen.ask is not None,
            message=chosen.ask or "",
        )

    async def _provider(self, task: HiredTask) -> str:
        """Who was hired: its handle, or its id where that is not shown."""
        provider_id: str = task.state["provider_agent_id"]
        try:
            async with RestClient(self._credentials.url, self._credentials.api_key) as rest:
                return str((await rest.get(f"/agents/{provider_id}"))["handle"])
        except RefusedByServer:
            return provider_id

    async def _take(self, task: HiredTask, target: Target) -> None:
        """Write the output as it comes; of a task without output its result, as JSON."""
        while True:
            try:
                chunk = await task.next_chunk()
            except StreamRewritten as rewritten:
                target.rewind(rewritten.size)
                continue
            if chunk is None:
                break
            await target.write(chunk)
        await write_result(task, target)

    async def give_up(self, task: HiredTask) -> None:
        """Take the task back, if that is possible and soon done; else say how it stands, and what can be done."""
        is_over = task.status in {"failed", "cancelled"}
        if not is_over:
            say(f"giving up task {task.id}; Ctrl-C does not wait for that")
        try:
            async with asyncio.timeout(GIVE_UP_S):
                if not is_over and task.status != "completed":
                    with contextlib.suppress(RefusedByServer):
                        await task.cancel("given up by its client")
                standing = await self._standing(task)
        except (Disconnected, NoAnswer, TimeoutError):
            self._tell_unknown(task, "the market was not reached", is_over=is_over)
            return
        except ClientError as error:
            self._tell_unknown(task, " ".join(sentence(error)[1].split()), is_over=is_over)
            return
        say(f"task {task.id}: {outcome_of(standing, self._agent.money)}")
        if standing.escrow_status == "held" and standing.status != "disputed":
            if standing.may_end:
                self._advise("To verify and pay it", f"settle {task.id}")
            self._advise("To refuse it", f"dispute {task.id} --reason TEXT")

    def _tell_unknown(self, task: HiredTask, why: str, *, is_over: bool) -> None:
        """How the task stands could not be learnt: output may have come, or not."""
        if is_over:
            say(f"task {task.id} is {task.status}; where its price is could not be learnt: {why}")
            return
        say(f"task {task.id} may go on: {why}")
        self._advise("To see how it stands", "list")
        self._advise("To verify and pay it", f"settle {task.id}")
        self._advise("To take it back, before its first output", f"cancel {task.id}")
        self._advise("To refuse it", f"dispute {task.id} --reason TEXT")

    def _advise(self, what: str, words: str) -> None:
        """One step on a line of its own: it can be copied whole."""
        say(f"{what}: {next_step(self._chosen, f'task {words}')}")

    async def _standing(self, task: HiredTask) -> Standing:
        """How the task stands now. What is under way may have been done without an answer."""
        async with RestClient(self._credentials.url, self._credentials.api_key) as rest:
            return standing_of(await rest.get(f"/tasks/{task.id}"))

    def _summed_up(self, verified: Verified, source: Source | None) -> dict[str, Any]:
        took_s = round(time.monotonic() - self._began_at, 1)
        money = f"{self._agent.money(verified.price)} {verified.escrow_status.replace('_', ' ')}"
        size_in = 0 if source is None else source.size
        say(f"verified: {money}; {size_in} bytes sent, {verified.received.size} bytes received, in {took_s} s")
        return {
            "task_id": verified.task_id,
            "price": verified.price,
            "escrow_status": verified.escrow_status,
            "bytes_sent": size_in,
            "bytes_received": verified.received.size,
            "result": verified.result,
            "took_s": took_s,
        }


async def write_result(task: HiredTask, target: Target) -> None:
    """Of a task without output, which is written before, write its result, as JSON."""
    result = await task.result()
    if not target.size and result is not None:
        await target.write(msgspec.json.encode(result) + b"\n")


def _require_room(agent: Agent, source: Source | None) -> None:
    """Refuse a file that no stream of the market holds, before anybody is hired for it."""
    size, most = None if source is None else source.known_size, int(agent.market.limits["stream_bytes_max"])
    if size is not None and size > most:
        raise Failure(f"the file has {size} bytes, and this market takes {most} in one stream: split it")


async def _tell_progress(task: HiredTask) -> None:
    """What the provider says of how far it is. How the task ends is told by whoever waits for it."""
    with contextlib.suppress(ClientError):
        async for percent, message in task.progress_events():
            say(f"{percent:3d} % {message or ''}".rstrip())
